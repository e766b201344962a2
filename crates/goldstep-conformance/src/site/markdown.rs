//! A summary for the page of a CI run.

use std::fmt::Write as _;

use super::{Dossier, Standing, index::family_ids, index::headline, score};
use crate::report::{not_answered, stale, standing::skipped_whole};

/// A table of implementations and families, a block per cause, and what else makes a run fail.
pub(super) fn markdown(dossier: &Dossier<'_>) -> String {
    let mut text = format!("## Goldstep conformance\n\n{}\n\n", headline(dossier));
    let names: Vec<&str> = dossier.entries.iter().map(|entry| entry.report.name.as_str()).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| family | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
    for id in family_ids(dossier) {
        let cells = dossier.entries.iter().map(|entry| {
            let family = entry.report.families.iter().find(|family| family.id == id);
            family.map_or_else(|| Standing::Absent.sign().to_owned(), score)
        });
        let _ = writeln!(text, "| {id} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    for entry in &dossier.entries {
        let name = &entry.report.name;
        for (families, needs) in skipped_whole(entry.report) {
            let _ = writeln!(text, "\n{name}: nothing judged of {}: {needs}", families.join(", "));
        }
        for cause in entry.causes {
            let _ = write!(
                text,
                "\n```text\n{}```\n",
                cause.block(&entry.report.name, &entry.report.invocation)
            );
        }
        let others = stale(entry.report) + &not_answered(dossier.golden, entry.report);
        if !others.is_empty() {
            let _ = write!(text, "\n```text\n{others}```\n");
        }
    }
    text
}
