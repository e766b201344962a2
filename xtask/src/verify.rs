//! `cargo xtask verify`: backends against golden traces.

use std::io::{IsTerminal, stdout};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use goldstep_conformance::explain::{Cause, explain};
use goldstep_conformance::golden::Golden;
use goldstep_conformance::report::{failures, folded, golden_line, json, not_answered, summary};
use goldstep_conformance::site::{Dossier, Entry, write};
use goldstep_conformance::{Focus, FreeRuns, Report, Selection, Subject, quoted, run};
use indicatif::{ProgressBar, ProgressStyle};

use crate::adapter::{AdapterOptions, end_with_this_command};
use crate::{AGREED, FAILED, MISMATCH, backends, bench, mutants, workspace_root};

/// The width of a table where there is no terminal to ask.
const WIDTH: usize = 160;
/// Combinations that libtorch runs free besides one of each trajectory.
const OTHER_FREE_RUNS: usize = 2000;

/// Hold backends against tf.keras, for every golden trace
///
/// Exit codes: 0 all that was judged agrees (what is skipped is counted and named, not passed), 1 a
/// mismatch, 2 nothing was judged, or the harness, a backend or the set-up failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Backends by name, comma-separated: reference, cpu, cpu-store (cpu where it holds the
    /// parameters), torch; all of them if absent; mutant:ID is a wrong implementation that
    /// `cargo xtask mutants` lists
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    backend: Vec<String>,
    #[command(flatten)]
    programs: AdapterOptions,
    /// Thread counts of the cpu backend, comma-separated; each is judged as a backend of its own
    #[arg(long, value_name = "COUNT", value_delimiter = ',')]
    threads: Vec<NonZeroUsize>,
    /// Runs that are judged at a time, and so processes of a program at once [default: one for each
    /// core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Where libtorch computes: cpu, cuda or cuda:INDEX
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Which combinations of a grid libtorch runs free: all, or one of each trajectory and 2,000
    /// others that this seed draws; a new seed each time if absent
    #[arg(long, value_name = "all|SEED", value_parser = free_runs)]
    free: Option<FreeRuns>,
    /// A directory with a manifest, with self-contained cases, or with both [default: golden/v1]
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// Only these families, comma-separated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    family: Vec<String>,
    /// Only these runs: family/number or family/id, comma-separated
    #[arg(long, value_name = "FAMILY/ID")]
    case: Vec<String>,
    /// Only this variable
    #[arg(long, value_name = "NAME")]
    variable: Option<String>,
    /// Only this step, counted from 1
    #[arg(long, value_name = "STEP")]
    step: Option<usize>,
    /// What is printed to standard output
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Write pages, JUnit XML, JSON, Markdown and a badge to this directory
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A row per backend, a block per cause of a mismatch.
    Human,
    /// One JSON object.
    Json,
}

impl Verify {
    pub(crate) fn run(&self) -> Result<u8> {
        end_with_this_command()?;
        let directory = self.golden.clone().unwrap_or_else(|| workspace_root().join("golden/v1"));
        let golden = Golden::load(&directory)?;
        let focus = Focus { variable: self.variable.clone(), step: self.step };
        let selection = Selection::new(&golden, &self.family, &self.case, focus)?;
        // Last, because it may have to provide libtorch.
        let mut subjects = self.subjects()?;
        if let Some(directory) = &self.golden {
            for subject in &mut subjects {
                subject.invocation = subject.invocation.clone().on(directory);
            }
        }
        // Before anything is judged: sources may change in the meantime.
        let keeps = self.golden.is_none() && self.device == "cpu" && selection.is_complete();
        let sources = keeps.then(bench::digest);
        let reports = judge(&golden, &selection, &subjects, self.jobs)?;
        // Backends come first; a program may call itself whatever it likes.
        let backends = &reports[..reports.len() - self.programs.adapter.len()];
        let kept = sources.map(|sources| bench::record(&sources?, backends));
        if let Some(Err(error)) = kept {
            eprintln!("not kept for `cargo xtask bench`: {error:#}");
        }

        for report in &reports {
            let claimed = &report.description.capabilities.expectation;
            if !golden.knows_expectation(claimed) {
                let name = &report.name;
                eprintln!(
                    "{name} claims the expectation {claimed:?}, which no trace has: held against goldstep's"
                );
            }
        }

        let suspects = mutants::suspects();
        let explained = |(subject, report): (&Subject, &Report)| {
            let oracle = backends::oracle_for(subject);
            let _shown = (!report.agrees())
                .then(|| Spinner::new(format!("explaining what differs in {}", subject.name)));
            explain(&golden, report, subject, Some(&oracle), &suspects)
        };
        let causes: Vec<Vec<Cause>> = subjects.iter().zip(&reports).map(explained).collect();
        let pairs: Vec<(&Report, &[Cause])> =
            reports.iter().zip(causes.iter().map(Vec::as_slice)).collect();
        match self.format {
            Format::Human => print_human(&golden, &pairs, &reports),
            Format::Json => println!("{:#}", json(&golden, &pairs)),
        }
        if let Some(directory) = &self.report {
            let entry = |(subject, (report, causes))| Entry { subject, report, causes };
            let oracle = goldstep_reference::conformance::subject();
            let dossier = Dossier {
                golden: &golden,
                entries: subjects.iter().zip(pairs.iter().copied()).map(entry).collect(),
                oracle: Some(&oracle),
                mutants: mutants::smoke_as_json(&golden)?,
                json: json(&golden, &pairs),
                command: command(),
            };
            write(&dossier, directory).context("the report cannot be written")?;
            eprintln!("report: {}", directory.join("index.html").display());
        }
        let broken = reports.iter().any(Report::is_broken);
        Ok(match reports.iter().all(Report::agrees) {
            _ if broken => FAILED,
            true => AGREED,
            false => MISMATCH,
        })
    }
}

impl Verify {
    fn subjects(&self) -> Result<Vec<Subject>> {
        let mut subjects = match (self.backend.is_empty(), self.programs.adapter.is_empty()) {
            (true, false) => Vec::new(),
            _ => {
                let free_runs = self.free.unwrap_or_else(|| sample(seed_from_clock()));
                backends::subjects(&self.backend, &self.device, free_runs, &self.threads)?
            }
        };
        subjects.extend(self.programs.subjects(&subjects)?);
        Ok(subjects)
    }
}

/// Judges the backends of those names on every trace of the project.
pub(crate) fn everything(names: &[String]) -> Result<Vec<Report>> {
    let golden = Golden::load(&workspace_root().join("golden/v1"))?;
    let subjects = backends::subjects(names, "cpu", sample(seed_from_clock()), &[])?;
    judge(&golden, &Selection::all(&golden), &subjects, None)
}

/// The value of `--free`.
fn free_runs(text: &str) -> Result<FreeRuns, String> {
    if text == "all" {
        return Ok(FreeRuns::All);
    }
    let seed = text.parse().map_err(|_| format!("must be `all` or a whole number, got {text}"))?;
    Ok(sample(seed))
}

fn sample(seed: u64) -> FreeRuns {
    FreeRuns::Sample { others: OTHER_FREE_RUNS, seed }
}

/// Five digits: enough to vary, short enough to type.
fn seed_from_clock() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time.as_secs() % 100_000
}

/// Judges one backend after the other, so that times do not disturb each other.
fn judge(
    golden: &Golden,
    selection: &Selection,
    subjects: &[Subject],
    jobs: Option<NonZeroUsize>,
) -> Result<Vec<Report>> {
    let threads = jobs.or_else(|| available_parallelism().ok()).map_or(1, usize::from);
    let bar = progress_bar(selection.len() as u64 * subjects.len() as u64);
    let report = |subject: &Subject| {
        bar.set_message(subject.name.clone());
        run(golden, selection, subject, threads, &|runs| bar.inc(runs))
            .with_context(|| format!("{} did not start", subject.name))
    };
    let reports = subjects.iter().map(report).collect();
    bar.finish_and_clear();
    reports
}

fn print_human(golden: &Golden, pairs: &[(&Report, &[Cause])], reports: &[Report]) {
    println!("{}", golden_line(golden));
    for (report, causes) in pairs {
        let text = failures(report, causes) + &not_answered(golden, report);
        // A pipe keeps whole lines, for grep.
        print!("{}", if stdout().is_terminal() { folded(&text, terminal_width()) } else { text });
    }
    print!("{}", summary(reports, terminal_width()));
}

/// What was typed, as a shell reads it.
fn command() -> String {
    let arguments = std::env::args().skip(1).map(|word| quoted(&word));
    std::iter::once("cargo xtask".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// On a terminal a bar on standard error; nothing in a pipe.
fn progress_bar(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    let template = "{msg:<12} {wide_bar} {human_pos} of {human_len} runs, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// What is going on, on a terminal, until this is dropped.
struct Spinner(ProgressBar);

impl Spinner {
    fn new(what: String) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn terminal_width() -> usize {
    if !stdout().is_terminal() {
        return WIDTH;
    }
    let columns = console::Term::stdout().size().1;
    usize::from(columns)
}
