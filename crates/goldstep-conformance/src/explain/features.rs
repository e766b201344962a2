//! What runs of a family differ in.

use std::collections::{BTreeMap, BTreeSet};

use crate::arguments::default;
use crate::golden::{Family, Traces, Trial};
use crate::implementation::GradientValues;

use super::cause::{set_arguments, shown};
use super::predicate::{Feature, NO, Run, YES};

/// The properties of the runs at `candidates`, and for each run its values.
pub(super) fn features(
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
    let mut described: Vec<BTreeMap<String, String>> =
        candidates.iter().map(|position| properties(&family.trial(*position))).collect();
    note_sizes(family, candidates, failing, &mut described);
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

/// A size that a shape has, and what it is called.
type Size = (&'static str, fn(&[usize]) -> usize);

/// Notes which runs have sizes as large as all failing ones have.
fn note_sizes(
    family: &Family,
    candidates: &[usize],
    failing: &BTreeSet<usize>,
    described: &mut [BTreeMap<String, String>],
) {
    /// Below this it is not the size that matters.
    const LEAST: usize = 5;
    let sizes: [Size; 4] = [
        ("elements of a variable", |shape| shape.iter().product()),
        ("last axis", |shape| shape.last().copied().unwrap_or(1)),
        ("last axis but one", |shape| shape.iter().rev().nth(1).copied().unwrap_or(1)),
        ("matrices of a variable", |shape| shape.iter().rev().skip(2).product()),
    ];
    for (name, size) in sizes {
        let largest = |position: usize| {
            let trial = family.trial(position);
            trial.variables.iter().map(|one| size(&one.shape)).max().unwrap_or_default()
        };
        let least = failing.iter().map(|position| largest(*position)).min().unwrap_or_default();
        if least < LEAST {
            continue;
        }
        let name = format!("{name}≥{least}");
        for (position, properties) in candidates.iter().zip(&mut *described) {
            let holds = if largest(*position) >= least { YES } else { NO };
            properties.insert(name.clone(), holds.to_owned());
        }
    }
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
