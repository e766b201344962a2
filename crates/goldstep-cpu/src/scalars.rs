//! The scalars of a step, in the type that the kernels compute in.

use goldstep_core::{
    AdafactorArguments, AdafactorScalars, GradientClipping, SecondMomentUnderflow,
};

use crate::kernels::{Clipped, Decayed, Moment};
use crate::real::{CpuElement, Real};

/// The scalars of one step.
#[derive(Clone, Copy, Debug)]
pub struct StepScalars<R> {
    pub(crate) moment: Moment<R>,
    /// `ρ = min(lr, 1/√t)`.
    pub(crate) relative_step_size: R,
    pub(crate) epsilon_2: R,
    pub(crate) clip_threshold: R,
    /// Weight decay, if it is on.
    pub(crate) decay: Option<Decayed<R>>,
    pub(crate) clipping: GradientClipping,
    pub(crate) underflow: SecondMomentUnderflow,
    pub(crate) ema: Option<Ema<R>>,
}

/// The scalars of the averages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ema<R> {
    pub(crate) momentum: R,
    pub(crate) one_minus_momentum: R,
    pub(crate) overwrite: bool,
}

/// What happens to the elements of one gradient.
#[derive(Clone, Copy, Debug)]
pub enum Clipping<R> {
    Off,
    /// Times `norm`, divided by `largest`, the larger of it and the tensor's own norm.
    Norm {
        norm: R,
        largest: R,
    },
    /// Times this, from the norm of all tensors.
    Scale(R),
    /// Into `[-bound, bound]`.
    Bound(R),
}

impl<R: Real> StepScalars<R> {
    /// The scalars of the step that starts at `iterations`, in the type of arithmetic `R`: for
    /// halves that is f32, so that neither ε₁ nor `1 − β₂` is lost to their few digits.
    pub(crate) fn new(arguments: &AdafactorArguments, learning_rate: f32, iterations: u64) -> Self {
        let scalars = AdafactorScalars::of::<R>(arguments, learning_rate, iterations);
        let real = R::round_from;
        Self {
            moment: Moment {
                beta_2: real(scalars.beta_2),
                one_minus_beta_2: real(scalars.one_minus_beta_2),
                epsilon_1: real(scalars.epsilon_1),
            },
            relative_step_size: real(scalars.relative_step_size),
            epsilon_2: real(scalars.epsilon_2),
            clip_threshold: real(scalars.clip_threshold),
            decay: scalars.weight_decay.map(|weight_decay| Decayed {
                weight_decay: real(weight_decay),
                learning_rate: real(scalars.learning_rate),
            }),
            clipping: scalars.clipping,
            underflow: arguments.second_moment_underflow(),
            ema: scalars.ema.map(|ema| Ema {
                momentum: real(ema.momentum),
                one_minus_momentum: real(ema.one_minus_momentum),
                overwrite: ema.overwrite,
            }),
        }
    }

    /// `α = max(ε₂, rms(x))·ρ`, where `x` is the parameter after decay.
    ///
    /// `square_sum` is `Σp²` before decay, which scales the root mean square by `1 − decay`: that
    /// way carried, measured and resumed sums agree. Where the sum is not finite, the literal order
    /// decides what is NaN; and a decay of more than half, which can only be a mistake, amplifies
    /// every rounding of that factor, so it is measured literally too.
    pub(crate) fn step_size<T: CpuElement<Real = R>>(
        &self,
        square_sum: f64,
        parameter: &[T],
        decay: Option<Decayed<R>>,
    ) -> f64 {
        let rms = |sum| root_mean_square::<R>(sum, parameter.len());
        let two = R::ONE + R::ONE;
        let rms = match decay {
            Some(decay) if square_sum.is_finite() && decay.of_one(R::ONE) > R::ONE / two => {
                decay.of_one(R::ONE).to_f64() * rms(square_sum)
            }
            Some(decay) => {
                let square = |x: &T| {
                    let x = decay.of_one(x.to_real());
                    (x * x).to_f64()
                };
                rms(parameter.iter().map(square).fold(0.0, |total, square| total + square))
            }
            None => rms(square_sum),
        };
        maximum(self.epsilon_2.to_f64(), rms) * self.relative_step_size.to_f64()
    }

    /// `max(1, rms(u) / d)`.
    pub(crate) fn divisor(&self, update_squares: f64, elements: usize) -> f64 {
        let rms = root_mean_square::<R>(update_squares, elements);
        maximum(1.0, rms / self.clip_threshold.to_f64())
    }
}

/// What an update is multiplied with: `α / max(1, rms(u) / d)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpdateScale<R> {
    /// The quotient, unless it, or a part of it, leaves the normal range.
    pub(crate) quotient: Option<f64>,
    /// The quotient rounded once, or α.
    pub(crate) step_size: R,
    /// 1, or `max(1, rms(u) / d)`.
    pub(crate) divisor: R,
}

impl<R: Real> UpdateScale<R> {
    /// The scale from α and `max(1, rms(u) / d)`.
    pub(crate) fn new(step_size: f64, divisor: f64) -> Self {
        let is_normal = |x: f64| x >= R::MIN_POSITIVE.to_f64() && x <= R::MAX.to_f64();
        let quotient = step_size / divisor;
        let is_zero = step_size.to_bits() == 0 && is_normal(divisor);
        if is_zero || [step_size, divisor, quotient].into_iter().all(is_normal) {
            let step_size = R::round_from(quotient);
            Self { quotient: Some(quotient), step_size, divisor: R::ONE }
        } else {
            let (step_size, divisor) = (R::round_from(step_size), R::round_from(divisor));
            Self { quotient: None, step_size, divisor }
        }
    }
}

impl<R: Real> Clipping<R> {
    /// What the kernels do to each element.
    pub(crate) fn clipped(self) -> Clipped<R> {
        match self {
            Self::Off => Clipped::Scale(R::ONE),
            Self::Norm { norm, largest } => Clipped::Scale(norm / largest),
            Self::Scale(scale) => Clipped::Scale(scale),
            Self::Bound(bound) => Clipped::Bound(bound),
        }
    }

    /// Clips a single element of rows that are yet to be summed. A sum that cancels enlarges every
    /// rounding, so that a norm is applied in Keras's two operations, not in the kernels' one.
    pub(crate) fn of_one(self, gradient: R) -> R {
        match self {
            Self::Off => gradient,
            Self::Norm { norm, largest } => gradient * norm / largest,
            Self::Scale(scale) => gradient * scale,
            Self::Bound(bound) => {
                let below = if bound < gradient { bound } else { gradient };
                let least = R::ZERO - bound;
                if least > below { least } else { below }
            }
        }
    }

    /// Clipping of one tensor to a norm: `g·norm / max(l2, norm)`.
    pub(crate) fn by_norm(norm: f64, square_sum: f64) -> Self {
        let (norm, square_sum) = (R::round_from(norm), R::round_from(square_sum));
        // Keras takes the sum itself where it is not positive: zero, or NaN.
        let l2 = if square_sum > R::ZERO { square_sum.root() } else { square_sum };
        Self::Norm { norm, largest: maximum(l2, norm) }
    }

    /// Clipping of all tensors to one norm, from the square sum of each:
    /// `norm·min(1/N, 1/norm) + (N − N)` with `N = √(2·Σ(Σg²/2))`.
    pub(crate) fn by_global_norm(norm: f64, square_sums: impl Iterator<Item = f64>) -> Self {
        let (norm, two) = (R::round_from(norm), R::ONE + R::ONE);
        let halves: f64 =
            square_sums.map(|sum| (R::round_from(sum) / two).to_f64()).fold(0.0, |t, x| t + x);
        let all = (R::round_from(halves) * two).root();
        let (inverse, limit) = (R::ONE / all, R::ONE / norm);
        let least = if inverse < limit { inverse } else { limit };
        #[expect(clippy::eq_op, reason = "0, or NaN for an infinite or NaN norm, as in TensorFlow")]
        let defect = all - all;
        Self::Scale(norm * least + defect)
    }
}

/// `√(sum / count)` in f64, unless it overflows or is flushed to zero where Keras's is.
fn root_mean_square<R: Real>(sum: f64, count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an element count far below 2^53")]
    let count = count as f64;
    let mean = (R::round_from(sum) / R::round_from(count)).flush();
    let is_regular = mean > R::ZERO && mean <= R::MAX;
    if is_regular { (sum / count).sqrt() } else { mean.root().to_f64() }
}

/// The larger one; NaN if either is NaN, as `tf.maximum`.
fn maximum<R: PartialOrd>(left: R, right: R) -> R {
    // A NaN equals nothing, itself included.
    let left_is_nan = left.partial_cmp(&left).is_none();
    if left_is_nan || left > right { left } else { right }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_norm_scale_follows_keras_where_norms_are_not_finite() {
        let scale = |clipping| match clipping {
            Clipping::Norm { norm, largest } => norm / largest,
            Clipping::Scale(scale) => scale,
            _ => f32::NEG_INFINITY,
        };
        assert_eq!(scale(Clipping::by_norm(2.0, 16.0)).to_bits(), 0.5_f32.to_bits());
        assert_eq!(scale(Clipping::by_norm(8.0, 16.0)).to_bits(), 1.0_f32.to_bits());
        assert_eq!(scale(Clipping::by_norm(2.0, f64::INFINITY)).to_bits(), 0);
        assert!(scale(Clipping::by_norm(2.0, f64::NAN)).is_nan());
        assert!(scale(Clipping::by_global_norm(2.0, [1e39].into_iter())).is_nan());
        assert!(scale(Clipping::by_global_norm(2.0, [1.0, f64::NAN].into_iter())).is_nan());
        let half = scale(Clipping::by_global_norm(2.0, [8.0, 8.0].into_iter()));
        assert!((half - 0.5).abs() < 1e-6);
    }
}
