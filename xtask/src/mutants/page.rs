//! The published table of the wrong implementations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use goldstep_mutants::{Effect, Mistake};

use super::table::{first, harmless};
use super::{Named, Verdict};
use crate::workspace_root;

const FILE: &str = "crates/goldstep-mutants/MISTAKES.md";
const NAMED: &str = "named";
const COLUMNS: &str = "\
| id | what is wrong | runs that reject it | first spoils | in family | families | diagnosis |
|---|---|--:|---|---|--:|---|
";

/// Writes the rows of those verdicts, and keeps the rows of all other mistakes.
pub(super) fn publish(verdicts: &[Verdict], runs: usize) -> Result<()> {
    let path = workspace_root().join(FILE);
    let before = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
    let mut rows: BTreeMap<Mistake, String> = before
        .lines()
        .filter_map(|line| Some((Mistake::from_id(cells(line)?[0].trim_matches('`'))?, line)))
        .map(|(mistake, line)| (mistake, line.to_owned()))
        .collect();
    rows.extend(verdicts.iter().map(|verdict| (verdict.mistake, row(verdict))));
    fs::write(&path, page(&rows, runs)).with_context(|| path.display().to_string())
}

fn page(rows: &BTreeMap<Mistake, String>, runs: usize) -> String {
    let count = |effect: Effect, holds: &dyn Fn(&[&str]) -> bool| {
        let of_effect = rows.iter().filter(|(mistake, _)| mistake.effect() == effect);
        of_effect.filter(|(_, row)| cells(row).is_some_and(|cells| holds(&cells))).count()
    };
    let killed = |cells: &[&str]| cells[2] != "0";
    let wrong = count(Effect::Wrong, &|_| true);
    let rejected = count(Effect::Wrong, &killed);
    let named = count(Effect::Wrong, &|cells| cells[6].starts_with(NAMED));
    let harmless = count(Effect::Harmless, &|_| true);
    let accepted = harmless - count(Effect::Harmless, &killed);
    let mut text = format!(
        "# Wrong implementations, what rejects them, and whether they are recognised\n\n\
         {rejected} of {wrong} wrong ones are rejected, {accepted} of {harmless} harmless ones \
         accepted; {runs} runs each. Judged as if it were a backend, {named} of {wrong} are named \
         by the diagnosis, alone or in a group of at most three.\n\n\
         Made by `cargo xtask mutants --publish`. `cargo xtask verify --backend mutant:ID` shows \
         what a user of such a backend reads. Harmless ones count without the families of extreme \
         values, where another order of operations may overflow.\n\n{COLUMNS}"
    );
    for row in rows.values() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{row}");
    }
    text
}

fn row(verdict: &Verdict) -> String {
    let (family, quantity) = first(verdict);
    let families = verdict.report.families.iter().filter(|one| !one.differ.is_empty()).count();
    let (id, what) = (verdict.mistake.id(), verdict.mistake.what());
    let (kills, harmless) = (verdict.kills(), harmless(verdict));
    let diagnosis = verdict
        .named
        .as_ref()
        .map_or_else(|| "–".to_owned(), |named| diagnosis(named, verdict.mistake));
    format!(
        "| `{id}` | {harmless}{what} | {kills} | {quantity} | {family} | {families} | {diagnosis} |"
    )
}

fn diagnosis(named: &Named, mistake: Mistake) -> String {
    let hits = named.hits(mistake);
    let others = named.names.iter().filter(|name| *name != mistake.id());
    let mut others: Vec<String> = others.map(|name| format!("`{name}`")).collect();
    others.extend((named.further > 0).then(|| format!("{} others", named.further)));
    match (hits, others.is_empty()) {
        (true, true) => NAMED.to_owned(),
        (true, false) => format!("{NAMED} beside {}", others.join(", ")),
        (false, true) => "missed: no known mistake".to_owned(),
        (false, false) => format!("missed: {}", others.join(", ")),
    }
}

/// The cells of a row.
fn cells(row: &str) -> Option<Vec<&str>> {
    let cells: Vec<&str> = row.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    (cells.len() == 7).then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_come_from_the_rows() {
        let row = |id: &str, kills: usize, diagnosis: &str| {
            let line = format!("| `{id}` | x | {kills} | v | grid | 1 | {diagnosis} |");
            (Mistake::from_id(id).unwrap(), line)
        };
        let rows = BTreeMap::from([
            row("sign_flipped", 3, "named"),
            row("decay_twice", 2, "named beside `decay_ignored`"),
            row("decay_ignored", 0, "missed: no known mistake"),
            row("clip_by_factor", 0, "–"),
        ]);
        let page = page(&rows, 7);
        assert!(page.contains("2 of 3 wrong ones are rejected, 1 of 1 harmless ones accepted; 7 "));
        assert!(page.contains("2 of 3 are named"));
        assert_eq!(page.lines().filter(|line| cells(line).is_some()).count(), 5);
    }
}
