//! Failing runs gathered by cause.

use std::collections::{BTreeMap, BTreeSet};

use goldstep_core::DType;
use serde_json::Value;

use crate::agreement::Quantity;
use crate::arguments::is_default;
use crate::golden::{Case, Family, Golden, Traces, Trial};
use crate::implementation::Implementation;
use crate::judge::{Divergence, Finding};
use crate::run::Report;
use crate::subject::Subject;

use super::causal::{CausalEntry, strip};
use super::diagnosis::{Diagnosis, Examiner, Suspect};
use super::features::features;
use super::look::Look;
use super::predicate::describe;
use super::shrink::shrink;

/// Elements of a variable that a person still reads.
const READABLE: usize = 64;
/// The kind of a sign: a number that differs.
const VALUE: u8 = 0;
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
    /// Whether the known mistakes were tried at all: not where every run that differs is too large.
    pub compared: bool,
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
pub(super) struct Group {
    /// Into the report's families.
    pub(super) family: usize,
    /// Into the family's list of differing runs.
    pub(super) failing: Vec<usize>,
    pub(super) sign: Sign,
    diagnosis: Option<Diagnosis>,
    compared: bool,
}

/// What differs first, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sign {
    kind: u8,
    pub(super) quantity: Quantity,
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
    let mut examiner = Examiner::new(suspects);
    let mut causes: Vec<Vec<Group>> = Vec::new();
    for mut group in groups(report) {
        let family = &golden.families()[report.families[group.family].family];
        let diagnosed = causes.iter().filter_map(|cause| cause[0].diagnosis.clone()).collect();
        let look = Look { group: &group, family, report };
        examiner.compared = suspects.is_empty();
        let found = look.named(&mut examiner, implementation.as_mut(), diagnosed);
        group.compared = examiner.compared;
        let same = |cause: &&mut Vec<Group>| match (&cause[0].diagnosis, &found) {
            (Some(one), Some(other)) => one.names.iter().any(|name| other.names.contains(name)),
            (None, None) => cause[0].sign == group.sign,
            _ => false,
        };
        match causes.iter_mut().find(same) {
            Some(cause) => {
                if let (Some(first), Some(found)) = (&mut cause[0].diagnosis, found) {
                    first.join(found);
                }
                cause.push(group);
            }
            None => {
                group.diagnosis = found;
                causes.push(vec![group]);
            }
        }
    }
    causes.sort_by_key(|groups| {
        std::cmp::Reverse(groups.iter().map(|group| group.failing.len()).sum::<usize>())
    });
    let mut causes = joined(golden, report, causes);
    causes.truncate(MOST_CAUSES);
    let explained = causes.into_iter().filter_map(|groups| {
        cause(golden, report, subject, implementation.as_mut(), &mut oracle, groups)
    });
    explained.collect()
}

/// Where no known mistake tells causes apart, numbers that differ under no other arguments than
/// those of a more frequent cause are taken for the same one: it spoils another quantity first
/// where it is small, as in halves.
fn joined(golden: &Golden, report: &Report, causes: Vec<Vec<Group>>) -> Vec<Vec<Group>> {
    let is_open = |groups: &[Group]| {
        groups.iter().all(|group| group.diagnosis.is_none() && group.sign.kind == VALUE)
    };
    let mut kept: Vec<(BTreeSet<String>, Vec<Group>)> = Vec::new();
    for groups in causes {
        let common = common_arguments(golden, report, &groups);
        let same = |(other, more): &&mut (BTreeSet<String>, Vec<Group>)| {
            is_open(more) && is_open(&groups) && other.is_subset(&common)
        };
        match kept.iter_mut().find(same) {
            Some((_, more)) => more.extend(groups),
            None => kept.push((common, groups)),
        }
    }
    kept.into_iter().map(|(_, groups)| groups).collect()
}

/// The arguments that are not Keras's defaults in any run of these groups.
fn common_arguments(golden: &Golden, report: &Report, groups: &[Group]) -> BTreeSet<String> {
    let runs = groups.iter().flat_map(|group| {
        let own = &report.families[group.family];
        let family = &golden.families()[own.family];
        group.failing.iter().map(|at| family.trial(own.differ[*at].0))
    });
    let names = |trial: Trial<'_>| -> BTreeSet<String> {
        set_arguments(&trial).into_iter().map(|(name, _)| name).collect()
    };
    runs.map(names).reduce(|one, other| &one & &other).unwrap_or_default()
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
            compared: false,
        }));
    }
    groups
}

fn sign(divergence: &Divergence) -> Sign {
    let kind = match divergence.finding {
        Finding::Value(_) => VALUE,
        Finding::Shape { .. } => 1,
        Finding::Accepted { .. } => 2,
        Finding::Refused { .. } => 3,
    };
    Sign { kind, quantity: divergence.quantity() }
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

    let first = parts.first()?.family.clone();
    let simplest = |group: &Group| {
        let own = &report.families[group.family];
        let family = &golden.families()[own.family];
        let rank = |at: &usize| {
            let (position, divergence) = &own.differ[*at];
            let trial = family.trial(*position);
            let elements = differing_elements(&trial, divergence);
            Rank {
                large: elements > READABLE,
                extreme: !is_finite(divergence),
                elsewhere: own.id != first,
                arguments: set_arguments(&trial).len(),
                half: matches!(trial.dtype, DType::Bfloat16 | DType::Float16),
                step: divergence.step,
                work: elements * trial.steps.len(),
                place: (group.family, *at),
            }
        };
        group.failing.iter().map(rank).min()
    };
    let (family, at) = groups.iter().filter_map(simplest).min()?.place;
    let own = &report.families[family];
    let (position, divergence) = &own.differ[at];
    let trial = golden.families()[own.family].trial(*position).expecting(claimed);

    let (case, divergence) = shrink(implementation, subject.role, &trial, divergence);
    let small = case.trial(trial.family);
    let causal = strip(implementation, oracle, &small, &divergence);
    let arguments = set_arguments(&trial);
    let name = trial.name();
    let compared = groups.iter().any(|group| group.compared);
    let diagnosis = groups.into_iter().find_map(|group| group.diagnosis);
    Some(Cause { parts, name, arguments, causal, case, divergence, diagnosis, compared })
}

/// By what the run is chosen that stands for all: small enough to be read, without NaN and
/// infinities, of the family with the most of them, with the fewest arguments, in precise numbers,
/// early and cheap.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    large: bool,
    extreme: bool,
    elsewhere: bool,
    arguments: usize,
    half: bool,
    step: Option<usize>,
    work: usize,
    place: (usize, usize),
}

/// Whether expected and actual value are.
fn is_finite(divergence: &Divergence) -> bool {
    match &divergence.finding {
        Finding::Value(value) => value.expected.is_finite() && value.actual.is_finite(),
        _ => true,
    }
}

/// Elements of the variable that differs, or of all.
fn differing_elements(trial: &Trial<'_>, divergence: &Divergence) -> usize {
    match divergence.variable().and_then(|variable| trial.variables.get(variable)) {
        Some(variable) => variable.initial.len(),
        None => trial.variables.iter().map(|variable| variable.initial.len()).sum(),
    }
}

/// What the runs at these positions of a family are, and what they have in common.
pub(crate) fn part(family: &Family, chosen: usize, positions: Vec<usize>, claimed: &str) -> Part {
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

/// The arguments that are not Keras's defaults, as they are shown.
pub(super) fn set_arguments(trial: &Trial<'_>) -> Vec<(String, String)> {
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
