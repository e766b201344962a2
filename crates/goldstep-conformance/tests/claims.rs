//! An implementation that claims another expectation than the project's is explained with that one.

use goldstep_conformance::agreement::Role;
use goldstep_conformance::explain::explain;
use goldstep_conformance::golden::Golden;
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, Finding, Implementation, Selection,
    StateRequest, StepRequest, StepResponse, Subject, run,
};
use serde_json::json;

/// Never moves a variable, and claims to do what `other` does.
struct Still {
    description: Description,
    variables: Vec<Vec<f64>>,
    iterations: u64,
}

impl Still {
    fn new() -> Self {
        let capabilities = Capabilities::minimal("other");
        let description = Description::new("still", "1", "Rust", "this test", capabilities);
        Self { description, variables: Vec::new(), iterations: 0 }
    }
}

impl Implementation for Still {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.variables = request.variables.iter().map(|one| one.initial.clone()).collect();
        self.iterations = 0;
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        self.variables = request.variables.iter().map(|values| values.to_vec()).collect();
        self.iterations = request.iterations;
        Ok(())
    }

    fn step(&mut self, _request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        self.iterations += 1;
        let learning_rate = f64::from(0.001_f32);
        let (iterations, variables) = (self.iterations, self.variables.clone());
        Ok(StepResponse { iterations, learning_rate, variables, ..StepResponse::default() })
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        Ok(self.variables.clone())
    }
}

#[test]
fn a_failure_is_shown_against_what_was_claimed() {
    let expected = |value: f64| {
        json!({"iterations": 1, "learning_rate": 0.001, "variables": [[value]], "r": [null],
            "c": [null], "v": [[1]], "ema": null})
    };
    let case = json!({"format": "goldstep-case/1", "id": "a", "dtype": "float64", "arguments": {},
        "variables": [{"name": "w", "shape": [1], "initial": [1], "constraint": null}],
        "steps": [{"gradients": [[0.5]], "expected": expected(0.25)}],
        "expected_in": {"other": {"steps": [expected(0.75)]}}});
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.json"), case.to_string()).unwrap();
    let golden = Golden::load(directory.path()).unwrap();
    let subject = Subject::new("still", Role::Other, || Ok(Box::new(Still::new())));
    let report = run(&golden, &Selection::all(&golden), &subject, 1, &|_| {}).unwrap();
    let causes = explain(&golden, &report, &subject, None, &[]);
    let Finding::Value(difference) = &causes[0].divergence.finding else { unreachable!() };
    assert_eq!((difference.expected, difference.actual), (0.75, 1.0));
    assert_eq!(*causes[0].case.expectation.steps[0].as_ref().unwrap().variables[0], [0.75]);
}

#[test]
fn a_named_expectation_has_records_alone_or_as_steps_have_them() {
    let record = json!({"iterations": 1, "learning_rate": 0.001, "variables": [[0.5]],
        "r": [null], "c": [null], "v": [[1]], "ema": null});
    let directory = tempfile::tempdir().unwrap();
    let forms =
        [record.clone(), json!({"expected": record}), json!({"expected": null}), json!(null)];
    for (number, form) in forms.iter().enumerate() {
        let case = json!({"format": "goldstep-case/1", "id": number.to_string(), "flags": null,
            "dtype": "float64", "arguments": {},
            "variables": [{"name": "w", "shape": [1], "initial": [1], "constraint": null}],
            "steps": [{"gradients": [[0.5]], "expected": record}],
            "expected_in": {"other": {"steps": [form]}}});
        let file = directory.path().join(format!("{number}.json"));
        std::fs::write(file, case.to_string()).unwrap();
    }
    let golden = Golden::load(directory.path()).unwrap();
    let compared: Vec<bool> = (0..forms.len())
        .map(|run| golden.families()[0].trial(run).expectation_for("other").steps[0].is_some())
        .collect();
    assert_eq!(compared, [true, true, false, false]);
}
