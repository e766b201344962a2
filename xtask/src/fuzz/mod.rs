//! `cargo xtask fuzz`: random cases, tf.keras against everything else.

mod draft;
mod draw;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use goldstep_conformance::explain::explain;
use goldstep_conformance::golden::Golden;
use goldstep_conformance::protocol::{Adapter, AdapterCommand};
use goldstep_conformance::report::{failures, not_answered};
use goldstep_conformance::{FreeRuns, Report, Selection, Subject, run};

use self::draft::Draft;
use self::draw::{Random, draw};
use crate::adapter::{AdapterOptions, end_with_this_command};
use crate::peers::PEERS;
use crate::{AGREED, MISMATCH, backends, mutants, workspace_root};

/// Cases that are judged together.
const BATCH: usize = 25;
/// Attempts to make a diverging case smaller.
const ATTEMPTS: usize = 150;
/// Diverging cases after which there is enough to look at.
const ENOUGH: usize = 5;

/// Put random cases through tf.keras and all backends, and shrink what differs to a case
///
/// Exit codes: 0 all agree, 1 a divergence, 2 the set-up, tf.keras or an adapter failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// How long it goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Stop after so many cases
    #[arg(long, value_name = "CASES")]
    cases: Option<usize>,
    /// The same seed draws the same cases
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Backends by name, comma-separated; all of them if absent
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    backend: Vec<String>,
    /// Where libtorch computes: cpu, cuda or cuda:INDEX
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    #[command(flatten)]
    adapters: AdapterOptions,
    /// An interpreter that has TensorFlow 2.12.1 already
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Where diverging cases go [default: target/fuzz]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// What judges a draft: the oracle, who is judged, and a folder for the case between them.
struct Bench {
    command: AdapterCommand,
    oracle: Adapter,
    subjects: Vec<Subject>,
    folder: PathBuf,
    /// Cases judged last that differ as float32 arithmetic does, counted for each subject.
    wide: usize,
}

impl Fuzz {
    pub(crate) fn run(&self) -> Result<u8> {
        end_with_this_command()?;
        let [oracle, ..] = &PEERS;
        let python = oracle.provide(self.python.clone())?;
        let command = oracle.command(&python, None);
        let mut subjects = backends::subjects(&self.backend, &self.device, FreeRuns::All, &[])?;
        subjects.extend(self.adapters.subjects(&subjects)?);
        let output = self.output.clone().unwrap_or_else(|| workspace_root().join("target/fuzz"));
        let folder = output.join(format!(".work-{}", std::process::id()));
        let oracle = Adapter::start(&command)?;
        let mut bench = Bench { oracle, command, subjects, folder, wide: 0 };
        let outcome = self.hunt(&mut bench, &output);
        let _gone = fs::remove_dir_all(&bench.folder);
        outcome
    }

    fn hunt(&self, bench: &mut Bench, output: &Path) -> Result<u8> {
        let begin = Instant::now();
        let end = Duration::from_secs(self.seconds);
        let mut random = Random::new(self.seed);
        let mut done = 0;
        let mut half = 0;
        let mut wide = 0;
        let mut found = 0;
        while begin.elapsed() < end && self.cases.is_none_or(|most| done < most) && found < ENOUGH {
            let size = self.cases.map_or(BATCH, |most| BATCH.min(most - done));
            let drafts: Vec<Draft> = (0..size).map(|_| draw(&mut random)).collect();
            let names: Vec<String> =
                (done..done + size).map(|at| format!("fuzz-{}-{at:06}", self.seed)).collect();
            let diverging = bench.diverging(&drafts, &names)?;
            wide += bench.wide;
            for (position, name) in diverging {
                found += 1;
                let small = bench.shrunk(drafts[position].clone(), &name)?;
                self.tell(bench, &small, &names[position], &name, output)?;
            }
            done += size;
            half += drafts.iter().filter(|draft| draft.is_half()).count();
            eprintln!(
                "{done} cases, {found} diverge, {wide} as float32 arithmetic does, {:.0} s",
                begin.elapsed().as_secs_f64()
            );
        }
        let names: Vec<&str> = bench.subjects.iter().map(|one| one.name.as_str()).collect();
        println!(
            "seed {}: {done} cases, {half} of them half precision, against {}: {found} diverge, {wide} times \
             as float32 arithmetic does in half precision, {:.0} s",
            self.seed,
            names.join(", "),
            begin.elapsed().as_secs_f64()
        );
        Ok(if found == 0 { AGREED } else { MISMATCH })
    }

    /// Writes a diverging case and says how to see it again.
    fn tell(
        &self,
        bench: &mut Bench,
        draft: &Draft,
        id: &str,
        subject: &str,
        output: &Path,
    ) -> Result<()> {
        let comment = format!("{subject} differs; seed {}", self.seed);
        let case = draft.record(&mut bench.oracle, id, &comment)?;
        let folder = output.join(id);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{id}.json")), format!("{case:#}\n"))?;
        let golden = Golden::load(&folder)?;
        let selection = Selection::all(&golden);
        for one in bench.subjects.iter().filter(|one| one.name == subject) {
            let mut report = run(&golden, &selection, one, 1, &|_| {})?;
            report.invocation = report.invocation.on(&folder);
            let oracle = backends::oracle_for(one);
            let causes = explain(&golden, &report, one, Some(&oracle), &mutants::suspects());
            print!("{}", failures(&report, &causes));
            print!("{}", not_answered(&golden, &report));
            println!("  see it again       {}\n", report.invocation.verify());
        }
        Ok(())
    }
}

impl Bench {
    /// The drafts that diverge, by position, each with the first subject that does.
    fn diverging(&mut self, drafts: &[Draft], names: &[String]) -> Result<Vec<(usize, String)>> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::create_dir_all(&self.folder)?;
        for (draft, name) in drafts.iter().zip(names) {
            let case = match draft.record(&mut self.oracle, name, "") {
                Ok(case) => case,
                Err(failure) => bail!("tf.keras ({}) on {name}: {failure}", self.command),
            };
            fs::write(self.folder.join(format!("{name}.json")), case.to_string())?;
        }
        let golden = Golden::load(&self.folder)?;
        let all = Selection::all(&golden);
        self.wide = 0;
        let mut found: Vec<(usize, String)> = Vec::new();
        for subject in &self.subjects {
            let report = run(&golden, &all, subject, 2, &|_| {})
                .with_context(|| format!("{} did not start", subject.name))?;
            self.wide += report.families.iter().map(|family| family.wide).sum::<usize>();
            for id in unlike(&golden, &report) {
                let position = names.iter().position(|name| *name == id).context("a case")?;
                if found.iter().all(|(known, _)| *known != position) {
                    found.push((position, subject.name.clone()));
                }
            }
        }
        Ok(found)
    }

    /// The smallest case found for which the subject still diverges.
    fn shrunk(&mut self, mut draft: Draft, subject: &str) -> Result<Draft> {
        let name = ["shrinking".to_owned()];
        let mut attempts = 0;
        loop {
            let mut better = None;
            for smaller in draft.smaller() {
                attempts += 1;
                if attempts > ATTEMPTS {
                    return Ok(draft);
                }
                let found = self.diverging(std::slice::from_ref(&smaller), &name)?;
                if found.iter().any(|(_, who)| who == subject) {
                    better = Some(smaller);
                    break;
                }
            }
            match better {
                Some(smaller) => draft = smaller,
                None => return Ok(draft),
            }
        }
    }
}

/// The ids of the runs that differ or got no answer.
fn unlike(golden: &Golden, report: &Report) -> Vec<String> {
    let ids = report.families.iter().flat_map(|family| {
        let traces = &golden.families()[family.family];
        let differ = family.differ.iter().map(|(position, _)| *position);
        let broken = family.broken.iter().map(|(position, _)| *position);
        differ.chain(broken).map(|position| traces.trial(position).id.into_owned())
    });
    ids.collect()
}
