//! `cargo xtask matrix`: what the Adafactors of other libraries compute differently.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};
use goldstep_conformance::golden::{Family, Golden};
use goldstep_conformance::{
    Divergence, FamilyReport, Finding, Focus, Report, Selection, Subject, run,
};

use crate::peers::{PEERS, Peer};
use crate::{AGREED, workspace_root};

/// Hold the Adafactors of other libraries against the goldens, and write the page about it
///
/// Each library is installed on demand into an environment of its own below target/peers.
#[derive(Debug, clap::Args)]
pub(crate) struct Matrix {
    /// Libraries by name, comma-separated; all of them if absent
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peer: Vec<String>,
    /// An interpreter that has the library already, instead of an environment; may be repeated
    #[arg(long, value_name = "PEER=PYTHON")]
    python: Vec<String>,
    /// Runs of each family, evenly spread; 0 for all of them
    #[arg(long, value_name = "RUNS", default_value_t = 400)]
    sample: usize,
    /// The golden traces [default: golden/v1]
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// The page [default: adapters/PEERS.md]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A peer with one set of settings, and what came of it.
struct Row {
    peer: &'static Peer,
    settings: Option<(&'static str, &'static str)>,
    report: Report,
}

impl Matrix {
    pub(crate) fn run(&self) -> Result<u8> {
        let root = workspace_root();
        let golden = Golden::load(&self.golden.clone().unwrap_or_else(|| root.join("golden/v1")))?;
        let cases: Vec<String> =
            golden.families().iter().flat_map(|family| sampled(family, self.sample)).collect();
        let selection = Selection::new(&golden, &[], &cases, Focus::default())?;
        let names = PEERS.iter().map(|peer| peer.name.to_owned()).collect();
        let names: Vec<String> = if self.peer.is_empty() { names } else { self.peer.clone() };
        let mut rows = Vec::new();
        for name in &names {
            let peer = Peer::named(name)?;
            let python = match self.interpreter(name)? {
                Some(python) => python,
                None => peer.environment.interpreter(None)?,
            };
            let settings = peer.settings.iter().copied().map(Some);
            let settings: Vec<_> =
                if peer.settings.is_empty() { vec![None] } else { settings.collect() };
            for settings in settings {
                let label = settings.map_or(String::new(), |(key, _)| format!(" ({key})"));
                eprintln!("{name}{label}: {} runs", selection.len());
                let command = peer.command(&python, settings.map(|(key, _)| key));
                let subject = Subject::adapter(command).with_context(|| name.clone())?;
                let threads = available_parallelism().map_or(1, usize::from);
                let report = run(&golden, &selection, &subject, threads, &|_| {})
                    .with_context(|| format!("{name} did not start"))?;
                rows.push(Row { peer, settings, report });
            }
        }
        let output = self.output.clone().unwrap_or_else(|| root.join("adapters/PEERS.md"));
        let page = page(&golden, &rows, self.sample);
        fs::write(&output, page).with_context(|| output.display().to_string())?;
        println!("wrote {}", output.display());
        Ok(AGREED)
    }

    fn interpreter(&self, name: &str) -> Result<Option<PathBuf>> {
        for choice in &self.python {
            match choice.split_once('=') {
                Some((peer, python)) if peer == name => return Ok(Some(python.into())),
                Some(_) => {}
                None => bail!("--python must be PEER=PYTHON, got {choice}"),
            }
        }
        Ok(None)
    }
}

/// The names of at most `most` runs of a family, evenly spread.
fn sampled(family: &Family, most: usize) -> Vec<String> {
    let length = family.len();
    let count = if most == 0 { length } else { length.min(most) };
    (0..count).map(|index| family.trial(index * length / count).name()).collect()
}

fn page(golden: &Golden, rows: &[Row], sample: usize) -> String {
    let mut text = String::from("# How the world's Adafactors differ\n\n");
    let maker = |name: &str| {
        golden.generated().and_then(|made| made.get(name)).map_or(String::new(), |value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        })
    };
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    let date = date.map_or(String::new(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    let spread = match sample {
        0 => "every run".to_owned(),
        most => format!("at most {most} runs of each family, evenly spread"),
    };
    let _ = write!(
        text,
        "Made by `cargo xtask matrix` on {}: {spread}, against tf.keras {}; forced and free, with the \
         tolerances of `verify`. *Agree* counts the runs in which every shown quantity of every step \
         agrees; a run that needs what a library lacks is skipped, and says nothing about it.\n\n\
         | library | settings | version | agree | differ | skipped | first difference, by quantity |\n\
         |---|---|---|---|---|---|---|\n",
        date.trim(),
        maker("tensorflow"),
    );
    for row in rows {
        let sum = |count: fn(&FamilyReport) -> usize| {
            row.report.families.iter().map(count).sum::<usize>()
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.peer.name,
            row.settings.map_or("", |(key, _)| key),
            row.report.description.version,
            sum(|family| family.agree.len()),
            sum(|family| family.differ.len()),
            sum(|family| family.skipped.values().sum()),
            by_quantity(&row.report),
        );
    }
    for peer in &PEERS {
        let own: Vec<&Row> = rows.iter().filter(|row| row.peer.name == peer.name).collect();
        if !own.is_empty() {
            section(&mut text, golden, peer, &own);
        }
    }
    text
}

/// How often each quantity is the first that differs.
fn by_quantity(report: &Report) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let differ = report.families.iter().flat_map(|family| &family.differ);
    for (_, divergence) in differ {
        let name = divergence.quantity().name();
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    parts.join(", ")
}

fn section(text: &mut String, golden: &Golden, peer: &Peer, rows: &[&Row]) {
    let _ = write!(text, "\n## {}\n\n", peer.name);
    let agreeing =
        |row: &Row| -> usize { row.report.families.iter().map(|family| family.agree.len()).sum() };
    if rows.len() > 1 {
        let best = rows.iter().max_by_key(|row| agreeing(row));
        for row in rows {
            let Some((key, meaning)) = row.settings else { continue };
            let closest = best.is_some_and(|best| std::ptr::eq(*best, *row));
            let mark = if closest { " **Closest.**" } else { "" };
            let _ = writeln!(text, "- `{key}`: {meaning}; {} runs agree.{mark}", agreeing(row));
        }
        text.push('\n');
    }
    text.push_str("What to know when you move from it:\n\n");
    for line in peer.moving {
        let _ = writeln!(text, "- {line}");
    }
    text.push('\n');
    let heads: Vec<&str> =
        rows.iter().map(|row| row.settings.map_or("agree", |(key, _)| key)).collect();
    let _ = writeln!(text, "| family | {} | where it first differs |", heads.join(" | "));
    let _ = writeln!(text, "|---|{}---|", "---|".repeat(heads.len()));
    for family in golden.families() {
        let reports: Vec<Option<&FamilyReport>> =
            rows.iter().map(|row| row.report.family(&family.id)).collect();
        let cells: Vec<String> = reports.iter().map(|report| cell(*report)).collect();
        let first = rows.iter().zip(&reports).find_map(|(row, report)| {
            let (position, divergence) = report.as_ref()?.differ.first()?;
            Some(format!(
                "{}: {}",
                row.settings.map_or("", |(key, _)| key),
                described(family, *position, divergence)
            ))
        });
        let first = first.unwrap_or_default();
        let first = first.trim_start_matches(": ");
        let _ = writeln!(text, "| {} | {} | {first} |", family.id, cells.join(" | "));
    }
}

fn cell(report: Option<&FamilyReport>) -> String {
    let Some(report) = report else { return "–".to_owned() };
    let judged = report.agree.len() + report.differ.len() + report.known_differences;
    let mut text = match judged {
        0 => "skipped".to_owned(),
        _ => format!("{} of {judged}", report.agree.len() + report.known_differences),
    };
    let missing = report.broken.len() + report.given_up;
    if missing > 0 {
        let _ = write!(text, ", {missing} without an answer");
    }
    text
}

fn described(family: &Family, position: usize, divergence: &Divergence) -> String {
    let trial = family.trial(position);
    let step = divergence.step.map_or(String::new(), |step| format!(", step {step}"));
    let place = format!("`{}`{step} ({})", trial.name(), divergence.mode.name());
    match &divergence.finding {
        Finding::Value(value) => {
            let variable = value.variable.and_then(|index| trial.variables.get(index));
            let variable = variable.map_or(String::new(), |one| format!(" of {}", one.name));
            format!(
                "{place}: {}{variable} is {:e}, expected {:e}; off by {:.1} {}, allowed {:.1}",
                value.quantity.name(),
                value.actual,
                value.expected,
                value.error,
                value.allowance.unit(),
                value.allowance.figure(),
            )
        }
        Finding::Shape { quantity, .. } => format!("{place}: {} has another size", quantity.name()),
        Finding::Accepted { expected } => {
            format!("{place}: accepts what tf.keras refuses with {}", expected.kind)
        }
        Finding::Refused { kind, message, .. } => {
            let short: String = message.replace(['|', '\n'], " ").chars().take(100).collect();
            format!("{place}: refuses with {kind}: {short}")
        }
    }
}
