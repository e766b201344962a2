//! The smallest case that still fails.

use crate::agreement::Role;
use crate::golden::{Case, Expectation, Expected, Step, Trial};
use crate::implementation::{Implementation, Variable};
use crate::judge::{Divergence, Focus, Judge, Outcome};
use crate::known::Known;
use crate::observed::Observations;

/// The trial as a case of its own, with some of its variables and its first steps.
///
/// What is expected of a variable does not depend on the others unless gradients are clipped by
/// their global norm: with `global_clipnorm` keep all of them.
#[must_use]
pub fn restricted(trial: &Trial<'_>, variables: &[usize], steps: usize) -> Case {
    fn pick<T: Clone>(list: &[T], variables: &[usize]) -> Vec<T> {
        variables.iter().filter_map(|index| list.get(*index).cloned()).collect()
    }
    let step = |step: &Step| Step {
        learning_rate: step.learning_rate.clone(),
        gradients: pick(&step.gradients, variables),
    };
    let expected = |expected: &Option<Expected>| {
        expected.as_ref().map(|expected| Expected {
            variables: pick(&expected.variables, variables),
            r: pick(&expected.r, variables),
            c: pick(&expected.c, variables),
            v: pick(&expected.v, variables),
            ema: pick(&expected.ema, variables),
            ..expected.clone()
        })
    };
    let whole = trial.expectation;
    let complete = steps >= trial.steps.len();
    let finalized = whole.finalized.as_ref().filter(|_| complete);
    Case {
        id: trial.id.to_string(),
        family: Some(trial.family.to_owned()),
        comment: None,
        flags: Vec::new(),
        source: None,
        dtype: trial.dtype,
        arguments: trial.arguments.clone().into_owned(),
        exclude_from_weight_decay: trial.exclude_from_weight_decay.to_vec(),
        variables: pick(trial.variables, variables),
        steps: trial.steps.iter().take(steps).map(step).collect(),
        expectation: Expectation {
            steps: whole.steps.iter().take(steps).map(expected).collect(),
            finalized: finalized.map(|list| pick(list, variables)),
            error: whole.error.clone().filter(|error| error.step.is_none_or(|step| step < steps)),
        },
        expected_in: std::collections::BTreeMap::new(),
    }
}

/// Whether each of the first steps that has a gradient still has one with these variables alone:
/// without any it is refused, and rightly.
pub(super) fn keeps_gradients(trial: &Trial<'_>, steps: usize, variables: &[usize]) -> bool {
    trial.steps.iter().take(steps).all(|step| {
        let kept =
            variables.iter().any(|index| matches!(step.gradients.get(*index), Some(Some(_))));
        kept || step.gradients.iter().all(Option::is_none)
    })
}

/// The case with the fewest steps and variables that still differs, and how it differs.
pub(super) fn shrink(
    implementation: &mut dyn Implementation,
    role: Role,
    trial: &Trial<'_>,
    found: &Divergence,
) -> (Case, Divergence) {
    let all: Vec<usize> = (0..trial.variables.len()).collect();
    let steps = found.step.unwrap_or(trial.steps.len());
    let mut best = (restricted(trial, &all, trial.steps.len()), found.clone());
    let mut fails = |case: Case, best: &mut (Case, Divergence)| {
        let differs = judge(implementation, role, &case);
        // Another mistake is not a smaller form of this one.
        let same = differs.filter(|differs| differs.quantity() == found.quantity());
        let smaller = same.is_some();
        if let Some(divergence) = same {
            *best = (case, divergence);
        }
        smaller
    };
    fails(restricted(trial, &all, steps), &mut best);
    let steps = best.0.steps.len();
    let gradients = |variables: &[usize]| keeps_gradients(trial, steps, variables);
    let coupled = trial.arguments.get("global_clipnorm").is_some_and(|value| !value.is_null());
    if coupled {
        return best;
    }
    let mut by_size = all.clone();
    by_size.sort_by_key(|index| {
        let Variable { shape, initial, .. } = &trial.variables[*index];
        // A mean over an axis of one element shows little.
        (shape.iter().any(|length| *length < 2), initial.len())
    });
    for index in &by_size {
        if gradients(&[*index]) && fails(restricted(trial, &[*index], steps), &mut best) {
            // The step may be reached sooner without the others.
            let sooner = best.1.step.unwrap_or(steps);
            fails(restricted(trial, &[*index], sooner), &mut best);
            return best;
        }
    }
    let mut kept = all;
    for index in by_size.into_iter().rev() {
        let fewer: Vec<usize> = kept.iter().copied().filter(|one| *one != index).collect();
        if !fewer.is_empty()
            && gradients(&fewer)
            && fails(restricted(trial, &fewer, steps), &mut best)
        {
            kept = fewer;
        }
    }
    best
}

fn judge(implementation: &mut dyn Implementation, role: Role, case: &Case) -> Option<Divergence> {
    let capabilities = implementation.describe().capabilities.clone();
    let focus = Focus::default();
    let judge = Judge::new(role, &capabilities, &focus);
    let trial = case.trial(case.family.as_deref().unwrap_or_default());
    let mut seen = Observations::default();
    match judge.judge(implementation, &trial, 0, &Known::none(), &mut seen) {
        Outcome::Differs(divergence) => Some(*divergence),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn no_step_loses_its_last_gradient() {
        let json = r#"{"format": "goldstep-case/1", "id": "a", "dtype": "float32", "arguments": {},
            "variables": [{"name": "x", "shape": [1], "initial": [1]},
                {"name": "y", "shape": [1], "initial": [1]}],
            "steps": [{"gradients": [[1], [1]]}, {"gradients": [[1], null]}]}"#;
        let case = Case::from_json(Path::new("a.json"), json).unwrap();
        let keeps =
            |steps, variables: &[usize]| keeps_gradients(&case.trial("f"), steps, variables);
        assert!(keeps(2, &[0]) && keeps(2, &[0, 1]) && keeps(1, &[1]));
        assert!(!keeps(2, &[1]) && !keeps(1, &[]));
        let refused = json.replace("[[1], [1]]", "[null, null]");
        let refused = Case::from_json(Path::new("a.json"), &refused).unwrap();
        assert!(keeps_gradients(&refused.trial("f"), 1, &[1]));
    }
}
