//! The judge against a parrot: an implementation that repeats what a case expects, but for what a
//! test changes. So each rule is seen to accept and to reject, on both sides of its tolerance.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper may panic")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use goldstep_conformance::agreement::{Mode, Quantity, Role};
use goldstep_conformance::golden::{Case, Expectation, Expected, Golden};
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Divergence, Failure, Finding, Focus, Implementation,
    Judge, Known, KnownDifference, Observations, Outcome, Report, Selection, StateField,
    StateRequest, StepRequest, StepResponse, Subject, run,
};
use goldstep_core::DType;
use serde_json::{Value, json};

const EPS: f64 = 1.0 / 8_388_608.0;

/// What a test changes in an answer: the 0-based step, whether it was forced, the answer.
type Tweak = Arc<dyn Fn(usize, bool, &mut StepResponse) -> Result<(), Failure> + Send + Sync>;

/// What a test changes in finalized variables: whether the last step was forced, the variables.
type Finalize = Arc<dyn Fn(bool, &mut Vec<Vec<f64>>) + Send + Sync>;

#[derive(Clone)]
struct Parrot {
    expectation: Expectation,
    description: Description,
    tweak: Tweak,
    construct: Option<Failure>,
    finalize: Finalize,
    step: usize,
    forced: bool,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Parrot {
    fn new(case: &Case) -> Self {
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

    fn tweaked(
        case: &Case,
        tweak: impl Fn(usize, bool, &mut StepResponse) + Send + Sync + 'static,
    ) -> Self {
        let tweak = move |step: usize, forced: bool, response: &mut StepResponse| {
            tweak(step, forced, response);
            Ok(())
        };
        Self { tweak: Arc::new(tweak), ..Self::new(case) }
    }

    fn failing(
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

fn answer(expected: &Expected) -> StepResponse {
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
fn case_json() -> Value {
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

fn case_with(change: impl FnOnce(&mut Value)) -> Case {
    let mut case = case_json();
    change(&mut case);
    Case::from_json(Path::new("a.json"), &case.to_string()).unwrap()
}

fn case() -> Case {
    case_with(|_| {})
}

fn judge_as(role: Role, case: &Case, mut parrot: Parrot, focus: &Focus) -> (Outcome, Observations) {
    let capabilities = parrot.description.capabilities.clone();
    let mut observations = Observations::default();
    let judge = Judge::new(role, &capabilities, focus);
    let trial = case.trial("cases");
    let outcome = judge.judge(&mut parrot, &trial, 0, &Known::none(), &mut observations);
    (outcome, observations)
}

fn judge(case: &Case, parrot: Parrot) -> Outcome {
    judge_as(Role::Other, case, parrot, &Focus::default()).0
}

fn divergence(outcome: Outcome) -> Divergence {
    match outcome {
        Outcome::Differs(divergence) => *divergence,
        other => panic!("{other:?}"),
    }
}

/// Mode, 1-based step and quantity of the first difference.
fn first(outcome: Outcome) -> (Mode, Option<usize>, Quantity) {
    let divergence = divergence(outcome);
    (divergence.mode, divergence.step, divergence.quantity())
}

#[test]
fn what_is_repeated_agrees_in_both_modes() {
    let case = case();
    let parrot = Parrot::new(&case);
    let heard = Arc::clone(&parrot.heard);
    let (outcome, observations) = judge_as(Role::Reference, &case, parrot, &Focus::default());
    assert_eq!(outcome, Outcome::Agrees);
    // Two numbers and r 2, c 1, v 2 + 2, variables 2 + 2, in four steps and two modes.
    assert_eq!(observations.compared(), 2 * 4 * 13);
    for mode in Mode::ALL {
        let worst = observations.worst(mode, Quantity::Variable).unwrap();
        assert!(worst.share() <= 0.0);
        assert!(observations.worst(mode, Quantity::Ema).is_none());
    }
    let heard = heard.lock().unwrap();
    assert_eq!(
        heard[..7],
        [
            "build {\"learning_rate\":0.5}",
            "step 1",
            // The first golden state goes into an optimizer that has seen nothing.
            "build {\"learning_rate\":0.5}",
            "set_state 1 [0.25, 1.5]",
            "step 2",
            "set_state 2 [0.25, 1.5]",
            "step 3"
        ]
    );
    assert_eq!(
        heard[9..],
        ["build {\"learning_rate\":0.5}", "step 1", "step 2", "step 3", "step 4"]
    );
}

#[test]
fn forced_variables_are_anchored_to_before_and_after() {
    let case = case();
    for (role, allowed) in [(Role::Reference, 16.0), (Role::Other, 24.0)] {
        // In step 1 the first element falls from 1.5, in step 2 it stays at 0.25.
        for (step, ulp) in [(0, EPS), (1, EPS / 4.0)] {
            for (error, agrees) in [(allowed, true), (allowed + 1.0, false)] {
                let parrot = Parrot::tweaked(&case, move |at, forced, response| {
                    if at == step && (forced || step == 0) {
                        response.variables[0][0] += error * ulp;
                    }
                });
                let focus = Focus { variable: None, step: Some(step + 1) };
                let (outcome, observations) = judge_as(role, &case, parrot, &focus);
                let worst = observations.worst(Mode::Forced, Quantity::Variable).unwrap();
                assert!((worst.error - error).abs() < 1e-6, "{worst:?}");
                if agrees && step == 1 {
                    assert_eq!(outcome, Outcome::Agrees);
                } else if !agrees {
                    let divergence = divergence(outcome);
                    assert_eq!((divergence.mode, divergence.step), (Mode::Forced, Some(step + 1)));
                    let Finding::Value(difference) = divergence.finding else { panic!() };
                    assert_eq!((difference.variable, difference.element), (Some(0), 0));
                    let before = if step == 0 { 1.5 } else { 0.25 };
                    assert_eq!(difference.before.map(f64::to_bits), Some(f64::to_bits(before)));
                }
            }
        }
    }
}

#[test]
fn factors_and_second_moments_are_relative() {
    type Pick = fn(&mut StepResponse) -> &mut f64;
    let picks: [(Quantity, Pick); 4] = [
        (Quantity::R, |response| &mut response.r[0].as_mut().unwrap()[1]),
        (Quantity::C, |response| &mut response.c[0].as_mut().unwrap()[0]),
        (Quantity::V, |response| &mut response.v[0].as_mut().unwrap()[1]),
        (Quantity::V, |response| &mut response.v[1].as_mut().unwrap()[0]),
    ];
    let case = case();
    for (quantity, pick) in picks {
        for (role, forced_only, error, agrees) in [
            (Role::Reference, true, 8.0, true),
            (Role::Reference, true, 9.0, false),
            (Role::Other, true, 16.0, true),
            (Role::Other, true, 17.0, false),
            (Role::Other, false, 24.0, true),
            (Role::Other, false, 25.0, false),
        ] {
            let parrot = Parrot::tweaked(&case, move |at, forced, response| {
                if at == 2 && forced == forced_only {
                    *pick(response) -= error * EPS;
                }
            });
            let outcome = judge_as(role, &case, parrot, &Focus::default()).0;
            if agrees {
                assert_eq!(outcome, Outcome::Agrees, "{quantity:?} {error}");
            } else {
                let mode = if forced_only { Mode::Forced } else { Mode::Free };
                assert_eq!(first(outcome), (mode, Some(3), quantity));
            }
        }
    }
}

#[test]
fn free_running_variables_are_scaled_by_the_largest_so_far() {
    let case = case();
    // At t = 4: (4 + 1) · eps · 1.5, although the element has fallen to 0.25.
    for (error, agrees) in [(5.0 * 1.5, true), (5.1 * 1.5, false)] {
        let parrot = Parrot::tweaked(&case, move |at, forced, response| {
            if at == 3 && !forced {
                response.variables[0][0] += error * EPS;
            }
        });
        let outcome = judge(&case, parrot);
        if agrees {
            assert_eq!(outcome, Outcome::Agrees);
        } else {
            assert_eq!(first(outcome), (Mode::Free, Some(4), Quantity::Variable));
        }
    }
}

#[test]
fn averages_count_for_the_scale_and_their_variable_for_the_anchor() {
    let with_ema = |frequency: Value| {
        case_with(|case| {
            case["arguments"] = json!({"use_ema": true, "ema_overwrite_frequency": frequency});
            for step in case["steps"].as_array_mut().unwrap() {
                step["expected"]["ema"] = json!([[8, 0.25], [1, 1]]);
            }
        })
    };
    let error_of = |case: &Case, wrong: Quantity, mode: Mode| {
        let parrot = Parrot::tweaked(case, move |at, _, response| {
            let field = match wrong {
                Quantity::Ema => response.ema[0].as_mut().unwrap(),
                _ => &mut response.variables[0],
            };
            if at == 1 {
                field[usize::from(wrong == Quantity::Ema)] += EPS;
            }
        });
        let observations = judge_as(Role::Other, case, parrot, &Focus::default()).1;
        observations.worst(mode, wrong).unwrap().error
    };
    let case = with_ema(Value::Null);
    // The average is 0.25 and its variable 1.5.
    assert!((error_of(&case, Quantity::Ema, Mode::Forced) - 1.0).abs() < 1e-9);
    // The variable was never larger than 1.5, its average was 8.
    assert!((error_of(&case, Quantity::Variable, Mode::Free) - 0.125).abs() < 1e-9);
    assert!((error_of(&case, Quantity::Variable, Mode::Forced) - 4.0).abs() < 1e-9);
    // Overwritten in step 2, the variable is an average of 8 and of what is not seen.
    let case = with_ema(json!(2));
    assert!((error_of(&case, Quantity::Variable, Mode::Forced) - 0.125).abs() < 1e-9);
    let case = with_ema(json!(3));
    assert!((error_of(&case, Quantity::Variable, Mode::Forced) - 4.0).abs() < 1e-9);
}

#[test]
fn counts_and_constant_rates_are_exact() {
    let case = case();
    let parrot =
        Parrot::tweaked(&case, |at, _, response| response.iterations += u64::from(at == 1));
    assert_eq!(first(judge(&case, parrot)), (Mode::Forced, Some(2), Quantity::Iterations));
    let parrot = Parrot::tweaked(&case, |at, forced, response| {
        if at == 2 && !forced {
            response.learning_rate += EPS / 2.0;
        }
    });
    assert_eq!(first(judge(&case, parrot)), (Mode::Free, Some(3), Quantity::LearningRate));
}

#[test]
fn rates_of_schedules_may_be_off_by_eight_eps() {
    let schedule = json!({"class_name": "CosineDecay", "config": {}});
    let constructed = case_with(|case| case["arguments"]["learning_rate"] = schedule.clone());
    let assigned = case_with(|case| case["steps"][0]["learning_rate"] = schedule.clone());
    for case in [constructed, assigned] {
        for (error, agrees) in [(8.0, true), (8.5, false)] {
            let parrot = Parrot::tweaked(&case, move |at, _, response| {
                response.learning_rate += if at == 3 { error * EPS / 2.0 } else { 0.0 };
            });
            assert_eq!(judge(&case, parrot) == Outcome::Agrees, agrees);
        }
    }
    let back = case_with(|case| {
        case["steps"][0]["learning_rate"] = schedule.clone();
        case["steps"][1]["learning_rate"] = json!(0.5);
    });
    let parrot = Parrot::tweaked(&back, |at, _, response| {
        response.learning_rate += if at == 3 { EPS / 2.0 } else { 0.0 };
    });
    assert_eq!(first(judge(&back, parrot)), (Mode::Forced, Some(4), Quantity::LearningRate));
}

#[test]
fn the_first_in_causal_order_is_reported_with_everything_else() {
    let case = case();
    // The variable b is wrong in v, the matrix m before it only in its values.
    let parrot = Parrot::tweaked(&case, |at, _, response| {
        if at == 1 {
            response.variables[0][0] += 1.0;
            response.variables[1][1] += 1.0;
            response.v[1].as_mut().unwrap()[1] += 1.0;
        }
    });
    let divergence = divergence(judge(&case, parrot));
    assert_eq!((divergence.step, divergence.quantity()), (Some(2), Quantity::V));
    let Finding::Value(difference) = divergence.finding else { panic!() };
    assert_eq!((difference.variable, difference.element), (Some(1), 1));
    let checks: Vec<_> =
        difference.checks.iter().map(|check| (check.quantity, check.agrees())).collect();
    assert_eq!(checks, [(Quantity::V, false), (Quantity::Variable, false)]);
}

#[test]
fn what_has_no_gradient_stays_exactly_as_it_is() {
    let untouched = |ema: Value| {
        case_with(|case| {
            for step in case["steps"].as_array_mut().unwrap() {
                step["gradients"][1] = Value::Null;
                step["expected"]["ema"] = ema.clone();
            }
        })
    };
    let case = untouched(Value::Null);
    for (at, forced_only) in [(0, None), (2, Some(true)), (2, Some(false))] {
        // Half an ulp of 1 is far within every tolerance.
        let parrot = Parrot::tweaked(&case, move |step, forced, response| {
            if step == at && forced_only.is_none_or(|only| only == forced) {
                response.variables[1][0] += EPS / 2.0;
            }
        });
        let mode = if forced_only == Some(false) { Mode::Free } else { Mode::Forced };
        let expected = (mode, Some(at + 1), Quantity::Variable);
        assert_eq!(first(judge(&case, parrot)), expected);
    }
    // In free-running mode it keeps what it had, even where that is not golden to the last bit.
    let parrot = Parrot::tweaked(&case, |_, forced, response| {
        response.v[1].as_mut().unwrap()[0] += if forced { 0.0 } else { EPS };
    });
    assert_eq!(judge(&case, parrot), Outcome::Agrees);
    // A full second moment of rank 1 is kept as it is; from rank 2 it is rebuilt.
    let parrot = Parrot::tweaked(&case, |step, forced, response| {
        response.v[1].as_mut().unwrap()[0] += if forced && step == 2 { EPS } else { 0.0 };
    });
    assert_eq!(first(judge(&case, parrot)), (Mode::Forced, Some(3), Quantity::V));
    let case = case_with(|case| case["steps"][2]["gradients"][0] = Value::Null);
    let parrot = Parrot::tweaked(&case, |step, forced, response| {
        response.v[0].as_mut().unwrap()[0] += if forced && step == 2 { EPS } else { 0.0 };
    });
    assert_eq!(judge(&case, parrot), Outcome::Agrees);
}

#[test]
fn what_keras_changes_without_a_gradient_is_no_error() {
    let case = case_with(|case| {
        case["steps"][2]["gradients"][1] = Value::Null;
        case["steps"][2]["expected"]["variables"][1] = json!([3, 2]);
    });
    assert_eq!(judge(&case, Parrot::new(&case)), Outcome::Agrees);
}

fn error(stage: &str, kind: &str) -> Failure {
    let owned = |text: &str| text.to_owned();
    Failure::Error { stage: owned(stage), kind: owned(kind), message: owned("our words") }
}

#[test]
fn refusals_are_compared_by_stage_and_type() {
    let refused_at = |stage: &str, step: Option<usize>| {
        case_with(|case| {
            case["expected_error"] = json!({"stage": stage, "type": "ValueError", "message": "x"});
            if let Some(step) = step {
                case["expected_error"]["step"] = json!(step);
            }
            for index in step.unwrap_or(0)..4 {
                case["steps"][index]["expected"] = Value::Null;
            }
        })
    };
    let constructor = refused_at("construct", None);
    let step = refused_at("step", Some(2));
    let refusing =
        |case: &Case, failure: Failure| Parrot { construct: Some(failure), ..Parrot::new(case) };
    let failing = |case: &Case, at: usize, failure: Failure| {
        Parrot::failing(case, move |step| if step == at { Err(failure.clone()) } else { Ok(()) })
    };
    let value = || error("construct", "ValueError");
    assert_eq!(judge(&constructor, refusing(&constructor, value())), Outcome::Agrees);
    assert_eq!(judge(&step, refusing(&step, value())), Outcome::Agrees);
    let late = error("step", "ValueError");
    assert_eq!(judge(&step, failing(&step, 2, late.clone())), Outcome::Agrees);

    let accepted = divergence(judge(&constructor, Parrot::new(&constructor)));
    assert!(matches!(accepted.finding, Finding::Accepted { .. }));
    let accepted = divergence(judge(&step, Parrot::new(&step)));
    assert_eq!(accepted.step, Some(3));
    assert!(matches!(accepted.finding, Finding::Accepted { .. }));
    for (case, parrot) in [
        (&constructor, refusing(&constructor, error("construct", "TypeError"))),
        (&constructor, refusing(&constructor, error("step", "ValueError"))),
        (&step, failing(&step, 2, error("step", "TypeError"))),
        (&step, failing(&step, 1, late.clone())),
        (&step, refusing(&step, error("construct", "KeyError"))),
        (&case(), failing(&case(), 3, late)),
        (&case(), refusing(&case(), value())),
    ] {
        let divergence = divergence(judge(case, parrot));
        assert!(matches!(divergence.finding, Finding::Refused { .. }), "{divergence:?}");
        assert_eq!(divergence.quantity(), Quantity::Refusal);
    }
}

#[test]
fn what_an_implementation_lacks_is_skipped() {
    type Lack = fn(&mut Capabilities);
    type Need = fn(&mut Value);
    let pairs: [(&str, Lack, Need); 10] = [
        ("dtype float32", |can| can.dtypes = vec![DType::Float64], |_| {}),
        (
            "argument clipnorm",
            |can| can.arguments.retain(|name| name != "clipnorm"),
            |case| case["arguments"]["clipnorm"] = json!(0.5),
        ),
        (
            "schedule CosineDecay",
            |can| can.schedules.clear(),
            |case| case["arguments"]["learning_rate"] = json!({"class_name": "CosineDecay"}),
        ),
        (
            "schedule CosineDecay",
            |can| can.schedules.retain(|name| name != "CosineDecay"),
            |case| case["steps"][1]["learning_rate"] = json!({"class_name": "CosineDecay"}),
        ),
        (
            "sparse",
            |can| can.sparse = false,
            |case| case["steps"][3]["gradients"][0] = json!({"indices": [0], "values": [1]}),
        ),
        ("ema", |can| can.ema = false, |case| case["arguments"]["use_ema"] = json!(true)),
        (
            "constraints",
            |can| can.constraints = false,
            |case| case["variables"][1]["constraint"] = json!({"type": "non_negative"}),
        ),
        (
            "exclude",
            |can| can.exclude = false,
            |case| case["exclude_from_weight_decay"] = json!(["b"]),
        ),
        (
            "set_learning_rate",
            |can| can.set_learning_rate = false,
            |case| case["steps"][2]["learning_rate"] = json!(0.5),
        ),
        (
            "finalize",
            |can| can.finalize = false,
            |case| case["finalized"] = json!([[0.25, 1.5], [1, 2]]),
        ),
    ];
    for (reason, lack, need) in pairs {
        let needing = case_with(need);
        let mut parrot = Parrot::new(&needing);
        assert_eq!(judge(&needing, parrot.clone()), Outcome::Agrees, "{reason}");
        lack(&mut parrot.description.capabilities);
        let skipped = Outcome::Skipped { reason: reason.to_owned() };
        assert_eq!(judge(&needing, parrot.clone()), skipped);
        if reason != "dtype float32" {
            assert_eq!(judge(&case(), parrot), Outcome::Agrees, "{reason} is not needed");
        }
    }
}

#[test]
fn defaults_that_are_not_announced_are_not_told() {
    let case = case_with(|case| case["arguments"]["clipvalue"] = Value::Null);
    let mut parrot = Parrot::new(&case);
    parrot.description.capabilities.arguments.retain(|name| name != "clipvalue");
    let heard = Arc::clone(&parrot.heard);
    assert_eq!(judge(&case, parrot), Outcome::Agrees);
    assert_eq!(heard.lock().unwrap()[0], "build {\"learning_rate\":0.5}");
}

#[test]
fn without_set_state_only_free_running_is_judged() {
    let case = case();
    let mut parrot = Parrot::tweaked(&case, |at, _, response| {
        response.v[0].as_mut().unwrap()[0] += if at == 1 { 1.0 } else { 0.0 };
    });
    parrot.description.capabilities.set_state = false;
    assert_eq!(first(judge(&case, parrot.clone())), (Mode::Free, Some(2), Quantity::V));
    parrot.description.capabilities.states.retain(|field| *field != StateField::V);
    assert_eq!(judge(&case, parrot), Outcome::Agrees, "what is not shown is not compared");
}

#[test]
fn each_state_is_compared_where_it_is_shown() {
    type Spoil = fn(&mut StepResponse);
    let spoils: [(StateField, Spoil); 4] = [
        (StateField::R, |response| response.r.clear()),
        (StateField::C, |response| response.c.clear()),
        (StateField::V, |response| response.v.clear()),
        (StateField::Ema, |response| response.ema.clear()),
    ];
    let case = case_with(|case| {
        case["arguments"] = json!({"use_ema": true});
        for step in case["steps"].as_array_mut().unwrap() {
            step["expected"]["ema"] = json!([[0.25, 0.25], [1, 1]]);
        }
    });
    for (field, spoil) in spoils {
        let mut parrot = Parrot::tweaked(&case, move |_, _, response| spoil(response));
        let shape = divergence(judge(&case, parrot.clone()));
        assert!(matches!(shape.finding, Finding::Shape { .. }), "{field:?}");
        parrot.description.capabilities.states.retain(|shown| *shown != field);
        assert_eq!(judge(&case, parrot), Outcome::Agrees, "{field:?} is not shown");
    }
}

#[test]
fn steps_without_expectation_are_neither_compared_nor_started_from() {
    let case = case_with(|case| {
        case["steps"][1]["expected"] = Value::Null;
        case["steps"][1]["learning_rate"] = json!(0.25);
        case["steps"][3]["learning_rate"] = json!(0.5);
    });
    let parrot = Parrot::new(&case);
    let heard = Arc::clone(&parrot.heard);
    assert_eq!(judge(&case, parrot), Outcome::Agrees);
    let heard = heard.lock().unwrap();
    // Forced, step 3 has no state to start from; what was assigned before step 2 holds no more.
    let build = "build {\"learning_rate\":0.5}";
    assert_eq!(heard[1..5], ["step 1", build, "set_state 3 [0.25, 1.5]", "step 4 0.5"]);
    assert_eq!(heard[6..], ["step 1", "step 2 0.25", "step 3", "step 4 0.5"]);

    let case = case_with(|case| {
        case["steps"][1]["expected"] = Value::Null;
        case["steps"][1]["learning_rate"] = json!(0.25);
    });
    let parrot = Parrot::new(&case);
    let heard = Arc::clone(&parrot.heard);
    assert_eq!(judge(&case, parrot), Outcome::Agrees);
    let message = "an assignment before a step that is not run comes with the next one";
    assert_eq!(heard.lock().unwrap()[4], "step 4 0.25", "{message}");
}

#[test]
fn finalized_variables_are_compared() {
    let case = case_with(|case| case["finalized"] = json!([[0.25, 1.5], [1, 2]]));
    let parrot = Parrot::new(&case);
    let heard = Arc::clone(&parrot.heard);
    assert_eq!(judge(&case, parrot.clone()), Outcome::Agrees);
    let tail = heard.lock().unwrap()[9..12].to_vec();
    assert_eq!(tail, ["set_state 4 [0.25, 1.5]", "finalize", "build {\"learning_rate\":0.5}"]);
    for (forced_only, mode) in [(true, Mode::Forced), (false, Mode::Free)] {
        let finalize = move |forced: bool, variables: &mut Vec<Vec<f64>>| {
            variables[1][1] += if forced == forced_only { 1.0 } else { 0.0 };
        };
        let parrot = Parrot { finalize: Arc::new(finalize), ..parrot.clone() };
        assert_eq!(first(judge(&case, parrot)), (mode, None, Quantity::Finalized));
    }
    let short = Parrot { finalize: Arc::new(|_, variables| variables.truncate(1)), ..parrot };
    assert_eq!(first(judge(&case, short)), (Mode::Forced, None, Quantity::Finalized));
}

#[test]
fn an_implementation_is_held_against_what_it_claims() {
    let case = case_with(|case| {
        let mut steps: Vec<Value> = case["steps"].as_array().unwrap().clone();
        let expected = steps.iter_mut().map(|step| {
            step["expected"]["variables"][1] = json!([7, 7]);
            step["expected"].clone()
        });
        let expected: Vec<Value> = expected.collect();
        case["expected_in"] = json!({"old": {"steps": expected}});
    });
    let mut parrot = Parrot::new(&case);
    parrot.expectation = case.expected_in["old"].clone();
    assert_eq!(first(judge(&case, parrot.clone())), (Mode::Forced, Some(1), Quantity::Variable));
    parrot.description.capabilities.expectation = "old".to_owned();
    assert_eq!(judge(&case, parrot.clone()), Outcome::Agrees);
    parrot.description.capabilities.expectation = "other".to_owned();
    assert!(matches!(judge(&case, parrot), Outcome::Differs(_)));
}

#[test]
fn tensors_have_to_be_there_in_full() {
    type Spoil = fn(&mut StepResponse);
    let spoils: [(Quantity, usize, Option<usize>, Spoil); 4] = [
        (Quantity::R, 2, None, |response| response.r[0] = None),
        (Quantity::V, 2, Some(3), |response| response.v[1].as_mut().unwrap().push(0.0)),
        (Quantity::C, 1, None, |response| response.c.clear()),
        (Quantity::Variable, 2, Some(1), |response| response.variables[1].truncate(1)),
    ];
    let case = case();
    for (quantity, expected_length, length, spoil) in spoils {
        let parrot = Parrot::tweaked(&case, move |at, _, response| {
            if at == 0 {
                spoil(response);
            }
        });
        let divergence = divergence(judge(&case, parrot));
        let Finding::Shape { quantity: wrong, expected, got, .. } = divergence.finding else {
            panic!("{divergence:?}")
        };
        assert_eq!((wrong, expected, got), (quantity, expected_length, length));
        assert_eq!(divergence.step, Some(1));
    }
}

#[test]
fn crashes_and_skips_are_outcomes_of_their_own() {
    let case = case();
    let crash = Failure::Crash { status: "signal 6".to_owned(), stderr: "ouch".to_owned() };
    let again = crash.clone();
    let parrot = Parrot::failing(&case, move |_| Err(again.clone()));
    assert_eq!(judge(&case, parrot), Outcome::Broken(crash));
    let parrot = Parrot::failing(&case, |_| Err(Failure::Skip { reason: "sparse".to_owned() }));
    assert_eq!(judge(&case, parrot), Outcome::Skipped { reason: "sparse".to_owned() });
}

#[test]
fn a_focus_looks_at_nothing_else() {
    let case = case();
    let wrong = Parrot::tweaked(&case, |at, _, response| {
        if at == 2 {
            response.variables[1][0] += 1.0;
        }
    });
    let look = |variable: Option<&str>, step: Option<usize>| {
        let focus = Focus { variable: variable.map(str::to_owned), step };
        judge_as(Role::Other, &case, wrong.clone(), &focus).0
    };
    assert_eq!(look(Some("m"), None), Outcome::Agrees);
    assert_eq!(look(None, Some(2)), Outcome::Agrees);
    assert_eq!(first(look(Some("b"), Some(3))), (Mode::Forced, Some(3), Quantity::Variable));
}

/// Cases `a` to `e`, of which the parrot gets `c` wrong in v and in the variable.
fn golden_of_cases() -> (tempfile::TempDir, Golden) {
    let directory = tempfile::tempdir().unwrap();
    for id in ["a", "b", "c", "d", "e"] {
        let mut case = case_json();
        case["id"] = json!(id);
        case["arguments"]["learning_rate"] = json!(if id == "c" { 0.75 } else { 0.5 });
        fs_write(&directory.path().join(format!("{id}.json")), &case.to_string());
    }
    let golden = Golden::load(directory.path()).unwrap();
    (directory, golden)
}

fn fs_write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// Knows by the learning rate of `build` which case it is in.
struct Forgetful(Parrot);

impl Implementation for Forgetful {
    fn describe(&self) -> &Description {
        self.0.describe()
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        let wrong = request.arguments["learning_rate"] == json!(0.75);
        self.0.tweak = Arc::new(move |_, _, response| {
            if wrong {
                response.v[1].as_mut().unwrap()[0] += 1.0;
                response.variables[1][0] += 1.0;
            }
            Ok(())
        });
        self.0.build(request)
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        self.0.set_state(request)
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        self.0.step(request)
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        self.0.finalize()
    }
}

fn known(case: Option<&str>, quantity: Quantity) -> KnownDifference {
    KnownDifference {
        family: "cases".to_owned(),
        case: case.map(str::to_owned),
        quantity,
        reason: "on purpose".to_owned(),
    }
}

fn run_forgetful(golden: &Golden, known: Vec<KnownDifference>, threads: usize) -> Report {
    let subject =
        Subject::new("forgetful", Role::Other, || Ok(Box::new(Forgetful(Parrot::new(&case())))));
    let subject = subject.with_known_differences(known);
    run(golden, &Selection::all(golden), &subject, threads, &|_| {}).unwrap()
}

#[test]
fn known_differences_must_differ() {
    let (_directory, golden) = golden_of_cases();
    let report = run_forgetful(&golden, Vec::new(), 1);
    assert_eq!(report.families[0].differ.len(), 1);
    assert!(!report.agrees());

    let both = vec![known(Some("c"), Quantity::V), known(None, Quantity::Variable)];
    let report = run_forgetful(&golden, both, 2);
    assert!(report.agrees(), "{report:?}");
    assert_eq!((report.families[0].agree.len(), report.families[0].known_differences), (4, 1));

    let half = vec![known(Some("c"), Quantity::V)];
    let report = run_forgetful(&golden, half, 1);
    assert_eq!(report.families[0].differ[0].1.quantity(), Quantity::Variable);

    let stale = known(Some("a"), Quantity::R);
    // What is about other traces is neither seen nor missed.
    let elsewhere = known(Some("not here"), Quantity::R);
    let list = vec![
        known(None, Quantity::V),
        known(Some("c"), Quantity::Variable),
        stale.clone(),
        elsewhere,
    ];
    let report = run_forgetful(&golden, list, 1);
    assert!(report.families[0].differ.is_empty());
    assert_eq!(report.stale, [stale]);
    assert!(!report.agrees());
}

#[test]
fn reports_do_not_depend_on_threads() {
    let (_directory, golden) = golden_of_cases();
    let one = run_forgetful(&golden, Vec::new(), 1);
    for threads in [2, 3, 7] {
        let many = run_forgetful(&golden, Vec::new(), threads);
        assert_eq!(many.families[0].agree, one.families[0].agree);
        assert_eq!(many.families[0].differ, one.families[0].differ);
        assert_eq!(many.families[0].observations, one.families[0].observations);
    }
    assert_eq!((one.families[0].agree.as_slice(), one.families[0].chosen), (&[0, 1, 3, 4][..], 5));
    assert_eq!((one.families[0].differ[0].0, one.judged()), (2, 5));
}

#[test]
fn a_broken_implementation_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    for id in 0..40 {
        let mut case = case_json();
        case["id"] = json!(format!("{id:02}"));
        fs_write(&directory.path().join(format!("{id}.json")), &case.to_string());
    }
    let golden = Golden::load(directory.path()).unwrap();
    let crash = || Failure::Crash { status: "1".to_owned(), stderr: String::new() };
    let make = move || -> Result<Box<dyn Implementation>, Failure> {
        Ok(Box::new(Parrot { construct: Some(crash()), ..Parrot::new(&case()) }))
    };
    let subject = Subject::new("broken", Role::Other, make);
    let done = Mutex::new(0);
    let progress = |runs| *done.lock().unwrap() += runs;
    let report = run(&golden, &Selection::all(&golden), &subject, 1, &progress).unwrap();
    let family = &report.families[0];
    assert_eq!((family.broken.len(), family.given_up), (20, 20));
    assert!(report.is_broken() && report.agrees());
    assert_eq!(*done.lock().unwrap(), 40);
}

#[test]
fn a_report_without_a_judged_run_is_broken() {
    let (_directory, golden) = golden_of_cases();
    let make = || -> Result<Box<dyn Implementation>, Failure> {
        let mut parrot = Parrot::new(&case());
        parrot.description.capabilities.dtypes.clear();
        Ok(Box::new(parrot))
    };
    let subject = Subject::new("unable", Role::Other, make);
    let report = run(&golden, &Selection::all(&golden), &subject, 1, &|_| {}).unwrap();
    assert_eq!(report.families[0].skipped["dtype float32"], 5);
    assert!(report.is_broken());
}

#[test]
fn selections_that_match_nothing_are_errors() {
    let (_directory, golden) = golden_of_cases();
    let select = |families: &[&str], cases: &[&str], variable: Option<&str>, step| {
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let focus = Focus { variable: variable.map(str::to_owned), step };
        let selection = Selection::new(&golden, &owned(families), &owned(cases), focus);
        selection.map(|selection| selection.len()).map_err(|error| error.to_string())
    };
    assert_eq!(select(&[], &[], None, None), Ok(5));
    assert_eq!(select(&["cases"], &["c", "cases/a", "a"], Some("m"), Some(4)), Ok(2));
    for (result, message) in [
        (select(&["grid"], &[], None, None), "family must be one of cases, got grid"),
        (
            select(&[], &["cases/z"], None, None),
            "case must be family/id of a run in cases, got cases/z",
        ),
        (
            select(&[], &["a"], Some("k"), None),
            "variable must occur in a chosen run, which have b, m, got k",
        ),
        (
            select(&[], &[], None, Some(5)),
            "step must be compared in a chosen run, of which the longest has 4, got 5",
        ),
        (
            select(&[], &[], None, Some(0)),
            "step must be compared in a chosen run, of which the longest has 4, got 0",
        ),
    ] {
        assert_eq!(result, Err(message.to_owned()));
    }
}
