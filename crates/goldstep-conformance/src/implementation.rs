//! The one door through which every judged implementation comes.

use goldstep_core::{Constraint, DType};
use serde_json::{Map, Value};

/// An optimizer that can be judged. One value of this type runs one case after another; `build`
/// replaces the optimizer of the case before.
pub trait Implementation {
    /// Who this is and what it can do; the same at every call.
    fn describe(&self) -> &Description;

    /// Constructs an optimizer and its variables.
    ///
    /// # Errors
    /// An [`Failure::Error`] where the optimizer refuses, other failures where it cannot answer.
    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure>;

    /// Replaces iterations, variables and state, so that the next step starts from them.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure>;

    /// One step.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure>;

    /// Sets every variable to its average and returns the variables.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure>;
}

/// Who an implementation is and what it can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The language it is written in.
    pub language: String,
    /// Where it comes from.
    pub source: String,
    /// What it can do; a case that needs more is skipped and counted as such.
    pub capabilities: Capabilities,
}

impl Description {
    /// A description of its parts.
    #[must_use]
    pub fn new(
        name: &str,
        version: &str,
        language: &str,
        source: &str,
        capabilities: Capabilities,
    ) -> Self {
        let [name, version, language, source] =
            [name, version, language, source].map(str::to_owned);
        Self { name, version, language, source, capabilities }
    }
}

/// What an implementation can do.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol's fields, fixed by its version")]
pub struct Capabilities {
    /// Element types.
    pub dtypes: Vec<DType>,
    /// Constructor arguments, by Keras's names.
    pub arguments: Vec<String>,
    /// Class names of schedules.
    pub schedules: Vec<String>,
    /// Gradients as rows.
    pub sparse: bool,
    /// Averages of variables.
    pub ema: bool,
    /// Constraints of variables.
    pub constraints: bool,
    /// Exclusion from weight decay by pattern.
    pub exclude: bool,
    /// Assigning the learning rate between steps.
    pub set_learning_rate: bool,
    /// `finalize`.
    pub finalize: bool,
    /// States that are shown.
    pub states: Vec<StateField>,
    /// Whether a step can start from a given state; without it only free-running is judged.
    pub set_state: bool,
    /// Intermediates that are shown, by name.
    pub intermediates: Vec<String>,
    /// `goldstep`, or the name in `expected_in` that this implementation claims to match.
    pub expectation: String,
}

impl Capabilities {
    /// The least that can be judged: float64, a constant learning rate, steps from a given state,
    /// and nothing shown but the variables. `expectation` as in the field of that name.
    #[must_use]
    pub fn minimal(expectation: &str) -> Self {
        Self {
            dtypes: vec![DType::Float64],
            arguments: vec!["learning_rate".to_owned()],
            schedules: Vec::new(),
            sparse: false,
            ema: false,
            constraints: false,
            exclude: false,
            set_learning_rate: false,
            finalize: false,
            states: Vec::new(),
            set_state: true,
            intermediates: Vec::new(),
            expectation: expectation.to_owned(),
        }
    }
}

/// A state that an implementation may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateField {
    /// The row factor.
    R,
    /// The column factor.
    C,
    /// The full second moment.
    V,
    /// The average.
    Ema,
}

impl StateField {
    /// All states.
    pub const ALL: [Self; 4] = [Self::R, Self::C, Self::V, Self::Ema];
}

/// What `build` constructs.
#[derive(Debug, Clone, Copy)]
pub struct BuildRequest<'a> {
    /// The element type of variables, gradients and, in Keras, states.
    pub dtype: DType,
    /// The constructor's arguments by name; absent means Keras's default.
    pub arguments: &'a Map<String, Value>,
    /// Regular expressions over variable names.
    pub exclude_from_weight_decay: &'a [String],
    /// The variables.
    pub variables: &'a [Variable],
}

/// A variable and its initial value.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its name, unique in a case.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its value before the first step, row-major.
    pub initial: Vec<f64>,
    /// What it has to fulfil after each step with a gradient.
    pub constraint: Option<Constraint>,
}

/// The golden state before a step. Lists are by variable.
#[derive(Debug, Clone, Copy)]
pub struct StateRequest<'a> {
    /// Steps done.
    pub iterations: u64,
    /// Values of the variables.
    pub variables: &'a [&'a [f64]],
    /// Row factors; `None` below rank 2.
    pub r: &'a [Option<&'a [f64]>],
    /// Column factors; `None` below rank 2.
    pub c: &'a [Option<&'a [f64]>],
    /// Full second moments; needed below rank 2 only.
    pub v: &'a [Option<&'a [f64]>],
    /// Averages; `None` without `use_ema`.
    pub ema: &'a [Option<&'a [f64]>],
}

/// A gradient of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum GradientValues {
    /// One value per element.
    Dense(Vec<f64>),
    /// Rows; duplicates are summed, negative indices dropped.
    Sparse {
        /// Row numbers.
        indices: Vec<i64>,
        /// Values of shape `[indices] + shape[1..]`.
        values: Vec<f64>,
    },
}

/// What a step is given.
#[derive(Debug, Clone, Copy)]
pub struct StepRequest<'a> {
    /// A learning rate to assign before the step: a number or a Keras schedule.
    pub learning_rate: Option<&'a Value>,
    /// One gradient per variable, or none.
    pub gradients: &'a [Option<&'a GradientValues>],
    /// Which states to return.
    pub states: &'a [StateField],
    /// Whether to return intermediates.
    pub intermediates: bool,
}

/// What a step returns. Lists are by variable; a field that was not wanted is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepResponse {
    /// Steps done, this one included.
    pub iterations: u64,
    /// The learning rate that the step used, uncapped; read as the nearest float32.
    pub learning_rate: f64,
    /// Values of the variables.
    pub variables: Vec<Vec<f64>>,
    /// Row factors; `None` below rank 2.
    pub r: Vec<Option<Vec<f64>>>,
    /// Column factors; `None` below rank 2.
    pub c: Vec<Option<Vec<f64>>>,
    /// Full second moments.
    pub v: Vec<Option<Vec<f64>>>,
    /// Averages; `None` without `use_ema`.
    pub ema: Vec<Option<Vec<f64>>>,
    /// Intermediates; `None` for a variable without a gradient.
    pub intermediates: Vec<Option<StepIntermediates>>,
}

/// What an implementation computed on its way, as far as it shows it; for diagnosis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepIntermediates {
    /// The gradient after clipping.
    pub clipped_gradient: Option<Vec<f64>>,
    /// `rms(x)` after weight decay.
    pub parameter_rms: Option<f64>,
    /// The step size α.
    pub alpha: Option<f64>,
    /// `u`, before it is clipped.
    pub update: Option<Vec<f64>>,
    /// `rms(u)`.
    pub update_rms: Option<f64>,
}

/// Why there is no answer. The kinds are different outcomes of a case.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The optimizer refused, as Keras may have done.
    #[error("{kind} at {stage}: {message}")]
    Error {
        /// `construct` or `step`.
        stage: String,
        /// Keras's class name.
        kind: String,
        /// Its message.
        message: String,
    },
    /// The implementation does not do this.
    #[error("skipped: {reason}")]
    Skip {
        /// What it lacks.
        reason: String,
    },
    /// The implementation ended.
    #[error("crashed with {status}: {stderr}")]
    Crash {
        /// How it ended; of an adapter also on which message.
        status: String,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The implementation did not answer in time.
    #[error("no answer to {message} within {seconds} s: {stderr}")]
    TimeOut {
        /// The message of the protocol that waits for one.
        message: String,
        /// The time it had.
        seconds: f64,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The implementation answered something that the protocol does not allow.
    #[error("protocol fault: {reason}")]
    Protocol {
        /// What was wrong with the answer.
        reason: String,
    },
}

impl Failure {
    /// The kind in one word, for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Error { .. } => "error",
            Self::Skip { .. } => "skip",
            Self::Crash { .. } => "crash",
            Self::TimeOut { .. } => "timeout",
            Self::Protocol { .. } => "protocol",
        }
    }
}

impl From<goldstep_core::Error> for Failure {
    /// A construction error; see [`Failure::at_step`] for those of a step.
    fn from(error: goldstep_core::Error) -> Self {
        Self::refusal(goldstep_core::Stage::Construct, &error)
    }
}

impl Failure {
    /// The refusal of a step.
    #[must_use]
    pub fn at_step(error: &goldstep_core::Error) -> Self {
        Self::refusal(goldstep_core::Stage::Step, error)
    }

    fn refusal(stage: goldstep_core::Stage, error: &goldstep_core::Error) -> Self {
        Self::Error {
            stage: stage.name().to_owned(),
            kind: error.keras_type().to_owned(),
            message: error.to_string(),
        }
    }
}
