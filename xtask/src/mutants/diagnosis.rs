//! How often the diagnosis names a mistake when each is judged as if it were a backend.

use std::time::Instant;

use anyhow::Result;
use goldstep_conformance::explain::explain;
use goldstep_conformance::golden::Golden;
use goldstep_conformance::run;
use goldstep_mutants::{Effect, Mistake};

use super::{selection, side_by_side, subject, suspects};
use crate::{AGREED, MISMATCH};

/// More names than this are no answer.
const MOST_NAMES: usize = 3;

/// Prints a line per wrong implementation; agrees if at least nine of ten are named.
pub(super) fn diagnose(golden: &Golden, mistakes: &[Mistake]) -> Result<u8> {
    let start = Instant::now();
    let selection = selection(golden, false)?;
    let wrong: Vec<Mistake> =
        mistakes.iter().copied().filter(|one| one.effect() == Effect::Wrong).collect();
    let oracle = goldstep_reference::conformance::subject();
    let bar = indicatif::ProgressBar::new(wrong.len() as u64);
    let named = side_by_side(&wrong, |mistake| {
        let subject = subject(mistake);
        let report = run(golden, &selection, &subject, 1, &|_| {})?;
        let causes = explain(golden, &report, &subject, Some(&oracle), &suspects());
        let first = causes.first().and_then(|cause| cause.diagnosis.as_ref());
        let mut names: Vec<String> =
            first.iter().flat_map(|one| &one.names).map(|(id, _)| id.clone()).collect();
        let further = first.map_or(0, |one| one.further);
        names.extend((further > 0).then(|| format!("{further} others")));
        let hit = further == 0
            && names.len() <= MOST_NAMES
            && names.iter().any(|name| name == mistake.id());
        bar.inc(1);
        Ok((mistake, hit, causes.len(), names))
    })?;
    bar.finish_and_clear();
    for (mistake, hit, causes, names) in &named {
        let mark = if *hit { "named " } else { "missed" };
        let plural = if *causes == 1 { " " } else { "s" };
        println!("{mark}  {:<32} {causes} cause{plural}  {}", mistake.id(), names.join(" or "));
    }
    let hits = named.iter().filter(|(_, hit, ..)| *hit).count();
    println!(
        "{hits} of {} named by the first cause, alone or among at most {MOST_NAMES}, {:.1} s",
        named.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(if hits * 10 >= named.len() * 9 { AGREED } else { MISMATCH })
}
