//! One step of one run, element by element, and how its error grew.

use crate::agreement::{
    Allowance, Circumstances, Compared, Mode, Quantity, Role, allowance, errors, largest_error,
};
use crate::golden::{Tensor, Trial};
use crate::implementation::{Implementation, StepResponse};
use crate::judge::{Around, Scales, TENSORS, answered, golden};

use super::causal::{CausalEntry, CausalState, compared_intermediates};
use super::record::{observe, record};

/// One variable in one step of one run.
#[derive(Debug, Clone)]
pub struct Detail {
    /// `family/id`.
    pub name: String,
    /// How the step started.
    pub mode: Mode,
    /// The 1-based step.
    pub step: usize,
    /// The variable's position.
    pub variable: usize,
    /// What was compared, in causal order.
    pub fields: Vec<Field>,
    /// The quantities of the step in causal order.
    pub causal: Vec<CausalEntry>,
    /// The free-running error of every step.
    pub growth: Vec<Growth>,
}

/// One tensor, expected and actual.
#[derive(Debug, Clone)]
pub struct Field {
    /// What it is.
    pub quantity: Quantity,
    /// Its golden values.
    pub expected: Tensor,
    /// The implementation's values.
    pub actual: Vec<f64>,
    /// The error of each element, in the allowance's unit.
    pub errors: Vec<f64>,
    /// What is allowed.
    pub allowance: Allowance,
}

/// The free-running error of one step over all variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// The 1-based step.
    pub step: usize,
    /// The worst error of a variable, in eps of its largest magnitude so far.
    pub variable: f64,
    /// What is allowed for it.
    pub allowed: f64,
    /// The worst error of a second moment, in eps.
    pub second_moment: f64,
}

/// Repeats a step and compares it element by element, as the judge of that role does; `None` where
/// there is no answer.
#[must_use]
pub fn detail(
    implementation: &mut dyn Implementation,
    oracle: Option<&mut dyn Implementation>,
    trial: &Trial<'_>,
    role: Role,
    (mode, step, variable): (Mode, usize, usize),
) -> Option<Detail> {
    let index = step.checked_sub(1)?;
    if trial.expectation.steps.get(index)?.is_none() {
        return None;
    }
    let capabilities = implementation.describe().capabilities.clone();
    let free = mode == Mode::Free;
    let response = observe(implementation, &capabilities, trial, index, free)?;
    let place = (mode, step, variable);
    let fields =
        TENSORS.into_iter().filter_map(|quantity| field(trial, &response, quantity, role, place));
    let fields: Vec<Field> = fields.collect();
    let mut causal: Vec<CausalEntry> = fields
        .iter()
        .map(|field| {
            let worst = field.errors.iter().copied().fold(0.0, f64::max);
            let state = if worst <= field.allowance.figure() {
                CausalState::Agrees(Some(worst))
            } else {
                CausalState::Wrong
            };
            CausalEntry { quantity: field.quantity, state, values: None }
        })
        .collect();
    if let Some(oracle) = oracle {
        causal.extend(compared_intermediates(implementation, oracle, trial, place));
    }
    causal.sort_by_key(|entry| entry.quantity);
    let growth = growth(implementation, trial);
    Some(Detail { name: trial.name(), mode, step, variable, fields, causal, growth })
}

/// One tensor of a step; nothing where one side does not have it, or in another size.
fn field(
    trial: &Trial<'_>,
    response: &StepResponse,
    quantity: Quantity,
    role: Role,
    (mode, step, variable): (Mode, usize, usize),
) -> Option<Field> {
    let index = step - 1;
    let golden_at = |index: usize| trial.expectation.steps[index].as_ref();
    let before = index.checked_sub(1).and_then(golden_at);
    let around = Around { trial, index, expected: golden_at(index)?, before };
    let expected = golden(around.expected, quantity, variable)?;
    let actual = answered(response, quantity, variable)?;
    if actual.len() != expected.len() {
        return None;
    }
    let circumstances = Circumstances { mode, role, step: step as u64, schedule: false };
    let allowance = allowance(quantity, circumstances);
    let compared = Compared {
        expected,
        actual,
        anchors: around.anchors(quantity, variable),
        scale: Scales::after(trial, trial.expectation, index).of(variable),
    };
    let errors = errors(allowance, trial.dtype, &compared).collect();
    let (expected, actual) = (expected.into(), actual.to_vec());
    Some(Field { quantity, expected, actual, errors, allowance })
}

/// The free-running errors of a whole run; empty where there is no answer.
#[must_use]
pub fn growth(implementation: &mut dyn Implementation, trial: &Trial<'_>) -> Vec<Growth> {
    let capabilities = implementation.describe().capabilities.clone();
    let Some(recorded) = record(implementation, &capabilities, trial) else { return Vec::new() };
    let mut growth = Vec::new();
    let mut scales = Scales::new(trial);
    let pairs = trial.expectation.steps.iter().zip(&recorded.steps).enumerate();
    for (index, (expected, actual)) in pairs {
        let Some(expected) = expected else { continue };
        scales.take_up(trial, expected);
        let Some(actual) = actual else { continue };
        let mut row = Growth { step: index + 1, variable: 0.0, allowed: 0.0, second_moment: 0.0 };
        for variable in 0..trial.variables.len() {
            for quantity in [Quantity::V, Quantity::Variable, Quantity::Ema] {
                let (Some(golden), Some(own)) =
                    (golden(expected, quantity, variable), golden(actual, quantity, variable))
                else {
                    continue;
                };
                if golden.len() != own.len() {
                    continue;
                }
                let step = index as u64 + 1;
                let circumstances =
                    Circumstances { mode: Mode::Free, role: Role::Other, step, schedule: false };
                let allowance = allowance(quantity, circumstances);
                let compared = Compared {
                    expected: golden,
                    actual: own,
                    anchors: [None; 3],
                    scale: scales.of(variable),
                };
                let error = largest_error(allowance, trial.dtype, &compared).error;
                if quantity == Quantity::V {
                    row.second_moment = row.second_moment.max(error);
                } else {
                    row.allowed = allowance.figure();
                    row.variable = row.variable.max(error);
                }
            }
        }
        growth.push(row);
    }
    growth
}
