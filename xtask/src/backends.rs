//! Every backend of the workspace, by name.

use anyhow::{Result, bail};
use goldstep_conformance::Subject;

/// The names of the backends, the oracle first.
const NAMES: [&str; 1] = ["reference"];

/// The backends of those names, in that order; all of them for no name.
pub(crate) fn subjects(names: &[String]) -> Result<Vec<Subject>> {
    let all = NAMES.map(str::to_owned);
    let names = if names.is_empty() { all.as_slice() } else { names };
    let subject = |(index, name): (usize, &String)| {
        if names[..index].contains(name) {
            bail!("backends must be named once, got {name} twice");
        }
        match name.as_str() {
            "reference" => Ok(oracle()),
            _ => bail!("backend must be one of {}, got {name}", NAMES.join(", ")),
        }
    };
    names.iter().enumerate().map(subject).collect()
}

/// The backend that explains the mistakes of the others.
pub(crate) fn oracle() -> Subject {
    goldstep_reference::conformance::subject()
}
