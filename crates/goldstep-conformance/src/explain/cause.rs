//! Failing runs gathered by cause.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::agreement::Quantity;
use crate::arguments::{default, is_default};
use crate::golden::{Case, Family, Golden, Traces, Trial};
use crate::implementation::{GradientValues, Implementation};
use crate::judge::{Divergence, Finding};
use crate::run::Report;
use crate::subject::Subject;

use super::causal::{CausalEntry, strip};
use super::diagnosis::{Diagnosis, Suspect, diagnose};
use super::predicate::{Feature, NO, Run, YES, describe};
use super::shrink::shrink;

/// Runs of a group that are looked at to name it.
const MOST_SAMPLES: usize = 64;
/// Causes beyond this number are counted, not explained.
const MOST_CAUSES: usize = 8;

/// What makes an implementation differ in some runs.
#[derive(Debug, Clone)]
pub struct Cause {
    /// Where it shows, the family with the first block first.
    pub parts: Vec<Part>,
    /// The run that shows it most simply, `family/id`.
    pub name: String,
    /// The arguments of that run that are not Keras's defaults.
    pub arguments: Vec<(String, String)>,
    /// The smallest case that still shows it.
    pub case: Case,
    /// How the implementation differs in that run.
    pub divergence: Divergence,
    /// The quantities of that step in causal order.
    pub causal: Vec<CausalEntry>,
    /// Which known mistake it looks like.
    pub diagnosis: Option<Diagnosis>,
}

/// A family in which a cause shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The family's name.
    pub family: String,
    /// Runs that differ for this cause.
    pub failing: usize,
    /// Runs that could have: those that expect numbers, or errors.
    pub total: usize,
    /// What the runs are: combinations or cases.
    pub noun: &'static str,
    /// What the failing ones have in common.
    pub predicate: String,
    /// Their positions in the family.
    pub positions: Vec<usize>,
}

/// Failing runs of one family with the same first sign.
struct Group {
    /// Into the report's families.
    family: usize,
    /// Into the family's list of differing runs.
    failing: Vec<usize>,
    sign: Sign,
    diagnosis: Option<Diagnosis>,
}

/// What differs first, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sign {
    kind: u8,
    quantity: Quantity,
}

/// Explains what differs in a report, the most frequent cause first.
///
/// `oracle` shows the intermediates that the implementation is held against, `suspects` are the
/// known mistakes.
#[must_use]
pub fn explain(
    golden: &Golden,
    report: &Report,
    subject: &Subject,
    oracle: Option<&Subject>,
    suspects: &[Suspect],
) -> Vec<Cause> {
    let Ok(mut implementation) = (subject.make)() else { return Vec::new() };
    let mut oracle = oracle.and_then(|oracle| (oracle.make)().ok());
    let mut groups = groups(report);
    for group in &mut groups {
        let family = &golden.families()[report.families[group.family].family];
        group.diagnosis = named(implementation.as_mut(), group, family, report, suspects);
    }
    let mut causes: Vec<Vec<Group>> = Vec::new();
    for group in groups {
        let same = |cause: &&mut Vec<Group>| match (&cause[0].diagnosis, &group.diagnosis) {
            (Some(one), Some(other)) => one.names.iter().any(|name| other.names.contains(name)),
            (None, None) => cause[0].sign == group.sign,
            _ => false,
        };
        match causes.iter_mut().find(same) {
            Some(cause) => cause.push(group),
            None => causes.push(vec![group]),
        }
    }
    causes.sort_by_key(|groups| {
        std::cmp::Reverse(groups.iter().map(|group| group.failing.len()).sum::<usize>())
    });
    causes.truncate(MOST_CAUSES);
    let explained = causes.into_iter().filter_map(|groups| {
        cause(golden, report, subject, implementation.as_mut(), &mut oracle, groups)
    });
    explained.collect()
}

fn groups(report: &Report) -> Vec<Group> {
    let mut groups = Vec::new();
    for (index, family) in report.families.iter().enumerate() {
        let mut by_sign: BTreeMap<Sign, Vec<usize>> = BTreeMap::new();
        for (at, (_, divergence)) in family.differ.iter().enumerate() {
            by_sign.entry(sign(divergence)).or_default().push(at);
        }
        groups.extend(by_sign.into_iter().map(|(sign, failing)| Group {
            family: index,
            failing,
            sign,
            diagnosis: None,
        }));
    }
    groups
}

fn sign(divergence: &Divergence) -> Sign {
    let kind = match divergence.finding {
        Finding::Value(_) => 0,
        Finding::Shape { .. } => 1,
        Finding::Accepted { .. } => 2,
        Finding::Refused { .. } => 3,
    };
    Sign { kind, quantity: divergence.quantity() }
}

fn named(
    implementation: &mut dyn Implementation,
    group: &Group,
    family: &Family,
    report: &Report,
    suspects: &[Suspect],
) -> Option<Diagnosis> {
    let own = &report.families[group.family];
    let failing: BTreeSet<usize> = own.differ.iter().map(|(position, _)| *position).collect();
    let refusals = group.sign.quantity == Quantity::Refusal;
    let failed = group.failing.iter().map(|at| own.differ[*at].0);
    let can = &report.description.capabilities;
    let trial = |position: usize| family.trial(position).expecting(&can.expectation);
    // What it does not do says nothing about it: it would be asked without those arguments.
    let passed = (0..family.len()).filter(|position| {
        let trial = trial(*position);
        !failing.contains(position)
            && (refusals || trial.expectation.error.is_none())
            && can.lack(&trial).is_none()
    });
    let trials = |positions: Vec<usize>| -> Vec<Trial<'_>> {
        thinned(&positions).into_iter().map(trial).collect()
    };
    let (failed, passed) = (trials(failed.collect()), trials(passed.collect()));
    diagnose(implementation, can, &failed, &passed, suspects)
}

/// At most so many, spread over the list.
fn thinned(positions: &[usize]) -> Vec<usize> {
    let step = positions.len().div_ceil(MOST_SAMPLES).max(1);
    positions.iter().step_by(step).copied().collect()
}

fn cause(
    golden: &Golden,
    report: &Report,
    subject: &Subject,
    implementation: &mut dyn Implementation,
    oracle: &mut Option<Box<dyn Implementation>>,
    groups: Vec<Group>,
) -> Option<Cause> {
    let claimed = report.description.capabilities.expectation.as_str();
    let mut by_family: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for group in &groups {
        by_family.entry(group.family).or_default().extend(&group.failing);
    }
    let mut parts = Vec::new();
    for (family, failing) in &by_family {
        let own = &report.families[*family];
        let mut positions: Vec<usize> = failing.iter().map(|at| own.differ[*at].0).collect();
        positions.sort_unstable();
        parts.push(part(&golden.families()[own.family], own.chosen, positions, claimed));
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.failing));

    let simplest = |group: &Group| {
        let own = &report.families[group.family];
        let family = &golden.families()[own.family];
        let rank = |at: &usize| {
            let (position, divergence) = &own.differ[*at];
            let trial = family.trial(*position);
            (set_arguments(&trial).len(), divergence.step, trial.steps.len(), *position, *at)
        };
        group.failing.iter().map(rank).min().map(|rank| (rank, group.family))
    };
    let first = parts.first()?.family.clone();
    let in_first = groups.iter().filter(|group| report.families[group.family].id == first);
    let ((.., at), family) = in_first.filter_map(simplest).min()?;
    let own = &report.families[family];
    let (position, divergence) = &own.differ[at];
    let trial = golden.families()[own.family].trial(*position).expecting(claimed);

    let (case, divergence) = shrink(implementation, subject.role, &trial, divergence);
    let small = case.trial(trial.family);
    let causal = strip(implementation, oracle, &small, &divergence);
    let arguments = set_arguments(&trial);
    let name = trial.name();
    let diagnosis = groups.into_iter().find_map(|group| group.diagnosis);
    Some(Cause { parts, name, arguments, causal, case, divergence, diagnosis })
}

fn part(family: &Family, chosen: usize, positions: Vec<usize>, claimed: &str) -> Part {
    let refused = |position: usize| family.trial(position).expectation_for(claimed).error.is_some();
    let refusals = positions.first().is_some_and(|position| refused(*position));
    let candidates: Vec<usize> =
        (0..family.len()).filter(|position| refused(*position) == refusals).collect();
    let failing: BTreeSet<usize> = positions.iter().copied().collect();
    let complete = chosen == family.len();
    let predicate = if complete {
        let (features, runs) = features(family, &candidates, &failing);
        describe(&features, &runs)
    } else {
        "not every run was judged".to_owned()
    };
    Part {
        family: family.id.clone(),
        failing: positions.len(),
        total: if complete { candidates.len() } else { chosen },
        noun: match family.traces {
            Traces::Grid(_) => "combinations",
            Traces::Cases(_) => "cases",
        },
        predicate,
        positions,
    }
}

/// What runs of a family differ in.
fn features(
    family: &Family,
    candidates: &[usize],
    failing: &BTreeSet<usize>,
) -> (Vec<Feature>, Vec<Run>) {
    if let Traces::Grid(grid) = &family.traces {
        let feature = |axis: &crate::golden::Axis| Feature {
            name: axis.argument.clone(),
            values: axis.values.iter().map(shown).collect(),
        };
        let run = |position: &usize| Run {
            values: grid.digits(grid.number(*position)),
            failed: failing.contains(position),
        };
        return (grid.axes().iter().map(feature).collect(), candidates.iter().map(run).collect());
    }
    let described: Vec<BTreeMap<String, String>> =
        candidates.iter().map(|position| properties(&family.trial(*position))).collect();
    let names: BTreeSet<&String> = described.iter().flat_map(BTreeMap::keys).collect();
    let mut features = Vec::new();
    let mut runs: Vec<Run> = candidates
        .iter()
        .map(|position| Run { values: Vec::new(), failed: failing.contains(position) })
        .collect();
    for name in names {
        let value = |one: &BTreeMap<String, String>| {
            one.get(name).cloned().unwrap_or_else(|| default(name).map(shown).unwrap_or_default())
        };
        let values: BTreeSet<String> = described.iter().map(value).collect();
        let values: Vec<String> = values.into_iter().collect();
        for (run, one) in runs.iter_mut().zip(&described) {
            let own = value(one);
            run.values.push(values.iter().position(|value| *value == own).unwrap_or_default());
        }
        features.push(Feature { name: name.clone(), values });
    }
    (features, runs)
}

/// What a self-contained case is like: its arguments, and what happens in it.
fn properties(trial: &Trial<'_>) -> BTreeMap<String, String> {
    let mut properties: BTreeMap<String, String> = set_arguments(trial).into_iter().collect();
    let mut note = |name: &str, holds: bool| {
        properties.insert(name.to_owned(), if holds { YES } else { NO }.to_owned());
    };
    let gradients = || trial.steps.iter().flat_map(|step| &step.gradients);
    note("missing gradients", gradients().any(Option::is_none));
    let rows = || {
        gradients().flatten().filter_map(|gradient| match gradient {
            GradientValues::Sparse { indices, .. } => Some(indices),
            GradientValues::Dense(_) => None,
        })
    };
    note("sparse gradients", rows().next().is_some());
    let repeated = |indices: &Vec<i64>| {
        let distinct: BTreeSet<&i64> = indices.iter().collect();
        distinct.len() < indices.len()
    };
    note("rows given twice", rows().any(repeated));
    note("negative indices", rows().flatten().any(|index| *index < 0));
    let shapes = || trial.variables.iter().map(|one| &one.shape);
    note("axes of length 1", shapes().any(|shape| shape.contains(&1)));
    note("axes of length 0", shapes().any(|shape| shape.contains(&0)));
    note("variables of rank 2", shapes().any(|shape| shape.len() == 2));
    note("variables of rank 3 or more", shapes().any(|shape| shape.len() > 2));
    note("several variables", trial.variables.len() > 1);
    note("constraints", trial.variables.iter().any(|one| one.constraint.is_some()));
    note("exclusions", !trial.exclude_from_weight_decay.is_empty());
    note("assigned rates", trial.steps.iter().any(|step| step.learning_rate.is_some()));
    note("more than one step", trial.steps.len() > 1);
    properties.insert("dtype".to_owned(), trial.dtype.name().to_owned());
    properties
}

/// The arguments that are not Keras's defaults, as they are shown.
fn set_arguments(trial: &Trial<'_>) -> Vec<(String, String)> {
    let set = trial.arguments.iter().filter(|(name, value)| !is_default(name, value));
    set.map(|(name, value)| (name.clone(), shown(value))).collect()
}

/// An argument as Python would show it, a schedule by its name.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(object) => {
            let name = object.get("class_name").and_then(Value::as_str);
            name.map_or_else(|| value.to_string(), str::to_owned)
        }
        other => other.to_string(),
    }
}
