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
/// What suspects may compute on the runs of one round, in [`work`]: about half a second.
const ROUND: usize = 5_000_000;
/// What they may compute for one report: a few seconds on one core.
const WHOLE: usize = 30_000_000;

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
    /// Whether only what differs is explained: elsewhere the named ones would be wrong as well, and
    /// the implementation is not.
    pub partly: bool,
}

impl Diagnosis {
    /// Whether every examined run is explained.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.matched == self.examined
    }

    /// Takes up what a further group says, in which some of the named ones fit as well.
    pub(super) fn join(&mut self, other: Self) {
        if self.further == 0 {
            self.names.retain(|name| other.names.contains(name));
        }
        self.examined += other.examined;
        self.matched += other.matched;
        self.distance = self.distance.max(other.distance);
        self.partly |= other.partly;
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

/// The suspects, and what they may still compute.
///
/// The bound is a count and not a time, so that the same failure is always explained alike.
pub(super) struct Examiner<'a> {
    suspects: &'a [Suspect],
    made: Vec<Option<Box<dyn Implementation>>>,
    left: usize,
    /// Whether a failing run was small enough since this was last reset.
    pub(super) compared: bool,
}

/// The positions of suspects with the runs that each explains and its worst distance.
type Ranking = Vec<(usize, usize, f64)>;

impl<'a> Examiner<'a> {
    pub(super) fn new(suspects: &'a [Suspect]) -> Self {
        let made = suspects.iter().map(|suspect| (suspect.make)().ok()).collect();
        Self { suspects, made, left: WHOLE, compared: false }
    }

    /// The positions of the suspects of those names.
    pub(super) fn named(&self, names: &[(String, String)]) -> Vec<usize> {
        let is_named = |at: &usize| names.iter().any(|(id, _)| *id == self.suspects[*at].id);
        (0..self.suspects.len()).filter(is_named).collect()
    }

    /// The positions of all suspects.
    pub(super) fn everybody(&self) -> Vec<usize> {
        (0..self.suspects.len()).collect()
    }

    /// What has been computed so far.
    #[cfg(test)]
    pub(super) const fn spent(&self) -> usize {
        WHOLE - self.left
    }

    /// Tries suspects on failing and passing runs, first a few, then more for those that remain.
    ///
    /// Runs that are too large for what may be computed are passed over.
    pub(super) fn diagnose(
        &mut self,
        subject: &mut dyn Implementation,
        capabilities: &Capabilities,
        (failing, passing): (&[Trial<'_>], &[Trial<'_>]),
        suspects: &[usize],
    ) -> Option<Diagnosis> {
        let mut evidence = Vec::new();
        let rounds = interleaved(failing, passing);
        let mut remaining: Ranking = suspects.iter().map(|suspect| (*suspect, 0, 0.0)).collect();
        let mut best: Option<Ranking> = None;
        let mut used = 0;
        for (size, decisive) in [(FIRST_ROUND, false), (LAST_ROUND, true)] {
            let fresh = evidence.len();
            let mut room = ROUND.min(self.left) / remaining.len().max(1);
            while used < rounds.len() && evidence.len() < size {
                let (trial, failing) = rounds[used];
                used += 1;
                if work(trial) > room {
                    continue;
                }
                let starts = trial.expectation_for(&capabilities.expectation);
                if let Some(free) = record(subject, capabilities, trial) {
                    room -= work(trial);
                    let forced = record_forced(subject, capabilities, trial, starts);
                    evidence.push(Evidence { trial, free, forced, starts, failing });
                }
            }
            self.try_all(&mut remaining, capabilities, &evidence[fresh..]);
            self.compared |= evidence.iter().any(|one| one.failing);
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
        if let Some(best) = &mut best {
            best.retain(|(suspect, ..)| self.is_wrong(*suspect, &evidence));
        }
        let examined = evidence.iter().filter(|one| one.failing).count();
        self.conclusion(best?, examined)
    }

    /// Tries those that remain on `evidence`, and drops who is refuted or explains nothing.
    fn try_all(
        &mut self,
        remaining: &mut Ranking,
        capabilities: &Capabilities,
        evidence: &[Evidence<'_>],
    ) {
        for (suspect, matched, distance) in remaining.iter_mut() {
            let Some(implementation) = &mut self.made[*suspect] else { continue };
            for one in evidence {
                self.left = self.left.saturating_sub(work(one.trial));
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
    }

    /// Whether a suspect differs from tf.keras where it agrees with the judged implementation. Who
    /// does not is as good as right there, and the implementation is only just not.
    fn is_wrong(&mut self, suspect: usize, evidence: &[Evidence<'_>]) -> bool {
        let Some(implementation) = &mut self.made[suspect] else { return false };
        let can = implementation.describe().capabilities.clone();
        let focus = Focus::default();
        let judge = Judge::new(Role::Other, &can, &focus);
        evidence.iter().filter(|one| one.failing).any(|one| {
            let Some(left) = self.left.checked_sub(work(one.trial)) else { return true };
            self.left = left;
            let (mut seen, known) = (Observations::default(), Known::none());
            let trial = Trial { expectation: one.starts, expected_in: None, ..one.trial.clone() };
            let outcome = judge.judge(implementation.as_mut(), &trial, 0, &known, &mut seen);
            matches!(outcome, Outcome::Differs(_))
        })
    }

    fn conclusion(&self, mut best: Ranking, examined: usize) -> Option<Diagnosis> {
        let matched = best.first()?.1;
        // A mistake that explains a minority explains nothing, nor do many that explain a part.
        if 2 * matched < examined || (matched < examined && best.len() > MOST_NAMES) {
            return None;
        }
        best.sort_by(|left, right| left.2.total_cmp(&right.2));
        let name = |(suspect, ..): &(usize, usize, f64)| {
            let suspect = &self.suspects[*suspect];
            (suspect.id.clone(), suspect.what.clone())
        };
        Some(Diagnosis {
            names: best.iter().take(MOST_NAMES).map(name).collect(),
            further: best.len().saturating_sub(MOST_NAMES),
            examined,
            matched,
            distance: best.first()?.2,
            partly: false,
        })
    }
}

/// What a run costs: its elements and a little for each variable, in each of its steps.
pub(super) fn work(trial: &Trial<'_>) -> usize {
    const PER_VARIABLE: usize = 8;
    let elements = trial.variables.iter().map(|one| one.initial.len() + PER_VARIABLE);
    elements.sum::<usize>() * trial.steps.len().max(1)
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
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::golden::Case;
    use crate::implementation::{
        BuildRequest, Description, Failure, StateRequest, StepRequest, StepResponse,
    };

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

    /// Leaves every variable as it is, and counts the elements that it has seen.
    struct Idle(Description, Vec<Vec<f64>>, Arc<AtomicUsize>);

    impl Implementation for Idle {
        fn describe(&self) -> &Description {
            &self.0
        }

        fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
            self.1 = request.variables.iter().map(|one| one.initial.clone()).collect();
            Ok(())
        }

        fn set_state(&mut self, _: &StateRequest<'_>) -> Result<(), Failure> {
            Ok(())
        }

        fn step(&mut self, _: &StepRequest<'_>) -> Result<StepResponse, Failure> {
            let elements = self.1.iter().map(Vec::len).sum();
            self.2.fetch_add(elements, Ordering::Relaxed);
            Ok(StepResponse { variables: self.1.clone(), ..StepResponse::default() })
        }

        fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
            Ok(self.1.clone())
        }
    }

    fn idle(seen: &Arc<AtomicUsize>) -> Idle {
        let can = Capabilities { set_state: false, ..Capabilities::minimal("goldstep") };
        let description = Description::new("idle", "1", "Rust", "here", can);
        Idle(description, Vec::new(), Arc::clone(seen))
    }

    fn case(elements: usize) -> Case {
        let json = serde_json::json!({
            "format": "goldstep-case/1", "id": format!("of-{elements}"), "dtype": "float64",
            "arguments": {}, "steps": [{"gradients": [vec![1.0; elements]], "expected": {
                "variables": [vec![0.5; elements]], "r": [null], "c": [null],
                "v": [vec![1.0; elements]], "ema": [null], "iterations": 1, "learning_rate": 0.5,
            }}],
            "variables": [{"name": "x", "shape": [elements], "initial": vec![1.0; elements]}],
        });
        Case::from_json(Path::new("a.json"), &json.to_string()).unwrap()
    }

    #[test]
    fn what_suspects_may_compute_is_bounded() {
        let seen = Arc::new(AtomicUsize::new(0));
        let suspect = |number: usize| Suspect {
            id: number.to_string(),
            what: String::new(),
            make: {
                let seen = Arc::clone(&seen);
                Box::new(move || Ok(Box::new(idle(&seen))))
            },
        };
        let suspects: Vec<Suspect> = (0..100).map(suspect).collect();
        let (small, large) = (case(10), case(ROUND / 100 + 1));
        let subject_seen = Arc::new(AtomicUsize::new(0));
        let mut subject = idle(&subject_seen);
        let can = subject.describe().capabilities.clone();

        let mut examiner = Examiner::new(&suspects);
        let everybody = examiner.everybody();
        let only_large = [large.trial("f")];
        let found = examiner.diagnose(&mut subject, &can, (&only_large, &[]), &everybody);
        assert!(found.is_none() && !examiner.compared);
        assert_eq!((examiner.spent(), seen.load(Ordering::Relaxed)), (0, 0));

        // Of both the small one is enough to name them.
        let both = [large.trial("f"), small.trial("f")];
        let found = examiner.diagnose(&mut subject, &can, (&both, &[]), &everybody).unwrap();
        assert_eq!((found.examined, found.names.len(), found.further), (1, 3, 97));
        assert!(examiner.compared);
        assert!(seen.load(Ordering::Relaxed) <= examiner.spent());

        // However many groups there are.
        let many: Vec<Case> = (0..200).map(|more| case(2000 + more)).collect();
        let many: Vec<Trial<'_>> = many.iter().map(|case| case.trial("f")).collect();
        for _ in 0..20 {
            examiner.diagnose(&mut subject, &can, (&many, &[]), &everybody);
        }
        assert!(examiner.spent() <= WHOLE);
        assert!(seen.load(Ordering::Relaxed) <= WHOLE, "{}", seen.load(Ordering::Relaxed));
    }
}
