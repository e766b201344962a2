//! Learning rates that are assigned in mid-run, and runs of which only the end is compared.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::Path;

use goldstep_conformance::agreement::Role;
use goldstep_conformance::golden::Case;
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, Focus, Implementation, Judge, Known,
    Observations, Outcome, StateRequest, StepRequest, StepResponse,
};
use goldstep_core::{LearningRate, Stage};
use serde_json::{Value, json};

/// Does with learning rates what tf.keras does, and adds 1 to its variables in each step.
struct Rates {
    description: Description,
    rate: LearningRate,
    variables: Vec<Vec<f64>>,
    iterations: u64,
}

impl Rates {
    fn new() -> Self {
        let capabilities = Capabilities {
            schedules: vec!["ExponentialDecay".to_owned()],
            set_learning_rate: true,
            finalize: true,
            ..Capabilities::minimal("goldstep")
        };
        let description = Description::new("rates", "1", "Rust", "this test", capabilities);
        Self { description, rate: 0.5.into(), variables: Vec::new(), iterations: 0 }
    }
}

impl Implementation for Rates {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.rate = LearningRate::from_keras_config(&request.arguments["learning_rate"])?;
        self.variables = request.variables.iter().map(|one| one.initial.clone()).collect();
        self.iterations = 0;
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        self.variables = request.variables.iter().map(|values| values.to_vec()).collect();
        self.iterations = request.iterations;
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        if let Some(rate) = request.learning_rate {
            let assigned = LearningRate::from_keras_config(rate);
            let assigned = assigned.and_then(|rate| self.rate.assign(rate));
            assigned.map_err(|error| Failure::at_step(&error))?;
        }
        let learning_rate = f64::from(self.rate.at(self.iterations));
        self.iterations += 1;
        self.variables.iter_mut().flatten().for_each(|x| *x += 1.0);
        let (iterations, variables) = (self.iterations, self.variables.clone());
        Ok(StepResponse { iterations, learning_rate, variables, ..StepResponse::default() })
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        // Off by less than what a free run may be.
        Ok(self.variables.iter().map(|values| vec![values[0] * (1.0 + 2e-16)]).collect())
    }
}

fn case(rates: &[(Value, Option<f64>)]) -> Value {
    let steps: Vec<Value> = (1..)
        .zip(rates)
        .map(|(step, (assigned, used))| {
            let expected = used.map(|rate| {
                json!({"iterations": step, "learning_rate": rate, "variables": [[step]],
                    "r": [null], "c": [null], "v": [[1]], "ema": null})
            });
            json!({"learning_rate": assigned, "gradients": [[1]], "expected": expected})
        })
        .collect();
    json!({"format": "goldstep-case/1", "id": "a", "dtype": "float64",
        "arguments": {"learning_rate": 0.5}, "steps": steps,
        "variables": [{"name": "w", "shape": [1], "initial": [0]}]})
}

fn judged(case: &Value, step: Option<usize>) -> Outcome {
    let case = Case::from_json(Path::new("a.json"), &case.to_string()).unwrap();
    let mut implementation = Rates::new();
    let capabilities = implementation.describe().capabilities.clone();
    let focus = Focus { step, ..Focus::default() };
    let judge = Judge::new(Role::Other, &capabilities, &focus);
    let seen = &mut Observations::default();
    judge.judge(&mut implementation, &case.trial("rates"), 0, &Known::none(), seen)
}

fn schedule() -> Value {
    json!({"class_name": "ExponentialDecay",
        "config": {"initial_learning_rate": 0.25, "decay_steps": 1, "decay_rate": 0.5}})
}

#[test]
fn a_number_onto_a_schedule_of_an_earlier_step_is_refused_in_both_modes() {
    let (number, none) = (json!(0.5), Value::Null);
    let error = |step| json!({"stage": Stage::Step.name(), "step": step, "type": "TypeError", "message": ""});
    // Right after the schedule; after a step that is compared; after one that is not.
    for rates in [
        vec![(schedule(), Some(0.25)), (number.clone(), None)],
        vec![(none.clone(), Some(0.5)), (schedule(), Some(0.125)), (number.clone(), None)],
        vec![
            (none.clone(), Some(0.5)),
            (none.clone(), Some(0.5)),
            (schedule(), None),
            (none, Some(0.03125)),
            (number, None),
        ],
    ] {
        let mut case = case(&rates);
        case["expected_error"] = error(rates.len() - 1);
        for focus in [None, Some(rates.len())] {
            assert_eq!(judged(&case, focus), Outcome::Agrees, "{rates:?} {focus:?}");
        }
    }
}

#[test]
fn a_rate_that_was_assigned_before_still_holds_after_a_restore() {
    let none = Value::Null;
    let rates =
        [(schedule(), Some(0.25)), (none.clone(), Some(0.125)), (none.clone(), Some(0.0625))];
    assert_eq!(judged(&case(&rates), None), Outcome::Agrees);
    assert_eq!(judged(&case(&rates), Some(3)), Outcome::Agrees);
    let wrong = [(schedule(), Some(0.25)), (none.clone(), Some(0.125)), (none, Some(0.5))];
    assert!(matches!(judged(&case(&wrong), None), Outcome::Differs(_)));
}

#[test]
fn an_end_without_compared_steps_has_its_own_scale() {
    let mut case = case(&[(Value::Null, None)]);
    case["finalized"] = json!([[1]]);
    assert_eq!(judged(&case, None), Outcome::Agrees);
    case["finalized"] = json!([[1.001]]);
    assert!(matches!(judged(&case, None), Outcome::Differs(_)));
}
