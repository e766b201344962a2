//! Which mistake the diagnosis names when each is judged as if it were a backend.

use anyhow::Result;
use goldstep_conformance::Report;
use goldstep_conformance::explain::explain;
use goldstep_conformance::golden::Golden;
use goldstep_mutants::{Effect, Mistake};

use super::{Verdict, subject, suspects};
use crate::{AGREED, MISMATCH};

/// More names than this are no answer.
const MOST_NAMES: usize = 3;

/// What the diagnosis of the first cause says.
pub(super) struct Named {
    /// Causes that the report was gathered into.
    pub(super) causes: usize,
    /// The mistakes that it names.
    pub(super) names: Vec<String>,
    /// How many others it could be as well.
    pub(super) further: usize,
}

impl Named {
    /// What is said of an implementation with that mistake.
    pub(super) fn of(golden: &Golden, mistake: Mistake, report: &Report) -> Self {
        let oracle = goldstep_reference::conformance::subject();
        let causes = explain(golden, report, &subject(mistake), Some(&oracle), &suspects());
        let first = causes.first().and_then(|cause| cause.diagnosis.as_ref());
        let names = first.iter().flat_map(|one| &one.names).map(|(id, _)| id.clone());
        Self {
            causes: causes.len(),
            names: names.collect(),
            further: first.map_or(0, |one| one.further),
        }
    }

    /// Whether it is that mistake, alone or among few.
    pub(super) fn hits(&self, mistake: Mistake) -> bool {
        self.further == 0
            && self.names.len() <= MOST_NAMES
            && self.names.iter().any(|name| name == mistake.id())
    }
}

/// Prints a line per wrong implementation; agrees if at least nine of ten are named.
pub(super) fn print(verdicts: &[Verdict]) -> Result<u8> {
    let named: Vec<(Mistake, &Named)> = verdicts
        .iter()
        .filter(|one| one.mistake.effect() == Effect::Wrong)
        .filter_map(|one| Some((one.mistake, one.named.as_ref()?)))
        .collect();
    for (mistake, named) in &named {
        let mark = if named.hits(*mistake) { "named " } else { "missed" };
        let plural = if named.causes == 1 { " " } else { "s" };
        let mut names = named.names.clone();
        names.extend((named.further > 0).then(|| format!("{} others", named.further)));
        let (causes, names) = (named.causes, names.join(" or "));
        println!("{mark}  {:<32} {causes} cause{plural}  {names}", mistake.id());
    }
    let hits = named.iter().filter(|(mistake, named)| named.hits(*mistake)).count();
    println!(
        "{hits} of {} named by the first cause, alone or among at most {MOST_NAMES}",
        named.len()
    );
    Ok(if hits * 10 >= named.len() * 9 { AGREED } else { MISMATCH })
}
