//! Refusals, skips, crashes, and what an implementation cannot do or does not show.

use std::sync::Arc;

use goldstep_conformance::agreement::{Mode, Quantity};
use goldstep_conformance::golden::Case;
use goldstep_conformance::{Capabilities, Failure, Finding, Outcome, StateField, StepResponse};
use goldstep_core::DType;
use serde_json::{Value, json};

use crate::parrot::{Parrot, case, case_with, divergence, first, judge};

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
        (
            "ema",
            |can| can.ema = false,
            |case| {
                case["arguments"]["use_ema"] = json!(true);
                for step in case["steps"].as_array_mut().unwrap() {
                    step["expected"]["ema"] = json!([[1, 1], [1, 1]]);
                }
            },
        ),
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
        assert_eq!(judge(&needing, parrot), skipped);
        if reason != "dtype float32" {
            let mut parrot = Parrot::new(&case());
            lack(&mut parrot.description.capabilities);
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
fn a_refusal_is_expected_from_the_golden_state_too() {
    let case = case_with(|case| {
        case["expected_error"] =
            json!({"stage": "step", "step": 2, "type": "ValueError", "message": "x"});
        case["steps"][2]["expected"] = Value::Null;
        case["steps"][3]["expected"] = Value::Null;
    });
    // Right from the start, wrong where the run before is what tf.keras had.
    let refuses_when_free = |step: usize, forced: bool, _: &mut StepResponse| match step {
        2 if !forced => Err(error("step", "ValueError")),
        _ => Ok(()),
    };
    let parrot = Parrot { tweak: Arc::new(refuses_when_free), ..Parrot::new(&case) };
    let divergence = divergence(judge(&case, parrot));
    assert_eq!((divergence.mode, divergence.step), (Mode::Forced, Some(3)));
    assert!(matches!(divergence.finding, Finding::Accepted { .. }));
}
