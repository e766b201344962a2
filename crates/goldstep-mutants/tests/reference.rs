//! Without a mistake a mutant is the reference, bit for bit; so whatever the judge says of a mutant,
//! it says of its mistake.

use std::path::Path;

use goldstep_conformance::golden::{Golden, Trial};
use goldstep_conformance::{
    BuildRequest, Failure, Implementation, StateField, StepRequest, StepResponse,
};
use goldstep_mutants::{Mistake, Mutant};

const STATES: [StateField; 4] = [StateField::R, StateField::C, StateField::V, StateField::Ema];
/// Of every family at most so many runs, spread evenly.
const RUNS: usize = 400;

#[test]
fn without_a_mistake_it_is_the_reference() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    let golden = Golden::load(&directory).unwrap();
    let mut reference = (goldstep_reference::conformance::subject().make)().unwrap();
    let mut mutant = Mutant::new(Mistake::None);
    let mut compared = 0;
    for family in golden.families() {
        let step = (family.len() / RUNS).max(1) | 1;
        for position in (0..family.len()).step_by(step) {
            let trial = family.trial(position);
            let (expected, actual) =
                (replay(reference.as_mut(), &trial), replay(&mut mutant, &trial));
            assert_eq!(expected.len(), actual.len(), "{}", trial.name());
            for (index, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
                assert_same(expected, actual, &format!("{} step {}", trial.name(), index + 1));
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "only {compared} steps were compared");
}

fn replay(
    implementation: &mut dyn Implementation,
    trial: &Trial<'_>,
) -> Vec<Result<StepResponse, Failure>> {
    let built = implementation.build(&BuildRequest {
        dtype: trial.dtype,
        arguments: &trial.arguments,
        exclude_from_weight_decay: trial.exclude_from_weight_decay,
        variables: trial.variables,
    });
    if let Err(failure) = built {
        return vec![Err(failure)];
    }
    let mut responses = Vec::new();
    for step in trial.steps {
        let gradients: Vec<_> = step.gradients.iter().map(Option::as_ref).collect();
        let response = implementation.step(&StepRequest {
            learning_rate: step.learning_rate.as_ref(),
            gradients: &gradients,
            states: &STATES,
            intermediates: true,
        });
        let failed = response.is_err();
        responses.push(response);
        if failed {
            return responses;
        }
    }
    if trial.expectation.finalized.is_some() {
        let variables = implementation.finalize();
        responses
            .push(variables.map(|variables| StepResponse { variables, ..StepResponse::default() }));
    }
    responses
}

/// Every number, NaN as NaN.
fn assert_same(
    expected: &Result<StepResponse, Failure>,
    actual: &Result<StepResponse, Failure>,
    place: &str,
) {
    let (expected, actual) = match (expected, actual) {
        (Ok(expected), Ok(actual)) => (expected, actual),
        (expected, actual) => {
            assert_eq!(expected, actual, "{place}");
            return;
        }
    };
    // Debug prints floats with all digits and NaN as NaN.
    assert_eq!(format!("{expected:?}"), format!("{actual:?}"), "{place}");
}
