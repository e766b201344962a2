//! Every backend of the workspace, by name.

use anyhow::{Result, bail};
use goldstep_conformance::Subject;
use goldstep_conformance::agreement::Role;
use goldstep_cpu::conformance as cpu;
use goldstep_mutants::{Mistake, Mutant};

/// The names of the backends, the reference first.
const NAMES: [&str; 2] = ["reference", "cpu"];

/// The backends of those names, in that order; all of them for no name.
pub(crate) fn subjects(names: &[String]) -> Result<Vec<Subject>> {
    let all = NAMES.map(str::to_owned);
    let names = if names.is_empty() { all.as_slice() } else { names };
    let subject = |(index, name): (usize, &String)| {
        if names[..index].contains(name) {
            bail!("backends must be named once, got {name} twice");
        }
        match name.as_str() {
            "reference" => Ok(goldstep_reference::conformance::subject()),
            "cpu" => Ok(cpu::subject(cpu::Settings::default())),
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
