//! An implementation that repeats what a case expects.

use std::path::Path;
use std::sync::{Arc, Mutex};

use goldstep_conformance::agreement::{Mode, Quantity, Role};
use goldstep_conformance::golden::{Case, Expectation, Expected};
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Divergence, Failure, Focus, Implementation, Judge,
    Known, Observations, Outcome, StateRequest, StepRequest, StepResponse,
};
use serde_json::{Value, json};

/// Of a float32.
pub(crate) const EPS: f64 = 1.0 / 8_388_608.0;

/// What a test changes in an answer: the 0-based step, whether it was forced, the answer.
pub(crate) type Tweak =
    Arc<dyn Fn(usize, bool, &mut StepResponse) -> Result<(), Failure> + Send + Sync>;

/// What a test changes in finalized variables: whether the last step was forced, the variables.
pub(crate) type Finalize = Arc<dyn Fn(bool, &mut Vec<Vec<f64>>) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Parrot {
    pub(crate) expectation: Expectation,
    pub(crate) description: Description,
    pub(crate) tweak: Tweak,
    pub(crate) construct: Option<Failure>,
    pub(crate) finalize: Finalize,
    pub(crate) step: usize,
    pub(crate) forced: bool,
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
}

impl Parrot {
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            expectation: case.expectation.clone(),
            description: Description {
                name: "parrot".to_owned(),
                version: "1".to_owned(),
                language: "Rust".to_owned(),
                source: "here".to_owned(),
                capabilities: Capabilities::everything(),
            },
            tweak: Arc::new(|_, _, _| Ok(())),
            construct: None,
            finalize: Arc::new(|_, _| {}),
            step: 0,
            forced: false,
            heard: Arc::default(),
        }
    }

    pub(crate) fn tweaked(
        case: &Case,
        tweak: impl Fn(usize, bool, &mut StepResponse) + Send + Sync + 'static,
    ) -> Self {
        let tweak = move |step: usize, forced: bool, response: &mut StepResponse| {
            tweak(step, forced, response);
            Ok(())
        };
        Self { tweak: Arc::new(tweak), ..Self::new(case) }
    }

    pub(crate) fn failing(
        case: &Case,
        tweak: impl Fn(usize) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        Self { tweak: Arc::new(move |step, _, _| tweak(step)), ..Self::new(case) }
    }

    fn hear(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

impl Implementation for Parrot {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        (self.step, self.forced) = (0, false);
        self.hear(format!("build {}", Value::Object(request.arguments.clone())));
        self.construct.clone().map_or(Ok(()), Err)
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        (self.step, self.forced) = (usize::try_from(request.iterations).unwrap(), true);
        self.hear(format!("set_state {} {:?}", request.iterations, request.variables[0]));
        let golden = self.expectation.steps[self.step - 1].as_ref().unwrap();
        for (given, golden) in [
            (request.r, &golden.r),
            (request.c, &golden.c),
            (request.v, &golden.v),
            (request.ema, &golden.ema),
        ] {
            let golden: Vec<Option<&[f64]>> = golden.iter().map(Option::as_deref).collect();
            assert_eq!(given, golden);
        }
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        let rate = request.learning_rate.map_or(String::new(), |rate| format!(" {rate}"));
        self.hear(format!("step {}{rate}", self.step + 1));
        let mut response = self.expectation.steps[self.step].as_ref().map_or_else(
            || StepResponse { iterations: self.step as u64 + 1, ..StepResponse::default() },
            answer,
        );
        (self.tweak)(self.step, self.forced, &mut response)?;
        self.step += 1;
        Ok(response)
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        self.hear("finalize".to_owned());
        let finalized = self.expectation.finalized.as_ref().unwrap();
        let mut variables = finalized.iter().map(|one| one.to_vec()).collect();
        (self.finalize)(self.forced, &mut variables);
        Ok(variables)
    }
}

pub(crate) fn answer(expected: &Expected) -> StepResponse {
    let field = |list: &[Option<Arc<[f64]>>]| {
        list.iter().map(|one| one.as_ref().map(|one| one.to_vec())).collect()
    };
    StepResponse {
        iterations: expected.iterations,
        learning_rate: expected.learning_rate,
        variables: expected.variables.iter().map(|one| one.to_vec()).collect(),
        r: field(&expected.r),
        c: field(&expected.c),
        v: field(&expected.v),
        ema: field(&expected.ema),
        intermediates: Vec::new(),
    }
}

/// Four steps of a matrix `m` and a vector `b`; `m` is 1.5 throughout but for its first element,
/// which falls from 1.5 to 0.25.
pub(crate) fn case_json() -> Value {
    let step = |iterations: u64| {
        json!({"gradients": [[1, 1], [1, 1]], "expected": {
            "iterations": iterations, "learning_rate": 0.5,
            "variables": [[0.25, 1.5], [1, 2]], "r": [[1, 1], null], "c": [[1], null],
            "v": [[1, 1], [1, 1]], "ema": null}})
    };
    json!({"format": "goldstep-case/1", "id": "a", "dtype": "float32",
        "arguments": {"learning_rate": 0.5},
        "variables": [
            {"name": "m", "shape": [2, 1], "initial": [1.5, 1.5], "constraint": null},
            {"name": "b", "shape": [2], "initial": [1, 2], "constraint": null}],
        "steps": [step(1), step(2), step(3), step(4)]})
}

pub(crate) fn case_with(change: impl FnOnce(&mut Value)) -> Case {
    let mut case = case_json();
    change(&mut case);
    Case::from_json(Path::new("a.json"), &case.to_string()).unwrap()
}

pub(crate) fn case() -> Case {
    case_with(|_| {})
}

pub(crate) fn judge_as(
    role: Role,
    case: &Case,
    mut parrot: Parrot,
    focus: &Focus,
) -> (Outcome, Observations) {
    let capabilities = parrot.description.capabilities.clone();
    let mut observations = Observations::default();
    let judge = Judge::new(role, &capabilities, focus);
    let trial = case.trial("cases");
    let outcome = judge.judge(&mut parrot, &trial, 0, &Known::none(), &mut observations);
    (outcome, observations)
}

pub(crate) fn judge(case: &Case, parrot: Parrot) -> Outcome {
    judge_as(Role::Other, case, parrot, &Focus::default()).0
}

pub(crate) fn divergence(outcome: Outcome) -> Divergence {
    match outcome {
        Outcome::Differs(divergence) => *divergence,
        other => panic!("{other:?}"),
    }
}

/// Mode, 1-based step and quantity of the first difference.
pub(crate) fn first(outcome: Outcome) -> (Mode, Option<usize>, Quantity) {
    let divergence = divergence(outcome);
    (divergence.mode, divergence.step, divergence.quantity())
}
