//! Thousands of runs that differ are told apart by the arguments that they share.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use goldstep_conformance::agreement::{Mode, Role};
use goldstep_conformance::golden::{ExpectedError, Golden};
use goldstep_conformance::{
    Capabilities, Cause, Description, Divergence, FamilyReport, Finding, Report, causes,
};
use serde_json::{Map, Value, json};

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    Golden::load(&directory).unwrap()
});

fn divergence(refusal: bool) -> Divergence {
    let finding = if refusal {
        let expected = ExpectedError { step: None, kind: "ValueError".into(), message: "x".into() };
        Finding::Accepted { expected }
    } else {
        Finding::Shape {
            quantity: goldstep_conformance::agreement::Quantity::V,
            variable: 0,
            expected: 1,
            got: None,
        }
    };
    Divergence { mode: Mode::Forced, step: Some(1), finding }
}

/// The causes found when exactly the combinations for which `wrong` holds differ.
fn found(family: &str, wrong: impl Fn(&Map<String, Value>, usize) -> bool) -> Vec<Cause> {
    let position = GOLDEN.families().iter().position(|one| one.id == family).unwrap();
    let mut report = FamilyReport { family: position, id: family.into(), ..Default::default() };
    let family = &GOLDEN.families()[position];
    for run in 0..family.len() {
        let trial = family.trial(run);
        let refusal = trial.expectation.error.is_some();
        if wrong(&trial.arguments, run) {
            report.differ.push((run, divergence(refusal)));
        } else {
            report.agree.push(run);
        }
    }
    let report = Report {
        name: "x".into(),
        role: Role::Other,
        description: Description {
            name: "x".into(),
            version: String::new(),
            language: String::new(),
            source: String::new(),
            capabilities: Capabilities::everything(),
        },
        families: vec![report],
        stale: Vec::new(),
        incidents: Vec::new(),
        free_runs: goldstep_conformance::FreeRuns::All,
        elapsed: Duration::ZERO,
    };
    causes(&GOLDEN, &report)
}

/// `argument=values` of the predicate, joined.
fn predicate(cause: &Cause) -> String {
    let literals = cause.predicate.literals.iter().map(|literal| {
        let values: Vec<String> = literal
            .values
            .iter()
            .map(|value| if value.is_object() { "schedule".into() } else { value.to_string() })
            .collect();
        format!("{}={}", literal.argument, values.join("|"))
    });
    literals.collect::<Vec<_>>().join(" ")
}

fn refused(arguments: &Map<String, Value>) -> bool {
    !arguments["clipnorm"].is_null() && !arguments["global_clipnorm"].is_null()
}

#[test]
fn single_arguments_are_found() {
    for (argument, values, expected) in [
        ("weight_decay", vec![json!(0.04)], "weight_decay=0.04"),
        ("use_ema", vec![json!(false)], "use_ema=false"),
        ("ema_overwrite_frequency", vec![json!(2), json!(3)], "ema_overwrite_frequency=2|3"),
        ("learning_rate", vec![json!(0.01)], "learning_rate=0.01"),
    ] {
        let causes = found("grid-f32", |arguments, _| {
            !refused(arguments) && values.contains(&arguments[argument])
        });
        assert_eq!(causes.len(), 1);
        assert_eq!(predicate(&causes[0]), expected);
        assert_eq!((causes[0].of, causes[0].predicate.counterexamples), (27_648, 0));
        let share = if argument == "ema_overwrite_frequency" { 2.0 / 3.0 } else { 0.5 };
        let share = if argument == "learning_rate" { 1.0 / 3.0 } else { share };
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let runs = causes[0].runs.len() as f64;
        assert!((runs - 27_648.0 * share).abs() < 1.0);
    }
}

#[test]
fn conjunctions_are_found_and_the_simplest_run_shown() {
    let causes = found("grid-f32", |arguments, _| {
        !refused(arguments)
            && arguments["use_ema"] == json!(true)
            && arguments["ema_overwrite_frequency"] == json!(2)
            && arguments["learning_rate"].is_object()
    });
    assert_eq!(causes.len(), 1);
    let expected = "learning_rate=schedule use_ema=true ema_overwrite_frequency=2";
    assert_eq!(predicate(&causes[0]), expected);
    let family = &GOLDEN.families()[causes[0].family];
    let arguments = family.trial(causes[0].representative).arguments.into_owned();
    let default = |name: &str| match name {
        "weight_decay" | "clipnorm" | "clipvalue" | "global_clipnorm" => Value::Null,
        "relative_step" | "jit_compile" => json!(true),
        _ => arguments[name].clone(),
    };
    assert!(arguments.iter().all(|(name, value)| *value == default(name)), "{arguments:?}");
}

#[test]
fn two_causes_are_told_apart() {
    let causes = found("grid-f32", |arguments, _| {
        !refused(arguments)
            && (!arguments["clipvalue"].is_null()
                || (arguments["use_ema"] == json!(true) && arguments["ema_momentum"] == json!(0.5)))
    });
    let predicates: Vec<String> = causes.iter().map(predicate).collect();
    assert_eq!(predicates, ["clipvalue=0.3", "use_ema=true ema_momentum=0.5"]);
    let runs: usize = causes.iter().map(|cause| cause.runs.len()).sum();
    assert_eq!(runs, 27_648 * 5 / 8);
}

#[test]
fn everything_needs_no_predicate() {
    let causes = found("grid-f32", |arguments, _| !refused(arguments));
    assert_eq!(causes.len(), 1);
    assert_eq!((predicate(&causes[0]).as_str(), causes[0].runs.len()), ("", 27_648));
}

#[test]
fn what_no_argument_explains_is_said_to_have_counterexamples() {
    let causes = found("grid-f32", |arguments, run| {
        !refused(arguments) && !arguments["weight_decay"].is_null() && run % 7 == 3
    });
    let last = causes.last().unwrap();
    assert!(predicate(last).starts_with("weight_decay=0.04"), "{}", predicate(last));
    assert!(last.predicate.counterexamples > 0);
    let runs: usize = causes.iter().map(|cause| cause.runs.len()).sum();
    let all = causes.iter().flat_map(|cause| &cause.runs).collect::<std::collections::HashSet<_>>();
    assert_eq!(runs, all.len(), "no run belongs to two causes");
}

#[test]
fn refusals_are_a_cause_of_their_own() {
    let causes = found("grid-f32", |arguments, _| {
        refused(arguments) || (!refused(arguments) && arguments["use_ema"] == json!(true))
    });
    let shown: Vec<(String, usize)> = causes.iter().map(|one| (predicate(one), one.of)).collect();
    let both = "clipnorm=0.5 global_clipnorm=0.8".to_owned();
    assert_eq!(shown, [(both, 9_216 + 13_824), ("use_ema=true".to_owned(), 27_648)]);
}

#[test]
fn a_thinned_grid_is_enough() {
    let causes = found("grid-f64", |arguments, _| {
        !refused(arguments) && arguments["epsilon_2"] == json!(0.05)
    });
    assert_eq!(causes.iter().map(predicate).collect::<Vec<_>>(), ["epsilon_2=0.05"]);
}
