//! Whole runs over a golden directory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goldstep_conformance::agreement::{Quantity, Role};
use goldstep_conformance::golden::Golden;
use goldstep_conformance::{
    BuildRequest, Description, Failure, Focus, Implementation, KnownDifference, Outcome, Report,
    Selection, StateRequest, StepRequest, StepResponse, Subject, Watch, run,
};
use serde_json::{Value, json};

use crate::parrot::{Parrot, case, case_json, case_with, judge_as};

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

    // Neither the family alone nor the run's name alone is enough.
    let elsewhere = KnownDifference { family: "other".to_owned(), ..known(Some("c"), Quantity::V) };
    let another = known(Some("d"), Quantity::V);
    for other in [elsewhere, another] {
        let report = run_forgetful(&golden, vec![other], 1);
        assert_eq!(report.families[0].differ[0].1.quantity(), Quantity::V);
    }

    let half = vec![known(Some("c"), Quantity::V)];
    let report = run_forgetful(&golden, half, 1);
    assert_eq!(report.families[0].differ[0].1.quantity(), Quantity::Variable);

    assert!(known(None, Quantity::R).names_a_run_of(&golden));
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

    // Of one run: what was seen is told apart by its quantity.
    let beside = known(Some("c"), Quantity::R);
    let list =
        vec![known(Some("c"), Quantity::V), known(Some("c"), Quantity::Variable), beside.clone()];
    assert_eq!(run_forgetful(&golden, list, 1).stale, [beside]);

    // Run c ends before its average is compared, and says nothing of it; run a agrees.
    for (case, stale) in [(Some("c"), 0), (None, 0), (Some("a"), 1)] {
        let list = vec![known(Some("c"), Quantity::V), known(case, Quantity::Ema)];
        assert_eq!(run_forgetful(&golden, list, 1).stale.len(), stale, "{case:?}");
    }
}

/// What was not tried is not known to agree.
#[test]
fn a_known_difference_that_was_not_tried_is_not_stale() {
    let (_directory, golden) = golden_of_cases();
    let crash = || Failure::Crash { status: "1".to_owned(), stderr: String::new() };
    for failure in [Failure::Skip { reason: "sleep".to_owned() }, crash()] {
        let make = move || -> Result<Box<dyn Implementation>, Failure> {
            Ok(Box::new(Parrot { construct: Some(failure.clone()), ..Parrot::new(&case()) }))
        };
        let subject = Subject::new("absent", Role::Other, make);
        let subject = subject.with_known_differences(vec![known(Some("a"), Quantity::V)]);
        let report = run(&golden, &Selection::all(&golden), &subject, 1, &|_| {}).unwrap();
        assert_eq!(report.stale, []);
    }
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

/// Skipped is not passed, and neither is what compares nothing.
#[test]
fn a_run_with_nothing_to_compare_is_skipped() {
    let bare = case_with(|case| {
        for step in case["steps"].as_array_mut().unwrap() {
            step["expected"] = Value::Null;
        }
    });
    let whole = case();
    let step = |step| Focus { step: Some(step), ..Focus::default() };
    let variable = Focus { variable: Some("n".to_owned()), ..Focus::default() };
    for (case, focus, needs) in [
        (&bare, Focus::default(), "an expected value"),
        (&bare, step(2), "values expected after step 2"),
        (&whole, step(5), "values expected after step 5"),
        (&whole, variable, "a variable \"n\""),
    ] {
        let (outcome, _) = judge_as(Role::Other, case, Parrot::new(case), &focus);
        assert_eq!(outcome, Outcome::Skipped { reason: needs.to_owned() });
    }
    let (outcome, _) = judge_as(Role::Other, &whole, Parrot::new(&whole), &step(4));
    assert_eq!(outcome, Outcome::Agrees);
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

#[test]
fn a_run_that_does_not_come_back_is_named() {
    let (_directory, golden) = golden_of_cases();
    let (named, released) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let stuck = Arc::clone(&released);
    let subject = Subject::new("stuck", Role::Other, move || {
        let stuck = Arc::clone(&stuck);
        Ok(Box::new(Parrot::tweaked(&case(), move |_, _, _| {
            while !stuck.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        })))
    });
    let names = Arc::clone(&named);
    let tell = move |name: &str| {
        names.lock().unwrap().push(name.to_owned());
        released.store(true, Ordering::Relaxed);
    };
    let watch = Watch { limit: Duration::from_millis(40), tell: Box::new(tell) };
    let subject = subject.watched_by(watch);
    let report = run(&golden, &Selection::all(&golden), &subject, 1, &|_| {}).unwrap();
    assert_eq!(*named.lock().unwrap(), ["cases/a"]);
    assert_eq!(report.judged(), 5);
}

#[test]
fn a_refusal_may_be_a_known_difference() {
    let (_directory, golden) = golden_of_cases();
    let subject = Subject::new("strict", Role::Other, || {
        let (stage, kind) = ("construct".to_owned(), "ValueError".to_owned());
        let construct = Some(Failure::Error { stage, kind, message: String::new() });
        Ok(Box::new(Parrot { construct, ..Parrot::new(&case()) }))
    });
    let subject = subject.with_known_differences(vec![known(None, Quantity::Refusal)]);
    let report = run(&golden, &Selection::all(&golden), &subject, 1, &|_| {}).unwrap();
    assert_eq!((report.families[0].known_differences, report.agrees()), (5, true));
}
