//! What comes of a run.

use super::likeness::Likeness;
use crate::agreement::{Allowance, Mode, Quantity};
use crate::golden::ExpectedError;
use crate::implementation::Failure;

/// What came of one run.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It agrees with tf.keras.
    Agrees,
    /// It differs exactly where the list of known differences says.
    KnownDifference,
    /// It differs.
    Differs(Box<Divergence>),
    /// The implementation does not do what the run needs; not passed.
    Skipped {
        /// What it lacks.
        reason: String,
    },
    /// There was no usable answer: a crash, a time-out, a protocol fault.
    Broken(Failure),
}

/// The first difference of a run, in causal order.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// How the step started.
    pub mode: Mode,
    /// The 1-based step; `None` for the constructor and for `finalize_variable_values`.
    pub step: Option<usize>,
    /// What differs.
    pub finding: Finding,
}

/// What differs.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A number.
    Value(ValueDifference),
    /// A tensor that is missing or has another number of elements.
    Shape {
        /// What is missing.
        quantity: Quantity,
        /// The variable's position.
        variable: usize,
        /// Elements that tf.keras has.
        expected: usize,
        /// Elements that came; `None` for none at all.
        got: Option<usize>,
    },
    /// tf.keras refuses, the implementation does not.
    Accepted {
        /// What tf.keras says.
        expected: ExpectedError,
    },
    /// The implementation refuses what tf.keras accepts, or refuses it otherwise.
    Refused {
        /// What tf.keras says, if it refuses as well.
        expected: Option<ExpectedError>,
        /// `construct` or `step`.
        stage: String,
        /// Keras's class name of the error.
        kind: String,
        /// The implementation's message.
        message: String,
    },
}

/// A number that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueDifference {
    /// What it is.
    pub quantity: Quantity,
    /// The variable's position; `None` for the step's own numbers.
    pub variable: Option<usize>,
    /// The position in the flat tensor.
    pub element: usize,
    /// The golden value before the step, where there is one.
    pub before: Option<f64>,
    /// The golden value.
    pub expected: f64,
    /// The implementation's value.
    pub actual: f64,
    /// How far it is off, in the allowance's unit.
    pub error: f64,
    /// How far it may be off.
    pub allowance: Allowance,
    /// Everything that was compared for that variable in that step, in causal order.
    pub checks: Vec<Check>,
    /// The positions of all elements that are further off than they may be.
    pub wrong: Vec<usize>,
    /// What these have in common.
    pub likeness: Option<Likeness>,
}

/// One comparison of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// What was compared.
    pub quantity: Quantity,
    /// The largest error, in the allowance's unit.
    pub error: f64,
    /// What is allowed.
    pub allowance: Allowance,
}

impl Check {
    /// Whether the error is allowed.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.error <= self.allowance.figure()
    }
}

impl Divergence {
    /// What differs first.
    #[must_use]
    pub const fn quantity(&self) -> Quantity {
        match &self.finding {
            Finding::Value(difference) => difference.quantity,
            Finding::Shape { quantity, .. } => *quantity,
            Finding::Accepted { .. } | Finding::Refused { .. } => Quantity::Refusal,
        }
    }

    /// The position of the variable that differs, if it is one.
    #[must_use]
    pub const fn variable(&self) -> Option<usize> {
        match &self.finding {
            Finding::Value(difference) => difference.variable,
            Finding::Shape { variable, .. } => Some(*variable),
            Finding::Accepted { .. } | Finding::Refused { .. } => None,
        }
    }
}
