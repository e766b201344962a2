//! The scalars of one step, rounded as Keras rounds them.

use crate::{AdafactorArguments, DType, Element, GradientClipping};

/// The scalars of one step, each exactly representable in the element type it was made for.
///
/// One function makes them for every backend. Symbols are those of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdafactorScalars {
    /// The 1-based step `t`.
    pub step: u64,
    /// The rate as Keras reports it, float32 in every element type.
    pub reported_learning_rate: f32,
    /// `lr`, the uncapped rate, which weight decay uses.
    pub learning_rate: f64,
    /// `ρ = min(lr, 1/√t)`.
    pub relative_step_size: f64,
    /// `β₂ = 1 − t^beta_2_decay`.
    pub beta_2: f64,
    /// `1 − β₂`, from the rounded β₂.
    pub one_minus_beta_2: f64,
    /// `ε₁`.
    pub epsilon_1: f64,
    /// `ε₂`, rounded through float32.
    pub epsilon_2: f64,
    /// The RMS above which an update is scaled down.
    pub clip_threshold: f64,
    /// The decay per unit of `lr`, rounded through float32; `None` is off.
    pub weight_decay: Option<f64>,
    /// The clipping of gradients, its value rounded.
    pub clipping: GradientClipping,
    /// The averaging, if it is on.
    pub ema: Option<EmaScalars>,
}

/// The scalars of the averaging in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmaScalars {
    /// The share of the old average.
    pub momentum: f64,
    /// The share of the parameter: `1 − momentum` in float64, then rounded.
    pub one_minus_momentum: f64,
    /// Whether the parameters become their averages at the end of this step.
    pub overwrite: bool,
}

impl AdafactorScalars {
    /// The scalars of the step that starts at `iterations` (0-based) with the float32
    /// `learning_rate` of that step, for variables of type `dtype`.
    ///
    /// Keras passes `learning_rate`, `epsilon_2` and `weight_decay` through float32 whatever the
    /// type; everything else goes to the variable's type at once (semantics executed on 2.12.1).
    #[must_use]
    pub fn new(
        arguments: &AdafactorArguments,
        learning_rate: f32,
        iterations: u64,
        dtype: DType,
    ) -> Self {
        let through_float32 = |value: f64| dtype.round(DType::Float32.round(value));
        #[expect(clippy::cast_precision_loss, reason = "Keras casts the step to the type")]
        let step = dtype.round((iterations + 1) as f64);
        let rate = through_float32(f64::from(learning_rate));
        let inverse_root = dtype.round(1.0 / dtype.round(step.sqrt()));
        let power = dtype.round(step.powf(dtype.round(arguments.beta_2_decay())));
        let beta_2 = dtype.round(1.0 - power);
        Self {
            step: iterations + 1,
            reported_learning_rate: learning_rate,
            learning_rate: rate,
            relative_step_size: minimum(rate, inverse_root),
            beta_2,
            one_minus_beta_2: dtype.round(1.0 - beta_2),
            epsilon_1: dtype.round(arguments.epsilon_1()),
            epsilon_2: through_float32(arguments.epsilon_2()),
            clip_threshold: dtype.round(arguments.clip_threshold()),
            weight_decay: arguments.weight_decay().map(through_float32),
            clipping: match arguments.gradient_clipping() {
                GradientClipping::Off => GradientClipping::Off,
                GradientClipping::Norm(norm) => GradientClipping::Norm(dtype.round(norm)),
                GradientClipping::GlobalNorm(norm) => {
                    GradientClipping::GlobalNorm(dtype.round(norm))
                }
                GradientClipping::Value(value) => GradientClipping::Value(dtype.round(value)),
            },
            ema: arguments.ema().map(|ema| EmaScalars {
                momentum: dtype.round(ema.momentum),
                one_minus_momentum: dtype.round(1.0 - ema.momentum),
                overwrite: ema
                    .overwrite_frequency
                    .is_some_and(|frequency| (iterations + 1).is_multiple_of(frequency)),
            }),
        }
    }

    /// As [`new`](Self::new) for an element type.
    #[must_use]
    pub fn of<T: Element>(
        arguments: &AdafactorArguments,
        learning_rate: f32,
        iterations: u64,
    ) -> Self {
        Self::new(arguments, learning_rate, iterations, T::DTYPE)
    }
}

/// The smaller one; NaN if either is NaN, as `tf.minimum`.
fn minimum(left: f64, right: f64) -> f64 {
    if left.is_nan() || left < right { left } else { right }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LearningRate;

    fn scalars(arguments: &AdafactorArguments, iterations: u64, dtype: DType) -> AdafactorScalars {
        let rate = arguments.learning_rate().at(iterations);
        AdafactorScalars::new(arguments, rate, iterations, dtype)
    }

    #[test]
    fn the_first_step_has_no_memory() {
        for dtype in DType::ALL {
            let first = scalars(&AdafactorArguments::default(), 0, dtype);
            assert_eq!((first.beta_2.to_bits(), first.one_minus_beta_2), (0, 1.0));
        }
    }

    #[test]
    fn the_rate_is_capped_but_not_for_decay() {
        let arguments =
            AdafactorArguments::builder().learning_rate(2.0).relative_step(false).build().unwrap();
        let fourth = scalars(&arguments, 3, DType::Float32);
        assert_eq!((fourth.relative_step_size, fourth.learning_rate), (0.5, 2.0));
        let of_rate = |rate: f32| AdafactorScalars::new(&arguments, rate, 3, DType::Float32);
        assert_eq!(of_rate(0.25).relative_step_size.to_bits(), 0.25_f64.to_bits());
        assert!(of_rate(f32::NAN).relative_step_size.is_nan());
    }

    #[test]
    fn float64_rounds_three_arguments_through_float32() {
        let arguments = AdafactorArguments::builder()
            .learning_rate(LearningRate::Constant(0.1))
            .epsilon_1(0.1)
            .epsilon_2(0.1)
            .weight_decay(0.1)
            .build()
            .unwrap();
        let scalars = scalars(&arguments, 0, DType::Float64);
        let rounded = f64::from(0.1_f32);
        assert_eq!(
            (scalars.learning_rate, scalars.epsilon_2, scalars.weight_decay),
            (rounded, rounded, Some(rounded))
        );
        assert_eq!(scalars.epsilon_1.to_bits(), 0.1_f64.to_bits());
    }

    #[test]
    fn overwrites_fall_on_multiples() {
        let arguments =
            AdafactorArguments::builder().use_ema(true).ema_overwrite_frequency(3).build().unwrap();
        let overwrites: Vec<bool> = (0..6)
            .map(|iterations| {
                scalars(&arguments, iterations, DType::Float32).ema.unwrap().overwrite
            })
            .collect();
        assert_eq!(overwrites, [false, false, true, false, false, true]);
    }

    #[test]
    fn a_half_step_beyond_its_range_is_infinite() {
        let late = scalars(&AdafactorArguments::default(), 65_519, DType::Float16);
        assert_eq!((late.relative_step_size.to_bits(), late.beta_2), (0, 1.0));
    }
}
