//! Every backend of the workspace, by name.

use anyhow::{Context, Result, bail};
use goldstep_conformance::agreement::Role;
use goldstep_conformance::protocol::AdapterCommand;
use goldstep_conformance::{FreeRuns, Subject};
use goldstep_cpu::conformance as cpu;
use goldstep_mutants::{Mistake, Mutant};

use crate::libtorch;

/// The names of the backends, the reference first.
pub(crate) const NAMES: [&str; 3] = ["reference", "cpu", "torch"];

/// The backends of those names, in that order; all of them for no name. `device` and `free_runs`
/// are libtorch's.
pub(crate) fn subjects(
    names: &[String],
    device: &str,
    free_runs: FreeRuns,
) -> Result<Vec<Subject>> {
    let all = NAMES.map(str::to_owned);
    let names = if names.is_empty() { all.as_slice() } else { names };
    let subject = |(index, name): (usize, &String)| {
        if names[..index].contains(name) {
            bail!("backends must be named once, got {name} twice");
        }
        match name.as_str() {
            "reference" => Ok(goldstep_reference::conformance::subject()),
            "cpu" => Ok(cpu::subject(cpu::Settings::default())),
            "torch" => torch(device, free_runs),
            _ => bail!("backend must be one of {}, got {name}", NAMES.join(", ")),
        }
    };
    names.iter().enumerate().map(subject).collect()
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

/// libtorch, behind the adapter protocol, in processes of its own: an abort of its C++ then ends a
/// case and not the harness.
fn torch(device: &str, free_runs: FreeRuns) -> Result<Subject> {
    let worker = libtorch::worker().context("backend torch")?;
    let command = AdapterCommand::new(worker).argument("--device").argument(device);
    let mut subject = Subject::adapter(command).context("backend torch")?;
    subject.name = "torch".to_owned();
    Ok(subject.with_known_differences(libtorch::known_differences()).with_free_runs(free_runs))
}
