//! Two runs, row by row.

use std::fmt::Write as _;

use super::{NOTHING, figure, per_parameter, ratio, threads_phrase};
use crate::record::{Block, Results};
use crate::statistics::{Estimate, ratios};

/// A line per row, number of threads and contestant that both have.
///
/// Two runs were made at different times, perhaps on different machines, so that their times say
/// little about each other. Their shares of the bound do: each was measured against the bound of
/// its own machine, within milliseconds.
#[must_use]
pub fn compare(before: &Results, after: &Results) -> String {
    let mut text = format!(
        "before: {}, {}\nafter:  {}, {}\n\n\
         | row | | contestant | before, ns | after, ns | before / bound | after / bound | change |\n\
         |---|---|---|---:|---:|---:|---:|---|\n",
        before.run.commit, before.run.machine, after.run.commit, after.run.machine
    );
    for block in &after.blocks {
        let Some(old) = before.block(&block.row, block.threads, block.peer.as_deref()) else {
            continue;
        };
        for entrant in &block.entrants {
            let name = entrant.name.as_str();
            let Some(older) = old.entrant(name).filter(|_| name != "cpu again") else { continue };
            // Against a peer the bound is not measured; there our own step stands for it.
            let base = if block.peer.is_none() { "bound" } else { "cpu" };
            if base == name {
                continue;
            }
            let shown = |block: &Block| {
                ratio(block, name, base).map_or(NOTHING.to_owned(), |one| figure(one.median))
            };
            let _ = writeln!(
                text,
                "| {} | {} | {name} | {} | {} | {} | {} | {} |",
                block.row,
                threads_phrase(block.threads),
                figure(per_parameter(old, older)),
                figure(per_parameter(block, entrant)),
                shown(old),
                shown(block),
                change(old, block, name, base),
            );
        }
    }
    text
}

/// Whether the intervals of the two ratios overlap.
fn change(before: &Block, after: &Block, name: &str, base: &str) -> &'static str {
    let estimate = |block: &Block| {
        let (entrant, base) = (block.entrant(name)?, block.entrant(base)?);
        Estimate::of(&ratios(&entrant.samples(), &base.samples()))
    };
    match (estimate(before), estimate(after)) {
        (Some(before), Some(after)) if after.low > before.high => "slower",
        (Some(before), Some(after)) if after.high < before.low => "faster",
        (Some(_), Some(_)) => "none to be seen",
        _ => NOTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let one = results(1.0);
        let text = compare(&one, &one);
        assert!(text.contains("none to be seen") && !text.contains("slower"), "{text}");
    }

    #[test]
    fn slower_and_faster_are_told_apart() {
        let (one, two) = (results(1.0), results(2.0));
        assert!(compare(&one, &two).contains("slower"));
        assert!(compare(&two, &one).contains("faster"));
    }
}
