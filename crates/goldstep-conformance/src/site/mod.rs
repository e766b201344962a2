//! A verification as files: pages for people, JUnit XML, JSON, Markdown and a badge for programs.
//!
//! The pages need no network, no script and no font but those of the reader's system.

mod badge;
mod cases;
mod index;
mod junit;
mod markdown;
mod plot;

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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
/// Everything is written beside its place first and renamed last, so that whoever interrupts it
/// keeps the report that was there.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dossier: &Dossier<'_>, directory: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in &dossier.entries {
        let details = cases::details(dossier, entry);
        for family in &entry.report.families {
            let page = cases::page(dossier, entry, family, &details);
            files.push((page_name(entry.report, family), page.into_string()));
        }
    }
    let junit = junit::junit(dossier).to_string().map_err(io::Error::other)?;
    let mut add = |name: &str, text: String| files.push((name.to_owned(), text));
    add("junit.xml", junit);
    add("report.json", format!("{:#}\n", dossier.json));
    add("summary.md", markdown::markdown(dossier));
    add("badge.svg", badge::badge(dossier).into_string());
    // Last, because it links to the others.
    add("index.html", index::page(dossier).into_string());
    put(directory, &files)
}

/// Writes files under temporary names, and then gives them their own.
fn put(directory: &Path, files: &[(String, String)]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let unfinished = directory.join(".unfinished");
    fs::create_dir_all(&unfinished)?;
    for (name, text) in files {
        fs::write(unfinished.join(name), text)?;
    }
    for (name, _) in files {
        fs::rename(unfinished.join(name), directory.join(name))?;
    }
    fs::remove_dir_all(unfinished)
}

/// The page of an implementation and a family.
fn page_name(report: &Report, family: &FamilyReport) -> String {
    format!("{}--{}.html", plain(&report.name), plain(&family.id))
}

/// Bytes of a part of a file's name before it is cut: two parts have to fit into 255.
const LONGEST_NAME: usize = 96;

/// A name as a part of a file's name: another one for every name, `--` nowhere in it.
fn plain(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '-' if text.ends_with('-') => text.push_str("~2d~"),
            'a'..='z' | '0'..='9' | '-' | '_' => text.push(c),
            // Some file systems do not tell capitals from small letters.
            'A'..='Z' => text.extend(['~', '~', c.to_ascii_lowercase()]),
            _ => text.extend(format!("~{:x}~", u32::from(c)).chars()),
        }
    }
    if text.len() > LONGEST_NAME {
        // Writing to a string cannot fail.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        text.truncate(LONGEST_NAME);
        let _ = write!(text, "~~~{:016x}", hasher.finish());
    }
    if text.ends_with('-') { text + "~" } else { text }
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
    Some((
        worst.position,
        detail(implementation.as_mut(), oracle, &trial, entry.subject.role, place)?,
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_that_differ_have_pages_that_differ() {
        assert_eq!(plain("cpu-3-threads"), "cpu-3-threads");
        assert_eq!(plain("mutant:sign_flipped"), "mutant~3a~sign_flipped");
        let names = ["a b", "a_b", "a-b", "a--b", "a-", "a", "A", "\na", "AA", "a.b", "a/b", "~a"];
        let plain: BTreeSet<String> = names.iter().map(|name| plain(name)).collect();
        assert_eq!(plain.len(), names.len(), "{plain:?}");
        assert!(plain.iter().all(|name| !name.contains("--") && !name.contains(['/', '.'])));
        // Any two fit into a file's name.
        let long =
            ["漢".repeat(200), "漢".repeat(201), "a-".repeat(99)].map(|name| super::plain(&name));
        assert!(long.iter().all(|name| name.len() < 120 && !name.contains("--")), "{long:?}");
        assert_ne!(long[0], long[1]);
    }

    #[test]
    fn a_report_that_cannot_be_finished_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        put(directory.path(), &[file("index.html", "old")]).unwrap();
        let unwritable = [file("index.html", "new"), file("no/such/folder", "x")];
        put(directory.path(), &unwritable).unwrap_err();
        let index = directory.path().join("index.html");
        assert_eq!(fs::read_to_string(&index).unwrap(), "old");
        put(directory.path(), &[file("index.html", "new")]).unwrap();
        assert_eq!(fs::read_to_string(&index).unwrap(), "new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
