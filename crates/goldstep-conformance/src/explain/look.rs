//! Which known mistake a group of failing runs looks like.

use std::collections::BTreeSet;

use crate::agreement::Quantity;
use crate::golden::{Case, Family, Trial};
use crate::implementation::Implementation;
use crate::run::{FamilyReport, Report};

use super::cause::Group;
use super::diagnosis::{Diagnosis, Examiner, work};
use super::shrink::{keeps_gradients, restricted};

/// Runs of a group that are looked at to name it.
const MOST_SAMPLES: usize = 64;

/// A group beside everything else that was judged.
pub(super) struct Look<'a> {
    pub(super) group: &'a Group,
    pub(super) family: &'a Family,
    pub(super) report: &'a Report,
}

impl<'a> Look<'a> {
    /// Which known mistake the group looks like: one of those that explain others already, or any,
    /// which costs far more.
    ///
    /// Of what has several paths only one may be wrong: where no mistake fits what agrees too, one
    /// may still fit all that differs.
    pub(super) fn named(
        &self,
        examiner: &mut Examiner<'_>,
        implementation: &mut dyn Implementation,
        diagnosed: Vec<Diagnosis>,
    ) -> Option<Diagnosis> {
        let can = &self.report.description.capabilities;
        let (failed, passed) = (self.failed(), self.passed());
        let whole = (failed.as_slice(), passed.as_slice());
        for one in diagnosed.iter().filter(|one| !one.partly) {
            let suspects = examiner.named(&one.names);
            let found = examiner.diagnose(implementation, can, whole, &suspects);
            let found = found.filter(Diagnosis::is_complete);
            if found.is_some() {
                return found;
            }
        }
        let cases = self.differing();
        let parts: Vec<Trial<'_>> = cases.iter().map(|case| case.trial(&self.family.id)).collect();
        let partly = |found: Option<Diagnosis>| {
            let found = found.filter(Diagnosis::is_complete);
            found.map(|found| Diagnosis { partly: true, ..found })
        };
        for one in diagnosed.iter().filter(|one| one.partly) {
            let suspects = examiner.named(&one.names);
            let found = partly(examiner.diagnose(implementation, can, (&parts, &[]), &suspects));
            if found.is_some() {
                return found;
            }
        }
        let everybody = examiner.everybody();
        let found = examiner.diagnose(implementation, can, whole, &everybody);
        if found.as_ref().is_some_and(Diagnosis::is_complete) {
            return found;
        }
        partly(examiner.diagnose(implementation, can, (&parts, &[]), &everybody)).or(found)
    }

    fn own(&self) -> &'a FamilyReport {
        &self.report.families[self.group.family]
    }

    fn trial(&self, position: usize) -> Trial<'a> {
        let can = &self.report.description.capabilities;
        self.family.trial(position).expecting(&can.expectation)
    }

    /// Runs of the group.
    fn failed(&self) -> Vec<Trial<'a>> {
        let failed: Vec<usize> =
            self.group.failing.iter().map(|at| self.own().differ[*at].0).collect();
        thinned(&failed).into_iter().map(|position| self.trial(position)).collect()
    }

    /// Runs of the family that agree.
    fn passed(&self) -> Vec<Trial<'a>> {
        let failing: BTreeSet<usize> =
            self.own().differ.iter().map(|(position, _)| *position).collect();
        let refusals = self.group.sign.quantity == Quantity::Refusal;
        let can = &self.report.description.capabilities;
        // What it does not do says nothing about it: it would be asked without those arguments.
        let passed = (0..self.family.len()).filter(|position| {
            let trial = self.trial(*position);
            !failing.contains(position)
                && (refusals || trial.expectation.error.is_none())
                && can.lack(&trial).is_none()
        });
        let passed: Vec<usize> = passed.collect();
        thinned(&passed).into_iter().map(|position| self.trial(position)).collect()
    }

    /// What differs in runs of the group and nothing else: one variable up to one step of each, the
    /// smallest first.
    fn differing(&self) -> Vec<Case> {
        let case = |at: usize| {
            let (position, divergence) = &self.own().differ[at];
            let trial = self.trial(*position);
            let all = (0..trial.variables.len()).collect();
            let steps = divergence.step.unwrap_or(trial.steps.len());
            let coupled =
                trial.arguments.get("global_clipnorm").is_some_and(|value| !value.is_null());
            let variables = match divergence.variable() {
                Some(variable) if !coupled && keeps_gradients(&trial, steps, &[variable]) => {
                    vec![variable]
                }
                _ => all,
            };
            restricted(&trial, &variables, steps)
        };
        let mut cases: Vec<Case> = thinned(&self.group.failing).into_iter().map(case).collect();
        cases.sort_by_key(|case| work(&case.trial("")));
        cases
    }
}

/// At most so many, spread over the list.
fn thinned(positions: &[usize]) -> Vec<usize> {
    let step = positions.len().div_ceil(MOST_SAMPLES).max(1);
    positions.iter().step_by(step).copied().collect()
}
