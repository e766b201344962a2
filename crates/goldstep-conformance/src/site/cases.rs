//! A page per implementation and family: its causes or its worst step, element by element.

use maud::{Markup, html};

use super::{Dossier, Entry, Standing, block, frame, page_name, passed, plot, worst_detail};
use crate::explain::{CausalEntry, CausalState, Cause, Detail, Field, detail, field_shape, shown};
use crate::golden::Trial;
use crate::implementation::Variable;
use crate::judge::Finding;
use crate::report::numbers::{bits, decimal, error, index, shape, thousands};
use crate::report::standing::{needs, skipped};
use crate::run::FamilyReport;
use goldstep_core::DType;

/// Elements of a tensor that are shown; the worst ones if there are more.
const MOST_ELEMENTS: usize = 48;

/// What the causes of an implementation show, in their order.
pub(super) fn details(dossier: &Dossier<'_>, entry: &Entry<'_>) -> Vec<Option<Detail>> {
    entry.causes.iter().map(|cause| cause_detail(dossier, entry, cause)).collect()
}

fn cause_detail(dossier: &Dossier<'_>, entry: &Entry<'_>, cause: &Cause) -> Option<Detail> {
    let Finding::Value(difference) = &cause.divergence.finding else { return None };
    let mut implementation = (entry.subject.make)().ok()?;
    let mut oracle = dossier.oracle.and_then(|oracle| (oracle.make)().ok());
    let oracle = oracle.as_mut().map(|oracle| &mut **oracle as _);
    let trial = cause.case.trial(cause.case.family.as_deref().unwrap_or_default());
    let place = (cause.divergence.mode, cause.divergence.step?, difference.variable?);
    detail(implementation.as_mut(), oracle, &trial, entry.subject.role, place)
}

pub(super) fn page(
    dossier: &Dossier<'_>,
    entry: &Entry<'_>,
    family: &FamilyReport,
    details: &[Option<Detail>],
) -> Markup {
    let name = &entry.report.name;
    let title = format!("{name} in {}", family.id);
    let standing = Standing::of(Some(family));
    let golden = &dossier.golden.families()[family.family];
    let causes =
        entry.causes.iter().zip(details).enumerate().filter(|(_, (cause, _))| {
            cause.parts.first().is_some_and(|part| part.family == family.id)
        });
    let elsewhere = entry
        .causes
        .iter()
        .enumerate()
        .filter(|(_, cause)| cause.parts.iter().skip(1).any(|part| part.family == family.id));
    let body = html! {
        header {
            nav aria-label="Pages and causes" { ul {
                li { a href="index.html" { "← All results" } }
                @for (number, _) in causes.clone() {
                    li { a href={ "#cause-" (number + 1) } { "Cause " (number + 1) } }
                }
            } }
            h1 { (title) }
            p class="lead" {
                span class={ "verdict " (standing.class()) } { (standing.sign()) " " (standing.word()) } " "
                (thousands(passed(family))) " of " (thousands(family.chosen)) " runs agree."
                @if skipped(family) > 0 {
                    " " (thousands(skipped(family))) " were skipped, which is no pass: " (name) " " (needs(&family.skipped)) "."
                }
            }
            p { (golden.purpose) }
        }
        main id="main" {
            @for (number, (cause, detail)) in causes {
                section id={ "cause-" (number + 1) } {
                    h2 { "Cause " (number + 1) }
                    (block(&cause.block(name, &entry.report.invocation)))
                    @if let Some(detail) = detail {
                        (detail_section(detail, &cause.case.trial(&family.id)))
                    }
                }
            }
            @for (number, cause) in elsewhere {
                @let first = entry.report.families.iter().find(|one| cause.parts.first().is_some_and(|part| part.family == one.id));
                p {
                    @if let Some(first) = first {
                        a href={ (page_name(entry.report, first)) "#cause-" (number + 1) } { "Cause " (number + 1) }
                    } @else { "Cause " (number + 1) }
                    " shows here too: "
                    @if let Some(part) = cause.parts.iter().find(|part| part.family == family.id) {
                        (thousands(part.failing)) " of " (thousands(part.total)) " " (part.noun) ", " (part.predicate) "."
                    } }
            }
            @if !family.broken.is_empty() {
                section { h2 { "Without a usable answer" }
                    ul { @for (position, failure) in family.broken.iter().take(20) {
                        li { code { (golden.trial(*position).name()) } " " (failure) }
                    } }
                }
            }
            @if standing == Standing::Agrees {
                @if let Some((position, detail)) = worst_detail(dossier, entry, family) {
                    section { h2 { "The worst step that is still allowed" }
                        (detail_section(&detail, &golden.trial(position)))
                    }
                }
            }
        }
    };
    frame(&title, &body)
}

fn detail_section(detail: &Detail, trial: &Trial<'_>) -> Markup {
    let variable = &trial.variables[detail.variable];
    let lines: Vec<plot::Line> = plot::lines("variables", &detail.growth, 1)
        .into_iter()
        .chain([plot::allowed(&detail.growth)])
        .collect();
    html! {
        dl {
            dt { "Run" } dd class="mono" { (detail.name) }
            dt { "Step" } dd { (detail.step) ", " (detail.mode.name()) }
            dt { "Variable" } dd { (variable.name) " " (shape(&variable.shape)) " " (trial.dtype) }
            dt { "Arguments" } dd class="mono" {
                @for (name, value) in trial.arguments.iter() { (name) "=" (shown(value)) " " }
            }
        }
        h3 { "In causal order" }
        (strip(&detail.causal))
        @for field in &detail.fields { (tensor(field, variable, trial.dtype)) }
        @if detail.growth.len() > 1 {
            (plot::plot("Free-running error of variables over the steps of this run, in eps of the largest magnitude", &lines))
        }
    }
}

/// Every quantity of the step, the first that is wrong in words and not in colour alone.
fn strip(causal: &[CausalEntry]) -> Markup {
    let first = causal.iter().position(|entry| entry.state == CausalState::Wrong);
    html! {
        ol class="strip" {
            @for (position, entry) in causal.iter().enumerate() {
                @match entry.state {
                    CausalState::Agrees(error_of) => li class="good" {
                        (entry.quantity.name()) " ok"
                        @if let Some(value) = error_of.filter(|value| *value > 0.0) { " " (error(value)) }
                    },
                    CausalState::Wrong => li class="bad" {
                        (entry.quantity.name())
                        @if first == Some(position) { " wrong first" } @else { " wrong" }
                    },
                }
            }
        }
    }
}

fn tensor(field: &Field, variable: &Variable, dtype: DType) -> Markup {
    let mut order: Vec<usize> = (0..field.expected.len()).collect();
    let cut = order.len() > MOST_ELEMENTS;
    if cut {
        order.sort_by(|left, right| field.errors[*right].total_cmp(&field.errors[*left]));
        order.truncate(MOST_ELEMENTS);
    }
    let allowed = field.allowance.figure();
    let own = field_shape(field.quantity, &variable.shape);
    html! {
        h3 { (field.quantity.name()) " " (shape(&own)) }
        div class="scroll" tabindex="0" role="region" aria-label={ "Elements of " (field.quantity.name()) } { table {
            caption { "Error in " (field.allowance.unit()) ", allowed " (error(allowed))
                @if cut { "; the worst " (MOST_ELEMENTS) " of " (thousands(field.expected.len())) " elements" } }
            thead { tr {
                th scope="col" { "Element" } th scope="col" class="n" { "Expected" } th scope="col" class="n" { "Actual" }
                th scope="col" class="n" { "Error" } th scope="col" { "Bits expected" } th scope="col" { "Bits actual" }
            } }
            tbody { @for at in order {
                @let wrong = field.errors[at] > allowed;
                tr {
                    th scope="row" class="mono" { (index(&own, at)) }
                    td class="n mono" { (decimal(dtype, field.expected[at])) }
                    td class={ "n mono " (if wrong { "bad" } else { "" }) } { (decimal(dtype, field.actual[at])) @if wrong { " ✗" } }
                    td class="n" { (error(field.errors[at])) }
                    td class="mono" { (bits(dtype, field.expected[at])) }
                    td class="mono" { (bits(dtype, field.actual[at])) }
                }
            } }
        } }
    }
}
