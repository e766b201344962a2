//! Every backend of the workspace, by name.

use std::num::NonZeroUsize;
use std::process::exit;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use goldstep_conformance::agreement::Role;
use goldstep_conformance::protocol::AdapterCommand;
use goldstep_conformance::{FreeRuns, Invocation, Subject, Watch, Wide};
use goldstep_cpu::conformance as cpu;
use goldstep_mutants::{Mistake, Mutant};

use crate::{FAILED, libtorch};

/// The names of the backends, the reference first.
pub(crate) const NAMES: [&str; 4] = ["reference", "cpu", CPU_STORE, "torch"];

/// The cpu backend where it holds the parameters, as it is measured.
pub(crate) const CPU_STORE: &str = "cpu-store";

/// What precedes the name of a deliberately wrong implementation.
const MUTANT: &str = "mutant:";

/// The time of one run of a backend in process; the longest takes milliseconds.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// The backends of those names, in that order; all of them for no name. `device` and `free_runs`
/// are libtorch's; each of `threads` makes a backend of its own of `cpu`.
pub(crate) fn subjects(
    names: &[String],
    device: &str,
    free_runs: FreeRuns,
    threads: &[NonZeroUsize],
) -> Result<Vec<Subject>> {
    if let Some(twice) =
        threads.iter().enumerate().find(|(at, count)| threads[..*at].contains(count))
    {
        bail!("thread counts must be named once, got {} twice", twice.1);
    }
    let all = NAMES.map(str::to_owned);
    let names = if names.is_empty() { all.as_slice() } else { names };
    let mut subjects = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            bail!("backends must be named once, got {name} twice");
        }
        match (name.as_str(), threads_of(name)) {
            ("reference", _) => subjects.push(reference()),
            ("cpu", _) if !threads.is_empty() => {
                subjects.extend(threads.iter().map(|threads| cpu_with(Some(threads.get()))));
            }
            ("cpu", _) => subjects.push(cpu_with(None)),
            (CPU_STORE, _) => subjects.push(of_cpu(cpu::store_subject())),
            ("torch", _) => subjects.push(torch(device, free_runs)?),
            (_, Some(threads)) => subjects.push(cpu_with(Some(threads.get()))),
            (_, None) if name.starts_with(MUTANT) => subjects.push(mutant(name)?),
            _ => bail!("backend must be one of {}, got {name}", NAMES.join(", ")),
        }
    }
    Ok(subjects)
}

/// The number of threads in a name that `cpu` has in a report: `cpu-3-threads`.
fn threads_of(name: &str) -> Option<NonZeroUsize> {
    name.strip_prefix("cpu-")?.strip_suffix("-threads")?.parse().ok()
}

fn reference() -> Subject {
    let subject = goldstep_reference::conformance::subject();
    let invocation = subject.invocation.clone().with_unit_test("reference");
    watched(subject.with_invocation(invocation))
}

fn cpu_with(threads: Option<usize>) -> Subject {
    of_cpu(cpu::subject(cpu::Settings { threads, ..cpu::Settings::default() }))
}

fn of_cpu(subject: Subject) -> Subject {
    let invocation = subject.invocation.clone().with_unit_test("cpu");
    in_float32(watched(subject.with_invocation(invocation)))
}

/// A backend in process, of which an endless loop ends the command instead of holding it up.
fn watched(subject: Subject) -> Subject {
    let (name, again) = (subject.name.clone(), subject.invocation.verify());
    let tell = move |run: &str| {
        let seconds = LONGEST_RUN.as_secs();
        eprintln!(
            "\n{name} has not come back from {run} for {seconds} s: an endless loop, which ends this \
             command; that run alone:\n  {again} --case {run}"
        );
        exit(i32::from(FAILED));
    };
    subject.watched_by(Watch { limit: LONGEST_RUN, tell: Box::new(tell) })
}

/// A backend whose arithmetic and state for halves are float32: where it differs from tf.keras in a
/// half, the reference must differ in the same way if it computes so.
fn in_float32(subject: Subject) -> Subject {
    subject.with_wide(|| {
        let reference = (goldstep_reference::conformance::subject().make)()?;
        Ok(Box::new(Wide::new(reference)))
    })
}

/// Who explains the mistakes of `subject` with intermediates: the reference, and what was written
/// a second time beside it for the reference itself.
pub(crate) fn oracle_for(subject: &Subject) -> Subject {
    match subject.role {
        Role::Other => goldstep_reference::conformance::subject(),
        Role::Reference => Subject::new("second reference", Role::Reference, || {
            Ok(Box::new(Mutant::new(Mistake::None)))
        }),
    }
}

/// A wrong implementation as a backend, to see what a report says of it.
fn mutant(name: &str) -> Result<Subject> {
    let id = name.trim_start_matches(MUTANT);
    let mistake = Mistake::from_id(id)
        .with_context(|| format!("backend must be a mistake after {MUTANT}, got {id}"))?;
    Ok(watched(Subject::new(name, Role::Other, move || Ok(Box::new(Mutant::new(mistake))))))
}

/// libtorch, behind the adapter protocol, in processes of its own: an abort of its C++ then ends a
/// case and not the harness.
fn torch(device: &str, free_runs: FreeRuns) -> Result<Subject> {
    let worker = libtorch::worker().context("backend torch")?;
    let command = AdapterCommand::new(worker).argument("--device").argument(device);
    let mut subject = Subject::adapter(command).context("backend torch")?;
    subject.name = "torch".to_owned();
    subject.invocation = Invocation::backend("torch");
    if device != "cpu" {
        subject.invocation = subject.invocation.with("--device", device);
    }
    let subject = subject.with_known_differences(libtorch::known_differences());
    Ok(in_float32(subject).with_free_runs(free_runs))
}

#[cfg(test)]
mod tests {
    use goldstep_conformance::golden::Golden;
    use goldstep_conformance::{Report, Selection, run};

    use super::*;

    fn half_cases() -> Golden {
        Golden::load(&crate::workspace_root().join("xtask/tests/half")).unwrap()
    }

    fn judged(subject: &Subject) -> Report {
        let golden = half_cases();
        run(&golden, &Selection::all(&golden), subject, 1, &|_| {}).unwrap()
    }

    #[test]
    fn what_float32_arithmetic_changes_in_halves_is_known() {
        let report = judged(&cpu_with(None));
        assert_eq!((report.families[0].wide, report.families[0].agree.len()), (3, 0));
        // No entry of the list is about these traces.
        assert!(report.agrees());
        let mut strict = cpu_with(None);
        strict.wide = None;
        assert_eq!(judged(&strict).families[0].differ.len(), 3);
        let reference = judged(&goldstep_reference::conformance::subject());
        assert_eq!(reference.families[0].agree.len(), 3);
    }

    #[test]
    fn a_store_is_judged_as_its_backend() {
        let report = judged(&of_cpu(cpu::store_subject()));
        assert_eq!((report.families[0].wide, report.families[0].agree.len()), (3, 0));
    }

    #[test]
    fn every_entry_of_the_lists_is_about_a_run_of_the_goldens() {
        let golden = Golden::load(&crate::workspace_root().join("golden/v1")).unwrap();
        let listed = cpu_with(None).known_differences;
        for entry in listed.iter().chain(&libtorch::known_differences()) {
            assert!(entry.names_a_run_of(&golden), "{entry:?}");
        }
    }

    #[test]
    fn a_mistake_in_float32_arithmetic_is_no_known_difference() {
        for mistake in ["epsilon_2_ignored", "epsilon_2_added", "factors_are_sums"] {
            let wrong = move || -> Result<Box<dyn goldstep_conformance::Implementation>, _> {
                let mistake = Mistake::from_id(mistake).unwrap();
                Ok(Box::new(Wide::new(Box::new(Mutant::new(mistake)))))
            };
            let report = judged(&in_float32(Subject::new("wrong", Role::Other, wrong)));
            assert!(!report.agrees(), "{mistake}");
        }
    }
}
