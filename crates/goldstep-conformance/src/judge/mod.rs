//! One run, forced and free, against what tf.keras did.

mod around;
mod compare;
mod likeness;
mod outcome;
mod replay;

use crate::agreement::{Mode, Role};
use crate::golden::{Expectation, Trial};
use crate::implementation::{Capabilities, Failure, Implementation};
use crate::known::Known;
use crate::observed::Observations;

pub(crate) use around::{Around, Scales};
pub(crate) use compare::{TENSORS, answered, golden};
pub use likeness::Likeness;
pub use outcome::{Check, Divergence, Finding, Outcome, ValueDifference};
use replay::Run;
pub(crate) use replay::{build, is_schedule, slices};

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Focus {
    /// Only this variable.
    pub variable: Option<String>,
    /// Only this 1-based step.
    pub step: Option<usize>,
}

/// Judges runs of one implementation.
#[derive(Debug, Clone)]
pub struct Judge<'a> {
    role: Role,
    capabilities: &'a Capabilities,
    focus: &'a Focus,
    starts: Option<&'a Expectation>,
}

/// Why a run ended early.
enum End {
    Differs(Box<Divergence>),
    Skipped(String),
    Broken(Failure),
}

impl<'a> Judge<'a> {
    /// A judge of an implementation in that role with those capabilities.
    #[must_use]
    pub const fn new(role: Role, capabilities: &'a Capabilities, focus: &'a Focus) -> Self {
        Self { role, capabilities, focus, starts: None }
    }

    /// The same judge, whose forced steps start from these states and not from what is expected.
    #[must_use]
    pub(crate) const fn starting_from(self, starts: &'a Expectation) -> Self {
        Self { starts: Some(starts), ..self }
    }

    /// Judges one run in every mode that the implementation allows. What was observed is noted
    /// under `position`; `known` holds the differences that are known for this run.
    pub fn judge(
        &self,
        implementation: &mut dyn Implementation,
        trial: &Trial<'_>,
        position: usize,
        known: &Known<'_>,
        observations: &mut Observations,
    ) -> Outcome {
        self.judge_in(&Mode::ALL, implementation, trial, position, known, observations)
    }

    /// The same in `modes` alone; free where forcing is impossible.
    pub(crate) fn judge_in(
        &self,
        modes: &[Mode],
        implementation: &mut dyn Implementation,
        trial: &Trial<'_>,
        position: usize,
        known: &Known<'_>,
        observations: &mut Observations,
    ) -> Outcome {
        if let Some(reason) = self.capabilities.lack(trial) {
            return Outcome::Skipped { reason };
        }
        let expectation = trial.expectation_for(&self.capabilities.expectation);
        if let Some(reason) = self.nothing_to_compare(trial, expectation) {
            return Outcome::Skipped { reason };
        }
        let mut any_known = false;
        let refused_at_once = expectation.error.as_ref().is_some_and(|one| one.step.is_none());
        let can_force = self.capabilities.set_state && !refused_at_once;
        for mode in if can_force { modes } else { &[Mode::Free] } {
            let mut run = Run {
                judge: self,
                trial,
                expectation,
                starts: self.starts.unwrap_or(expectation),
                mode: *mode,
                position,
                known,
                observations,
                any_known: false,
                schedule: is_schedule(trial.arguments.get("learning_rate")),
                scales: Scales::new(trial),
            };
            let end = run.run(implementation);
            any_known |= run.any_known;
            match end {
                Ok(()) => {}
                Err(End::Differs(divergence)) if known.covers(divergence.quantity()) => {
                    known.seen(divergence.quantity());
                    any_known = true;
                }
                Err(End::Differs(divergence)) => return Outcome::Differs(divergence),
                Err(End::Skipped(reason)) => return Outcome::Skipped { reason },
                Err(End::Broken(failure)) => return Outcome::Broken(failure),
            }
        }
        if any_known { Outcome::KnownDifference } else { Outcome::Agrees }
    }

    /// What is wanting for a comparison, if there would be none: nothing compared is no agreement.
    fn nothing_to_compare(&self, trial: &Trial<'_>, expectation: &Expectation) -> Option<String> {
        if expectation.error.is_some() {
            return None;
        }
        let Focus { variable, step } = self.focus;
        if let Some(name) = variable
            && !trial.variables.iter().any(|one| one.name == *name)
        {
            return Some(format!("a variable {name:?}"));
        }
        let steps = &expectation.steps;
        match *step {
            Some(step) => {
                let is_expected = step.checked_sub(1).and_then(|index| steps.get(index)?.as_ref());
                is_expected.is_none().then(|| format!("values expected after step {step}"))
            }
            None => (steps.iter().all(Option::is_none) && expectation.finalized.is_none())
                .then(|| "an expected value".to_owned()),
        }
    }
}
