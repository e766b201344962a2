//! The steps of a run, from the constructor to `finalize_variable_values`.

use serde_json::Value;

use super::around::Scales;
use super::compare::Step;
use super::{Divergence, End, Finding, Judge};
use crate::agreement::Mode;
use crate::arguments::announced_only;
use crate::golden::{Expectation, Expected, Tensor, Trial};
use crate::implementation::{
    BuildRequest, Capabilities, Failure, Implementation, StateField, StateRequest, StepRequest,
    StepResponse,
};
use crate::known::Known;
use crate::observed::Observations;

/// One run in one mode.
pub(super) struct Run<'a, 'o> {
    pub(super) judge: &'a Judge<'a>,
    pub(super) trial: &'a Trial<'a>,
    pub(super) expectation: &'a Expectation,
    /// What forced steps start from.
    pub(super) starts: &'a Expectation,
    pub(super) mode: Mode,
    /// What observations are noted under.
    pub(super) position: usize,
    pub(super) known: &'a Known<'a>,
    pub(super) observations: &'o mut Observations,
    /// Whether a known difference was met.
    pub(super) any_known: bool,
    /// Whether the learning rate is a schedule at this step.
    pub(super) schedule: bool,
    /// The largest magnitude of each variable and its average so far.
    pub(super) scales: Scales,
}

impl Run<'_, '_> {
    pub(super) fn run(&mut self, implementation: &mut dyn Implementation) -> Result<(), End> {
        let trial = self.trial;
        let built = build(implementation, self.judge.capabilities, trial, None);
        if self.refusal(None, built.err())? {
            return Ok(());
        }
        self.scales = Scales::new(trial);
        // The rate that was assigned last, and the same until the implementation is told.
        let (mut rate, mut assigned): (Option<&Value>, Option<&Value>) = (None, None);
        let mut resumed = false;
        let mut previous: Option<StepResponse> = None;
        for index in 0..trial.steps.len() {
            let inputs = &trial.steps[index];
            let (earlier, untold) = (rate, assigned.is_some());
            if let Some(next) = &inputs.learning_rate {
                self.schedule = is_schedule(Some(next));
                rate = Some(next);
                assigned = rate;
            }
            let expected = self.expectation.steps[index].as_ref();
            let fails = self.expectation.error.as_ref().is_some_and(|one| one.step == Some(index));
            let before = index.checked_sub(1).map(|index| self.starts.steps[index].as_ref());
            if self.mode == Mode::Forced {
                let elsewhere = self.judge.focus.step.is_some_and(|only| only != index + 1);
                match before {
                    _ if elsewhere || (expected.is_none() && !fails) => continue,
                    // Without a golden state to start from this step is judged free-running only.
                    Some(None) => continue,
                    Some(Some(before)) => {
                        // A golden state is a checkpoint: the first one goes into an optimizer that
                        // has seen nothing, or what a restore leaves out would still be there.
                        let onto_schedule = is_schedule(earlier) && !is_schedule(rate);
                        if !std::mem::replace(&mut resumed, true) || (untold && onto_schedule) {
                            // A number onto a schedule is refused where the schedule is in place.
                            let earlier = earlier.filter(|_| onto_schedule);
                            let can = self.judge.capabilities;
                            let rebuilt = build(implementation, can, trial, earlier);
                            self.refusal(None, rebuilt.err())?;
                            assigned = rate;
                        }
                        self.force(implementation, before, Some(index + 1))?;
                    }
                    None => {}
                }
            }
            let gradients: Vec<_> = inputs.gradients.iter().map(Option::as_ref).collect();
            let states: &[StateField] =
                if expected.is_some() { &self.judge.capabilities.states } else { &[] };
            let response = implementation.step(&StepRequest {
                learning_rate: assigned.take(),
                gradients: &gradients,
                states,
                intermediates: false,
            });
            let (response, failure) = match response {
                Ok(response) => (Some(response), None),
                Err(failure) => (None, Some(failure)),
            };
            if self.refusal(Some(index), failure)? {
                return Ok(());
            }
            let Some(response) = response else { return Ok(()) };
            if let Some(expected) = expected {
                let (before, previous) = (before.flatten(), previous.as_ref());
                let compared = Step { index, expected, before, response: &response, previous };
                self.compare(&compared)?;
            }
            previous = (self.mode == Mode::Free && expected.is_some()).then_some(response);
        }
        self.finalize(implementation)
    }

    /// Whether the run ends here as expected; an error if it ends and should not, or the reverse.
    fn refusal(&mut self, step: Option<usize>, failure: Option<Failure>) -> Result<bool, End> {
        let expected = self.expectation.error.as_ref();
        let number = step.map(|index| index + 1);
        match failure {
            None => match expected {
                Some(error) if error.step == step => {
                    Err(self.diverges(number, Finding::Accepted { expected: error.clone() }))
                }
                _ => Ok(false),
            },
            Some(Failure::Error { stage, kind, message }) => {
                // At the same stage, or earlier: a stricter constructor may see what Keras sees late.
                let agrees = expected.is_some_and(|error| {
                    error.kind == kind
                        && (error.step == step || step.is_none())
                        && (stage == error.stage() || stage == "construct")
                });
                if agrees {
                    self.observations.count(1);
                    return Ok(true);
                }
                let expected = expected.cloned();
                Err(self.diverges(number, Finding::Refused { expected, stage, kind, message }))
            }
            Some(Failure::Skip { reason }) => Err(End::Skipped(reason)),
            Some(failure) => Err(End::Broken(failure)),
        }
    }

    /// Starts a 1-based step, or `finalize_variable_values`, from the golden state.
    fn force(
        &self,
        implementation: &mut dyn Implementation,
        golden: &Expected,
        step: Option<usize>,
    ) -> Result<(), End> {
        let variables: Vec<&[f64]> = golden.variables.iter().map(|one| &**one).collect();
        let forced = implementation.set_state(&StateRequest {
            iterations: golden.iterations,
            variables: &variables,
            r: &slices(&golden.r),
            c: &slices(&golden.c),
            v: &slices(&golden.v),
            ema: &slices(&golden.ema),
        });
        match forced {
            Ok(()) => Ok(()),
            Err(Failure::Error { stage, kind, message }) => {
                let finding = Finding::Refused { expected: None, stage, kind, message };
                Err(self.diverges(step, finding))
            }
            Err(Failure::Skip { reason }) => Err(End::Skipped(reason)),
            Err(failure) => Err(End::Broken(failure)),
        }
    }

    /// Calls `finalize_variable_values` where tf.keras did, and compares what it leaves.
    fn finalize(&mut self, implementation: &mut dyn Implementation) -> Result<(), End> {
        let Some(finalized) = &self.expectation.finalized else { return Ok(()) };
        let last = self.starts.steps.last().and_then(Option::as_ref);
        if self.mode == Mode::Forced {
            let Some(last) = last else { return Ok(()) };
            self.force(implementation, last, None)?;
        }
        let variables = match implementation.finalize() {
            Ok(variables) => variables,
            Err(failure) => return self.refusal(None, Some(failure)).map(|_| ()),
        };
        for (variable, expected) in finalized.iter().enumerate() {
            let actual = variables.get(variable).map(Vec::as_slice);
            self.compare_finalized(variable, expected, actual, last)?;
        }
        Ok(())
    }

    /// The end of a run that differs at a 1-based step.
    pub(super) fn diverges(&self, step: Option<usize>, finding: Finding) -> End {
        End::Differs(Box::new(Divergence { mode: self.mode, step, finding }))
    }
}

/// Builds the optimizer of a run, with `rate` for the constructor's learning rate if there is one.
pub(crate) fn build(
    implementation: &mut dyn Implementation,
    capabilities: &Capabilities,
    trial: &Trial<'_>,
    rate: Option<&Value>,
) -> Result<(), Failure> {
    let mut arguments = announced_only(&trial.arguments, &capabilities.arguments);
    if let Some(rate) = rate {
        arguments.to_mut().insert("learning_rate".to_owned(), rate.clone());
    }
    implementation.build(&BuildRequest {
        dtype: trial.dtype,
        arguments: &arguments,
        exclude_from_weight_decay: trial.exclude_from_weight_decay,
        variables: trial.variables,
    })
}

/// The tensors of a golden state, as they are lent.
pub(crate) fn slices(tensors: &[Option<Tensor>]) -> Vec<Option<&[f64]>> {
    tensors.iter().map(Option::as_deref).collect()
}

/// Whether the rate changes by itself from step to step.
pub(crate) fn is_schedule(learning_rate: Option<&Value>) -> bool {
    learning_rate.is_some_and(Value::is_object)
}
