//! A summary for the page of a CI run.

use std::fmt::Write as _;

use super::{Dossier, Standing, index::family_ids, index::headline, score};
use crate::report::{not_answered, stale, standing::skipped_whole};

/// A table of implementations and families, a block per cause, and what else makes a run fail.
pub(super) fn markdown(dossier: &Dossier<'_>) -> String {
    let mut text = format!("## Goldstep conformance\n\n{}\n\n", headline(dossier));
    let names: Vec<String> =
        dossier.entries.iter().map(|entry| inline(&entry.report.name)).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| family | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
    for id in family_ids(dossier) {
        let cells = dossier.entries.iter().map(|entry| {
            let family = entry.report.families.iter().find(|family| family.id == id);
            family.map_or_else(|| Standing::Absent.sign().to_owned(), score)
        });
        let _ = writeln!(text, "| {} | {} |", inline(&id), cells.collect::<Vec<_>>().join(" | "));
    }
    for entry in &dossier.entries {
        let name = inline(&entry.report.name);
        for (families, needs) in skipped_whole(entry.report) {
            let (families, needs) = (inline(&families.join(", ")), inline(&needs));
            let _ = writeln!(text, "\n{name}: nothing judged of {families}: {needs}");
        }
        for cause in entry.causes {
            text += &fenced(&cause.block(&entry.report.name, &entry.report.invocation));
        }
        let others = stale(entry.report) + &not_answered(dossier.golden, entry.report);
        if !others.is_empty() {
            text += &fenced(&others);
        }
    }
    text
}

/// A program's words in a line or a cell: they stay in it and mean nothing but themselves.
fn inline(words: &str) -> String {
    let mut text = String::new();
    for c in words.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '[' | ']' | '<' => text.extend(['\\', c]),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

/// Text as it is, between fences that no line of it can end.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    format!("\n{fence}text\n{text}{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_program_stay_in_their_place() {
        assert_eq!(inline("a|b\n\n# c <d>"), "a\\|b  # c \\<d>");
        assert_eq!(fenced("x\n"), "\n```text\nx\n```\n");
        assert_eq!(fenced("a\n````\nb\n"), "\n`````text\na\n````\nb\n`````\n");
    }
}
