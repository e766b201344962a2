//! The quantities of a step in the order in which one causes the other.

use crate::agreement::{Circumstances, Compared, Mode, Quantity, Role, allowance, largest_error};
use crate::golden::Trial;
use crate::implementation::{Implementation, StepIntermediates};
use crate::judge::{Divergence, Finding};

use super::record::{intermediates, observe};

/// How one quantity of a step stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CausalState {
    /// Within what is allowed; the error, where golden values exist.
    Agrees(Option<f64>),
    /// Beyond what is allowed.
    Wrong,
}

/// One quantity of the diverging step.
#[derive(Debug, Clone, PartialEq)]
pub struct CausalEntry {
    /// What it is.
    pub quantity: Quantity,
    /// How it stands.
    pub state: CausalState,
    /// Expected and actual value of the element that is furthest off, where it is an intermediate.
    pub values: Option<(f64, f64)>,
}

/// The strip of quantities for the variable and the step of a divergence.
///
/// Golden quantities come from the judge. Intermediates come from the oracle, if the implementation
/// shows its own.
pub(super) fn strip(
    implementation: &mut dyn Implementation,
    oracle: &mut Option<Box<dyn Implementation>>,
    trial: &Trial<'_>,
    divergence: &Divergence,
) -> Vec<CausalEntry> {
    let Finding::Value(difference) = &divergence.finding else { return Vec::new() };
    let mut entries: Vec<CausalEntry> = Vec::new();
    if difference.variable.is_some() {
        for quantity in [Quantity::Iterations, Quantity::LearningRate] {
            let state = CausalState::Agrees(None);
            entries.push(CausalEntry { quantity, state, values: None });
        }
    }
    for check in &difference.checks {
        let state = if check.agrees() {
            CausalState::Agrees(Some(check.error))
        } else {
            CausalState::Wrong
        };
        entries.push(CausalEntry { quantity: check.quantity, state, values: None });
    }
    if let (Some(oracle), Some(step), Some(variable)) =
        (oracle, divergence.step, difference.variable)
    {
        let place = (divergence.mode, step, variable);
        entries.extend(compared_intermediates(implementation, oracle.as_mut(), trial, place));
    }
    entries.sort_by_key(|entry| entry.quantity);
    entries
}

/// The intermediates that both show, beside each other.
pub(super) fn compared_intermediates(
    implementation: &mut dyn Implementation,
    oracle: &mut dyn Implementation,
    trial: &Trial<'_>,
    (mode, step, variable): (Mode, usize, usize),
) -> Vec<CausalEntry> {
    let shown = |implementation: &mut dyn Implementation| {
        let capabilities = implementation.describe().capabilities.clone();
        let free = mode == Mode::Free;
        let response = observe(implementation, &capabilities, trial, step - 1, free)?;
        Some(intermediates(&response, variable))
    };
    match (shown(implementation), shown(oracle)) {
        (Some(own), Some(golden)) => compared(&own, &golden, trial, step, mode),
        _ => Vec::new(),
    }
}

fn compared(
    own: &StepIntermediates,
    golden: &StepIntermediates,
    trial: &Trial<'_>,
    step: usize,
    mode: Mode,
) -> Vec<CausalEntry> {
    let one = |value: Option<f64>| value.map(|value| vec![value]);
    let fields = [
        (Quantity::ClippedGradient, own.clipped_gradient.clone(), golden.clipped_gradient.clone()),
        (Quantity::ParameterRms, one(own.parameter_rms), one(golden.parameter_rms)),
        (Quantity::Alpha, one(own.alpha), one(golden.alpha)),
        (Quantity::Update, own.update.clone(), golden.update.clone()),
        (Quantity::UpdateRms, one(own.update_rms), one(golden.update_rms)),
    ];
    let entry = |(quantity, own, golden): (Quantity, Option<Vec<f64>>, Option<Vec<f64>>)| {
        let (own, golden) = (own?, golden?);
        if own.len() != golden.len() {
            return Some(CausalEntry { quantity, state: CausalState::Wrong, values: None });
        }
        let circumstances =
            Circumstances { mode, role: Role::Other, step: step as u64, schedule: false };
        let allowed = allowance(quantity, circumstances);
        let compared = Compared { expected: &golden, actual: &own, anchors: [None; 3], scale: 0.0 };
        let worst = largest_error(allowed, trial.dtype, &compared);
        let state = if worst.error <= allowed.figure() {
            CausalState::Agrees(None)
        } else {
            CausalState::Wrong
        };
        let values = golden.get(worst.element).copied().zip(own.get(worst.element).copied());
        Some(CausalEntry { quantity, state, values })
    };
    fields.into_iter().filter_map(entry).collect()
}
