//! A verification as files: pages for people, JUnit XML, JSON, Markdown and a badge for programs.
//!
//! The pages need no network, no script and no font but those of the reader's system.

mod badge;
mod cases;
mod index;
mod junit;
mod markdown;
mod plot;

use std::path::Path;
use std::{fs, io};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use crate::agreement::Mode;
use crate::explain::{Cause, Detail, detail};
use crate::golden::Golden;
use crate::report::numbers::thousands;
use crate::report::standing::{Standing, skipped};
use crate::run::{FamilyReport, Report};
use crate::subject::Subject;

const STYLE: &str = include_str!("style.css");

/// What a site is made from.
pub struct Dossier<'a> {
    /// The traces.
    pub golden: &'a Golden,
    /// One entry per implementation.
    pub entries: Vec<Entry<'a>>,
    /// Shows the intermediates that others are held against.
    pub oracle: Option<&'a Subject>,
    /// What `cargo xtask mutants --format json` printed, if it is to be shown.
    pub mutants: Option<Value>,
    /// The report as JSON.
    pub json: Value,
    /// The command that made the report.
    pub command: String,
}

/// One implementation and what came of judging it.
pub struct Entry<'a> {
    /// The implementation.
    pub subject: &'a Subject,
    /// What came of it.
    pub report: &'a Report,
    /// Why it differs.
    pub causes: &'a [Cause],
}

/// Writes `index.html`, a page per implementation and family, `junit.xml`, `report.json`,
/// `summary.md` and `badge.svg` to a directory, which is made if need be.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dossier: &Dossier<'_>, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for entry in &dossier.entries {
        let details = cases::details(dossier, entry);
        for family in &entry.report.families {
            let page = cases::page(dossier, entry, family, &details);
            fs::write(directory.join(page_name(entry.report, family)), page.into_string())?;
        }
    }
    fs::write(directory.join("index.html"), index::page(dossier).into_string())?;
    let junit = junit::junit(dossier).to_string().map_err(io::Error::other)?;
    fs::write(directory.join("junit.xml"), junit)?;
    fs::write(directory.join("report.json"), format!("{:#}\n", dossier.json))?;
    fs::write(directory.join("summary.md"), markdown::markdown(dossier))?;
    fs::write(directory.join("badge.svg"), badge::badge(dossier).into_string())
}

/// The page of an implementation and a family.
fn page_name(report: &Report, family: &FamilyReport) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name = format!("{}--{}", report.name, family.id);
    format!("{}.html", name.chars().map(plain).collect::<String>())
}

/// The frame of every page.
fn frame(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                (body)
            }
        }
    }
}

/// A failure block, whose long lines are folded below their text.
fn block(text: &str) -> Markup {
    html! { pre { @for line in text.lines() { span { (line) "\n" } } } }
}

impl Standing {
    const fn class(self) -> &'static str {
        match self {
            Self::Agrees => "good",
            Self::Differs => "bad",
            Self::Broken => "broken",
            Self::Skipped | Self::Absent => "none",
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Agrees => "✓",
            Self::Differs => "✗",
            Self::Broken => "⚡",
            Self::Skipped | Self::Absent => "–",
        }
    }
}

/// `✓ 6 of 48, 42 skipped`, or that nothing was judged.
fn score(family: &FamilyReport) -> String {
    let (standing, chosen) = (Standing::of(Some(family)), thousands(family.chosen));
    let (sign, skipped) = (standing.sign(), skipped(family));
    let text = match passed(family) {
        _ if standing == Standing::Skipped => return format!("{sign} {chosen} skipped"),
        passed if passed == family.chosen => format!("{sign} {chosen}"),
        passed => format!("{sign} {} of {chosen}", thousands(passed)),
    };
    match skipped {
        0 => text,
        skipped => format!("{text}, {} skipped", thousands(skipped)),
    }
}

/// Passed runs of a family, known differences among them.
fn passed(family: &FamilyReport) -> usize {
    family.agree.len() + family.known_differences
}

/// The worst passing step of a family, or what a cause shows.
fn worst_detail(
    dossier: &Dossier<'_>,
    entry: &Entry<'_>,
    family: &FamilyReport,
) -> Option<(usize, Detail)> {
    let worst = Mode::ALL
        .iter()
        .flat_map(|mode| family.observations.iter(*mode).map(|(_, worst)| (*mode, *worst)))
        .filter(|(_, worst)| worst.variable.is_some() && worst.share().is_finite())
        .max_by(|(_, left), (_, right)| left.share().total_cmp(&right.share()));
    let (mode, worst) = worst?;
    let mut implementation = (entry.subject.make)().ok()?;
    let mut oracle = dossier.oracle.and_then(|oracle| (oracle.make)().ok());
    let trial = dossier.golden.families()[family.family].trial(worst.position);
    let trial = trial.expecting(&entry.report.description.capabilities.expectation);
    let place = (mode, worst.step, worst.variable?);
    let oracle = oracle.as_mut().map(|oracle| &mut **oracle as _);
    Some((worst.position, detail(implementation.as_mut(), oracle, &trial, place)?))
}
