//! What went wrong, for people.

use std::fmt::Write as _;

use super::numbers::thousands;
use super::standing::{needs, skipped_by_need};
use crate::explain::{Cause, Part, part};
use crate::golden::Golden;
use crate::invocation::quoted;
use crate::run::Report;

/// A block for each cause for which `report` differs, and a line for each known difference that
/// was not seen; empty if it agrees.
#[must_use]
pub fn failures(report: &Report, causes: &[Cause]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for cause in causes {
        let _ = writeln!(text, "{}", cause.block(&report.name, &report.invocation));
    }
    let differ: usize = report.families.iter().map(|family| family.differ.len()).sum();
    let parts = causes.iter().flat_map(|cause| &cause.parts);
    let explained: usize = parts.map(|part| part.failing).sum();
    if differ > explained {
        let rest = thousands(differ - explained);
        let _ = writeln!(text, "and {rest} more runs differ; --family or --case shows them\n");
    }
    text.push_str(&stale(report));
    text
}

/// A line for each known difference that was not seen.
pub(crate) fn stale(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
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
    let broken = report.families.iter().any(|one| one.given_up > 0 || !one.broken.is_empty());
    if report.judged() == 0 && !broken {
        let (name, needs) = (&report.name, needs(&skipped_by_need(report)));
        let _ = writeln!(text, "BROKEN {name}  nothing was judged, every run was skipped: {needs}");
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
        if family.broken.len() > 1 && family.given_up == 0 {
            let positions = family.broken.iter().map(|(position, _)| *position).collect();
            let claimed = &report.description.capabilities.expectation;
            let part = part(&golden.families()[family.family], family.chosen, positions, claimed);
            let Part { failing, total, noun, predicate, .. } = part;
            let _ = writeln!(text, "  in common        {failing} of {total} {noun}   {predicate}");
        }
    }
    let given_up: usize = report.families.iter().map(|family| family.given_up).sum();
    if given_up > 0 {
        let (name, count) = (&report.name, thousands(given_up));
        let _ = writeln!(text, "BROKEN {name}  {count} runs not tried after that");
    }
    let first = report.families.iter().find_map(|family| Some((family, family.broken.first()?.0)));
    if let Some((family, position)) = first {
        let name = golden.families()[family.family].trial(position).name();
        let (command, name) = (report.invocation.verify(), quoted(&name));
        let _ = writeln!(text, "  reproduce        {command} --case {name}");
    }
    text
}
