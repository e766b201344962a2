//! Many runs of one implementation, on several threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::agreement::{Mode, Role};
use crate::free::{ForcedOnly, FreeRuns};
use crate::golden::{Family, Golden};
use crate::implementation::{Description, Failure, Implementation};
use crate::invocation::Invocation;
use crate::judge::{Divergence, Focus, Judge, Outcome};
use crate::known::{KnownDifference, Register};
use crate::observed::Observations;
use crate::panics::Guarded;
use crate::wide::is_wide;

/// Runs that one thread takes at a time: short enough to end together, long enough to be cheap.
const CHUNK: usize = 64;
/// After so many crashes, time-outs and faults the rest is not tried.
const MOST_BROKEN: usize = 20;

/// Makes implementations, one per thread. One that broke down has to work again from the next
/// `build` on, as [`Adapter`](crate::protocol::Adapter) does: nothing may leak into the next run.
pub type Factory = Box<dyn Fn() -> Result<Box<dyn Implementation>, Failure> + Send + Sync>;

/// Who is judged, how strictly, and what is known about it.
pub struct Subject {
    /// The name in reports.
    pub name: String,
    /// How a command line chooses it.
    pub invocation: Invocation,
    /// Which tolerances hold.
    pub role: Role,
    /// Makes an implementation.
    pub make: Factory,
    /// Where it differs on purpose.
    pub known_differences: Vec<KnownDifference>,
    /// For a subject that computes halves in float32: makes the implementation that shows what such
    /// arithmetic gives, as [`Wide`](crate::Wide) does. Where the subject gives the same, a
    /// difference from tf.keras in half precision is a known one.
    pub wide: Option<Factory>,
    /// Which combinations of a grid it runs free, where its state can be set.
    pub free_runs: FreeRuns,
    /// Lists faults that belong to no run; a report with any of them is not a clean one.
    pub incidents: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Subject {
    /// A subject without known differences, whose panics are crashes.
    pub fn new(
        name: impl Into<String>,
        role: Role,
        make: impl Fn() -> Result<Box<dyn Implementation>, Failure> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        Self {
            invocation: Invocation::backend(&name),
            name,
            role,
            make: Box::new(move || Ok(Box::new(Guarded(make()?)) as Box<dyn Implementation>)),
            known_differences: Vec::new(),
            wide: None,
            free_runs: FreeRuns::All,
            incidents: Box::new(Vec::new),
        }
    }

    /// A program that speaks the adapter protocol, under the name that it gives itself.
    ///
    /// # Errors
    /// A program that cannot be started or does not introduce itself.
    #[cfg(unix)]
    pub fn adapter(command: crate::protocol::AdapterCommand) -> Result<Self, Failure> {
        use crate::protocol::{Adapter, Incidents};
        let name = Adapter::start(&command)?.describe().name.clone();
        let invocation = Invocation::adapter(&command.to_string());
        let incidents = Incidents::default();
        let shared = incidents.clone();
        let make = move || -> Result<Box<dyn Implementation>, Failure> {
            Ok(Box::new(Adapter::start_with(&command, shared.clone())?))
        };
        let subject = Self::new(name, Role::Other, make);
        Ok(Self { invocation, incidents: Box::new(move || incidents.list()), ..subject })
    }

    /// The same subject, which a command line chooses like this.
    #[must_use]
    pub fn with_invocation(mut self, invocation: Invocation) -> Self {
        self.invocation = invocation;
        self
    }

    /// The same subject with its known differences.
    #[must_use]
    pub fn with_known_differences(mut self, known_differences: Vec<KnownDifference>) -> Self {
        self.known_differences = known_differences;
        self
    }

    /// The same subject, which computes halves in float32 as what `wide` makes does.
    #[must_use]
    pub fn with_wide(
        mut self,
        wide: impl Fn() -> Result<Box<dyn Implementation>, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.wide = Some(Box::new(wide));
        self
    }

    /// The same subject, of whose grids not everything runs free.
    #[must_use]
    pub const fn with_free_runs(mut self, free_runs: FreeRuns) -> Self {
        self.free_runs = free_runs;
        self
    }
}

/// Which runs of a golden directory are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Positions by family, ascending; families in the order of the directory.
    runs: Vec<(usize, Vec<usize>)>,
    /// What is looked at in each run.
    pub focus: Focus,
    complete: bool,
}

/// A selection that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// A family that is not there.
    #[error("family must be one of {known}, got {name}")]
    Family {
        /// The families that are there.
        known: String,
        /// The name that was given.
        name: String,
    },
    /// A run that is not there, or not in the chosen families.
    #[error("case must be family/id of a run in {families}, got {name}")]
    Case {
        /// The chosen families.
        families: String,
        /// The name that was given.
        name: String,
    },
    /// A variable that no chosen run has.
    #[error("variable must occur in a chosen run, which have {known}, got {name}")]
    Variable {
        /// The variables that occur.
        known: String,
        /// The name that was given.
        name: String,
    },
    /// A step that no chosen run compares.
    #[error("step must be compared in a chosen run, of which the longest has {most}, got {step}")]
    Step {
        /// The length of the longest run.
        most: usize,
        /// The 1-based step that was given.
        step: usize,
    },
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all(golden: &Golden) -> Self {
        let families = golden.families().iter().enumerate();
        let runs = families.map(|(index, family)| (index, (0..family.len()).collect()));
        Self { runs: runs.collect(), focus: Focus::default(), complete: true }
    }

    /// The runs of `families` (none: all) whose names are `cases` (none: all), looked at through
    /// `focus`. A case is `family/id`, or an id alone.
    ///
    /// # Errors
    /// A name, a variable or a step that nothing matches.
    pub fn new(
        golden: &Golden,
        families: &[String],
        cases: &[String],
        focus: Focus,
    ) -> Result<Self, SelectionError> {
        let known = golden.families();
        if let Some(name) = families.iter().find(|name| known.iter().all(|one| one.id != **name)) {
            return Err(SelectionError::Family {
                known: listed(known.iter().map(|family| family.id.as_str())),
                name: name.clone(),
            });
        }
        let chosen = |family: &Family| families.is_empty() || families.contains(&family.id);
        let candidates: Vec<(usize, &Family)> =
            known.iter().enumerate().filter(|(_, family)| chosen(family)).collect();
        let mut runs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        if cases.is_empty() {
            runs.extend(
                candidates.iter().map(|(index, family)| (*index, (0..family.len()).collect())),
            );
        }
        for name in cases {
            let found = candidates.iter().filter_map(|(index, family)| {
                let own = name.strip_prefix(&family.id).and_then(|rest| rest.strip_prefix('/'));
                let by_name = own.and_then(|id| family.position(id));
                by_name.or_else(|| family.position(name)).map(|position| (*index, position))
            });
            let found: Vec<(usize, usize)> = found.collect();
            if found.is_empty() {
                let families = listed(candidates.iter().map(|(_, family)| family.id.as_str()));
                return Err(SelectionError::Case { families, name: name.clone() });
            }
            for (index, position) in found {
                runs.entry(index).or_default().push(position);
            }
        }
        for positions in runs.values_mut() {
            positions.sort_unstable();
            positions.dedup();
        }
        let complete = families.is_empty() && cases.is_empty() && focus == Focus::default();
        let selection = Self { runs: runs.into_iter().collect(), focus, complete };
        selection.check_focus(golden)?;
        Ok(selection)
    }

    /// The number of runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(_, positions)| positions.len()).sum()
    }

    /// Whether it is everything, looked at as a whole.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether there is no run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check_focus(&self, golden: &Golden) -> Result<(), SelectionError> {
        let trials = || {
            let family = |index: &usize| &golden.families()[*index];
            self.runs.iter().flat_map(move |(index, positions)| {
                positions.iter().map(move |position| family(index).trial(*position))
            })
        };
        if let Some(name) = &self.focus.variable
            && !trials().any(|trial| trial.variables.iter().any(|one| one.name == *name))
        {
            let mut names: Vec<&str> = trials()
                .flat_map(|trial| trial.variables.iter().map(|one| one.name.as_str()))
                .collect();
            names.sort_unstable();
            names.dedup();
            let known = listed(names.into_iter());
            return Err(SelectionError::Variable { known, name: name.clone() });
        }
        if let Some(step) = self.focus.step {
            let compares = |trial: &crate::golden::Trial<'_>| {
                let index = step.checked_sub(1);
                let steps = &trial.expectation.steps;
                index.and_then(|index| steps.get(index)).is_some_and(Option::is_some)
            };
            if !trials().any(|trial| compares(&trial)) {
                let most = trials().map(|trial| trial.steps.len()).max().unwrap_or_default();
                return Err(SelectionError::Step { most, step });
            }
        }
        Ok(())
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let names: Vec<&str> = names.collect();
    let shown = names[..names.len().min(MOST)].join(", ");
    if names.len() > MOST { format!("{shown}, and {} more", names.len() - MOST) } else { shown }
}

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
        progress,
    };
    let merged = Mutex::new((empty(), None));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, work.len().max(1)) {
            scope.spawn(|| {
                let mut own = empty();
                let failure = shared.take_work(&mut own).err();
                let mut merged = merged.lock().unwrap_or_else(PoisonError::into_inner);
                for (all, own) in merged.0.iter_mut().zip(own) {
                    all.absorb(own);
                }
                merged.1 = merged.1.take().or(failure);
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
    let stale = if selection.complete { register.stale(golden) } else { Vec::new() };
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
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Shared<'_> {
    fn take_work(&self, families: &mut [FamilyReport]) -> Result<(), Failure> {
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
            }
            (self.progress)(chunk.len() as u64);
        }
        Ok(())
    }
}

impl FamilyReport {
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
