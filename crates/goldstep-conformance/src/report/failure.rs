//! One block per cause: what went wrong first, where, by how much, and how to see it again.

use std::fmt::Write as _;

use goldstep_core::DType;
use serde_json::Value;

use super::numbers::{bits, decimal, error, index, shape, thousands};
use crate::agreement::Quantity;
use crate::arguments::is_default;
use crate::causes::{Cause, Literal, causes};
use crate::explain::{IntermediateCheck, explain};
use crate::golden::{Golden, Traces, Trial};
use crate::judge::{Check, Divergence, Finding, ValueDifference};
use crate::run::{Report, Subject};

/// Blocks beyond which only a line says that there are more.
const MOST_BLOCKS: usize = 8;

/// A block for each cause for which `report` differs; empty if it does not. The subject and an
/// `oracle` that shows its intermediates repeat the steps that went wrong. `diagnose` may name the
/// mistake that a cause looks like.
#[must_use]
pub fn failures(
    golden: &Golden,
    report: &Report,
    subject: &Subject,
    oracle: Option<&Subject>,
    diagnose: &dyn Fn(&Cause) -> Option<String>,
) -> String {
    let causes = causes(golden, report);
    let mut text = String::new();
    for cause in causes.iter().take(MOST_BLOCKS) {
        let family = &golden.families()[cause.family];
        let trial = family.trial(cause.representative);
        let block = Block { golden, report, cause, trial: &trial };
        block.write(&mut text, subject, oracle, diagnose);
    }
    // Writing to a string cannot fail.
    if let Some(rest) = causes.get(MOST_BLOCKS..).filter(|rest| !rest.is_empty()) {
        let runs: usize = rest.iter().map(|cause| cause.runs.len()).sum();
        let _ = writeln!(
            text,
            "and {} more causes in {} runs; --family or --case shows them",
            rest.len(),
            thousands(runs)
        );
    }
    for stale in &report.stale {
        let case = stale.case.as_deref().unwrap_or("any run");
        let _ = writeln!(
            text,
            "STALE {}  {}  {case}: {} agrees, although it is listed as a known difference ({})",
            report.name,
            stale.family,
            stale.quantity.name(),
            stale.reason
        );
    }
    text
}

/// A line for each run without a usable answer: crashes, time-outs, faults of the protocol.
#[must_use]
pub fn not_answered(golden: &Golden, report: &Report) -> String {
    const MOST: usize = 5;
    let mut text = String::new();
    if report.judged() == 0 {
        let _ = writeln!(text, "BROKEN {}  nothing was judged, every run was skipped", report.name);
    }
    for incident in report.incidents.iter().take(MOST) {
        let _ = writeln!(text, "BROKEN {}  {incident}", report.name);
    }
    for family in &report.families {
        for (position, failure) in family.broken.iter().take(MOST) {
            let name = golden.families()[family.family].trial(*position).name();
            let _ = writeln!(text, "BROKEN {}  {name}  {failure}", report.name);
        }
        let more = family.broken.len().saturating_sub(MOST);
        if more > 0 {
            let _ = writeln!(text, "BROKEN {}  {}  {more} more", report.name, family.id);
        }
        if family.given_up > 0 {
            let (name, id, count) = (&report.name, &family.id, thousands(family.given_up));
            let _ = writeln!(text, "BROKEN {name}  {id}  {count} runs not tried after that");
        }
    }
    text
}

struct Block<'a> {
    golden: &'a Golden,
    report: &'a Report,
    cause: &'a Cause,
    trial: &'a Trial<'a>,
}

impl Block<'_> {
    fn write(
        &self,
        text: &mut String,
        subject: &Subject,
        oracle: Option<&Subject>,
        diagnose: &dyn Fn(&Cause) -> Option<String>,
    ) {
        let divergence = &self.cause.divergence;
        let _ = writeln!(text, "{}", self.headline());
        let _ = writeln!(text, "first divergence   {}", self.place());
        row(text, "arguments", &arguments(self.trial));
        match &divergence.finding {
            Finding::Value(difference) => self.value(text, difference, subject, oracle),
            Finding::Shape { expected, got, .. } => {
                row(text, "expected", &format!("{expected} elements"));
                let got = got.map_or_else(|| "nothing".to_owned(), |got| format!("{got} elements"));
                row(text, "actual", &got);
            }
            Finding::Accepted { expected } => {
                let at = expected.stage();
                row(text, "expected", &format!("{} at {at}: {}", expected.kind, expected.message));
                row(text, "actual", "accepted");
            }
            Finding::Refused { expected, stage, kind, message } => {
                let expected = expected.as_ref().map_or_else(
                    || "accepted".to_owned(),
                    |error| format!("{} at {}: {}", error.kind, error.stage(), error.message),
                );
                row(text, "expected", &expected);
                row(text, "actual", &format!("{kind} at {stage}: {message}"));
            }
        }
        if let Some(mistake) = diagnose(self.cause) {
            let _ = writeln!(text, "looks like         {mistake}");
        }
        let _ = writeln!(text, "reproduce          {}\n", self.command());
    }

    fn headline(&self) -> String {
        let cause = self.cause;
        let family = &self.golden.families()[cause.family];
        let what = match family.traces {
            Traces::Grid(_) => "combinations",
            Traces::Cases(_) => "cases",
        };
        let (runs, of) = (thousands(cause.runs.len()), thousands(cause.of));
        let name = &self.report.name;
        let mut line = format!("FAIL  {name}   {}   {runs} of {of} {what}", family.id);
        if matches!(family.traces, Traces::Cases(_)) {
            const MOST: usize = 4;
            let ids = cause.runs.iter().take(MOST).map(|run| family.trial(*run).id.to_string());
            let _ = write!(line, "   {}", ids.collect::<Vec<_>>().join(", "));
            if cause.runs.len() > MOST {
                line.push_str(", …");
            }
        } else if cause.predicate.literals.is_empty() {
            line.push_str(if cause.runs.len() == cause.of {
                "   whatever the arguments"
            } else {
                "   no argument tells them from the others"
            });
        } else {
            let literals: Vec<String> = cause.predicate.literals.iter().map(literal).collect();
            let _ = write!(line, "   all with {}", literals.join(" and "));
            match cause.predicate.counterexamples {
                0 => line.push_str(", none without"),
                others => {
                    let _ = write!(line, ", with which {} others agree", thousands(others));
                }
            }
        }
        line
    }

    fn place(&self) -> String {
        let divergence = &self.cause.divergence;
        let is_grid = matches!(self.golden.families()[self.cause.family].traces, Traces::Grid(_));
        let kind = if is_grid { "combination" } else { "case" };
        let mut parts = vec![format!("{kind} {}", self.trial.id)];
        match divergence.step {
            Some(step) => parts.push(format!("step {step}")),
            None if divergence.quantity() == Quantity::Finalized => {
                parts.push("finalize_variable_values".to_owned());
            }
            None => parts.push("constructor".to_owned()),
        }
        let (variable, element) = match &divergence.finding {
            Finding::Value(difference) => (difference.variable, Some(difference.element)),
            Finding::Shape { variable, .. } => (Some(*variable), None),
            _ => (None, None),
        };
        if let Some(variable) = variable.map(|variable| &self.trial.variables[variable]) {
            parts.push(format!("variable {} {}", variable.name, shape(&variable.shape)));
        }
        parts.push(format!("field {}", divergence.quantity().name()));
        if let (Some(variable), Some(element)) = (variable, element) {
            let shape = field_shape(divergence, &self.trial.variables[variable].shape);
            parts.push(format!("element {}", index(&shape, element)));
        }
        parts.push(divergence.mode.name().to_owned());
        parts.join(" · ")
    }

    fn value(
        &self,
        text: &mut String,
        difference: &ValueDifference,
        subject: &Subject,
        oracle: Option<&Subject>,
    ) {
        // A rate is float32 and a count whole, whatever the element type of the variables.
        let dtype = if difference.variable.is_some() { self.trial.dtype } else { DType::Float32 };
        let number = |value| format!("{:<16} {}", decimal(dtype, value), bits(dtype, value));
        if let Some(before) = difference.before {
            row(text, "before", &number(before));
        }
        row(text, "expected", &number(difference.expected));
        let allowed = error(difference.allowance.figure());
        let off = match (difference.allowance.unit(), difference.error.is_infinite()) {
            ("", _) => "must be the same".to_owned(),
            (_, true) => "one of them is not finite or must be 0".to_owned(),
            (unit, false) => format!("{} {unit}, allowed {allowed}", error(difference.error)),
        };
        row(text, "actual", &format!("{}   {off}", number(difference.actual)));

        let divergence = &self.cause.divergence;
        let explained = match (difference.variable, oracle) {
            (Some(variable), Some(oracle)) => {
                explain(self.trial, divergence, variable, subject, oracle).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        row(text, "in causal order", &causal_order(difference, &explained));
        for wrong in explained.iter().filter(|check| !check.agrees()).take(1) {
            let actual = wrong.actual.map_or_else(String::new, |actual| decimal(dtype, actual));
            row(
                text,
                wrong.quantity.name(),
                &format!(
                    "expected {}   actual {actual}   {} eps   (beside the reference's)",
                    decimal(dtype, wrong.expected),
                    error(wrong.error)
                ),
            );
        }
    }

    fn command(&self) -> String {
        let divergence = &self.cause.divergence;
        let name = self.trial.name();
        let mut command =
            format!("cargo xtask verify --backend {} --case {name}", self.report.name);
        if let Finding::Value(ValueDifference { variable: Some(variable), .. }) =
            &divergence.finding
        {
            let _ = write!(command, " --variable {}", self.trial.variables[*variable].name);
        }
        if let Some(step) = divergence.step {
            let _ = write!(command, " --step {step}");
        }
        command
    }
}

/// Everything known about the step, the first that is wrong in capitals.
fn causal_order(difference: &ValueDifference, explained: &[IntermediateCheck]) -> String {
    let unknown = |check: &IntermediateCheck| check.actual.is_none();
    let of_check = |check: &Check| {
        let quiet = check.error <= 0.0;
        let figure = if quiet { String::new() } else { format!(" {}", error(check.error)) };
        (check.quantity, check.agrees(), figure)
    };
    let mut all: Vec<_> = difference.checks.iter().map(of_check).collect();
    all.extend(
        explained
            .iter()
            .filter(|check| !unknown(check))
            .map(|check| (check.quantity, check.agrees(), String::new())),
    );
    all.sort_by_key(|(quantity, _, _)| *quantity);
    let mut first = true;
    let words = all.into_iter().map(|(quantity, agrees, figure)| {
        let name = quantity.name();
        if agrees {
            format!("{name} ok{figure}")
        } else if std::mem::take(&mut first) {
            format!("{name} WRONG FIRST")
        } else {
            format!("{name} wrong")
        }
    });
    let words: Vec<String> = words.collect();
    if difference.variable.is_some() {
        format!("iterations ok · lr ok · {}", words.join(" · "))
    } else {
        words.join(" · ")
    }
}

/// The arguments that differ from Keras's defaults.
fn arguments(trial: &Trial<'_>) -> String {
    let set = trial.arguments.iter().filter(|(name, value)| !is_default(name, value));
    let set: Vec<String> = set.map(|(name, value)| format!("{name}={}", compact(value))).collect();
    if set.is_empty() {
        "all default".to_owned()
    } else {
        format!("{}   (all else default)", set.join(" "))
    }
}

fn literal(literal: &Literal) -> String {
    let values: Vec<String> = literal.values.iter().map(compact).collect();
    format!("{}={}", literal.argument, values.join("|"))
}

/// A schedule as `ExponentialDecay(initial_learning_rate=0.6, …)`, anything else as JSON.
fn compact(value: &Value) -> String {
    let Some(class) = value.get("class_name").and_then(Value::as_str) else {
        return value.to_string();
    };
    let fields = value.get("config").and_then(Value::as_object).into_iter().flatten();
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{class}({})", fields.join(","))
}

/// The shape of what is compared: factors have one axis less.
fn field_shape(divergence: &Divergence, variable: &[usize]) -> Vec<usize> {
    let mut shape = variable.to_vec();
    match divergence.quantity() {
        Quantity::R => {
            shape.pop();
        }
        Quantity::C if shape.len() >= 2 => {
            shape.remove(shape.len() - 2);
        }
        _ => {}
    }
    shape
}

fn row(text: &mut String, name: &str, content: &str) {
    let _ = writeln!(text, "  {name:<16} {content}");
}
