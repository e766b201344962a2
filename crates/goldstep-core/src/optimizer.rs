//! The traits through which every host-memory backend is reached.

use crate::{AdafactorArguments, AdafactorState, Element, Error, Gradient, LearningRate};
use crate::{ParameterList, SecondMoment};

/// What a step reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The float32 learning rate that this step used, before the cap `1/√t`.
    pub learning_rate: f32,
    /// Steps done, this one included.
    pub iterations: u64,
}

/// Adafactor over parameters that live in host memory and belong to the caller.
pub trait HostOptimizer<T: Element>: Sized {
    /// Plans an optimizer for a parameter list; no parameter is read.
    ///
    /// # Errors
    /// What the backend cannot serve.
    fn build(arguments: &AdafactorArguments, parameters: &ParameterList) -> Result<Self, Error>;

    /// One step: updates `parameters` in place. Both lists are in the planned order, each tensor
    /// row-major in its planned shape; a missing gradient leaves its parameter untouched.
    ///
    /// # Errors
    /// Lists that differ from the planned ones, no gradient at all; nothing is changed then.
    fn step(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<StepReport, Error>;

    /// Overwrites every parameter with its average; without EMA nothing happens.
    ///
    /// # Errors
    /// Lists that differ from the planned ones, or no step so far.
    fn finalize_variable_values(&mut self, parameters: &mut [&mut [T]]) -> Result<(), Error>;

    /// The arguments, with the learning rate that was assigned last.
    fn arguments(&self) -> &AdafactorArguments;

    /// The planned parameters, in the order of every call.
    fn parameters(&self) -> &ParameterList;

    /// Steps done.
    fn iterations(&self) -> u64;

    /// Assigns the learning rate of the next step.
    ///
    /// # Errors
    /// As [`LearningRate::assign`].
    fn set_learning_rate(&mut self, learning_rate: LearningRate) -> Result<(), Error>;

    /// A copy of the complete state.
    fn state(&self) -> AdafactorState;

    /// Replaces the complete state.
    ///
    /// # Errors
    /// A state that does not fit the arguments or the list; nothing is changed then.
    fn load_state(&mut self, state: &AdafactorState) -> Result<(), Error>;

    /// The second moment of parameter `index` as Keras keeps it: full size, row-major; rebuilt from
    /// the factors for rank ≥ 2, zeros before the parameter's first gradient.
    fn second_moment(&self, index: usize) -> Vec<T>;
}

/// What a step computed on its way, for one parameter; for diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub struct Intermediates {
    /// Position in the parameter list.
    pub parameter: usize,
    /// The gradient after clipping and densification, in the parameter's shape.
    pub clipped_gradient: Vec<f64>,
    /// `rms(x)` after weight decay.
    pub parameter_rms: f64,
    /// The step size α.
    pub step_size: f64,
    /// `u`, before it is clipped, in the parameter's shape.
    pub update: Vec<f64>,
    /// `rms(u)` over the whole parameter.
    pub update_rms: f64,
}

/// A backend whose intermediates can be observed.
pub trait ObservableOptimizer<T: Element>: HostOptimizer<T> {
    /// As [`HostOptimizer::step`], with one record per parameter that had a gradient.
    ///
    /// # Errors
    /// As [`HostOptimizer::step`].
    fn step_observed(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<(StepReport, Vec<Intermediates>), Error>;
}

impl SecondMoment {
    /// Number of values kept, over all fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Full(values) => values.len(),
            Self::Factored { row_factor, column_factor } => row_factor.len() + column_factor.len(),
        }
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
