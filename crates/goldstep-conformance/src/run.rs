//! Many runs of one implementation, on several threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::agreement::{Mode, Role};
use crate::free::{ForcedOnly, FreeRuns};
use crate::golden::Golden;
use crate::implementation::{Description, Failure};
use crate::invocation::Invocation;
use crate::judge::{Divergence, Judge, Outcome};
use crate::known::{KnownDifference, Register};
use crate::observed::Observations;
use crate::selection::Selection;
use crate::subject::Subject;
use crate::watch::Running;
use crate::wide::is_wide;

/// Runs that one thread takes at a time: short enough to end together, long enough to be cheap.
const CHUNK: usize = 64;
/// After so many crashes, time-outs and faults the rest is not tried.
const MOST_BROKEN: usize = 20;

/// What came of judging one implementation.
#[derive(Debug, Clone)]
pub struct Report {
    /// The subject's name.
    pub name: String,
    /// How a command line chooses it.
    pub invocation: Invocation,
    /// Which tolerances held.
    pub role: Role,
    /// Who the implementation says it is.
    pub description: Description,
    /// By family, in the order of the directory.
    pub families: Vec<FamilyReport>,
    /// Known differences that were not seen although all of their runs were judged.
    pub stale: Vec<KnownDifference>,
    /// Faults that belong to no run.
    pub incidents: Vec<String>,
    /// Which combinations of a grid ran free.
    pub free_runs: FreeRuns,
    /// The time it took.
    pub elapsed: Duration,
}

/// What came of judging one family.
#[derive(Debug, Clone, Default)]
pub struct FamilyReport {
    /// The family's position in the directory.
    pub family: usize,
    /// Its name.
    pub id: String,
    /// Runs that were chosen.
    pub chosen: usize,
    /// Runs that agree, by position.
    pub agree: Vec<usize>,
    /// Of these, the runs in which a refusal was expected.
    pub refusals: usize,
    /// Runs that differ exactly where it is known.
    pub known_differences: usize,
    /// Of these, the runs in half precision that differ as float32 arithmetic does.
    pub wide: usize,
    /// Runs that were not tried for want of a capability, by what is wanting.
    pub skipped: BTreeMap<String, usize>,
    /// Runs that differ, by position.
    pub differ: Vec<(usize, Divergence)>,
    /// Runs without a usable answer, by position.
    pub broken: Vec<(usize, Failure)>,
    /// Runs that were forced, but not free.
    pub forced_only: usize,
    /// Runs that were given up after too many of these.
    pub given_up: usize,
    /// The worst errors.
    pub observations: Observations,
}

impl Report {
    /// Whether every chosen run agrees, differs where it is known, or was skipped.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.stale.is_empty() && self.families.iter().all(|family| family.differ.is_empty())
    }

    /// The number of runs that were judged: neither skipped nor without an answer.
    #[must_use]
    pub fn judged(&self) -> usize {
        let judged =
            |one: &FamilyReport| one.agree.len() + one.known_differences + one.differ.len();
        self.families.iter().map(judged).sum()
    }

    /// Whether an answer is missing, or all of them.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let incomplete = |one: &FamilyReport| !one.broken.is_empty() || one.given_up > 0;
        let nothing = self.judged() == 0;
        nothing || !self.incidents.is_empty() || self.families.iter().any(incomplete)
    }

    /// What came of a family, if any of its runs was chosen.
    #[must_use]
    pub fn family(&self, id: &str) -> Option<&FamilyReport> {
        self.families.iter().find(|family| family.id == id)
    }

    /// The worst errors over all families; positions are those of the families.
    #[must_use]
    pub fn observations(&self) -> Observations {
        let mut all = Observations::default();
        self.families.iter().for_each(|family| all.merge(&family.observations));
        all
    }
}

/// Judges `subject` on the selected runs with `threads` threads. `progress` is told how many runs
/// have been done since it was called last.
///
/// # Errors
/// The failure of the subject's factory; what happens to single runs stands in the report.
pub fn run(
    golden: &Golden,
    selection: &Selection,
    subject: &Subject,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, Failure> {
    let start = Instant::now();
    let description = (subject.make)()?.describe().clone();
    let register = Register::new(&subject.known_differences);
    let work: Vec<(usize, &[usize])> = selection
        .runs
        .iter()
        .enumerate()
        .flat_map(|(slot, (_, positions))| positions.chunks(CHUNK).map(move |chunk| (slot, chunk)))
        .collect();
    let forced_only = match description.capabilities.set_state {
        true => subject.free_runs.draw(golden, &selection.runs),
        false => ForcedOnly::default(),
    };
    let empty = || -> Vec<FamilyReport> {
        let report = |(family, positions): &(usize, Vec<usize>)| FamilyReport {
            family: *family,
            id: golden.families()[*family].id.clone(),
            chosen: positions.len(),
            ..FamilyReport::default()
        };
        selection.runs.iter().map(report).collect()
    };
    let threads = threads.clamp(1, work.len().max(1));
    let shared = Shared {
        golden,
        selection,
        subject,
        description: &description,
        register: &register,
        forced_only: &forced_only,
        work: &work,
        next: AtomicUsize::new(0),
        broken: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        running: Running::new(threads),
        progress,
    };
    let merged = Mutex::new((empty(), None));
    std::thread::scope(|scope| {
        let (busy, ended) = channel();
        for thread in 0..threads {
            let (busy, shared, merged, empty) = (busy.clone(), &shared, &merged, &empty);
            scope.spawn(move || {
                let _busy: Sender<()> = busy;
                let mut own = empty();
                let failure = shared.take_work(thread, &mut own).err();
                let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
                for (all, own) in merged.0.iter_mut().zip(own) {
                    all.absorb(own);
                }
                merged.1 = merged.1.take().or(failure);
            });
        }
        drop(busy);
        if let Some(watch) = &subject.watch {
            shared.running.watch(watch, &ended, |(family, position)| {
                golden.families()[family].trial(position).name()
            });
        }
    });
    let (mut families, failure) = merged.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = failure {
        return Err(failure);
    }
    for family in &mut families {
        family.forced_only = forced_only.count(family.family);
        family.agree.sort_unstable();
        family.differ.sort_by_key(|(position, _)| *position);
        family.broken.sort_by_key(|(position, _)| *position);
    }
    let mut stale = if selection.is_complete() { register.stale(golden) } else { Vec::new() };
    // A run that ended before, or was not tried, says nothing about what comes later in it.
    stale.retain(|entry| !families.iter().any(|family| family.cut_off(entry, golden)));
    Ok(Report {
        name: subject.name.clone(),
        invocation: subject.invocation.clone(),
        role: subject.role,
        families,
        stale: stale.into_iter().cloned().collect(),
        description,
        incidents: (subject.incidents)(),
        free_runs: subject.free_runs,
        elapsed: start.elapsed(),
    })
}

/// What the threads share.
struct Shared<'a> {
    golden: &'a Golden,
    selection: &'a Selection,
    subject: &'a Subject,
    description: &'a Description,
    register: &'a Register<'a>,
    forced_only: &'a ForcedOnly,
    work: &'a [(usize, &'a [usize])],
    next: AtomicUsize,
    broken: AtomicUsize,
    stop: AtomicBool,
    running: Running,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Shared<'_> {
    fn take_work(&self, thread: usize, families: &mut [FamilyReport]) -> Result<(), Failure> {
        let judge =
            Judge::new(self.subject.role, &self.description.capabilities, &self.selection.focus);
        let mut implementation = (self.subject.make)()?;
        let mut wide = self.subject.wide.as_ref().map(|make| make()).transpose()?;
        while let Some((slot, chunk)) = self.work.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let report = &mut families[*slot];
            let family = &self.golden.families()[report.family];
            for position in *chunk {
                if self.stop.load(Ordering::Relaxed) {
                    report.given_up += 1;
                    continue;
                }
                self.running.begin(thread, (report.family, *position));
                let trial = family.trial(*position);
                let known = self.register.of(trial.family, &trial.id);
                let modes: &[Mode] = match self.forced_only.contains(report.family, *position) {
                    true => &[Mode::Forced],
                    false => &Mode::ALL,
                };
                let outcome = judge.judge_in(
                    modes,
                    implementation.as_mut(),
                    &trial,
                    *position,
                    &known,
                    &mut report.observations,
                );
                let outcome = match &mut wide {
                    Some(wide) if matches!(outcome, Outcome::Differs(_)) => {
                        let can = &self.description.capabilities;
                        let known = is_wide(wide.as_mut(), implementation.as_mut(), can, &trial);
                        report.wide += usize::from(known);
                        if known { Outcome::KnownDifference } else { outcome }
                    }
                    _ => outcome,
                };
                let expectation = trial.expectation_for(&self.description.capabilities.expectation);
                if matches!(outcome, Outcome::Broken(_))
                    && self.broken.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_BROKEN
                {
                    self.stop.store(true, Ordering::Relaxed);
                }
                report.take(*position, outcome, expectation.error.is_some());
                self.running.end(thread);
            }
            (self.progress)(chunk.len() as u64);
        }
        Ok(())
    }
}

impl FamilyReport {
    /// Whether a run that the entry names differs from tf.keras, has no answer, or may be among
    /// those that were not tried.
    fn cut_off(&self, entry: &KnownDifference, golden: &Golden) -> bool {
        let family = &golden.families()[self.family];
        let case = entry.case.as_ref().map(|case| family.position(case));
        let named = |position: &usize| case.is_none_or(|case| case == Some(*position));
        self.id == entry.family
            && (self.given_up > 0
                || !self.skipped.is_empty()
                || self.differ.iter().any(|(position, _)| named(position))
                || self.broken.iter().any(|(position, _)| named(position)))
    }

    fn take(&mut self, position: usize, outcome: Outcome, refusal: bool) {
        match outcome {
            Outcome::Agrees => {
                self.agree.push(position);
                self.refusals += usize::from(refusal);
            }
            Outcome::KnownDifference => self.known_differences += 1,
            Outcome::Differs(divergence) => self.differ.push((position, *divergence)),
            Outcome::Skipped { reason } => *self.skipped.entry(reason).or_default() += 1,
            Outcome::Broken(failure) => self.broken.push((position, failure)),
        }
    }

    fn absorb(&mut self, other: Self) {
        self.agree.extend(other.agree);
        self.refusals += other.refusals;
        self.known_differences += other.known_differences;
        self.wide += other.wide;
        for (reason, count) in other.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
        self.differ.extend(other.differ);
        self.broken.extend(other.broken);
        self.given_up += other.given_up;
        self.observations.merge(&other.observations);
    }
}
