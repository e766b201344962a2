//! One step of one run, element by element, and how its error grew.

use crate::agreement::{
    Allowance, Circumstances, Compared, Mode, Quantity, Role, allowance, largest_error,
};
use crate::golden::{Expected, Tensor, Trial};
use crate::implementation::{Implementation, StepResponse};

use super::causal::{CausalEntry, CausalState, compared_intermediates};
use super::record::{observe, record};

/// The tensors that are compared, in causal order.
const FIELDS: [Quantity; 5] =
    [Quantity::R, Quantity::C, Quantity::V, Quantity::Variable, Quantity::Ema];

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

/// Repeats a step and compares it element by element; `None` where there is no answer.
#[must_use]
pub fn detail(
    implementation: &mut dyn Implementation,
    oracle: Option<&mut dyn Implementation>,
    trial: &Trial<'_>,
    (mode, step, variable): (Mode, usize, usize),
) -> Option<Detail> {
    let index = step.checked_sub(1)?;
    let expected = trial.expectation.steps.get(index)?.as_ref()?;
    let capabilities = implementation.describe().capabilities.clone();
    let free = mode == Mode::Free;
    let response = observe(implementation, &capabilities, trial, index, free)?;
    let before = index.checked_sub(1).and_then(|before| trial.expectation.steps[before].as_ref());
    let scale = scale(trial, index, variable);
    let mut fields = Vec::new();
    for quantity in FIELDS {
        let Some(golden) = golden(expected, quantity, variable) else { continue };
        let Some(actual) = answered(&response, quantity, variable) else { continue };
        if actual.len() != golden.len() {
            continue;
        }
        let own = |quantity| match before {
            Some(before) => self::golden(before, quantity, variable).map(|one| &**one),
            None if index == 0 => Some(trial.variables[variable].initial.as_slice()),
            None => None,
        };
        let now = self::golden(expected, Quantity::Variable, variable).map(|one| &**one);
        let anchors = match quantity {
            Quantity::Variable => [own(Quantity::Variable), None, None],
            Quantity::Ema => [own(Quantity::Ema), own(Quantity::Variable), now],
            _ => [None; 3],
        };
        let allowance = allowance(
            quantity,
            Circumstances { mode, role: Role::Other, step: step as u64, schedule: false },
        );
        let error = |at: usize| {
            let one = |values: &'_ [f64]| values[at];
            let anchors = anchors.map(|anchor| anchor.map(one));
            let anchors: [Option<[f64; 1]>; 3] = anchors.map(|anchor| anchor.map(|one| [one]));
            let compared = Compared {
                expected: &golden[at..=at],
                actual: &actual[at..=at],
                anchors: [0, 1, 2].map(|k| anchors[k].as_ref().map(<[f64; 1]>::as_slice)),
                scale,
            };
            largest_error(allowance, trial.dtype, &compared).error
        };
        fields.push(Field {
            quantity,
            errors: (0..golden.len()).map(error).collect(),
            expected: golden.clone(),
            actual: actual.to_vec(),
            allowance,
        });
    }
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
        causal.extend(compared_intermediates(
            implementation,
            oracle,
            trial,
            (mode, step, variable),
        ));
    }
    causal.sort_by_key(|entry| entry.quantity);
    let growth = growth(implementation, trial);
    Some(Detail { name: trial.name(), mode, step, variable, fields, causal, growth })
}

/// The free-running errors of a whole run; empty where there is no answer.
#[must_use]
pub fn growth(implementation: &mut dyn Implementation, trial: &Trial<'_>) -> Vec<Growth> {
    let capabilities = implementation.describe().capabilities.clone();
    let Some(recorded) = record(implementation, &capabilities, trial) else { return Vec::new() };
    let mut growth = Vec::new();
    let pairs = trial.expectation.steps.iter().zip(&recorded.steps).enumerate();
    for (index, (expected, actual)) in pairs {
        let (Some(expected), Some(actual)) = (expected, actual) else { continue };
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
                    scale: scale(trial, index, variable),
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

/// The largest magnitude of a variable and its average up to a step.
fn scale(trial: &Trial<'_>, index: usize, variable: usize) -> f64 {
    let largest = |values: &[f64]| {
        let finite = values.iter().map(|value| value.abs()).filter(|value| value.is_finite());
        finite.fold(0.0, f64::max)
    };
    let start = largest(&trial.variables[variable].initial);
    let steps = trial.expectation.steps[..=index].iter().flatten();
    steps.fold(start, |scale, step| {
        let ema = step.ema[variable].as_ref().map_or(0.0, |ema| largest(ema));
        scale.max(largest(&step.variables[variable])).max(ema)
    })
}

fn golden(expected: &Expected, quantity: Quantity, variable: usize) -> Option<&Tensor> {
    match quantity {
        Quantity::Variable => expected.variables.get(variable),
        Quantity::R => expected.r.get(variable)?.as_ref(),
        Quantity::C => expected.c.get(variable)?.as_ref(),
        Quantity::V => expected.v.get(variable)?.as_ref(),
        Quantity::Ema => expected.ema.get(variable)?.as_ref(),
        _ => None,
    }
}

fn answered(response: &StepResponse, quantity: Quantity, variable: usize) -> Option<&[f64]> {
    match quantity {
        Quantity::Variable => response.variables.get(variable).map(Vec::as_slice),
        Quantity::R => response.r.get(variable)?.as_deref(),
        Quantity::C => response.c.get(variable)?.as_deref(),
        Quantity::V => response.v.get(variable)?.as_deref(),
        Quantity::Ema => response.ema.get(variable)?.as_deref(),
        _ => None,
    }
}
