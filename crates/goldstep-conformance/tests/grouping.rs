//! Thousands of runs that differ are told apart by the arguments that they share.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use goldstep_conformance::agreement::{Mode, Quantity, Role};
use goldstep_conformance::explain::{Cause, explain};
use goldstep_conformance::golden::{ExpectedError, Golden};
use goldstep_conformance::{
    Capabilities, Description, Divergence, Failure, FamilyReport, Finding, Invocation, Report,
    Subject,
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
        Finding::Shape { quantity: Quantity::V, variable: 0, expected: 1, got: None }
    };
    Divergence { mode: Mode::Forced, step: Some(1), finding }
}

/// The causes found when exactly the combinations for which `wrong` holds differ.
fn found(family: &str, wrong: impl Fn(&Map<String, Value>, usize) -> bool) -> Vec<Cause> {
    let position = GOLDEN.families().iter().position(|one| one.id == family).unwrap();
    let family = &GOLDEN.families()[position];
    let mut report = FamilyReport {
        family: position,
        id: family.id.clone(),
        chosen: family.len(),
        ..Default::default()
    };
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
        invocation: Invocation::backend("x"),
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
    explain(&GOLDEN, &report, &mute(), None, &[])
}

/// An implementation that answers nothing: grouping does not need it.
fn mute() -> Subject {
    use goldstep_conformance::{
        BuildRequest, Implementation, StateRequest, StepRequest, StepResponse,
    };

    struct Mute(Description);
    fn nothing<T>() -> Result<T, Failure> {
        Err(Failure::Skip { reason: "mute".into() })
    }
    impl Implementation for Mute {
        fn describe(&self) -> &Description {
            &self.0
        }
        fn build(&mut self, _: &BuildRequest<'_>) -> Result<(), Failure> {
            nothing()
        }
        fn set_state(&mut self, _: &StateRequest<'_>) -> Result<(), Failure> {
            nothing()
        }
        fn step(&mut self, _: &StepRequest<'_>) -> Result<StepResponse, Failure> {
            nothing()
        }
        fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
            nothing()
        }
    }
    Subject::new("x", Role::Other, || {
        Ok(Box::new(Mute(Description {
            name: "x".into(),
            version: String::new(),
            language: String::new(),
            source: String::new(),
            capabilities: Capabilities::everything(),
        })))
    })
}

fn predicate(cause: &Cause) -> &str {
    &cause.parts[0].predicate
}

fn refused(arguments: &Map<String, Value>) -> bool {
    !arguments["clipnorm"].is_null() && !arguments["global_clipnorm"].is_null()
}

#[test]
fn single_arguments_are_found() {
    for (argument, values, expected, runs) in [
        ("weight_decay", vec![json!(0.04)], "weight_decay=0.04, none without", 13_824),
        ("use_ema", vec![json!(false)], "use_ema=False, none without", 13_824),
        (
            "ema_overwrite_frequency",
            vec![json!(2), json!(3)],
            "ema_overwrite_frequency≠None, no others",
            18_432,
        ),
        ("learning_rate", vec![json!(0.01)], "learning_rate=0.01, none without", 9_216),
    ] {
        let causes = found("grid-f32", |arguments, _| {
            !refused(arguments) && values.contains(&arguments[argument])
        });
        assert_eq!(causes.len(), 1);
        assert_eq!(predicate(&causes[0]), format!("all with {expected}"));
        assert_eq!((causes[0].parts[0].failing, causes[0].parts[0].total), (runs, 27_648));
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
    assert_eq!(
        predicate(&causes[0]),
        "all with learning_rate=ExponentialDecay, use_ema=True and ema_overwrite_frequency=2, \
         none without"
    );
    let set: Vec<&str> = causes[0].arguments.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(set, ["learning_rate", "use_ema", "ema_overwrite_frequency"]);
}

#[test]
fn alternatives_are_found() {
    let causes = found("grid-f32", |arguments, _| {
        !refused(arguments)
            && (!arguments["clipvalue"].is_null()
                || (arguments["use_ema"] == json!(true) && arguments["ema_momentum"] == json!(0.5)))
    });
    assert_eq!(causes.len(), 1);
    assert_eq!(
        predicate(&causes[0]),
        "all with clipvalue=0.3, or with use_ema=True and ema_momentum=0.5; no others"
    );
    assert_eq!(causes[0].parts[0].failing, 27_648 * 5 / 8);
}

#[test]
fn everything_needs_no_predicate() {
    let causes = found("grid-f32", |arguments, _| !refused(arguments));
    assert_eq!(causes.len(), 1);
    assert_eq!((predicate(&causes[0]), causes[0].parts[0].failing), ("all of them", 27_648));
}

#[test]
fn what_no_argument_explains_is_counted() {
    let causes = found("grid-f32", |arguments, run| {
        !refused(arguments) && !arguments["weight_decay"].is_null() && run % 7 == 3
    });
    assert_eq!(causes.len(), 1);
    let text = predicate(&causes[0]);
    assert!(text.starts_with("only with weight_decay=0.04, "), "{text}");
    assert!(text.ends_with(" of those 13,824"), "{text}");
}

#[test]
fn refusals_are_a_cause_of_their_own() {
    let causes =
        found("grid-f32", |arguments, _| refused(arguments) || arguments["use_ema"] == json!(true));
    let shown: Vec<(&str, usize)> =
        causes.iter().map(|one| (predicate(one), one.parts[0].total)).collect();
    let ema = "all with use_ema=True, none without";
    assert_eq!(shown, [(ema, 27_648), ("all of them", 9_216)]);
}

#[test]
fn a_thinned_grid_is_enough() {
    let causes = found("grid-f64", |arguments, _| {
        !refused(arguments) && arguments["epsilon_2"] == json!(0.05)
    });
    let texts: Vec<&str> = causes.iter().map(predicate).collect();
    assert_eq!(texts, ["all with epsilon_2=0.05, none without"]);
}
