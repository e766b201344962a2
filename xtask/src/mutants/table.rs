//! What became of the mutants, as a table.

use std::time::Instant;

use goldstep_conformance::golden::Golden;
use goldstep_mutants::Effect;
use serde_json::json;

use super::Verdict;

pub(super) fn print(verdicts: &[Verdict], runs: usize, start: Instant) {
    println!(
        "{:<32} {:>7}  {:<16} {:<18} what is wrong",
        "id", "kills", "first spoils", "in family"
    );
    for verdict in verdicts {
        let (family, quantity) = first(verdict);
        println!(
            "{:<32} {:>7}  {quantity:<16} {family:<18} {}{}",
            verdict.mistake.id(),
            verdict.kills(),
            harmless(verdict),
            verdict.mistake.what(),
        );
    }
    println!("{}, {:.2} s", totals(verdicts, runs), start.elapsed().as_secs_f64());
}

pub(super) fn json(golden: &Golden, verdicts: &[Verdict]) -> serde_json::Value {
    let verdict = |verdict: &Verdict| {
        let families = verdict.report.families.iter().filter(|family| !family.differ.is_empty());
        json!({
            "id": verdict.mistake.id(),
            "what": verdict.mistake.what(),
            "harmless": verdict.mistake.effect() == Effect::Harmless,
            "kills": verdict.kills(),
            "first_quantity": verdict.first().map(|(_, quantity)| quantity.name()),
            "first_family": verdict.first().map(|(family, _)| family),
            "families": families.map(|family| (family.id.clone(), json!(family.differ.len())))
                .collect::<serde_json::Map<_, _>>(),
        })
    };
    json!({
        "format": "goldstep-mutants/1",
        "generated": golden.generated(),
        "mutants": verdicts.iter().map(verdict).collect::<Vec<_>>(),
    })
}

fn totals(verdicts: &[Verdict], runs: usize) -> String {
    let count = |effect, killed: bool| {
        let all = verdicts.iter().filter(|one| one.mistake.effect() == effect);
        all.filter(|one| (one.kills() > 0) == killed).count()
    };
    format!(
        "{} of {} wrong ones rejected, {} of {} harmless ones accepted, {runs} runs each",
        count(Effect::Wrong, true),
        count(Effect::Wrong, true) + count(Effect::Wrong, false),
        count(Effect::Harmless, false),
        count(Effect::Harmless, false) + count(Effect::Harmless, true),
    )
}

/// The first family that rejects it, and the quantity that is spoiled first there.
pub(super) fn first(verdict: &Verdict) -> (&str, &'static str) {
    verdict.first().map_or(("–", "–"), |(family, quantity)| (family, quantity.name()))
}

pub(super) fn harmless(verdict: &Verdict) -> &'static str {
    if verdict.mistake.effect() == Effect::Harmless { "harmless: " } else { "" }
}
