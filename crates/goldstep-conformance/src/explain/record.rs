//! What an implementation does in a run, recorded as if it were golden.

use std::sync::Arc;

use serde_json::Value;

use crate::golden::{Expectation, Expected, ExpectedError, Tensor, Trial};
use crate::implementation::{
    Capabilities, Failure, Implementation, StateRequest, StepIntermediates, StepRequest,
    StepResponse,
};
use crate::judge::{build, is_schedule, slices};

/// The run of one implementation from its start to its end or its refusal.
///
/// `None` where it gives no answer: it skips, crashes or breaks the protocol.
pub(super) fn record(
    implementation: &mut dyn Implementation,
    capabilities: &Capabilities,
    trial: &Trial<'_>,
) -> Option<Expectation> {
    let mut recorded = Expectation { steps: Vec::new(), finalized: None, error: None };
    recorded.steps.resize(trial.steps.len(), None);
    if let Err(failure) = build(implementation, capabilities, trial, None) {
        recorded.error = Some(refusal(failure, None)?);
        return Some(recorded);
    }
    for (index, step) in trial.steps.iter().enumerate() {
        let rate = step.learning_rate.as_ref();
        match answer(implementation, capabilities, trial, (index, rate)) {
            Ok(answer) => recorded.steps[index] = Some(answer),
            Err(failure) => {
                recorded.error = Some(refusal(failure, Some(index))?);
                return Some(recorded);
            }
        }
    }
    if trial.expectation.finalized.is_some() {
        let variables = implementation.finalize().ok()?;
        recorded.finalized = Some(variables.into_iter().map(Arc::from).collect());
    }
    Some(recorded)
}

/// Every step of a run from the state before it in `starts`, and finalized from the last of them.
///
/// `None` where states cannot be set, or where it gives no answer.
pub(super) fn record_forced(
    implementation: &mut dyn Implementation,
    capabilities: &Capabilities,
    trial: &Trial<'_>,
    starts: &Expectation,
) -> Option<Expectation> {
    if !capabilities.set_state || starts.error.as_ref().is_some_and(|one| one.step.is_none()) {
        return None;
    }
    let mut recorded = Expectation { steps: Vec::new(), finalized: None, error: None };
    recorded.steps.resize(trial.steps.len(), None);
    build(implementation, capabilities, trial, None).ok()?;
    let (mut rate, mut assigned, mut resumed) = (None, None, false);
    for (index, step) in trial.steps.iter().enumerate() {
        let (earlier, untold) = (rate, assigned.is_some());
        if step.learning_rate.is_some() {
            rate = step.learning_rate.as_ref();
            assigned = rate;
        }
        if let Some(before) = index.checked_sub(1) {
            let Some(before) = &starts.steps[before] else { continue };
            // As the judge does it: what a restore leaves out must not be there already.
            let onto_schedule = is_schedule(earlier) && !is_schedule(rate);
            if !std::mem::replace(&mut resumed, true) || (untold && onto_schedule) {
                let earlier = earlier.filter(|_| onto_schedule);
                build(implementation, capabilities, trial, earlier).ok()?;
                assigned = rate;
            }
            resume(implementation, before)?;
        }
        match answer(implementation, capabilities, trial, (index, assigned.take())) {
            Ok(answer) => recorded.steps[index] = Some(answer),
            Err(failure) => {
                recorded.error = Some(refusal(failure, Some(index))?);
                return Some(recorded);
            }
        }
    }
    if let (Some(_), Some(Some(last))) = (&starts.finalized, starts.steps.last()) {
        resume(implementation, last)?;
        let variables = implementation.finalize().ok()?;
        recorded.finalized = Some(variables.into_iter().map(Arc::from).collect());
    }
    Some(recorded)
}

/// One step with everything that is shown, from the golden state before it or, with `free`, from
/// the run's start. `index` is 0-based.
pub(super) fn observe(
    implementation: &mut dyn Implementation,
    capabilities: &Capabilities,
    trial: &Trial<'_>,
    index: usize,
    free: bool,
) -> Option<StepResponse> {
    build(implementation, capabilities, trial, None).ok()?;
    let before = index.checked_sub(1).map(|before| trial.expectation.steps[before].as_ref());
    let mut start = 0;
    if let (Some(Some(golden)), false) = (before, free) {
        resume(implementation, golden)?;
        start = index;
    }
    // A rate that was assigned before the first step that is run still holds.
    let assigned = |step: usize| -> Option<&Value> {
        let first = if step == start { 0 } else { step };
        let rates = trial.steps[first..=step].iter().rev();
        rates.filter_map(|step| step.learning_rate.as_ref()).next()
    };
    let mut last = None;
    for step in start..=index {
        let gradients: Vec<_> = trial.steps[step].gradients.iter().map(Option::as_ref).collect();
        last = Some(
            implementation
                .step(&StepRequest {
                    learning_rate: assigned(step),
                    gradients: &gradients,
                    states: &capabilities.states,
                    intermediates: !capabilities.intermediates.is_empty(),
                })
                .ok()?,
        );
    }
    last
}

/// The intermediates of one variable, as far as they are shown.
pub(super) fn intermediates(response: &StepResponse, variable: usize) -> StepIntermediates {
    response.intermediates.get(variable).cloned().flatten().unwrap_or_default()
}

/// What a step with that index and that assigned rate gives.
fn answer(
    implementation: &mut dyn Implementation,
    capabilities: &Capabilities,
    trial: &Trial<'_>,
    (index, learning_rate): (usize, Option<&Value>),
) -> Result<Expected, Failure> {
    let gradients: Vec<_> = trial.steps[index].gradients.iter().map(Option::as_ref).collect();
    let request = StepRequest {
        learning_rate,
        gradients: &gradients,
        states: &capabilities.states,
        intermediates: false,
    };
    implementation.step(&request).map(|response| expected(response, trial))
}

/// Takes a golden state as if it were a checkpoint.
fn resume(implementation: &mut dyn Implementation, golden: &Expected) -> Option<()> {
    let variables: Vec<&[f64]> = golden.variables.iter().map(|one| &**one).collect();
    let request = StateRequest {
        iterations: golden.iterations,
        variables: &variables,
        r: &slices(&golden.r),
        c: &slices(&golden.c),
        v: &slices(&golden.v),
        ema: &slices(&golden.ema),
    };
    implementation.set_state(&request).ok()
}

fn refusal(failure: Failure, step: Option<usize>) -> Option<ExpectedError> {
    match failure {
        Failure::Error { kind, message, .. } => Some(ExpectedError { step, kind, message }),
        _ => None,
    }
}

fn expected(response: StepResponse, trial: &Trial<'_>) -> Expected {
    let count = trial.variables.len();
    let tensors = |field: Vec<Option<Vec<f64>>>| {
        let mut tensors: Vec<Option<Tensor>> =
            field.into_iter().map(|one| one.map(Arc::from)).collect();
        tensors.resize(count, None);
        tensors
    };
    Expected {
        iterations: response.iterations,
        learning_rate: response.learning_rate,
        variables: response.variables.into_iter().map(Arc::from).collect(),
        r: tensors(response.r),
        c: tensors(response.c),
        v: tensors(response.v),
        ema: tensors(response.ema),
    }
}
