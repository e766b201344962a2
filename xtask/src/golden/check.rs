//! Compares goldens with what tf.keras says now.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use goldstep_conformance::golden::{Family, Golden, Traces};
use serde_json::{Map, Value};

use super::difference::first_difference;

/// So many differences of a family are shown.
const MOST_SHOWN: usize = 5;

/// What came out, to be printed.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Compared runs.
    runs: usize,
    notes: Vec<String>,
    /// Everything that is missing, extra or changed.
    drift: Vec<String>,
    /// What is not listed of it.
    hidden: usize,
    /// Families that have to be recorded again.
    families: Vec<String>,
}

impl Comparison {
    pub(super) const fn agrees(&self) -> bool {
        self.drift.is_empty()
    }

    fn add(&mut self, family: &str, difference: String) {
        self.drift.push(difference);
        if !self.families.iter().any(|known| known == family) {
            self.families.push(family.to_owned());
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.drift.iter().chain(&self.notes) {
            writeln!(formatter, "{line}")?;
        }
        if self.agrees() {
            return writeln!(formatter, "{} runs recorded again, no difference", self.runs);
        }
        let families = self.families.join(",");
        writeln!(
            formatter,
            "{} differences, {} runs recorded again; `cargo xtask golden --family {families}` mends \
             them",
            self.drift.len() + self.hidden,
            self.runs,
        )
    }
}

/// Compares the traces in `directory` with those in `fresh`, which may hold fewer combinations.
pub(super) fn compare(directory: &Path, fresh: &Path, only: &[String]) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    let recorded = Golden::load(fresh)?;
    let committed = Golden::load(directory)?;
    let (mine, theirs) = (files(directory)?, files(fresh)?);
    for family in recorded.families() {
        let Some(own) = committed.families().iter().find(|own| own.id == family.id) else {
            comparison.add(&family.id, format!("missing  {}", family.id));
            continue;
        };
        let bits = same_origin(origin(&committed, own), origin(&recorded, family));
        if !bits {
            comparison.notes.push(format!(
                "{}: recorded with another wheel or on another processor, so compared within the \
                 agreement rules",
                family.id
            ));
        }
        let complete = is_complete(own, family);
        if bits && complete {
            compare_files(&mut comparison, &family.id, &mine, &theirs);
        }
        compare_runs(&mut comparison, own, family, bits, complete);
    }
    let wanted = |family: &&Family| only.is_empty() || only.contains(&family.id);
    for family in committed.families().iter().filter(|family| family.packed).filter(wanted) {
        if !recorded.families().iter().any(|other| other.id == family.id) {
            comparison.add(&family.id, format!("extra    {}", family.id));
        }
    }
    Ok(comparison)
}

/// Whether all of a family was recorded again, not a sample.
fn is_complete(own: &Family, recorded: &Family) -> bool {
    matches!(recorded.traces, Traces::Cases(_)) || own.len() == recorded.len()
}

type Files = BTreeMap<String, BTreeMap<String, String>>;

/// Family to path to sha256, from a manifest.
fn files(directory: &Path) -> Result<Files> {
    let path = directory.join("manifest.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let manifest: Value = serde_json::from_str(&text)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |file: &Value| (text(&file["path"]), text(&file["sha256"]));
    let family =
        |family: &Value| (text(&family["id"]), list(&family["files"]).iter().map(entry).collect());
    Ok(list(&manifest["families"]).iter().map(family).collect())
}

fn compare_files(comparison: &mut Comparison, family: &str, mine: &Files, theirs: &Files) {
    let empty = BTreeMap::new();
    let (mine, theirs) = (mine.get(family).unwrap_or(&empty), theirs.get(family).unwrap_or(&empty));
    for (path, sum) in theirs {
        match mine.get(path) {
            None => comparison.add(family, format!("missing  {path}")),
            Some(own) if own != sum => comparison.add(family, format!("changed  {path}")),
            Some(_) => {}
        }
    }
    for path in mine.keys().filter(|path| !theirs.contains_key(*path)) {
        comparison.add(family, format!("extra    {path}"));
    }
}

fn origin<'a>(golden: &'a Golden, family: &'a Family) -> Option<&'a Map<String, Value>> {
    family.generated.as_ref().or_else(|| golden.generated())
}

/// Whether bits must agree: the same wheel on the same family of processors.
fn same_origin(own: Option<&Map<String, Value>>, other: Option<&Map<String, Value>>) -> bool {
    let (Some(own), Some(other)) = (own, other) else { return false };
    ["wheel_sha256", "cpu"].into_iter().all(|field| match (own.get(field), other.get(field)) {
        (Some(Value::String(own)), Some(Value::String(other))) => own == other,
        _ => false,
    })
}

fn compare_runs(
    comparison: &mut Comparison,
    own: &Family,
    recorded: &Family,
    bits: bool,
    complete: bool,
) {
    let mut differences = Vec::new();
    for position in 0..recorded.len() {
        let trial = recorded.trial(position);
        comparison.runs += 1;
        let Some(known) = own.position(&trial.id) else {
            differences.push(format!("missing  {}", trial.name()));
            continue;
        };
        if let Some(difference) = first_difference(&own.trial(known), &trial, bits) {
            differences.push(format!("changed  {}: {difference}", trial.name()));
        }
    }
    if complete {
        let gone = (0..own.len()).map(|position| own.trial(position));
        let gone = gone.filter(|trial| recorded.position(&trial.id).is_none());
        differences.extend(gone.map(|trial| format!("extra    {}", trial.name())));
    }
    let hidden = differences.len().saturating_sub(MOST_SHOWN);
    for difference in differences.into_iter().take(MOST_SHOWN) {
        comparison.add(&own.id, difference);
    }
    if hidden > 0 {
        comparison.notes.push(format!("{}: {hidden} more differences are not listed", own.id));
        comparison.hidden += hidden;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_asked_of_the_same_wheel_and_processor() {
        let origin = |wheel: &str, cpu: &str| {
            let value = serde_json::json!({"wheel_sha256": wheel, "cpu": cpu, "date": wheel});
            value.as_object().cloned()
        };
        let own = origin("a", "x");
        assert!(same_origin(own.as_ref(), origin("a", "x").as_ref()));
        assert!(!same_origin(own.as_ref(), origin("b", "x").as_ref()));
        assert!(!same_origin(own.as_ref(), origin("a", "y").as_ref()));
        assert!(!same_origin(own.as_ref(), None));
        let unknown = serde_json::json!({"wheel_sha256": null, "cpu": "x"});
        assert!(!same_origin(unknown.as_object(), unknown.as_object()));
    }

    #[test]
    fn drift_names_the_command_that_mends_it() {
        let mut comparison = Comparison { runs: 3, ..Comparison::default() };
        assert_eq!(comparison.to_string(), "3 runs recorded again, no difference\n");
        comparison.add("ema", "changed  ema/cases.jsonl".to_owned());
        let said = comparison.to_string();
        assert!(said.contains("changed  ema/cases.jsonl\n"), "{said}");
        assert!(said.contains("`cargo xtask golden --family ema`"), "{said}");
    }
}
