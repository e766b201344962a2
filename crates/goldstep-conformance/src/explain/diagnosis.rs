//! Which known mistake an implementation looks like.

use crate::agreement::{Allowance, Mode, Quantity, Role};
use crate::golden::{Expectation, Trial};
use crate::implementation::{Capabilities, Implementation};
use crate::judge::{Focus, Judge, Outcome};
use crate::known::Known;
use crate::observed::Observations;
use crate::subject::Factory;

use super::record::{record, record_forced};

/// More names than this help nobody.
const MOST_NAMES: usize = 3;
/// Runs on which all suspects are tried.
const FIRST_ROUND: usize = 6;
/// Runs that may be used to tell the rest apart.
const LAST_ROUND: usize = 96;

/// A known mistake, as an implementation that makes it.
pub struct Suspect {
    /// Its name.
    pub id: String,
    /// What is wrong, in a few words.
    pub what: String,
    /// Makes an implementation.
    pub make: Factory,
}

/// The known mistakes that give what the judged implementation gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// Names and descriptions, at most three.
    pub names: Vec<(String, String)>,
    /// How many further ones do as well.
    pub further: usize,
    /// Failing runs that were compared.
    pub examined: usize,
    /// Of these, the runs in which the named ones agree with the implementation.
    pub matched: usize,
    /// The worst distance of a variable in the runs that match, in anchored ULP.
    pub distance: f64,
}

impl Diagnosis {
    /// Whether every examined run is explained.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.matched == self.examined
    }
}

/// A run with what the judged implementation gave.
struct Evidence<'a> {
    trial: &'a Trial<'a>,
    /// From the start to the end on its own state.
    free: Expectation,
    /// Each step from the golden state before it, where its state can be set.
    forced: Option<Expectation>,
    /// The golden states.
    starts: &'a Expectation,
    failing: bool,
}

/// Tries the suspects on failing and passing runs, first a few, then more for those that remain.
pub(super) fn diagnose(
    subject: &mut dyn Implementation,
    capabilities: &Capabilities,
    failing: &[Trial<'_>],
    passing: &[Trial<'_>],
    suspects: &[Suspect],
) -> Option<Diagnosis> {
    let mut evidence = Vec::new();
    let rounds = interleaved(failing, passing);
    let mut remaining: Vec<(&Suspect, usize, f64)> =
        suspects.iter().map(|suspect| (suspect, 0, 0.0)).collect();
    let mut best: Option<Vec<(&Suspect, usize, f64)>> = None;
    let mut used = 0;
    for (size, decisive) in [(FIRST_ROUND, false), (LAST_ROUND, true)] {
        let fresh = evidence.len();
        while used < rounds.len() && evidence.len() < size {
            let (trial, failing) = rounds[used];
            used += 1;
            let starts = trial.expectation_for(&capabilities.expectation);
            if let Some(free) = record(subject, capabilities, trial) {
                let forced = record_forced(subject, capabilities, trial, starts);
                evidence.push(Evidence { trial, free, forced, starts, failing });
            }
        }
        let new = &evidence[fresh..];
        for (suspect, matched, distance) in &mut remaining {
            let Ok(mut implementation) = (suspect.make)() else { continue };
            for one in new {
                if let Some(own) = agreement(implementation.as_mut(), capabilities, one) {
                    *matched += usize::from(one.failing);
                    *distance = distance.max(own);
                } else if !one.failing {
                    // Wrong where the implementation is right: not this one.
                    *matched = 0;
                    *distance = f64::INFINITY;
                    break;
                }
            }
        }
        remaining.retain(|(_, matched, distance)| *matched > 0 && distance.is_finite());
        let most = remaining.iter().map(|(_, matched, _)| *matched).max();
        if most.is_none() {
            // Nobody passed the second look: what the first one said is all there is to say.
            break;
        }
        remaining.retain(|(_, matched, _)| Some(*matched) == most);
        best = Some(remaining.clone());
        if !decisive && remaining.len() == 1 && evidence.len() >= rounds.len() {
            break;
        }
    }
    let examined = evidence.iter().filter(|one| one.failing).count();
    let mut best = best?;
    let matched = best.first()?.1;
    // A mistake that explains a minority explains nothing.
    if 2 * matched < examined {
        return None;
    }
    best.sort_by(|left, right| left.2.total_cmp(&right.2));
    let distance = best.first()?.2;
    let names = best.iter().take(MOST_NAMES);
    Some(Diagnosis {
        names: names.map(|(suspect, ..)| (suspect.id.clone(), suspect.what.clone())).collect(),
        further: best.len().saturating_sub(MOST_NAMES),
        examined,
        matched,
        distance,
    })
}

/// Failing runs first, then one passing after two failing ones, each spread over its list.
fn interleaved<'a>(
    failing: &'a [Trial<'a>],
    passing: &'a [Trial<'a>],
) -> Vec<(&'a Trial<'a>, bool)> {
    let (mut failing, mut passing) = (spread(failing).into_iter(), spread(passing).into_iter());
    let mut order = Vec::new();
    loop {
        let before = order.len();
        order.extend(failing.by_ref().take(2).map(|trial| (trial, true)));
        order.extend(passing.by_ref().take(1).map(|trial| (trial, false)));
        if order.len() == before {
            return order;
        }
    }
}

/// The elements in an order in which every prefix is spread evenly over the list.
fn spread<T>(list: &[T]) -> Vec<&T> {
    let mut order = Vec::with_capacity(list.len());
    let mut taken = vec![false; list.len()];
    let mut parts = 1;
    while order.len() < list.len() {
        for part in 0..parts {
            let index = list.len() * part / parts;
            if !std::mem::replace(&mut taken[index], true) {
                order.push(&list[index]);
            }
        }
        parts *= 2;
    }
    order
}

/// Whether `other` gives what the judged implementation gives in a run, forced and free.
pub(crate) fn gives_the_same(
    other: &mut dyn Implementation,
    subject: &mut dyn Implementation,
    capabilities: &Capabilities,
    trial: &Trial<'_>,
) -> bool {
    let starts = trial.expectation_for(&capabilities.expectation);
    let Some(free) = record(subject, capabilities, trial) else { return false };
    let forced = record_forced(subject, capabilities, trial, starts);
    let evidence = Evidence { trial, free, forced, starts, failing: true };
    agreement(other, capabilities, &evidence).is_some()
}

/// How far the suspect is from what the judged implementation gave, in anchored ULP of variables;
/// `None` where it does not agree with it.
fn agreement(
    suspect: &mut dyn Implementation,
    capabilities: &Capabilities,
    evidence: &Evidence<'_>,
) -> Option<f64> {
    let own = suspect.describe().capabilities.clone();
    let can = Capabilities { states: capabilities.states.clone(), ..own };
    let focus = Focus::default();
    let judge = Judge::new(Role::Other, &can, &focus);
    let mut seen = Observations::default();
    let mut agrees = |mode: Mode, recorded: &Expectation| {
        let trial = Trial { expectation: recorded, expected_in: None, ..evidence.trial.clone() };
        let judge = match mode {
            Mode::Forced => judge.clone().starting_from(evidence.starts),
            Mode::Free => judge.clone(),
        };
        let outcome = judge.judge_in(&[mode], suspect, &trial, 0, &Known::none(), &mut seen);
        matches!(outcome, Outcome::Agrees)
    };
    // Forced first: it is the one that most suspects fail.
    if !evidence.forced.as_ref().is_none_or(|forced| agrees(Mode::Forced, forced))
        || !agrees(Mode::Free, &evidence.free)
    {
        return None;
    }
    let worst = seen.worst(Mode::Forced, Quantity::Variable);
    let anchored = worst.filter(|worst| matches!(worst.allowance, Allowance::Anchored(_)));
    Some(anchored.map_or(0.0, |worst| worst.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_order_visits_everything_once() {
        let list: Vec<usize> = (0..10).collect();
        let order: Vec<usize> = spread(&list).into_iter().copied().collect();
        assert_eq!(order[..4], [0, 5, 2, 7]);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, list);
        assert!(spread::<usize>(&[]).is_empty());
    }
}
