//! Everything that a caller can get wrong.

use thiserror::Error;

/// Where an error arises: when an optimizer is constructed, or in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// While arguments or lists are validated, before any step.
    Construct,
    /// In a call that would have changed parameters; what [`enum@Error`] says of it holds.
    Step,
}

impl Stage {
    /// `construct` or `step`, the words of the trace format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Construct => "construct",
            Self::Step => "step",
        }
    }
}

/// An argument, a list, a gradient or a state that cannot be used.
///
/// A call that returns an error has changed nothing, but for [`Error::Backend`](Self::Backend): a
/// library that fails in mid-call may leave changed what came before the parameter it names.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A constructor argument lies outside its range.
    #[error("{name} must be {rule}, got {value}")]
    Argument {
        /// Keras's name of the argument.
        name: &'static str,
        /// What it has to fulfil.
        rule: &'static str,
        /// What it was.
        value: String,
    },
    /// A constructor argument of a configuration has the wrong JSON type.
    #[error("{name} must be {rule}, got {value}")]
    ArgumentType {
        /// The argument's or field's name.
        name: String,
        /// The type that it has to have.
        rule: &'static str,
        /// What it was.
        value: String,
    },
    /// `clipnorm` and `global_clipnorm` are both set.
    #[error(
        "at most one of clipnorm and global_clipnorm may be set, got {clipnorm} and {global_clipnorm}"
    )]
    BothClipNorms {
        /// The value of `clipnorm`.
        clipnorm: f64,
        /// The value of `global_clipnorm`.
        global_clipnorm: f64,
    },
    /// A configuration names an argument that does not exist.
    #[error("{name} is not an argument of Adafactor")]
    UnknownArgument {
        /// The name.
        name: String,
    },
    /// An argument of the optimizers before Keras 2.11, which Keras refuses by name.
    #[error(
        "{name} is not supported any more, use a learning rate schedule or transform gradients"
    )]
    DeprecatedArgument {
        /// The name.
        name: String,
    },
    /// A configuration names a schedule class that `tf.keras.optimizers.schedules` does not have.
    #[error("learning_rate must be one of the six keras schedules, got class_name {class_name}")]
    UnknownSchedule {
        /// The class name.
        class_name: String,
    },
    /// A field of a schedule that cannot be used.
    #[error("{class_name} {rule}, got {value}")]
    Schedule {
        /// The schedule's class name.
        class_name: &'static str,
        /// What it has to fulfil.
        rule: String,
        /// What it was.
        value: String,
    },
    /// A schedule lacks a field or has one that it does not know: what Python answers when a class
    /// is called with the wrong arguments.
    #[error("{class_name} {rule}, got {value}")]
    ScheduleField {
        /// The schedule's class name.
        class_name: &'static str,
        /// What it has to fulfil.
        rule: String,
        /// What it was.
        value: String,
    },
    /// A constant learning rate was assigned where a schedule is in place, as Keras refuses.
    #[error("learning_rate must be a schedule once a schedule is in place, got {value}")]
    NumberOntoSchedule {
        /// The number.
        value: f64,
    },
    /// A pattern of `exclude_from_weight_decay` is not a regular expression.
    #[error("weight decay exclusion must be a regular expression, got {pattern}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What the parser says.
        reason: String,
    },
    /// A parameter list without parameters.
    #[error("parameter list must hold at least one parameter, got none")]
    EmptyList,
    /// Two parameters of one list share a name.
    #[error("parameter names must be unique, got {name} twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Two parameters of one list share memory.
    #[error("parameters must not overlap, got {first} and {second} in the same memory")]
    Overlap {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A shape whose number of elements does not fit the address space.
    #[error("shape of {name} must have a size below 2^63 bytes, got {shape:?}")]
    ShapeOverflow {
        /// The parameter's name.
        name: String,
        /// The shape.
        shape: Vec<usize>,
    },
    /// A call with another number of parameters, gradients or states than planned.
    #[error("number of {what} must be {expected}, got {got}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many were planned.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A tensor with another number of elements than its shape says.
    #[error("{what} of {name} must have {expected} elements, got {got}")]
    Length {
        /// `parameter`, `gradient`, or the name of a state.
        what: &'static str,
        /// The parameter's name.
        name: String,
        /// Elements of the shape.
        expected: usize,
        /// Elements of the tensor.
        got: usize,
    },
    /// A tensor of another shape or memory layout than planned.
    #[error("{what} of {name} must have shape {expected:?}, got {got:?}")]
    Shape {
        /// `parameter`, `gradient`, or the name of a state.
        what: &'static str,
        /// The parameter's name.
        name: String,
        /// The planned shape.
        expected: Vec<usize>,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A tensor that violates another rule of lists: type, device, layout, initialisation.
    #[error("{what} of {name} must {rule}, got {got}")]
    Tensor {
        /// `parameter`, `gradient`, or the name of a state.
        what: &'static str,
        /// The parameter's name.
        name: String,
        /// What it has to fulfil.
        rule: String,
        /// What it was.
        got: String,
    },
    /// A row index of a sparse gradient beyond the first axis.
    #[error("row indices of {name} must be below {rows}, got {index}")]
    RowIndex {
        /// The parameter's name.
        name: String,
        /// Length of the first axis.
        rows: usize,
        /// The index.
        index: i64,
    },
    /// A step in which no parameter has a gradient.
    #[error("at least one parameter must have a gradient, got none of {parameters}")]
    NoGradients {
        /// The number of parameters.
        parameters: usize,
    },
    /// Averages were asked for before the first step made them.
    #[error("{what} must follow the first step, got an optimizer that has made none")]
    NotBuilt {
        /// The operation.
        what: &'static str,
    },
    /// A state with more steps than Keras's int64 counts.
    #[error("iterations must be below 2^63, got {iterations}")]
    Iterations {
        /// The number of steps.
        iterations: u64,
    },
    /// A state that does not fit the arguments or the parameter list.
    #[error("state of {name} {rule}")]
    State {
        /// The parameter's name.
        name: String,
        /// What is wrong.
        rule: String,
    },
    /// A backend's resource or library failed.
    #[error("{what}: {message}")]
    Backend {
        /// The operation and what it was applied to.
        what: String,
        /// The first sentence of the library's message.
        message: String,
    },
}

impl Error {
    /// The class name of the exception that corresponds in Keras: `ValueError`, `TypeError`,
    /// `AttributeError`, `InvalidArgumentError`, and `error` for a pattern.
    #[must_use]
    pub const fn keras_type(&self) -> &'static str {
        match self {
            Self::ArgumentType { .. }
            | Self::UnknownArgument { .. }
            | Self::ScheduleField { .. }
            | Self::NumberOntoSchedule { .. } => "TypeError",
            Self::Length { .. }
            | Self::Shape { .. }
            | Self::Tensor { .. }
            | Self::RowIndex { .. } => "InvalidArgumentError",
            Self::NotBuilt { .. } => "AttributeError",
            // Python's module `re` calls it so.
            Self::Pattern { .. } => "error",
            Self::Backend { .. } => "InternalError",
            _ => "ValueError",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_the_words_of_the_trace_format() {
        assert_eq!([Stage::Construct, Stage::Step].map(Stage::name), ["construct", "step"]);
    }

    #[test]
    fn errors_have_the_class_that_keras_raises() {
        let text = || "x".to_owned();
        for (error, class) in [
            (Error::NotBuilt { what: "step" }, "AttributeError"),
            (Error::NumberOntoSchedule { value: 0.5 }, "TypeError"),
            (Error::Backend { what: text(), message: text() }, "InternalError"),
            (Error::State { name: text(), rule: text() }, "ValueError"),
        ] {
            assert_eq!(error.keras_type(), class, "{error}");
        }
    }
}
