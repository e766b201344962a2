//! What an implementation computed on its way to a wrong number, beside what the oracle did.

use serde_json::Value;

use crate::agreement::{
    Allowance, Circumstances, Compared, Mode, Quantity, Role, allowance, largest_error,
};
use crate::arguments::announced_only;
use crate::golden::{Expectation, Trial};
use crate::implementation::{BuildRequest, Failure, StateRequest, StepIntermediates, StepRequest};
use crate::judge::{Divergence, slices};
use crate::run::Subject;

/// An intermediate of the step that went wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct IntermediateCheck {
    /// Which one.
    pub quantity: Quantity,
    /// The position in its tensor.
    pub element: usize,
    /// The oracle's value.
    pub expected: f64,
    /// The implementation's value, if it shows it.
    pub actual: Option<f64>,
    /// How far it is off.
    pub error: f64,
    /// How far it may be off before it is named.
    pub allowance: Allowance,
}

impl IntermediateCheck {
    /// Whether the error is allowed, or unknown.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.actual.is_none() || self.error <= self.allowance.figure()
    }
}

/// Repeats the step of `divergence` with `subject` and with `oracle` and compares what they
/// computed on the way for `variable`. Empty where there is nothing to compare.
///
/// # Errors
/// A failure of either implementation.
pub fn explain(
    trial: &Trial<'_>,
    divergence: &Divergence,
    variable: usize,
    subject: &Subject,
    oracle: &Subject,
) -> Result<Vec<IntermediateCheck>, Failure> {
    let Some(step) = divergence.step else { return Ok(Vec::new()) };
    let Some(expected) = intermediates(trial, divergence.mode, step, variable, oracle)? else {
        return Ok(Vec::new());
    };
    let actual =
        intermediates(trial, divergence.mode, step, variable, subject)?.unwrap_or_default();
    let tensor = |values: &Option<Vec<f64>>| values.clone();
    let scalar = |value: Option<f64>| value.map(|value| vec![value]);
    let pairs = [
        (
            Quantity::ClippedGradient,
            tensor(&expected.clipped_gradient),
            tensor(&actual.clipped_gradient),
        ),
        (Quantity::ParameterRms, scalar(expected.parameter_rms), scalar(actual.parameter_rms)),
        (Quantity::Alpha, scalar(expected.alpha), scalar(actual.alpha)),
        (Quantity::Update, tensor(&expected.update), tensor(&actual.update)),
        (Quantity::UpdateRms, scalar(expected.update_rms), scalar(actual.update_rms)),
    ];
    let circumstances = Circumstances {
        mode: divergence.mode,
        role: Role::Other,
        step: step as u64,
        schedule: false,
    };
    let mut checks = Vec::new();
    for (quantity, expected, actual) in pairs {
        let Some(expected) = expected.filter(|expected| !expected.is_empty()) else { continue };
        let allowance = allowance(quantity, circumstances);
        let actual = actual.filter(|actual| actual.len() == expected.len());
        let (element, error) = match &actual {
            Some(actual) => {
                let compared =
                    Compared { expected: &expected, actual, anchors: [None; 3], scale: 0.0 };
                let error = largest_error(allowance, trial.dtype, &compared);
                (error.element, error.error)
            }
            None => (0, 0.0),
        };
        checks.push(IntermediateCheck {
            quantity,
            element,
            expected: expected[element],
            actual: actual.map(|actual| actual[element]),
            error,
            allowance,
        });
    }
    Ok(checks)
}

/// The intermediates of one step (1-based), which starts as the mode says.
fn intermediates(
    trial: &Trial<'_>,
    mode: Mode,
    step: usize,
    variable: usize,
    subject: &Subject,
) -> Result<Option<StepIntermediates>, Failure> {
    let mut implementation = (subject.make)()?;
    let capabilities = implementation.describe().capabilities.clone();
    if capabilities.intermediates.is_empty() {
        return Ok(None);
    }
    let arguments = announced_only(&trial.arguments, &capabilities.arguments);
    implementation.build(&BuildRequest {
        dtype: trial.dtype,
        arguments: &arguments,
        exclude_from_weight_decay: trial.exclude_from_weight_decay,
        variables: trial.variables,
    })?;
    let last = step.saturating_sub(1);
    let first = match mode {
        Mode::Free => 0,
        Mode::Forced => {
            force(implementation.as_mut(), trial.expectation_for(&capabilities.expectation), last)?;
            last
        }
    };
    let mut assigned: Option<&Value> = None;
    for (index, inputs) in trial.steps.iter().enumerate().take(last + 1) {
        assigned = inputs.learning_rate.as_ref().or(assigned);
        if index < first {
            continue;
        }
        let gradients: Vec<_> = inputs.gradients.iter().map(Option::as_ref).collect();
        let mut response = implementation.step(&StepRequest {
            learning_rate: assigned.take(),
            gradients: &gradients,
            states: &[],
            intermediates: index == last,
        })?;
        if index == last && variable < response.intermediates.len() {
            return Ok(response.intermediates.swap_remove(variable));
        }
    }
    Ok(None)
}

/// Starts the step of that index from the golden state before it.
fn force(
    implementation: &mut dyn crate::implementation::Implementation,
    expectation: &Expectation,
    index: usize,
) -> Result<(), Failure> {
    let before = index.checked_sub(1).and_then(|index| expectation.steps.get(index)?.as_ref());
    let Some(before) = before else { return Ok(()) };
    let variables: Vec<&[f64]> = before.variables.iter().map(|one| &**one).collect();
    implementation.set_state(&StateRequest {
        iterations: before.iterations,
        variables: &variables,
        r: &slices(&before.r),
        c: &slices(&before.c),
        v: &slices(&before.v),
        ema: &slices(&before.ema),
    })
}
