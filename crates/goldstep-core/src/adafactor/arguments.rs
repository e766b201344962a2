//! The constructor's arguments: Keras's names and defaults, validated once.

use crate::{Error, LearningRate};

/// The validated arguments of an Adafactor, with Keras's names and defaults.
///
/// Made by [`AdafactorArguments::builder`]; [`Default`] is Keras's default.
#[derive(Debug, Clone, PartialEq)]
pub struct AdafactorArguments {
    pub(super) learning_rate: LearningRate,
    pub(super) beta_2_decay: f64,
    pub(super) epsilon_1: f64,
    pub(super) epsilon_2: f64,
    pub(super) clip_threshold: f64,
    pub(super) relative_step: bool,
    pub(super) weight_decay: Option<f64>,
    pub(super) clipnorm: Option<f64>,
    pub(super) clipvalue: Option<f64>,
    pub(super) global_clipnorm: Option<f64>,
    pub(super) use_ema: bool,
    pub(super) ema_momentum: f64,
    pub(super) ema_overwrite_frequency: Option<u64>,
    pub(super) jit_compile: bool,
    pub(super) name: String,
    pub(super) second_moment_underflow: SecondMomentUnderflow,
}

/// What becomes of an element whose second moment is rounded to zero.
///
/// From rank 2 the second moment is rebuilt as `v = r/mean(r) ⊗ c`. A row and a column of one
/// matrix that never had a gradient both hold ε₁, and where they cross `v` is about `ε₁²/mean(r)`:
/// with Keras's ε₁ of 1e-30 that is 0 in every type but float64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SecondMomentUnderflow {
    /// As tf.keras: `g · rsqrt(0)` is NaN or infinite, the update's RMS becomes NaN, and with it the
    /// whole parameter, for good.
    #[default]
    MatchKeras,
    /// The finite result of the exact algebra: where `v` is 0, the update is formed from the factors,
    /// `(g · rsqrt(r)) · (√mean(r) · rsqrt(c))`, which is 0 for a gradient of 0. An element whose
    /// factors (below rank 2: whose `v`) are themselves 0, as with an ε₁ of 0, does not move.
    ///
    /// All other elements have the same bits as with [`MatchKeras`](Self::MatchKeras), so that the
    /// choice changes nothing but results that would be NaN. NaN or infinite gradients, and
    /// gradients whose squares overflow, still show as they do in Keras.
    Finite,
}

/// How gradients are clipped before anything else happens to them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GradientClipping {
    /// Not at all.
    Off,
    /// Each gradient to this L2 norm (`clipnorm`).
    Norm(f64),
    /// All gradients together to this L2 norm (`global_clipnorm`).
    GlobalNorm(f64),
    /// Each element to `[-value, value]` (`clipvalue`).
    Value(f64),
}

/// The averaging of parameters that `use_ema` switches on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmaArguments {
    /// The share of the old average that remains in a step, in `[0, 1]`.
    pub momentum: f64,
    /// Every so many steps the parameters become their averages; `None`: never.
    pub overwrite_frequency: Option<u64>,
}

impl Default for AdafactorArguments {
    fn default() -> Self {
        Self {
            learning_rate: LearningRate::Constant(0.001),
            beta_2_decay: -0.8,
            epsilon_1: 1e-30,
            epsilon_2: 0.001,
            clip_threshold: 1.0,
            relative_step: true,
            weight_decay: None,
            clipnorm: None,
            clipvalue: None,
            global_clipnorm: None,
            use_ema: false,
            ema_momentum: 0.99,
            ema_overwrite_frequency: None,
            jit_compile: true,
            name: "Adafactor".to_owned(),
            second_moment_underflow: SecondMomentUnderflow::MatchKeras,
        }
    }
}

impl AdafactorArguments {
    /// A builder that starts from Keras's defaults.
    pub fn builder() -> AdafactorArgumentsBuilder {
        AdafactorArgumentsBuilder { arguments: Self::default() }
    }

    /// The learning rate that a run starts with; each step uses `min(learning_rate, 1/√t)` of it.
    #[must_use]
    pub const fn learning_rate(&self) -> &LearningRate {
        &self.learning_rate
    }

    /// The exponent of `β₂ = 1 − t^beta_2_decay`.
    #[must_use]
    pub const fn beta_2_decay(&self) -> f64 {
        self.beta_2_decay
    }

    /// Added to every squared gradient.
    #[must_use]
    pub const fn epsilon_1(&self) -> f64 {
        self.epsilon_1
    }

    /// The least parameter scale.
    #[must_use]
    pub const fn epsilon_2(&self) -> f64 {
        self.epsilon_2
    }

    /// The RMS above which an update is scaled down.
    #[must_use]
    pub const fn clip_threshold(&self) -> f64 {
        self.clip_threshold
    }

    /// Without effect: the cap `1/√t` applies whatever it says, as in Keras 2.12 (executed).
    #[must_use]
    pub const fn relative_step(&self) -> bool {
        self.relative_step
    }

    /// The decay per unit of learning rate; `None` is off, and so is no decay at all for 0 but that
    /// it turns −0 into +0 and an infinite element into NaN, as in Keras.
    #[must_use]
    pub const fn weight_decay(&self) -> Option<f64> {
        self.weight_decay
    }

    /// The largest norm of a single gradient; `None` and 0 are off.
    #[must_use]
    pub const fn clipnorm(&self) -> Option<f64> {
        self.clipnorm
    }

    /// The largest magnitude of a gradient's element; `None` and 0 are off.
    #[must_use]
    pub const fn clipvalue(&self) -> Option<f64> {
        self.clipvalue
    }

    /// The largest norm of all gradients together; `None` and 0 are off.
    #[must_use]
    pub const fn global_clipnorm(&self) -> Option<f64> {
        self.global_clipnorm
    }

    /// Whether averages of the parameters are kept.
    #[must_use]
    pub const fn use_ema(&self) -> bool {
        self.use_ema
    }

    /// The momentum of the averages; without effect unless `use_ema`.
    #[must_use]
    pub const fn ema_momentum(&self) -> f64 {
        self.ema_momentum
    }

    /// Steps between overwrites; `None` and 0 mean never; without effect unless `use_ema`.
    #[must_use]
    pub const fn ema_overwrite_frequency(&self) -> Option<u64> {
        self.ema_overwrite_frequency
    }

    /// Without effect: Keras ignores it where no GPU is found, and nothing here is compiled late.
    #[must_use]
    pub const fn jit_compile(&self) -> bool {
        self.jit_compile
    }

    /// A label, without effect on the step.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What becomes of an element whose second moment is rounded to zero. Not a Keras argument.
    #[must_use]
    pub const fn second_moment_underflow(&self) -> SecondMomentUnderflow {
        self.second_moment_underflow
    }

    /// Assigns the learning rate of the next steps, as `optimizer.learning_rate = …` in Keras.
    ///
    /// # Errors
    /// As [`LearningRate::assign`]; nothing is changed then.
    pub fn assign_learning_rate(&mut self, learning_rate: LearningRate) -> Result<(), Error> {
        self.learning_rate.assign(learning_rate)
    }

    /// Assigns the weight decay of the next steps.
    ///
    /// # Errors
    /// A decay that a builder would refuse; nothing is changed then.
    pub fn assign_weight_decay(&mut self, weight_decay: Option<f64>) -> Result<(), Error> {
        let next = Self { weight_decay, ..self.clone() };
        next.validate()?;
        *self = next;
        Ok(())
    }

    /// The one clipping that applies: `clipnorm`, else `global_clipnorm`, else `clipvalue`.
    #[must_use]
    pub fn gradient_clipping(&self) -> GradientClipping {
        let set = |value: Option<f64>| value.filter(|value| *value > 0.0);
        match (set(self.clipnorm), set(self.global_clipnorm), set(self.clipvalue)) {
            (Some(norm), _, _) => GradientClipping::Norm(norm),
            (None, Some(norm), _) => GradientClipping::GlobalNorm(norm),
            (None, None, Some(value)) => GradientClipping::Value(value),
            (None, None, None) => GradientClipping::Off,
        }
    }

    /// The averaging, if `use_ema` is on.
    #[must_use]
    pub fn ema(&self) -> Option<EmaArguments> {
        self.use_ema.then(|| EmaArguments {
            momentum: self.ema_momentum,
            overwrite_frequency: self.ema_overwrite_frequency.filter(|frequency| *frequency > 0),
        })
    }

    fn validate(&self) -> Result<(), Error> {
        self.learning_rate.validate()?;
        let check = |name, rule, value: f64, holds: bool| {
            if holds {
                Ok(())
            } else {
                Err(Error::Argument { name, rule, value: value.to_string() })
            }
        };
        let at_least_0 = |name, value: f64| check(name, "at least 0", value, value >= 0.0);
        let finite = |name, value: Option<f64>| match value {
            Some(value) => {
                check(name, "finite and at least 0", value, value.is_finite() && value >= 0.0)
            }
            None => Ok(()),
        };
        at_least_0("epsilon_1", self.epsilon_1)?;
        at_least_0("epsilon_2", self.epsilon_2)?;
        check("clip_threshold", "above 0", self.clip_threshold, self.clip_threshold > 0.0)?;
        check("beta_2_decay", "at most 0", self.beta_2_decay, self.beta_2_decay <= 0.0)?;
        if let Some(decay) = self.weight_decay {
            at_least_0("weight_decay", decay)?;
        }
        if let (Some(clipnorm), Some(global_clipnorm)) = (self.clipnorm, self.global_clipnorm) {
            return Err(Error::BothClipNorms { clipnorm, global_clipnorm });
        }
        finite("clipnorm", self.clipnorm)?;
        finite("global_clipnorm", self.global_clipnorm)?;
        finite("clipvalue", self.clipvalue)?;
        let momentum = self.ema_momentum;
        // Keras looks at the momentum only with use_ema; NaN is refused everywhere.
        let in_range = (0.0..=1.0).contains(&momentum) || (!self.use_ema && !momentum.is_nan());
        check("ema_momentum", "in [0, 1]", momentum, in_range)
    }
}

/// Collects arguments; [`build`](Self::build) checks them.
#[derive(Debug, Clone)]
#[must_use]
pub struct AdafactorArgumentsBuilder {
    pub(super) arguments: AdafactorArguments,
}

impl AdafactorArgumentsBuilder {
    /// A constant rate, finite and at least 0, or a schedule; each step uses `min(rate, 1/√t)` of it.
    /// Default 0.001.
    pub fn learning_rate(mut self, learning_rate: impl Into<LearningRate>) -> Self {
        self.arguments.learning_rate = learning_rate.into();
        self
    }

    /// The exponent of `β₂ = 1 − t^beta_2_decay`, at most 0. Default −0.8.
    pub const fn beta_2_decay(mut self, beta_2_decay: f64) -> Self {
        self.arguments.beta_2_decay = beta_2_decay;
        self
    }

    /// Added to every squared gradient, at least 0. Default 1e-30.
    pub const fn epsilon_1(mut self, epsilon_1: f64) -> Self {
        self.arguments.epsilon_1 = epsilon_1;
        self
    }

    /// The least parameter scale, `max(epsilon_2, rms(x))`, at least 0. Default 0.001.
    pub const fn epsilon_2(mut self, epsilon_2: f64) -> Self {
        self.arguments.epsilon_2 = epsilon_2;
        self
    }

    /// The RMS above which a parameter's update is scaled down to it, above 0; infinity is off.
    /// Default 1.
    pub const fn clip_threshold(mut self, clip_threshold: f64) -> Self {
        self.arguments.clip_threshold = clip_threshold;
        self
    }

    /// Without effect, see [`AdafactorArguments::relative_step`]. Default true.
    pub const fn relative_step(mut self, relative_step: bool) -> Self {
        self.arguments.relative_step = relative_step;
        self
    }

    /// The decay per unit of learning rate, at least 0: `x −= x · weight_decay · rate` before the
    /// update, with the uncapped rate. Default: none.
    pub fn weight_decay(mut self, weight_decay: impl Into<Option<f64>>) -> Self {
        self.arguments.weight_decay = weight_decay.into();
        self
    }

    /// The largest L2 norm of a single gradient; 0 is off. Default: none. Not together with
    /// `global_clipnorm`.
    pub fn clipnorm(mut self, clipnorm: impl Into<Option<f64>>) -> Self {
        self.arguments.clipnorm = clipnorm.into();
        self
    }

    /// The largest magnitude of a gradient's element; 0 is off. Default: none. A norm takes
    /// precedence.
    pub fn clipvalue(mut self, clipvalue: impl Into<Option<f64>>) -> Self {
        self.arguments.clipvalue = clipvalue.into();
        self
    }

    /// The largest L2 norm of all gradients together; 0 is off. Default: none. Not together with
    /// `clipnorm`.
    pub fn global_clipnorm(mut self, global_clipnorm: impl Into<Option<f64>>) -> Self {
        self.arguments.global_clipnorm = global_clipnorm.into();
        self
    }

    /// Whether averages of the parameters are kept. Default false.
    pub const fn use_ema(mut self, use_ema: bool) -> Self {
        self.arguments.use_ema = use_ema;
        self
    }

    /// The share of the old average that remains in a step, in [0, 1]; without effect unless
    /// `use_ema`. Default 0.99.
    pub const fn ema_momentum(mut self, ema_momentum: f64) -> Self {
        self.arguments.ema_momentum = ema_momentum;
        self
    }

    /// Steps between overwrites of the parameters by their averages; 0 is never, and it is without
    /// effect unless `use_ema`. Default: none.
    pub fn ema_overwrite_frequency(mut self, frequency: impl Into<Option<u64>>) -> Self {
        self.arguments.ema_overwrite_frequency = frequency.into();
        self
    }

    /// Without effect, see [`AdafactorArguments::jit_compile`]. Default true.
    pub const fn jit_compile(mut self, jit_compile: bool) -> Self {
        self.arguments.jit_compile = jit_compile;
        self
    }

    /// A label, without effect on the step. Default `Adafactor`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.arguments.name = name.into();
        self
    }

    /// What becomes of an element whose second moment is rounded to zero. Default: NaN, as in Keras.
    pub const fn second_moment_underflow(mut self, choice: SecondMomentUnderflow) -> Self {
        self.arguments.second_moment_underflow = choice;
        self
    }

    /// Checks everything, so that no later code checks again.
    ///
    /// # Errors
    /// NaN anywhere; an infinite or negative constant learning rate; a negative epsilon or weight
    /// decay; a clip threshold not above 0; a `beta_2_decay` above 0; a negative or infinite clip
    /// value; both norms; with `use_ema`, a momentum outside [0, 1].
    pub fn build(self) -> Result<AdafactorArguments, Error> {
        self.arguments.validate()?;
        Ok(self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> AdafactorArgumentsBuilder {
        AdafactorArguments::builder()
    }

    #[test]
    fn off_values_and_limits_are_accepted() {
        let arguments = builder()
            .learning_rate(0.0)
            .epsilon_1(0.0)
            .epsilon_2(0.0)
            .beta_2_decay(0.0)
            .clip_threshold(f64::INFINITY)
            .weight_decay(0.0)
            .clipnorm(0.0)
            .clipvalue(0.0)
            .ema_momentum(7.0)
            .build()
            .unwrap();
        assert_eq!(arguments.gradient_clipping(), GradientClipping::Off);
        assert_eq!(arguments.ema(), None);
    }

    #[test]
    fn clippings_have_keras_precedence() {
        let clipping =
            |builder: AdafactorArgumentsBuilder| builder.build().unwrap().gradient_clipping();
        let value = builder().clipvalue(3.0);
        assert_eq!(clipping(value.clone()), GradientClipping::Value(3.0));
        assert_eq!(clipping(value.clone().clipnorm(2.0)), GradientClipping::Norm(2.0));
        assert_eq!(clipping(value.clone().clipnorm(0.0)), GradientClipping::Value(3.0));
        assert_eq!(clipping(value.global_clipnorm(1.0)), GradientClipping::GlobalNorm(1.0));
    }

    #[test]
    fn arguments_are_read_as_they_were_given() {
        let arguments = builder().global_clipnorm(1.5).relative_step(false).build().unwrap();
        assert_eq!((arguments.global_clipnorm(), arguments.relative_step()), (Some(1.5), false));
        assert_eq!((arguments.clipnorm(), arguments.clipvalue()), (None, None));
        assert!(builder().build().unwrap().relative_step());
        assert_eq!(builder().clipnorm(2.5).build().unwrap().clipnorm(), Some(2.5));
    }

    #[test]
    fn frequency_0_never_overwrites() {
        let arguments = builder().use_ema(true).ema_overwrite_frequency(0).build().unwrap();
        assert_eq!(arguments.ema().unwrap().overwrite_frequency, None);
    }

    #[test]
    fn a_decay_is_assigned_or_refused() {
        let mut arguments = builder().build().unwrap();
        arguments.assign_weight_decay(Some(0.25)).unwrap();
        assert_eq!(arguments.weight_decay(), Some(0.25));
        assert!(arguments.assign_weight_decay(Some(-1.0)).is_err());
        assert_eq!(arguments.weight_decay(), Some(0.25));
    }

    #[test]
    fn a_rate_is_assigned_or_refused() {
        let mut arguments = builder().learning_rate(0.5).build().unwrap();
        arguments.assign_learning_rate(0.25.into()).unwrap();
        assert_eq!(*arguments.learning_rate(), LearningRate::Constant(0.25));
        assert!(arguments.assign_learning_rate(f64::NAN.into()).is_err());
        assert_eq!(*arguments.learning_rate(), LearningRate::Constant(0.25));
    }
}
