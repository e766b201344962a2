//! The six schedules of `tf.keras.optimizers.schedules`, and a trait for a user's own.
//!
//! All arithmetic is float32, as in Keras when the fields are Python floats. Source: Keras 2.12
//! `keras/optimizers/schedules/learning_rate_schedule.py`.

use std::f32::consts::PI;
use std::fmt;
use std::sync::Arc;

use crate::{Element, Error};

/// A learning rate as a function of the 0-based iteration.
///
/// A schedule may return what it likes; the step then takes `min(rate, 1/√t)` of it.
pub trait LearningRateSchedule: fmt::Debug + Send + Sync {
    /// The rate of the step that starts at `iterations`.
    fn at(&self, iterations: u64) -> f32;
}

/// A schedule of `tf.keras.optimizers.schedules`, or a user's own.
///
/// The fields carry Keras's names and are rounded to float32 when the schedule is evaluated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Schedule {
    /// `initial_learning_rate · decay_rate^(step / decay_steps)`.
    ExponentialDecay {
        /// The rate at iteration 0.
        initial_learning_rate: f64,
        /// Iterations after which the rate has been multiplied by `decay_rate`.
        decay_steps: f64,
        /// The factor.
        decay_rate: f64,
        /// Whether the exponent is rounded down.
        staircase: bool,
    },
    /// `values[i]` while the iteration is at most `boundaries[i]`, then the last value.
    PiecewiseConstantDecay {
        /// Iterations, in ascending order; fractions are cut off, as Keras casts them to int64. In an
        /// iteration of two intervals, which descending ones give, Keras fails and here the first
        /// one counts.
        boundaries: Vec<f64>,
        /// One value more than boundaries.
        values: Vec<f64>,
    },
    /// `(initial − end) · (1 − step / decay_steps)^power + end`.
    PolynomialDecay {
        /// The rate at iteration 0.
        initial_learning_rate: f64,
        /// Iterations until `end_learning_rate` is reached.
        decay_steps: f64,
        /// The rate from then on. Keras's default is 0.0001.
        end_learning_rate: f64,
        /// The exponent. Keras's default is 1.
        power: f64,
        /// Whether `decay_steps` is multiplied so that the decay starts anew.
        cycle: bool,
    },
    /// `initial_learning_rate / (1 + decay_rate · step / decay_steps)`.
    InverseTimeDecay {
        /// The rate at iteration 0.
        initial_learning_rate: f64,
        /// Iterations in the unit of `decay_rate`.
        decay_steps: f64,
        /// The factor.
        decay_rate: f64,
        /// Whether `step / decay_steps` is rounded down.
        staircase: bool,
    },
    /// Half a cosine from `initial_learning_rate` down to `alpha` times it. No warm-up, as in 2.12.
    CosineDecay {
        /// The rate at iteration 0.
        initial_learning_rate: f64,
        /// Iterations until the end of the decay.
        decay_steps: f64,
        /// The share of the initial rate that remains. Keras's default is 0.
        alpha: f64,
    },
    /// Cosine decay that starts anew after periods that grow by `t_mul`.
    CosineDecayRestarts {
        /// The rate at iteration 0.
        initial_learning_rate: f64,
        /// Iterations of the first period.
        first_decay_steps: f64,
        /// Each period is longer by this factor. Keras's default is 2.
        t_mul: f64,
        /// Each period starts from a rate multiplied by this factor. Keras's default is 1.
        m_mul: f64,
        /// The share of the initial rate that remains. Keras's default is 0.
        alpha: f64,
    },
    /// A user's own schedule. It has no Keras configuration.
    Custom(Arc<dyn LearningRateSchedule>),
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Custom(left), Self::Custom(right)) => Arc::ptr_eq(left, right),
            (Self::Custom(_), _) | (_, Self::Custom(_)) => false,
            _ => self.class_name() == other.class_name() && self.fields() == other.fields(),
        }
    }
}

impl Schedule {
    /// `ExponentialDecay(initial_learning_rate, decay_steps, decay_rate, staircase)`.
    #[must_use]
    pub const fn exponential_decay(
        initial_learning_rate: f64,
        decay_steps: f64,
        decay_rate: f64,
        staircase: bool,
    ) -> Self {
        Self::ExponentialDecay { initial_learning_rate, decay_steps, decay_rate, staircase }
    }

    /// A user's own schedule.
    pub fn custom(schedule: impl LearningRateSchedule + 'static) -> Self {
        Self::Custom(Arc::new(schedule))
    }

    /// Keras's class name; `Custom` for a user's own.
    #[must_use]
    pub const fn class_name(&self) -> &'static str {
        match self {
            Self::ExponentialDecay { .. } => "ExponentialDecay",
            Self::PiecewiseConstantDecay { .. } => "PiecewiseConstantDecay",
            Self::PolynomialDecay { .. } => "PolynomialDecay",
            Self::InverseTimeDecay { .. } => "InverseTimeDecay",
            Self::CosineDecay { .. } => "CosineDecay",
            Self::CosineDecayRestarts { .. } => "CosineDecayRestarts",
            Self::Custom(_) => "Custom",
        }
    }

    /// All numbers of a schedule, flags as 0 and 1.
    fn fields(&self) -> Vec<f64> {
        let flag = |value: bool| f64::from(u8::from(value));
        match self {
            Self::ExponentialDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            }
            | Self::InverseTimeDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            } => vec![*initial_learning_rate, *decay_steps, *decay_rate, flag(*staircase)],
            Self::PiecewiseConstantDecay { boundaries, values } => {
                boundaries.iter().chain(values).copied().collect()
            }
            Self::PolynomialDecay {
                initial_learning_rate,
                decay_steps,
                end_learning_rate,
                power,
                cycle,
            } => {
                vec![*initial_learning_rate, *decay_steps, *end_learning_rate, *power, flag(*cycle)]
            }
            Self::CosineDecay { initial_learning_rate, decay_steps, alpha } => {
                vec![*initial_learning_rate, *decay_steps, *alpha]
            }
            Self::CosineDecayRestarts {
                initial_learning_rate,
                first_decay_steps,
                t_mul,
                m_mul,
                alpha,
            } => vec![*initial_learning_rate, *first_decay_steps, *t_mul, *m_mul, *alpha],
            Self::Custom(_) => Vec::new(),
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// A field that is NaN; `values` that are not one more than `boundaries`, or no boundary.
    pub fn validate(&self) -> Result<(), Error> {
        if let Self::PiecewiseConstantDecay { boundaries, values } = self
            && (boundaries.is_empty() || boundaries.len() + 1 != values.len())
        {
            return Err(Error::Schedule {
                class_name: self.class_name(),
                rule: "values must be one more than boundaries, of which there is at least one"
                    .into(),
                value: format!("{} boundaries and {} values", boundaries.len(), values.len()),
            });
        }
        match self.fields().into_iter().find(|field| field.is_nan()) {
            Some(field) => Err(Error::Schedule {
                class_name: self.class_name(),
                rule: "fields must be numbers".into(),
                value: field.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// The rate of the step that starts at `iterations` (0-based).
    #[must_use]
    pub fn at(&self, iterations: u64) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "Keras casts the iteration to float32")]
        let step = iterations as f32;
        let f32 = |value: &f64| f32::round_from(*value);
        match self {
            Self::ExponentialDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            } => {
                let p = floor_if(*staircase, step / f32(decay_steps));
                f32(initial_learning_rate) * f32(decay_rate).powf(p)
            }
            Self::PiecewiseConstantDecay { boundaries, values } => {
                piecewise_constant(boundaries, values, iterations)
            }
            Self::PolynomialDecay {
                initial_learning_rate,
                decay_steps,
                end_learning_rate,
                power,
                cycle,
            } => {
                let (end, steps) = (f32(end_learning_rate), f32(decay_steps));
                let p = if *cycle {
                    let multiplier = if iterations == 0 { 1.0 } else { (step / steps).ceil() };
                    step / (steps * multiplier)
                } else {
                    step.min(steps) / steps
                };
                (f32(initial_learning_rate) - end) * (1.0 - p).powf(f32(power)) + end
            }
            Self::InverseTimeDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            } => {
                let p = floor_if(*staircase, step / f32(decay_steps));
                f32(initial_learning_rate) / (1.0 + f32(decay_rate) * p)
            }
            Self::CosineDecay { initial_learning_rate, decay_steps, alpha } => {
                let steps = f32(decay_steps);
                let cosine = 0.5 * (1.0 + (PI * (step.min(steps) / steps)).cos());
                // 1 − alpha is a Python float64 there, rounded when it meets the tensor.
                f32(initial_learning_rate) * (f32::round_from(1.0 - alpha) * cosine + f32(alpha))
            }
            Self::CosineDecayRestarts {
                initial_learning_rate,
                first_decay_steps,
                t_mul,
                m_mul,
                alpha,
            } => {
                let (restart, completed) =
                    restart_period(step / f32(first_decay_steps), f32(t_mul));
                let cosine = 0.5 * f32(m_mul).powf(restart) * (1.0 + (PI * completed).cos());
                let alpha = f32(alpha);
                f32(initial_learning_rate) * ((1.0 - alpha) * cosine + alpha)
            }
            Self::Custom(schedule) => schedule.at(iterations),
        }
    }
}

fn floor_if(staircase: bool, value: f32) -> f32 {
    if staircase { value.floor() } else { value }
}

fn piecewise_constant(boundaries: &[f64], values: &[f64], iterations: u64) -> f32 {
    let at_most = |boundary: &f64| {
        #[expect(clippy::cast_possible_truncation, reason = "Keras casts boundaries to int64")]
        let boundary = *boundary as i64;
        i64::try_from(iterations).unwrap_or(i64::MAX) <= boundary
    };
    let index = boundaries.iter().position(at_most).unwrap_or(boundaries.len());
    values.get(index).copied().map_or(f32::NAN, f32::round_from)
}

/// The number of restarts so far and the completed fraction of the current period.
fn restart_period(completed: f32, t_mul: f32) -> (f32, f32) {
    if t_mul.to_bits() == 1.0_f32.to_bits() {
        return (completed.floor(), completed - completed.floor());
    }
    let restart = ((1.0 - completed * (1.0 - t_mul)).ln() / t_mul.ln()).floor();
    let growth = t_mul.powf(restart);
    let sum = (1.0 - growth) / (1.0 - t_mul);
    (restart, (completed - sum) / growth)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Shapes of the curves only; the values are held against tf.keras by the goldens.

    #[test]
    fn piecewise_includes_its_boundary() {
        let schedule = Schedule::PiecewiseConstantDecay {
            boundaries: vec![2.0, 4.9],
            values: vec![3.0, 2.0, 1.0],
        };
        let rates: Vec<f32> = (0..7).map(|iteration| schedule.at(iteration)).collect();
        assert_eq!(rates, [3.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn restarts_return_to_the_initial_rate() {
        for t_mul in [1.0, 2.0] {
            let schedule = Schedule::CosineDecayRestarts {
                initial_learning_rate: 0.5,
                first_decay_steps: 4.0,
                t_mul,
                m_mul: 1.0,
                alpha: 0.0,
            };
            assert!((schedule.at(4) - 0.5).abs() < 1e-6);
            assert!(schedule.at(3) < 0.1);
        }
    }

    #[test]
    fn a_custom_schedule_is_evaluated() {
        #[derive(Debug)]
        struct Iterations;
        impl LearningRateSchedule for Iterations {
            fn at(&self, iterations: u64) -> f32 {
                f32::from(u8::try_from(iterations).unwrap())
            }
        }
        let schedule = Schedule::custom(Iterations);
        assert_eq!(schedule.at(3).to_bits(), 3.0_f32.to_bits());
        assert_eq!(schedule, schedule.clone());
        assert_ne!(schedule, Schedule::custom(Iterations));
        assert_ne!(schedule, Schedule::exponential_decay(1.0, 2.0, 0.5, false));
        assert_ne!(Schedule::exponential_decay(1.0, 2.0, 0.5, false), schedule);
    }

    #[test]
    fn schedules_differ_by_class_and_by_field() {
        let exponential = |steps| Schedule::exponential_decay(1.0, steps, 0.5, false);
        let inverse = Schedule::InverseTimeDecay {
            initial_learning_rate: 1.0,
            decay_steps: 2.0,
            decay_rate: 0.5,
            staircase: false,
        };
        assert_eq!(exponential(2.0), exponential(2.0));
        assert_ne!(exponential(2.0), exponential(3.0));
        assert_ne!(exponential(2.0), inverse);
    }
}
