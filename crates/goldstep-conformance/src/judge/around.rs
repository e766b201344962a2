//! The golden states around a step, to which its errors are anchored.

use serde_json::Value;

use super::compare::{golden, magnitude};
use crate::agreement::Quantity;
use crate::golden::{Expectation, Expected, Trial};

/// One step of a run between golden states.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) trial: &'a Trial<'a>,
    /// Its 0-based number.
    pub(crate) index: usize,
    pub(crate) expected: &'a Expected,
    /// The golden state before it; `None` for the first step, and where there is none.
    pub(crate) before: Option<&'a Expected>,
}

impl<'a> Around<'a> {
    /// The golden tensor before the step.
    pub(crate) fn before(&self, quantity: Quantity, variable: usize) -> Option<&'a [f64]> {
        match (quantity, self.before, self.index) {
            (_, Some(before), _) => golden(before, quantity, variable),
            // An average starts as the variable's initial value.
            (Quantity::Variable | Quantity::Ema, None, 0) => {
                Some(self.trial.variables[variable].initial.as_slice())
            }
            _ => None,
        }
    }

    /// Whose magnitudes anchor an error, the expected one aside.
    pub(crate) fn anchors(&self, quantity: Quantity, variable: usize) -> [Option<&'a [f64]>; 3] {
        let before = |quantity| self.before(quantity, variable);
        match quantity {
            // A variable that its average has overwritten is an average, of which it sees nothing:
            // 0.5·(−1.58e-4) + 0.5·1.81e-4 = 1.1e-5 leaves one ulp of a term as 16 of the result.
            Quantity::Variable if self.overwrites() => {
                [before(Quantity::Variable), before(Quantity::Ema), None]
            }
            Quantity::Variable => [before(Quantity::Variable), None, None],
            Quantity::Ema => [
                before(Quantity::Ema),
                before(Quantity::Variable),
                golden(self.expected, Quantity::Variable, variable),
            ],
            _ => [None; 3],
        }
    }

    /// Whether the averages overwrite the variables at the end of the step.
    fn overwrites(&self) -> bool {
        let arguments = &self.trial.arguments;
        let frequency = arguments.get("ema_overwrite_frequency").and_then(Value::as_u64);
        arguments.get("use_ema") == Some(&Value::Bool(true))
            && frequency.is_some_and(|frequency| {
                frequency > 0 && self.expected.iterations.is_multiple_of(frequency)
            })
    }

    /// What weight decay alone makes of an element of 1, exclusions aside.
    pub(super) fn decay(&self) -> f64 {
        1.0 - weight_decay(self.trial).unwrap_or_default() * self.expected.learning_rate
    }
}

fn weight_decay(trial: &Trial<'_>) -> Option<f64> {
    trial.arguments.get("weight_decay").and_then(Value::as_f64)
}

/// The largest magnitude of each variable and its average, in eps of which free-running errors are.
#[derive(Debug, Clone)]
pub(crate) struct Scales(Vec<f64>);

impl Scales {
    /// Before the first step.
    pub(crate) fn new(trial: &Trial<'_>) -> Self {
        Self(trial.variables.iter().map(|one| magnitude(0.0, &one.initial)).collect())
    }

    /// After the step with that index.
    pub(crate) fn after(trial: &Trial<'_>, expectation: &Expectation, index: usize) -> Self {
        let mut scales = Self::new(trial);
        for expected in expectation.steps[..=index].iter().flatten() {
            scales.take_up(trial, expected);
        }
        scales
    }

    /// Takes up the golden state after a step.
    pub(crate) fn take_up(&mut self, trial: &Trial<'_>, expected: &Expected) {
        let decay = growth(trial, expected.learning_rate);
        for (index, scale) in self.0.iter_mut().enumerate() {
            *scale = magnitude(*scale * decay, &expected.variables[index]);
            if let Some(ema) = &expected.ema[index] {
                *scale = magnitude(*scale, ema);
            }
        }
    }

    /// That of one variable.
    pub(crate) fn of(&self, variable: usize) -> f64 {
        self.0[variable]
    }
}

/// By how much weight decay enlarges what a variable is off by, at least 1. Keras assigns
/// `x − x·weight_decay·learning_rate`: where the product is above 2, at a huge rate, that
/// multiplies the errors of all steps before, and the update may still bring the variable back.
fn growth(trial: &Trial<'_>, learning_rate: f64) -> f64 {
    // Where some variables do not decay the bound stays what it is for those.
    let all = trial.exclude_from_weight_decay.is_empty();
    let decay = weight_decay(trial).filter(|_| all);
    decay.map_or(1.0, |decay| (1.0 - decay * learning_rate).abs().max(1.0))
}
