//! Every backend of the workspace, by name.

use std::num::NonZeroUsize;

use anyhow::{Context, Result, bail};
use goldstep_conformance::agreement::Role;
use goldstep_conformance::protocol::AdapterCommand;
use goldstep_conformance::{FreeRuns, Subject};
use goldstep_cpu::conformance as cpu;
use goldstep_mutants::{Mistake, Mutant};

use crate::libtorch;

/// The names of the backends, the reference first.
pub(crate) const NAMES: [&str; 3] = ["reference", "cpu", "torch"];

/// What precedes the name of a deliberately wrong implementation.
const MUTANT: &str = "mutant:";

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
            ("reference", _) => subjects.push(goldstep_reference::conformance::subject()),
            ("cpu", _) if !threads.is_empty() => {
                subjects.extend(threads.iter().map(|threads| cpu_with(Some(threads.get()))));
            }
            ("cpu", _) => subjects.push(cpu_with(None)),
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

fn cpu_with(threads: Option<usize>) -> Subject {
    cpu::subject(cpu::Settings { threads, ..cpu::Settings::default() })
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
    Ok(Subject::new(name, Role::Other, move || Ok(Box::new(Mutant::new(mistake)))))
}

/// libtorch, behind the adapter protocol, in processes of its own: an abort of its C++ then ends a
/// case and not the harness.
fn torch(device: &str, free_runs: FreeRuns) -> Result<Subject> {
    let worker = libtorch::worker().context("backend torch")?;
    let command = AdapterCommand::new(worker).argument("--device").argument(device);
    let mut subject = Subject::adapter(command).context("backend torch")?;
    subject.name = "torch".to_owned();
    Ok(subject.with_known_differences(libtorch::known_differences()).with_free_runs(free_runs))
}
