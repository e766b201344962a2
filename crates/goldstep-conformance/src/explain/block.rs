//! A cause as a person reads it.

use std::fmt::{self, Write as _};

use goldstep_core::DType;

use crate::agreement::{Allowance, Mode, Quantity};
use crate::implementation::{GradientValues, Variable};
use crate::invocation::{Invocation, quoted};
use crate::judge::{Finding, Likeness, ValueDifference};
use crate::report::numbers::{bits, decimal, error as figure, index as indices, shape, thousands};

use super::causal::CausalState;
use super::cause::Cause;
use super::formula::{causes, formula};
use super::places::places;

/// Families that a block describes before it only names them.
const MOST_FAMILIES: usize = 4;
/// Where the labels of the step stand.
const STEP: &str = "crates/goldstep-reference/src/adafactor.rs";
/// Characters of an error message that are shown.
const MOST_OF_MESSAGE: usize = 120;

impl Cause {
    /// The block for the subject of that name, which is judged again by `invocation`.
    #[must_use]
    pub fn block(&self, subject: &str, invocation: &Invocation) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, subject, invocation);
        text
    }

    /// The command that runs exactly this.
    #[must_use]
    pub fn reproduce(&self, invocation: &Invocation) -> String {
        let mut command = format!("{} --case {}", invocation.verify(), quoted(&self.name));
        if let Some(variable) = self.variable() {
            let _ = write!(command, " --variable {}", quoted(&variable.name));
        }
        if let Some(step) = self.divergence.step {
            let _ = write!(command, " --step {step}");
        }
        command
    }

    /// The command that prints a unit test.
    #[must_use]
    pub fn repro(&self, invocation: &Invocation) -> String {
        let mut command = format!("{} {}", invocation.repro(), quoted(&self.name));
        if let (Some(variable), [_]) = (self.variable(), self.case.variables.as_slice()) {
            let _ = write!(command, " --variable {}", quoted(&variable.name));
        }
        if let Some(step) = self.divergence.step {
            let _ = write!(command, " --step {step}");
        }
        command
    }

    /// The variable that differs.
    #[must_use]
    pub fn variable(&self) -> Option<&Variable> {
        self.case.variables.get(self.divergence.variable()?)
    }

    fn write(&self, out: &mut String, subject: &str, invocation: &Invocation) -> fmt::Result {
        for (index, part) in self.parts.iter().take(MOST_FAMILIES).enumerate() {
            let head = if index == 0 { format!("FAIL  {subject}") } else { "also".to_owned() };
            let counts =
                format!("{} of {} {}", thousands(part.failing), thousands(part.total), part.noun);
            writeln!(out, "{head}   {}   {counts}   {}", part.family, part.predicate)?;
        }
        if let Some(rest) = self.parts.get(MOST_FAMILIES..).filter(|rest| !rest.is_empty()) {
            let runs: usize = rest.iter().map(|part| part.failing).sum();
            let names: Vec<&str> = rest.iter().map(|part| part.family.as_str()).collect();
            writeln!(out, "also   {} runs in {}", thousands(runs), names.join(", "))?;
        }
        self.write_place(out)?;
        self.write_finding(out)?;
        self.write_causal(out)?;
        self.write_formula(out, subject)?;
        self.write_diagnosis(out)?;
        line(out, "reproduce", &self.reproduce(invocation))?;
        let (variables, steps) = (self.case.variables.len(), self.case.steps.len());
        let of = if invocation.has_unit_test() { "" } else { ", of the reference" };
        let size = format!(
            "   ({variables} variable{}, {steps} step{}{of})",
            plural(variables),
            plural(steps)
        );
        line(out, "as a unit test", &(self.repro(invocation) + &size))
    }

    fn write_place(&self, out: &mut String) -> fmt::Result {
        let mut place = self.name.clone();
        match self.divergence.step {
            Some(step) => write!(place, " · step {step}")?,
            None if self.divergence.quantity() == Quantity::Finalized => {
                place.push_str(" · after the last step");
            }
            None => place.push_str(" · constructor"),
        }
        if let Some(variable) = self.variable() {
            write!(place, " · variable {} {}", variable.name, shape(&variable.shape))?;
        }
        write!(place, " · field {}", self.divergence.quantity().name())?;
        if let (Some(variable), Finding::Value(difference)) =
            (self.variable(), &self.divergence.finding)
        {
            write!(
                place,
                " · element {}",
                indices(&field_shape(difference.quantity, &variable.shape), difference.element)
            )?;
        }
        write!(place, " · {}", self.divergence.mode.name())?;
        if let (Mode::Forced, Some(step @ 2..)) = (self.divergence.mode, self.divergence.step) {
            write!(place, ", from the golden state after step {}", step - 1)?;
        }
        writeln!(out, "first divergence   {place}")?;
        let mut set: Vec<String> =
            self.arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if self.case.dtype != DType::Float32 {
            set.push(format!("dtype {}", self.case.dtype));
        }
        let rest = if set.is_empty() { "all default" } else { "(all else default)" };
        set.push(rest.to_owned());
        line(out, "arguments", &set.join(" "))
    }

    fn write_finding(&self, out: &mut String) -> fmt::Result {
        match &self.divergence.finding {
            Finding::Value(difference) => self.write_value(out, difference),
            Finding::Shape { expected, got, .. } => {
                line(out, "expected", &format!("{expected} elements"))?;
                let got = got.map_or_else(|| "none".to_owned(), |got| format!("{got} elements"));
                line(out, "actual", &got)
            }
            Finding::Accepted { expected } => {
                let stage = expected.stage();
                line(
                    out,
                    "expected",
                    &format!("{} at {stage}: {}", expected.kind, short(&expected.message)),
                )?;
                line(out, "actual", "accepted")
            }
            Finding::Refused { expected, stage, kind, message } => {
                let wanted = expected.as_ref().map_or_else(
                    || "no error".to_owned(),
                    |error| {
                        format!("{} at {}: {}", error.kind, error.stage(), short(&error.message))
                    },
                );
                line(out, "expected", &wanted)?;
                line(out, "actual", &format!("{kind} at {stage}: {}", short(message)))
            }
        }
    }

    fn write_value(&self, out: &mut String, difference: &ValueDifference) -> fmt::Result {
        let dtype = if difference.variable.is_some() { self.case.dtype } else { DType::Float32 };
        let number = |value: f64| format!("{:<14} {}", decimal(dtype, value), bits(dtype, value));
        if let Some(before) = difference.before {
            line(out, "before", &number(before))?;
        }
        line(out, "expected", &number(difference.expected))?;
        let error = off(difference.error, difference.allowance);
        line(out, "actual", &format!("{}   {error}", number(difference.actual)))?;
        let Some(variable) = self.variable() else { return Ok(()) };
        let shape = field_shape(difference.quantity, &variable.shape);
        let likeness = difference.likeness.map(|one| likeness_text(one, difference.wrong.len()));
        let places = places(&shape, &difference.wrong);
        let text = match likeness {
            Some(likeness) => format!("{places}; {likeness}"),
            // Of a single one everything has been said.
            None if shape.iter().product::<usize>() == 1 => return Ok(()),
            None => places,
        };
        line(out, "wrong elements", &text)
    }

    fn write_causal(&self, out: &mut String) -> fmt::Result {
        if self.causal.is_empty() {
            return Ok(());
        }
        let mut first = true;
        let mut shown = Vec::new();
        let mut wrong_first = None;
        for entry in &self.causal {
            let name = entry.quantity.name();
            shown.push(match entry.state {
                CausalState::Agrees(Some(error)) if error > 0.0 => {
                    format!("{name} ok {}", figure(error))
                }
                CausalState::Agrees(_) => format!("{name} ok"),
                CausalState::Wrong if first => {
                    first = false;
                    wrong_first = Some(entry);
                    format!("{name} WRONG FIRST")
                }
                CausalState::Wrong => format!("{name} wrong"),
            });
        }
        line(out, "in causal order", &shown.join(" · "))?;
        if let Some((entry, (expected, actual))) =
            wrong_first.and_then(|entry| Some((entry, entry.values?)))
        {
            let dtype = self.case.dtype;
            let values = format!(
                "expected {}   actual {}   (the intermediate of a correct implementation)",
                decimal(dtype, expected),
                decimal(dtype, actual)
            );
            line(out, entry.quantity.name(), &values)?;
        }
        Ok(())
    }

    /// What the first wrong quantity is, and where a correct implementation computes it.
    fn write_formula(&self, out: &mut String, subject: &str) -> fmt::Result {
        let wrong = self.causal.iter().find(|entry| entry.state == CausalState::Wrong);
        let quantity = wrong.map_or_else(|| self.divergence.quantity(), |entry| entry.quantity);
        let Some((labels, text)) = formula(quantity) else { return Ok(()) };
        line(out, "what it is", &format!("{}: {text}", quantity.name()))?;
        if labels.is_empty() {
            return Ok(());
        }
        line(out, "compare with", &format!("{labels} in {STEP}"))?;
        let unseen: Vec<String> = causes(quantity)
            .iter()
            .filter(|cause| self.causal.iter().all(|entry| entry.quantity != **cause))
            .filter(|cause| **cause != Quantity::ClippedGradient || self.changes_gradients())
            .filter_map(|cause| Some(format!("{} ({})", cause.name(), formula(*cause)?.0)))
            .collect();
        if unseen.is_empty() || self.causal.is_empty() {
            return Ok(());
        }
        line(out, "or before it", &format!("{}: not shown by {subject}", unseen.join(", ")))
    }

    /// Whether gradients are clipped or come as rows.
    fn changes_gradients(&self) -> bool {
        let clips = |name: &str| self.case.arguments.get(name).is_some_and(|one| !one.is_null());
        let gradients = || self.case.steps.iter().flat_map(|step| &step.gradients).flatten();
        ["clipnorm", "global_clipnorm", "clipvalue"].into_iter().any(clips)
            || gradients().any(|one| matches!(one, GradientValues::Sparse { .. }))
    }

    fn write_diagnosis(&self, out: &mut String) -> fmt::Result {
        let Some(diagnosis) = &self.diagnosis else {
            let known = if self.compared {
                "no known mistake"
            } else {
                "not compared with known mistakes: what differs is too large for that"
            };
            return writeln!(out, "looks like         {known}");
        };
        let names = diagnosis.names.iter().map(|(id, what)| format!("{id}: {what}"));
        let mut names = names.collect::<Vec<_>>().join("\n                or ");
        if diagnosis.further > 0 {
            write!(names, "\n                or {} others", diagnosis.further)?;
        }
        let (matched, examined) = (diagnosis.matched, diagnosis.examined);
        let within = format!("within {} ULP", figure(diagnosis.distance));
        let how = if diagnosis.partly {
            format!(
                "matches what differs in all {examined} examined {within}, but would differ \
                 elsewhere too: perhaps one of several code paths"
            )
        } else if diagnosis.is_complete() {
            format!("matches all {examined} examined {within}")
        } else {
            format!("matches {matched} of {examined} examined: nearest, not all of it")
        };
        writeln!(out, "looks like         {names} ({how})")
    }
}

fn line(out: &mut String, label: &str, text: &str) -> fmt::Result {
    writeln!(out, "  {label:<16} {text}")
}

/// What all wrong elements have in common.
fn likeness_text(likeness: Likeness, wrong: usize) -> String {
    let (are, each) = if wrong == 1 { ("it is", "it") } else { ("all are", "each") };
    match likeness {
        Likeness::Unchanged => format!("{are} as before the step"),
        Likeness::Nan => format!("{are} NaN"),
        Likeness::Zero => format!("{are} 0"),
        Likeness::Multiple(factor) => format!("{each} is {} what is expected", times(factor)),
        Likeness::Change(factor) => format!("{each} has changed {} as expected", times(factor)),
    }
}

/// `2 times`, and of what is nearly 1 how far it is from it.
fn times(factor: f64) -> String {
    let rest = factor - 1.0;
    match rest.abs() {
        0.0..1e-3 if rest > 0.0 => format!("1 + {rest:.2e} times"),
        0.0..1e-3 => format!("1 − {:.2e} times", rest.abs()),
        _ => format!("{} times", decimal(DType::Float32, (factor * 1e5).round() / 1e5)),
    }
}

/// The beginning of a message that may run to many lines.
fn short(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let shown: String = first.chars().take(MOST_OF_MESSAGE).collect();
    let whole = shown.len() == message.trim_end().len();
    if whole { shown } else { format!("{} …", shown.trim_end()) }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// How far off, and how far it may be.
fn off(error: f64, allowance: Allowance) -> String {
    match allowance {
        Allowance::Exact => "has to be equal".to_owned(),
        Allowance::Anchored(allowed) => {
            format!("anchored {} ULP, allowed {}", figure(error), figure(allowed))
        }
        other => {
            format!("off by {} {}, allowed {}", figure(error), other.unit(), figure(other.figure()))
        }
    }
}

/// The shape of what is compared: factors have one axis less.
pub(crate) fn field_shape(quantity: Quantity, variable: &[usize]) -> Vec<usize> {
    let mut shape = variable.to_vec();
    match quantity {
        Quantity::R => drop(shape.pop()),
        Quantity::C if shape.len() >= 2 => drop(shape.remove(shape.len() - 2)),
        _ => {}
    }
    shape
}
