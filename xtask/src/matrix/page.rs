//! The page about other libraries: a table over all, and a section for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use goldstep_conformance::agreement::{Mode, Quantity};
use goldstep_conformance::explain::{Feature, Run, describe};
use goldstep_conformance::golden::{Family, Golden, Trial};
use goldstep_conformance::{Divergence, FamilyReport, Finding, Report};
use serde_json::Value;

use super::Row;
use crate::peers::{PEERS, Peer};

const HEAD: &str = "\
# How the Adafactors of other libraries differ

Find the library that you use today. Its section says with which families of traces it agrees, \
where it first differs, in which quantity and by how much, which of its settings come closest, \
and what to change when you move from it to Goldstep, which computes what tf.keras 2.12.1 \
computes. Every number was measured: `cargo xtask matrix` runs the library's own optimizer \
through the traces that judge Goldstep itself, with the same tolerances, and writes this page. \
To differ is no mistake; these are different algorithms under one name.

| library | settings | version | runs that agree | differ | skipped | differ first in |
|---|---|---|---|---|---|---|
";

const NOTES: &str = "
*Runs that agree*: every quantity that the library shows is within the tolerance at every step, \
both from the start to the end and, where its state can be set, at each step from the state that \
tf.keras had before it. *Skipped* are all the runs of the traces that need what a library does \
not have (averages, say): the judged ones were drawn among the others. *Differ first in* names the earliest quantity in causal order: the \
state `r` and `c` (row and column factor) or `v` (second moment), then the variables; a library \
that shows no state can differ in its variables only. A *ulp* is the distance between \
neighbouring numbers of the type. The families are explained in the \
[README](../README.md#how-it-is-tested). One run again, with `PYTHON` being an interpreter that \
has the library:

    cargo xtask verify --adapter 'PYTHON adapters/torch_optim.py --settings closest' --case \
grid-f32/00001
";

/// When a library was run, and on how much.
pub(super) struct Circumstances {
    pub(super) date: String,
    pub(super) sample: usize,
}

/// What the page says of each library, by its position among the peers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    parts: [Option<Part>; PEERS.len()],
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    /// Its rows of the table over all.
    rows: String,
    /// Its section, without the heading.
    section: String,
}

impl Page {
    /// What a page that was written before says.
    pub(super) fn read(text: &str) -> Self {
        let part = |peer: &Peer| {
            let start = format!("| {} |", link(peer));
            let lines = text.lines().filter(|line| line.starts_with(&start));
            let rows: String = lines.map(|line| format!("{line}\n")).collect();
            let (_, rest) = text.split_once(&heading(peer))?;
            let section = rest.split_once("\n## ").map_or(rest, |(section, _)| section);
            Some(Part { rows, section: section.trim_end().to_owned() + "\n" })
        };
        Self { parts: PEERS.each_ref().map(part) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().all(Option::is_none)
    }

    /// Replaces what the page says of a library.
    pub(super) fn renew(
        &mut self,
        golden: &Golden,
        peer: &Peer,
        rows: &[Row],
        circumstances: &Circumstances,
    ) {
        let part = Part {
            rows: rows.iter().map(row).collect(),
            section: section(golden, peer, rows, circumstances),
        };
        if let Some(at) = PEERS.iter().position(|one| one.name == peer.name) {
            self.parts[at] = Some(part);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let parts = || PEERS.iter().zip(&self.parts);
        text.extend(self.parts.iter().flatten().map(|part| part.rows.as_str()));
        text.push_str(NOTES);
        let absent = parts().filter(|(_, part)| part.is_none()).map(|(peer, _)| peer.name);
        let absent: Vec<&str> = absent.collect();
        if !absent.is_empty() {
            let _ = writeln!(text, "\nNot run: {}.", absent.join(", "));
        }
        for (peer, part) in parts() {
            if let Some(part) = part {
                text.push_str(&heading(peer));
                text.push_str(&part.section);
            }
        }
        text
    }
}

fn heading(peer: &Peer) -> String {
    format!("\n## {}\n", peer.name)
}

/// Its name, linked to its section as GitHub and docs.rs name it.
fn link(peer: &Peer) -> String {
    format!("[{}](#{})", peer.name, peer.name.replace('.', ""))
}

fn agreeing(report: &Report) -> usize {
    report.families.iter().map(|family| family.agree.len() + family.known_differences).sum()
}

fn row(row: &Row) -> String {
    let families = &row.report.families;
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |\n",
        link(row.peer),
        row.settings.map_or(String::new(), |(key, _)| format!("`{key}`")),
        row.report.description.version,
        agreeing(&row.report),
        families.iter().map(|family| family.differ.len()).sum::<usize>(),
        row.beyond
            + families.iter().map(|family| family.skipped.values().sum::<usize>()).sum::<usize>(),
        by_quantity(&row.report),
    )
}

/// How often each quantity is the first that differs.
fn by_quantity(report: &Report) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    let differ = report.families.iter().flat_map(|family| &family.differ);
    for (_, divergence) in differ {
        let name = named(divergence.quantity());
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    parts.join(", ")
}

fn named(quantity: Quantity) -> String {
    match quantity {
        Quantity::R | Quantity::C | Quantity::V => format!("`{}`", quantity.name()),
        Quantity::Variable => "variables".to_owned(),
        Quantity::Ema => "averages".to_owned(),
        Quantity::LearningRate => "learning rate".to_owned(),
        Quantity::Refusal => "refusals".to_owned(),
        Quantity::Finalized => "finalized variables".to_owned(),
        _ => quantity.name().to_owned(),
    }
}

fn section(golden: &Golden, peer: &Peer, rows: &[Row], circumstances: &Circumstances) -> String {
    let mut text = String::new();
    let spread = match circumstances.sample {
        0 => "every run".to_owned(),
        most => format!("at most {most} of the runs of each family that it can do, evenly spread"),
    };
    let version = rows.first().map_or("", |row| row.report.description.version.as_str());
    let _ = writeln!(text, "\nVersion {version}, run on {}: {spread}.\n", circumstances.date);
    let closest = rows.iter().rev().max_by_key(|row| agreeing(&row.report));
    if rows.len() > 1 {
        text.push_str("Settings that were tried:\n\n");
        for row in rows {
            let Some((key, meaning)) = row.settings else { continue };
            let agree = agreeing(&row.report);
            let others = rows.iter().filter(|other| !std::ptr::eq(*other, row));
            let mark = match others.map(|other| agreeing(&other.report)).max() {
                Some(most) if most < agree => ", more than with the others",
                _ => "",
            };
            let judged: usize =
                row.report.families.iter().map(|one| one.agree.len() + one.differ.len()).sum();
            let _ = writeln!(text, "- `{key}`: {meaning}. {agree} of {judged} runs agree{mark}.");
        }
        text.push('\n');
    }
    text.push_str("What to know when you move from it:\n\n");
    for line in peer.moving {
        let _ = writeln!(text, "- {line}");
    }
    let Some(closest) = closest else { return text };
    let heads: Vec<String> = rows
        .iter()
        .map(|row| row.settings.map_or("agree".to_owned(), |(key, _)| format!("`{key}`")))
        .collect();
    let which = closest.settings.map_or(String::new(), |(key, _)| format!(" with `{key}`"));
    let _ = writeln!(
        text,
        "\n| family | {} | which runs differ{which} | the simplest of them |\n|---|{}---|---|",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for family in golden.families() {
        let cells: Vec<String> =
            rows.iter().map(|row| cell(row.report.family(&family.id))).collect();
        let difference = closest.report.family(&family.id).and_then(|own| difference(family, own));
        let (which, simplest) = difference.unwrap_or_default();
        let cells = cells.join(" | ");
        let _ = writeln!(text, "| {} | {cells} | {which} | {simplest} |", family.id);
    }
    text
}

fn cell(report: Option<&FamilyReport>) -> String {
    let Some(report) = report else { return "skipped".to_owned() };
    let agree = report.agree.len() + report.known_differences;
    let mut text = match agree + report.differ.len() {
        0 => "skipped".to_owned(),
        judged => format!("{agree} of {judged}"),
    };
    let missing = report.broken.len() + report.given_up;
    if missing > 0 {
        let _ = write!(text, ", {missing} without an answer");
    }
    text
}

/// What the differing runs have in common, and the one with the fewest arguments.
fn difference(family: &Family, report: &FamilyReport) -> Option<(String, String)> {
    let simplest = report.differ.iter().min_by_key(|(position, divergence)| {
        let trial = family.trial(*position);
        (trial.arguments.len(), divergence.step, trial.steps.len(), *position)
    });
    let (position, divergence) = simplest?;
    let failing: BTreeSet<usize> = report.differ.iter().map(|(position, _)| *position).collect();
    let judged: Vec<usize> = report.agree.iter().chain(&failing).copied().collect();
    let which = match common(family, &judged, &failing).as_str() {
        "no argument in common" => "some, with no argument in common".to_owned(),
        which => which.replace('|', "\\|"),
    };
    Some((which, described(family, *position, divergence)))
}

/// What the `failing` of the `judged` runs have in common, and the others do not have.
fn common(family: &Family, judged: &[usize], failing: &BTreeSet<usize>) -> String {
    let runs: Vec<BTreeMap<String, String>> =
        judged.iter().map(|position| properties(&family.trial(*position))).collect();
    let names: BTreeSet<&String> = runs.iter().flat_map(BTreeMap::keys).collect();
    let value = |run: &BTreeMap<String, String>, name: &String| {
        run.get(name).cloned().unwrap_or_else(|| "default".to_owned())
    };
    let feature = |name: &&String| {
        let values: BTreeSet<String> = runs.iter().map(|run| value(run, name)).collect();
        Feature { name: (*name).clone(), values: values.into_iter().collect() }
    };
    let features: Vec<Feature> = names.iter().map(feature).collect();
    let place = |run: &BTreeMap<String, String>, feature: &Feature| {
        let own = value(run, &feature.name);
        feature.values.iter().position(|value| *value == own).unwrap_or_default()
    };
    let described: Vec<Run> = judged
        .iter()
        .zip(&runs)
        .map(|(position, run)| Run {
            values: features.iter().map(|feature| place(run, feature)).collect(),
            failed: failing.contains(position),
        })
        .collect();
    describe(&features, &described)
}

fn properties(trial: &Trial<'_>) -> BTreeMap<String, String> {
    let arguments = trial.arguments.iter().map(|(name, value)| (name.clone(), shown(value)));
    let mut properties: BTreeMap<String, String> = arguments.collect();
    let mut note = |name: &str, holds: bool| {
        properties.insert(name.to_owned(), if holds { "yes" } else { "no" }.to_owned());
    };
    let missing = |step: &goldstep_conformance::golden::Step| step.gradients.contains(&None);
    note("missing gradients", trial.steps.iter().any(missing));
    note("variables of rank 3 or more", trial.variables.iter().any(|one| one.shape.len() > 2));
    note("exclusions", !trial.exclude_from_weight_decay.is_empty());
    note("assigned rates", trial.steps.iter().any(|step| step.learning_rate.is_some()));
    properties.insert("dtype".to_owned(), trial.dtype.name().to_owned());
    properties
}

/// An argument as Python would show it, a schedule by its name.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => match other.get("class_name").and_then(Value::as_str) {
            Some(name) => name.to_owned(),
            None => other.to_string(),
        },
    }
}

fn described(family: &Family, position: usize, divergence: &Divergence) -> String {
    let trial = family.trial(position);
    let step = divergence.step.map_or(String::new(), |step| format!(", step {step}"));
    let start = match (divergence.mode, divergence.step) {
        (Mode::Forced, Some(step)) if step > 1 => " from tf.keras's state",
        _ => "",
    };
    let place = format!("`{}`{step}{start}", trial.name());
    match &divergence.finding {
        Finding::Value(value) => {
            let variable = value.variable.and_then(|index| trial.variables.get(index));
            let variable = variable.map_or(String::new(), |one| format!(" of `{}`", one.name));
            let quantity = match value.quantity {
                Quantity::Variable => "a value".to_owned(),
                other => named(other),
            };
            let scale = value.expected.abs().max(value.before.map_or(0.0, f64::abs));
            let relative = (value.actual - value.expected).abs() / scale;
            let off = match relative.is_finite() {
                true => format!(
                    " ({relative:.1e} of its size; {} ulp, {} allowed)",
                    short(value.error),
                    short(value.allowance.figure())
                ),
                false => String::new(),
            };
            let [actual, expected] = apart(value.actual, value.expected);
            format!("{place}: {quantity}{variable} is {actual}, not {expected}{off}")
        }
        Finding::Shape { quantity, variable, .. } => {
            let variable = trial.variables.get(*variable).map_or("", |one| one.name.as_str());
            format!("{place}: {} of `{variable}` is missing or of another size", named(*quantity))
        }
        Finding::Accepted { expected } => {
            format!("{place}: accepts what tf.keras refuses with {}", expected.kind)
        }
        Finding::Refused { kind, message, .. } => {
            let message: String = message.replace(['|', '\n'], " ").chars().take(100).collect();
            format!("{place}: refuses with {kind}: {}", message.trim_end())
        }
    }
}

/// Two numbers with as many digits as it takes to tell them apart, and one more.
fn apart(one: f64, other: f64) -> [String; 2] {
    let with = |digits: usize| [one, other].map(|value| number(value, digits));
    let differ = |digits: &usize| {
        let [one, other] = with(*digits);
        one != other
    };
    with((3..16).find(differ).unwrap_or(16) + 1)
}

fn number(value: f64, digits: usize) -> String {
    match value.abs() {
        size if !size.is_finite() => value.to_string(),
        size if (1e-3..1e5).contains(&size) => format!("{value:.digits$}"),
        _ => format!("{value:.digits$e}"),
    }
}

fn short(value: f64) -> String {
    if value < 1e5 { format!("{value:.1}") } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_run_keeps_its_place() {
        let part = |text: &str, peer: &Peer| Part {
            rows: format!("| {} | {text} |\n", link(peer)),
            section: format!("\nwords of {text}\n\n| a | b |\n"),
        };
        let mut page = Page::default();
        assert!(page.is_empty());
        page.parts[3] = Some(part("three", &PEERS[3]));
        page.parts[0] = Some(part("zero", &PEERS[0]));
        let text = page.text();
        assert_eq!(Page::read(&text), page);
        assert_eq!(Page::read(&text).text(), text);
        let absent = text.lines().find(|line| line.starts_with("Not run: ")).unwrap();
        assert!(absent.contains(PEERS[1].name) && !absent.contains(PEERS[0].name));
        assert!(text.find("words of zero") < text.find("words of three"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(apart(0.573_951, 0.576_589), ["0.5740", "0.5766"]);
        assert_eq!(apart(-1.5e-9, -1.500_000_1e-9), ["-1.50000000e-9", "-1.50000010e-9"]);
        assert_eq!(apart(f64::NAN, 0.25), ["NaN", "0.2500"]);
        assert_eq!(short(22_133.4), "22133.4");
        assert_eq!(short(2.2e7), "2.2e7");
    }
}
