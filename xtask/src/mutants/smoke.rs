//! The smoke tier: a few runs that together reject every wrong implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use goldstep_conformance::golden::{Golden, Trial};
use goldstep_conformance::{Focus, Selection};
use goldstep_core::DType;
use goldstep_mutants::{Effect, Mistake};

use super::{Verdict, judge, side_by_side, wrongly_judged};
use crate::{AGREED, MISMATCH, workspace_root};

/// Where the tier is written down.
const FILE: &str = "crates/goldstep-mutants/smoke.txt";
const HEAD: &str = "\
# The smoke tier: runs that together reject every wrong implementation, those in float32 first.
# Chosen by `cargo xtask mutants --choose-smoke`, checked by `cargo xtask mutants --smoke`.
";
/// Runs with more elements times steps than this are too slow for the tier.
const MOST_WORK: usize = 500_000;

/// Every mistake, a wrong one until the first run that rejects it.
pub(super) fn check(golden: &Golden, mistakes: &[Mistake]) -> Result<u8> {
    let start = Instant::now();
    let cases = read()?;
    let each: Vec<Selection> = cases
        .iter()
        .map(|case| Selection::new(golden, &[], std::slice::from_ref(case), Focus::default()))
        .collect::<Result<_, _>>()?;
    let whole = Selection::new(golden, &[], &cases, Focus::default())?;
    let verdicts = side_by_side(mistakes, |mistake| {
        let mut verdict = None;
        for selection in if mistake.effect() == Effect::Wrong { &each[..] } else { &[] } {
            let one = verdict.insert(judge(golden, selection, mistake)?);
            if one.kills() > 0 {
                break;
            }
        }
        verdict.map_or_else(|| judge(golden, &whole, mistake), Ok)
    })?;
    let mistakes = wrongly_judged(&verdicts);
    for line in &mistakes {
        println!("{line}");
    }
    let wrong = verdicts.iter().filter(|one| one.mistake.effect() == Effect::Wrong);
    let (killed, wrong) = (wrong.clone().filter(|one| one.kills() > 0).count(), wrong.count());
    let harmless = verdicts.len() - wrong;
    println!(
        "{} runs reject {killed} of {wrong} wrong implementations and accept {} of {harmless} \
         harmless ones, {:.2} s",
        cases.len(),
        harmless - (mistakes.len() - (wrong - killed)),
        start.elapsed().as_secs_f64()
    );
    Ok(if mistakes.is_empty() { AGREED } else { MISMATCH })
}

/// The runs of the tier; nothing where they are not among the goldens.
pub(super) fn selection(golden: &Golden) -> Result<Option<Selection>> {
    if !workspace_root().join(FILE).exists() {
        return Ok(None);
    }
    Ok(Selection::new(golden, &[], &read()?, Focus::default()).ok())
}

/// Chooses among the runs that were judged: always the one that rejects most of what is left, and
/// of equally good ones the first; what float32 can show is shown by float32.
pub(super) fn choose(golden: &Golden, verdicts: &[Verdict]) -> Result<()> {
    let mut killers: BTreeMap<(bool, usize, usize), BTreeSet<&'static str>> = BTreeMap::new();
    for verdict in verdicts.iter().filter(|one| one.mistake.effect() == Effect::Wrong) {
        for family in &verdict.report.families {
            for (position, _) in &family.differ {
                let trial = golden.families()[family.family].trial(*position);
                if is_cheap(&trial) {
                    let key = (trial.dtype != DType::Float32, family.family, *position);
                    killers.entry(key).or_default().insert(verdict.mistake.id());
                }
            }
        }
    }
    let mut text = HEAD.to_owned();
    let mut left: BTreeSet<&str> = killers.values().flatten().copied().collect();
    for beyond in [false, true] {
        let of_this = || killers.iter().filter(|((other, ..), _)| *other == beyond);
        let visible: BTreeSet<&str> = of_this()
            .flat_map(|(_, killed)| killed)
            .copied()
            .filter(|id| left.contains(id))
            .collect();
        let mut open = visible.clone();
        while !open.is_empty() {
            let most = of_this().rev().max_by_key(|(_, killed)| killed.intersection(&open).count());
            let Some(((_, family, position), killed)) = most else {
                bail!("nothing rejects {open:?}")
            };
            let name = golden.families()[*family].trial(*position).name();
            println!("{name:<44} {}", killed.intersection(&open).count());
            text.push_str(&format!("{name}\n"));
            open.retain(|id| !killed.contains(id));
        }
        left.retain(|id| !visible.contains(id));
    }
    fs::write(workspace_root().join(FILE), text).with_context(|| format!("cannot write {FILE}"))
}

fn is_cheap(trial: &Trial<'_>) -> bool {
    let elements: usize = trial.variables.iter().map(|one| one.initial.len()).sum();
    elements * trial.steps.len() <= MOST_WORK
}

fn read() -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace_root().join(FILE))
        .with_context(|| format!("cannot read {FILE}"))?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<String> = lines.map(str::to_owned).collect();
    ensure!(!cases.is_empty(), "{FILE} must name a run");
    Ok(cases)
}
