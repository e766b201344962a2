//! The scalars of a step, in the type that the kernels compute in.

use goldstep_core::{
    AdafactorArguments, AdafactorScalars, GradientClipping, SecondMomentUnderflow,
};

use crate::kernels::{Bounded, Clipped, Decayed, LiteralClip, Moment, Scaled};
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
    /// Whether squares below the normal range, which TensorFlow flushes to zero, show beside `ε₁`.
    flush: bool,
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
pub struct Clipping<R> {
    kind: Kind<R>,
    flush: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind<R> {
    Off,
    /// Times `norm`, divided by `largest`, the larger of it and the tensor's own norm: in one
    /// operation if no element that counts leaves the normal range between the two.
    Norm {
        norm: R,
        largest: R,
        at_once: bool,
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
        let least = R::MIN_POSITIVE.to_f64();
        let flush = scalars.epsilon_1 < 4.0 * least / R::DTYPE.epsilon();
        let fresh = scalars.one_minus_beta_2 * scalars.epsilon_1;
        Self {
            moment: Moment {
                beta_2: real(scalars.beta_2),
                one_minus_beta_2: real(scalars.one_minus_beta_2),
                epsilon_1: real(scalars.epsilon_1).flush(),
                flushes: flush || scalars.beta_2 < 0.0 || fresh < 1024.0 * least,
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
            flush,
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
        let step_size = maximum(self.epsilon_2.to_f64(), rms) * self.relative_step_size.to_f64();
        // TensorFlow flushes the product, as it was rounded.
        let is_flushed = R::round_from(step_size).magnitude() < R::MIN_POSITIVE;
        if is_flushed { 0.0 } else { step_size }
    }

    /// The second moment below which the algebra of `rms(u)` loses digits: what is below the normal
    /// range is rounded to multiples of its lower end times epsilon, half of which over the second
    /// moment must not show in an `rms(u)` that reaches the threshold.
    ///
    /// The same holds for `g²/r`, which is over `c / mean(r)`, and for `g²/c` over `r / mean(r)`.
    /// There is none where squares are flushed: the update of their gradients is not.
    pub(crate) fn least_second_moment(&self) -> f64 {
        if self.flush {
            return f64::INFINITY;
        }
        let threshold = self.clip_threshold.to_f64();
        R::MIN_POSITIVE.to_f64() / 2.0 / (threshold * threshold)
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

/// How gradients are clipped in this step.
impl<R: Real> StepScalars<R> {
    /// Not at all.
    pub(crate) const fn unclipped(&self) -> Clipping<R> {
        Clipping { kind: Kind::Off, flush: self.flush }
    }

    /// By value.
    pub(crate) fn clip_by_value(&self, bound: f64) -> Clipping<R> {
        Clipping { kind: Kind::Bound(R::round_from(bound)), flush: self.flush }
    }

    /// One tensor to a norm: `g·norm / max(l2, norm)`.
    pub(crate) fn clip_by_norm(&self, norm: f64, square_sum: f64) -> Clipping<R> {
        let (norm, square_sum) = (R::round_from(norm), R::round_from(square_sum));
        // Keras takes the sum itself where it is not positive: zero, or NaN.
        let l2 = if square_sum > R::ZERO { square_sum.root() } else { square_sum };
        let largest = maximum(l2, norm);
        let (least, most) = (R::MIN_POSITIVE.to_f64(), R::MAX.to_f64());
        let root = self.moment.epsilon_1.to_f64().sqrt();
        // No element is larger than the norm. One that `norm` takes below the normal range would
        // have an update of less than this over `norm` and the root of `ε₁`.
        let at_once = !self.flush
            && norm.to_f64() * largest.to_f64() < most / 2.0
            && norm.to_f64() * root * R::DTYPE.epsilon() > 4.0 * least;
        Clipping { kind: Kind::Norm { norm, largest, at_once }, flush: self.flush }
    }

    /// All tensors to one norm, from the square sum of each: `norm·min(1/N, 1/norm) + (N − N)` with
    /// `N = √(2·Σ(Σg²/2))`.
    pub(crate) fn clip_by_global_norm(
        &self,
        norm: f64,
        square_sums: impl Iterator<Item = f64>,
    ) -> Clipping<R> {
        let (norm, two) = (R::round_from(norm), R::ONE + R::ONE);
        let halves: f64 =
            square_sums.map(|sum| (R::round_from(sum) / two).to_f64()).fold(0.0, |t, x| t + x);
        let all = (R::round_from(halves) * two).root();
        let (inverse, limit) = (R::ONE / all, R::ONE / norm);
        let least = if inverse < limit { inverse } else { limit };
        #[expect(clippy::eq_op, reason = "0, or NaN for an infinite or NaN norm, as in TensorFlow")]
        let defect = all - all;
        Clipping { kind: Kind::Scale(norm * least + defect), flush: self.flush }
    }
}

impl<R: Real> Clipping<R> {
    /// What the kernels do to each element; nothing if that is nothing.
    pub(crate) fn of_kernels(self) -> Option<Clipped<R>> {
        let is_off = matches!(self.kind, Kind::Off) && !self.flush;
        (!is_off).then(|| self.clipped())
    }

    /// The same for kernels that always do something.
    pub(crate) fn clipped(self) -> Clipped<R> {
        let literal = LiteralClip { factor: R::ONE, divisor: R::ONE, bound: R::INFINITY };
        Clipped::Literal(match self.kind {
            Kind::Off if !self.flush => return Clipped::Scale(Scaled(R::ONE)),
            Kind::Norm { norm, largest, at_once: true } => {
                return Clipped::Scale(Scaled(norm / largest));
            }
            Kind::Scale(scale) if !self.flush => return Clipped::Scale(Scaled(scale)),
            Kind::Bound(bound) if !self.flush => return Clipped::Bound(Bounded(bound)),
            Kind::Off => literal,
            Kind::Norm { norm, largest, .. } => {
                LiteralClip { factor: norm, divisor: largest, ..literal }
            }
            Kind::Scale(factor) => LiteralClip { factor, ..literal },
            Kind::Bound(bound) => LiteralClip { bound, ..literal },
        })
    }

    /// Clips a single element of rows that are yet to be summed. A sum that cancels enlarges every
    /// rounding, so that a norm is applied in Keras's two operations, not in the kernels' one.
    pub(crate) fn of_one(self, gradient: R) -> R {
        match self.kind {
            Kind::Off => gradient,
            Kind::Norm { norm, largest, .. } => (gradient * norm).flush() / largest,
            Kind::Scale(scale) => gradient * scale,
            Kind::Bound(bound) => {
                let below = if bound < gradient { bound } else { gradient };
                let least = R::ZERO - bound;
                if least > below { least } else { below }
            }
        }
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
        let scalars = StepScalars::<f32>::new(&AdafactorArguments::default(), 0.1, 0);
        let scale = |clipping: Clipping<f32>| match clipping.kind {
            Kind::Norm { norm, largest, .. } => norm / largest,
            Kind::Scale(scale) => scale,
            _ => f32::NEG_INFINITY,
        };
        let by_norm = |norm, sum| scale(scalars.clip_by_norm(norm, sum));
        assert_eq!(by_norm(2.0, 16.0).to_bits(), 0.5_f32.to_bits());
        assert_eq!(by_norm(8.0, 16.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(by_norm(2.0, f64::INFINITY).to_bits(), 0);
        assert!(by_norm(2.0, f64::NAN).is_nan());
        let global = |sums: &[f64]| scale(scalars.clip_by_global_norm(2.0, sums.iter().copied()));
        assert!(global(&[1e39]).is_nan());
        assert!(global(&[1.0, f64::NAN]).is_nan());
        assert!((global(&[8.0, 8.0]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_norm_is_applied_at_once_where_nothing_is_lost_between() {
        let at_once = |epsilon_1, norm, sum| {
            let arguments = AdafactorArguments::builder().epsilon_1(epsilon_1).build();
            let scalars = StepScalars::<f32>::new(&arguments.unwrap_or_default(), 0.1, 0);
            matches!(scalars.clip_by_norm(norm, sum).kind, Kind::Norm { at_once: true, .. })
        };
        assert!(at_once(1e-30, 1.0, 16.0) && at_once(1e-30, 1e-3, 0.0));
        assert!(!at_once(1e-30, 10.0, 1e76), "the largest element times the norm overflows");
        assert!(!at_once(1e-30, 1e-20, 1.0), "an element times the norm underflows");
        assert!(!at_once(1e-37, 1.0, 16.0) && !at_once(1e-30, 1.0, f64::NAN));
    }
}
