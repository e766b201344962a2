//! Which numbers agree, and which difference is named first.

use std::sync::Arc;

use goldstep_conformance::agreement::{Mode, Quantity, Role};
use goldstep_conformance::golden::Case;
use goldstep_conformance::{Finding, Focus, Outcome, StateField, StepResponse};
use serde_json::{Value, json};

use crate::parrot::{EPS, Parrot, case, case_with, divergence, first, judge, judge_as};

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

/// A rate is a float32, and a decimal stands for the nearest one, as in a tensor.
#[test]
fn a_rate_is_rounded_to_float32() {
    let case = case_with(|case| {
        for step in case["steps"].as_array_mut().unwrap() {
            if let Some(expected) = step.get_mut("expected") {
                expected["learning_rate"] = json!(0.9_f32);
            }
        }
    });
    for (rate, agrees) in [(0.9, true), (0.9 - 0.8 * EPS, false)] {
        let parrot = Parrot::tweaked(&case, move |_, _, response| response.learning_rate = rate);
        assert_eq!(judge(&case, parrot) == Outcome::Agrees, agrees);
    }
}

#[test]
fn rates_of_schedules_may_be_off_by_eight_eps() {
    let schedule = json!({"class_name": "CosineDecay", "config": {}});
    let constructed = case_with(|case| case["arguments"]["learning_rate"] = schedule.clone());
    let assigned = case_with(|case| case["steps"][0]["learning_rate"] = schedule.clone());
    for case in [constructed, assigned] {
        for (error, agrees) in [(8.0, true), (9.0, false)] {
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
    // The first step of an implementation that cannot be forced.
    let mut parrot = Parrot::tweaked(&case, |step, _, response| {
        response.variables[1][0] += if step == 0 { EPS / 2.0 } else { 0.0 };
    });
    parrot.description.capabilities.set_state = false;
    assert_eq!(first(judge(&case, parrot)), (Mode::Free, Some(1), Quantity::Variable));
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

#[test]
fn a_matrix_without_a_gradient_stays_but_its_second_moment_is_rebuilt() {
    let case = case_with(|case| {
        for step in case["steps"].as_array_mut().unwrap() {
            step["gradients"][0] = Value::Null;
            step["expected"]["variables"][0] = json!([1.5, 1.5]);
        }
    });
    let moved = Parrot::tweaked(&case, |at, forced, response| {
        response.variables[0][0] += if at == 2 && forced { EPS } else { 0.0 };
    });
    assert_eq!(first(judge(&case, moved)), (Mode::Forced, Some(3), Quantity::Variable));
    let rebuilt = Parrot::tweaked(&case, |at, forced, response| {
        response.v[0].as_mut().unwrap()[0] += if at == 2 && forced { EPS } else { 0.0 };
    });
    assert_eq!(judge(&case, rebuilt), Outcome::Agrees);
}

#[test]
fn the_worst_error_is_noted_with_its_step() {
    let case = case();
    let parrot = Parrot::tweaked(&case, |at, _, response| {
        response.v[1].as_mut().unwrap()[0] += if at == 2 { 2.0 * EPS } else { 0.0 };
    });
    let (outcome, observations) = judge_as(Role::Reference, &case, parrot, &Focus::default());
    assert_eq!(outcome, Outcome::Agrees);
    for mode in Mode::ALL {
        let worst = observations.worst(mode, Quantity::V).unwrap();
        assert_eq!((worst.step, worst.variable), (3, Some(1)));
        assert!((worst.error - 2.0).abs() < 1e-6, "{worst:?}");
    }
}

#[test]
fn decay_that_multiplies_enlarges_the_scale() {
    let decaying = |excluded: Value| {
        case_with(|case| {
            case["arguments"] = json!({"learning_rate": 0.5, "weight_decay": 10});
            case["exclude_from_weight_decay"] = excluded;
        })
    };
    let free_error = |case: &Case| {
        let parrot = Parrot::tweaked(case, |at, forced, response| {
            if at == 3 && !forced {
                response.variables[0][0] += 384.0 * EPS;
            }
        });
        let observations = judge_as(Role::Other, case, parrot, &Focus::default()).1;
        observations.worst(Mode::Free, Quantity::Variable).unwrap().error
    };
    // x − 10 · 0.5 · x multiplies by 4 in each of four steps: 1.5 · 4⁴ = 384.
    assert!((free_error(&decaying(json!([]))) - 1.0).abs() < 1e-9);
    assert!((free_error(&decaying(json!(["b"]))) - 256.0).abs() < 1e-9);
}

#[test]
fn finalized_variables_are_looked_at_one_by_one() {
    let case = case_with(|case| case["finalized"] = json!([[0.25, 1.5], [1, 2]]));
    for (wrong, name, agrees) in [(0, "m", false), (0, "b", true), (1, "b", false), (1, "m", true)]
    {
        let mut parrot = Parrot::new(&case);
        parrot.finalize = Arc::new(move |_, variables| variables[wrong][0] += 1.0);
        let focus = Focus { variable: Some(name.to_owned()), step: None };
        let outcome = judge_as(Role::Other, &case, parrot, &focus).0;
        if agrees {
            assert_eq!(outcome, Outcome::Agrees, "{wrong} {name}");
        } else {
            assert_eq!(first(outcome), (Mode::Forced, None, Quantity::Finalized));
        }
    }
}
