//! The scalars of a step, and the mistakes that are made with them.

use goldstep_core::{AdafactorArguments, AdafactorScalars, DType, LearningRate};

use crate::Mistake;
use crate::arithmetic::Arithmetic;

/// What a step is computed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalars {
    pub(crate) keras: AdafactorScalars,
    pub(crate) rho: f64,
    pub(crate) momentum: f64,
    pub(crate) one_minus_momentum: f64,
    pub(crate) overwrite: bool,
}

/// The learning rate as the step uses and reports it.
pub(crate) fn learning_rate(rate: &LearningRate, iterations: u64, mistake: Mistake) -> f32 {
    match mistake {
        Mistake::ScheduleOneStepAhead => rate.at(iterations + 1),
        Mistake::ScheduleFrozen => rate.at(0),
        _ => rate.at(iterations),
    }
}

impl Scalars {
    pub(crate) fn new(
        arguments: &AdafactorArguments,
        rate: &LearningRate,
        lr: f32,
        iterations: u64,
        a: Arithmetic,
    ) -> Self {
        let m = a.mistake;
        let mut s = AdafactorScalars::new(arguments, lr, iterations, a.dtype);
        let single = |value: f64| a.round(DType::Float32.round(value));
        match m {
            Mistake::RateNotThroughFloat32 => {
                if let LearningRate::Constant(value) = rate {
                    s.learning_rate = a.round(*value);
                }
            }
            Mistake::Epsilon2NotThroughFloat32 => s.epsilon_2 = a.round(arguments.epsilon_2()),
            Mistake::DecayNotThroughFloat32 => {
                s.weight_decay = arguments.weight_decay().map(|decay| a.round(decay));
            }
            Mistake::SubnormalsKept => s.epsilon_1 = a.round(arguments.epsilon_1()),
            Mistake::Epsilon1Dropped => s.epsilon_1 = 0.0,
            Mistake::Epsilon1Constant => s.epsilon_1 = a.round(1e-30),
            Mistake::Epsilon1Squared => s.epsilon_1 = a.times(s.epsilon_1, s.epsilon_1),
            Mistake::HalfEpsilon1Floor if a.dtype == DType::Float16 && s.epsilon_1 <= 0.0 => {
                s.epsilon_1 = a.round(6e-8);
            }
            Mistake::Epsilon2Ignored => s.epsilon_2 = 0.0,
            Mistake::Epsilon2Constant => s.epsilon_2 = single(1e-3),
            Mistake::EpsilonsSwapped => {
                (s.epsilon_1, s.epsilon_2) = (single(arguments.epsilon_2()), s.epsilon_1);
            }
            Mistake::ClipThresholdIgnored => s.clip_threshold = 1.0,
            _ => {}
        }
        second_moment_decay(&mut s, arguments, iterations, a);
        let rho = relative_step_size(&s, arguments, rate, iterations, a);
        let (momentum, one_minus_momentum, overwrite) = averaging(&s, arguments, iterations, a);
        Self { keras: s, rho, momentum, one_minus_momentum, overwrite }
    }
}

fn second_moment_decay(
    s: &mut AdafactorScalars,
    arguments: &AdafactorArguments,
    iterations: u64,
    a: Arithmetic,
) {
    let exponent = a.round(arguments.beta_2_decay());
    let decay = |t: u64, exponent| a.round(1.0 - a.round(a.round(whole(t)).powf(exponent)));
    match a.mistake {
        Mistake::Beta2FromIterations => s.beta_2 = decay(iterations.max(1), exponent),
        Mistake::Beta2OneStepLater => s.beta_2 = decay(iterations + 2, exponent),
        Mistake::Beta2Constant => s.beta_2 = a.round(0.999),
        Mistake::Beta2DecayIgnored => s.beta_2 = decay(iterations + 1, a.round(-0.8)),
        Mistake::Beta2Capped => s.beta_2 = a.min(s.beta_2, a.round(0.98)),
        Mistake::Beta2Swapped => s.beta_2 = s.one_minus_beta_2,
        Mistake::Beta2ThroughFloat32 => s.beta_2 = a.round(DType::Float32.round(s.beta_2)),
        _ => return,
    }
    s.one_minus_beta_2 = a.round(1.0 - s.beta_2);
}

fn relative_step_size(
    s: &AdafactorScalars,
    arguments: &AdafactorArguments,
    rate: &LearningRate,
    iterations: u64,
    a: Arithmetic,
) -> f64 {
    let lr = s.learning_rate;
    let inverse_root = |t: u64| a.round(1.0 / a.round(a.round(whole(t)).sqrt()));
    let cap = inverse_root(iterations + 1);
    let scheduled = matches!(rate, LearningRate::Schedule(_));
    match a.mistake {
        Mistake::RelativeStepIgnoresRate if arguments.relative_step() => cap,
        Mistake::RelativeStepLiftsCap if !arguments.relative_step() => lr,
        Mistake::RateNotCapped => lr,
        Mistake::ScheduleNotCapped if scheduled => lr,
        Mistake::RateTimesInverseRoot => a.times(lr, cap),
        Mistake::CapFromIterations => a.min(lr, inverse_root(iterations.max(1))),
        Mistake::CapOneStepLater => a.min(lr, inverse_root(iterations + 2)),
        Mistake::CapOfPaper => a.min(lr, a.min(a.round(1e-2), cap)),
        Mistake::CapThroughFloat32 => a.min(lr, a.round(DType::Float32.round(cap))),
        _ => a.min(lr, cap),
    }
}

/// Momentum, its complement, and whether this step overwrites.
fn averaging(
    s: &AdafactorScalars,
    arguments: &AdafactorArguments,
    iterations: u64,
    a: Arithmetic,
) -> (f64, f64, bool) {
    let (Some(keras), Some(ema)) = (s.ema, arguments.ema()) else { return (1.0, 0.0, false) };
    let frequency = ema.overwrite_frequency;
    let overwrite = match a.mistake {
        Mistake::EmaOverwriteIgnored => false,
        Mistake::EmaOverwriteAtIterations => {
            frequency.is_some_and(|frequency| iterations.is_multiple_of(frequency))
        }
        Mistake::EmaOverwriteEveryStep => frequency.is_some(),
        Mistake::EmaOverwriteOnce => frequency == Some(iterations + 1),
        _ => keras.overwrite,
    };
    let (m, rest) = match a.mistake {
        Mistake::EmaMomentumSwapped => (keras.one_minus_momentum, keras.momentum),
        Mistake::EmaMomentumIgnored => (a.round(0.99), a.round(1.0 - 0.99)),
        Mistake::MomentumThroughFloat32 => {
            let m = DType::Float32.round(ema.momentum);
            (a.round(m), a.round(1.0 - m))
        }
        _ => (keras.momentum, keras.one_minus_momentum),
    };
    (m, rest, overwrite)
}

/// A count as a number.
pub(crate) fn whole(t: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "Keras casts the step to the type")]
    let t = t as f64;
    t
}
