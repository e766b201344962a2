//! The first page.

use maud::{Markup, html};
use serde_json::Value;

use super::{Dossier, Entry, Standing, block, frame, page_name, plot, score};
use crate::agreement::{Mode, Quantity};
use crate::explain::growth;
use crate::golden::Traces;
use crate::observed::Worst;
use crate::report::numbers::{error, thousands};
use crate::report::standing::{needs, skipped, skipped_by_need, skipped_whole};
use crate::run::{FamilyReport, Report};

/// Colours of the lines of a plot.
const SERIES: usize = 5;

pub(super) fn page(dossier: &Dossier<'_>) -> Markup {
    let causes: usize = dossier.entries.iter().map(|entry| entry.causes.len()).sum();
    let body = html! {
        header {
            h1 { "Goldstep conformance report" }
            p class="lead" { (headline(dossier)) }
            nav aria-label="Sections" { ul {
                li { a href="#matrix" { "Matrix" } }
                @if causes > 0 { li { a href="#causes" { "Causes" } } }
                li { a href="#errors" { "Worst errors" } }
                li { a href="#growth" { "Error growth" } }
                @if dossier.mutants.is_some() { li { a href="#mutants" { "Wrong implementations" } } }
                li { a href="#provenance" { "Provenance" } }
            } }
        }
        main id="main" {
            (matrix(dossier))
            @if causes > 0 { (causes_section(dossier)) }
            (errors(dossier))
            (growth_section(dossier))
            @if let Some(mutants) = &dossier.mutants { (mutants_section(mutants)) }
            (provenance(dossier))
        }
        footer { p { "Also in this folder: " a href="junit.xml" { "JUnit XML" } ", " a href="report.json" { "JSON" } ", " a href="summary.md" { "Markdown" } ", " a href="badge.svg" { "badge" } "." } }
    };
    frame("Goldstep conformance report", &body)
}

/// Who agrees, with what.
pub(super) fn headline(dossier: &Dossier<'_>) -> String {
    let agrees = |entry: &&Entry<'_>| entry.report.agrees() && !entry.report.is_broken();
    let agreeing = dossier.entries.iter().filter(agrees).count();
    let (mut combinations, mut cases) = (0, 0);
    for family in dossier.golden.families() {
        match &family.traces {
            Traces::Grid(_) => combinations += family.len(),
            Traces::Cases(_) => cases += family.len(),
        }
    }
    let made = |name: &str| dossier.golden.generated().and_then(|one| one.get(name)?.as_str());
    let oracle = made("tensorflow")
        .map_or_else(|| "tf.keras".to_owned(), |version| format!("tf.keras {version}"));
    let reports = || dossier.entries.iter().map(|entry| entry.report);
    let judged: usize = reports().map(Report::judged).sum();
    let skipped: usize = reports().flat_map(|report| &report.families).map(skipped).sum();
    let skipped = match skipped {
        0 => String::new(),
        skipped => format!(" and {} skipped", thousands(skipped)),
    };
    format!(
        "{agreeing} of {} implementation{} with {oracle}; {} runs judged{skipped}, of {} combinations of arguments and {} cases.",
        dossier.entries.len(),
        if dossier.entries.len() == 1 { " agrees" } else { "s agree" },
        thousands(judged),
        thousands(combinations),
        thousands(cases),
    )
}

/// The families that were judged, in the order of the directory.
pub(super) fn family_ids(dossier: &Dossier<'_>) -> Vec<String> {
    let judged = |id: &str| {
        dossier.entries.iter().any(|entry| entry.report.families.iter().any(|one| one.id == id))
    };
    let families = dossier.golden.families().iter();
    families.filter(|family| judged(&family.id)).map(|family| family.id.clone()).collect()
}

fn matrix(dossier: &Dossier<'_>) -> Markup {
    html! {
        section id="matrix" aria-labelledby="matrix-title" {
            h2 id="matrix-title" { "Matrix" }
            p { "Runs that agree with tf.keras, from the golden state of each step (forced) and from the start (free). A cell leads to its worst step, element by element." }
            div class="scroll" tabindex="0" role="region" aria-label="Matrix of implementations and families" { table {
                caption { "Runs that agree, by family and implementation" }
                thead { tr {
                    th scope="col" { "Family" }
                    @for entry in &dossier.entries { th scope="col" { (entry.report.name) } }
                } }
                tbody { @for id in family_ids(dossier) { tr {
                    th scope="row" { (id) }
                    @for entry in &dossier.entries {
                        @let family = entry.report.families.iter().find(|family| family.id == id);
                        @let standing = Standing::of(family);
                        td class={ "state " (standing.class()) } {
                            @if let Some(family) = family {
                                a href=(page_name(entry.report, family)) title=(title(standing, family)) { (score(family)) }
                            } @else { (standing.sign()) }
                        }
                    }
                } } }
                tfoot { tr {
                    th scope="row" { "Time" }
                    @for entry in &dossier.entries { td class="muted" { (format!("{:.2} s", entry.report.elapsed.as_secs_f64())) } }
                } }
            } }
            @for entry in &dossier.entries {
                @for (families, needs) in skipped_whole(entry.report) {
                    p { (entry.report.name) ": nothing judged of " (families.join(", ")) ": " (needs) }
                }
                @for (reason, count) in skipped_by_need(entry.report) {
                    p class="muted" { (entry.report.name) ": " (thousands(count)) " skipped, needs " (reason) }
                }
            }
            p class="muted" { "✓ agrees   ✗ differs   ⚡ no usable answer   – not judged or skipped. Skipped is not passed." }
        }
    }
}

fn title(standing: Standing, family: &FamilyReport) -> String {
    match family.skipped.is_empty() {
        true => standing.word().to_owned(),
        false => format!("{}; what is skipped {}", standing.word(), needs(&family.skipped)),
    }
}

fn causes_section(dossier: &Dossier<'_>) -> Markup {
    html! {
        section id="causes" aria-labelledby="causes-title" {
            h2 id="causes-title" { "Causes" }
            p { "One block per cause: who fails, what the failing runs have in common, the first divergence, and the known mistake that gives the same numbers." }
            @for entry in &dossier.entries {
                @for (number, cause) in entry.causes.iter().enumerate() {
                    article {
                        h3 { (entry.report.name) ", cause " (number + 1)
                            @if let Some(name) = cause.diagnosis.as_ref().and_then(|one| one.names.first()) { ": looks like " code { (name.0) } } }
                        (block(&cause.block(&entry.report.name, &entry.report.invocation)))
                        @let family = entry.report.families.iter().find(|one| cause.parts.first().is_some_and(|part| part.family == one.id));
                        @if let Some(family) = family {
                            p { a href={ (page_name(entry.report, family)) "#cause-" (number + 1) } { "Tensors of this step, side by side" } }
                        }
                    }
                }
            }
        }
    }
}

fn errors(dossier: &Dossier<'_>) -> Markup {
    html! {
        section id="errors" aria-labelledby="errors-title" {
            h2 id="errors-title" { "Worst observed against allowed" }
            @for entry in &dossier.entries {
                @let observations = entry.report.observations();
                @let quantities: Vec<Quantity> = Quantity::ALL.into_iter().filter(|quantity| Mode::ALL.iter().any(|mode| observations.worst(*mode, *quantity).is_some_and(|worst| worst.allowance.figure() > 0.0))).collect();
                h3 { (entry.report.name) }
                div class="scroll" tabindex="0" role="region" aria-label={ "Worst errors of " (entry.report.name) } { table {
                    caption { "Worst error of what is allowed, by quantity and mode" }
                    thead { tr { th scope="col" { "Quantity" } @for mode in Mode::ALL { th scope="col" { (mode.name()) } } } }
                    tbody { @for quantity in quantities { tr {
                        th scope="row" { (quantity.name()) }
                        @for mode in Mode::ALL { td { @if let Some(worst) = observations.worst(mode, quantity) { (worst_cell(worst)) } @else { "–" } } }
                    } } }
                } }
                p class="muted" { (thousands(usize::try_from(observations.compared()).unwrap_or(usize::MAX))) " values compared." }
            }
        }
    }
}

fn worst_cell(worst: &Worst) -> Markup {
    let share = worst.share();
    let (class, width) = match share {
        share if share > 1.0 => ("over", 100.0),
        share if share > 0.75 => ("high", share * 100.0),
        share => ("", share * 100.0),
    };
    html! {
        (error(worst.error)) " of " (error(worst.allowance.figure())) " " (worst.allowance.unit())
        span class="bar" aria-hidden="true" { span class=(class) style={ "width:" (format!("{width:.0}")) "%" } {} }
    }
}

fn growth_section(dossier: &Dossier<'_>) -> Markup {
    let families = || dossier.golden.families().iter();
    let longest = families()
        .flat_map(|family| (0..family.len().min(64)).map(move |position| (family, position)))
        .filter(|(family, position)| family.trial(*position).expectation.error.is_none())
        .max_by_key(|(family, position)| {
            let trial = family.trial(*position);
            (trial.expectation.steps.iter().flatten().count(), std::cmp::Reverse(*position))
        });
    let Some((family, position)) = longest else { return html! {} };
    let trial = family.trial(position);
    let mut lines = Vec::new();
    for (number, entry) in dossier.entries.iter().enumerate() {
        let Ok(mut implementation) = (entry.subject.make)() else { continue };
        let own = growth(implementation.as_mut(), &trial);
        if lines.is_empty() && !own.is_empty() {
            lines.push(plot::allowed(&own));
        }
        lines.extend(plot::lines(&entry.report.name, &own, number % SERIES + 1));
    }
    html! {
        section id="growth" aria-labelledby="growth-title" {
            h2 id="growth-title" { "Error growth" }
            p { "The free-running error of variables over the longest run, " code { (trial.name()) } ", in eps of the largest magnitude that each variable has had." }
            (plot::plot("Worst error of a variable over steps", &lines))
        }
    }
}

fn mutants_section(mutants: &Value) -> Markup {
    let list = mutants.get("mutants").and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |one: &Value, name: &str| one.get(name).and_then(Value::as_str).unwrap_or("–").to_owned();
    let kills = |one: &Value| one.get("kills").and_then(Value::as_u64).unwrap_or_default();
    let harmless = |one: &&Value| one.get("harmless").and_then(Value::as_bool).unwrap_or_default();
    let wrong: Vec<&Value> = list.iter().filter(|one| !harmless(one)).collect();
    let rejected = wrong.iter().filter(|one| kills(one) > 0).count();
    let accepted = list.iter().filter(harmless).filter(|one| kills(one) == 0).count();
    let total = list.iter().filter(harmless).count();
    html! {
        section id="mutants" aria-labelledby="mutants-title" {
            h2 id="mutants-title" { "Wrong implementations" }
            p { "The judge is judged too: " (rejected) " of " (wrong.len()) " deliberately wrong implementations are rejected, " (accepted) " of " (total) " harmless rewrites are accepted." }
            details {
                summary { "Which run rejects which" }
                div class="scroll" tabindex="0" role="region" aria-label="Wrong implementations" { table {
                    caption { "Runs that reject each mistake, and what it spoils first" }
                    thead { tr { th scope="col" { "Mistake" } th scope="col" { "What is wrong" } th scope="col" class="n" { "Runs" } th scope="col" { "First spoils" } th scope="col" { "In family" } } }
                    tbody { @for one in &list { tr {
                        th scope="row" class="mono" { (text(one, "id")) }
                        td { @if harmless(&one) { "harmless: " } (text(one, "what")) }
                        td class="n" { (thousands(usize::try_from(kills(one)).unwrap_or(usize::MAX))) }
                        td { (text(one, "first_quantity")) }
                        td { (text(one, "first_family")) }
                    } } }
                } }
            }
        }
    }
}

fn provenance(dossier: &Dossier<'_>) -> Markup {
    html! {
        section id="provenance" aria-labelledby="provenance-title" {
            h2 id="provenance-title" { "Provenance" }
            dl {
                dt { "Command" } dd class="mono" { (dossier.command) }
                @if let Some(generated) = dossier.golden.generated() {
                    @for (name, value) in generated {
                        dt { (name) } dd { (plain(value)) }
                    }
                }
            }
            h3 { "Implementations" }
            div class="scroll" tabindex="0" role="region" aria-label="Implementations" { table {
                caption { "What was judged, and with which expectation" }
                thead { tr { th scope="col" { "Name" } th scope="col" { "Version" } th scope="col" { "Language" } th scope="col" { "Judged as" } } }
                tbody { @for entry in &dossier.entries { tr {
                    th scope="row" { (entry.report.name) }
                    td { (entry.report.description.version) } td { (entry.report.description.language) }
                    td { (entry.report.description.capabilities.expectation) }
                } } }
            } }
            h3 { "Families" }
            dl { @for family in dossier.golden.families() {
                dt { (family.id) } dd { (thousands(family.len())) " runs. " (family.purpose) }
            } }
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
