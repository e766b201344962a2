//! `cargo xtask mutants`: the judge before the deliberately wrong.

mod diagnosis;
mod page;
mod smoke;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use goldstep_conformance::agreement::{Quantity, Role};
use goldstep_conformance::explain::Suspect;
use goldstep_conformance::golden::{Golden, Traces};
use goldstep_conformance::{Focus, Report, Selection, Subject, run};
use goldstep_mutants::{Effect, Mistake, Mutant};

use self::diagnosis::Named;
use crate::{AGREED, MISMATCH, workspace_root};

/// Of a grid with more combinations than this so many are taken, unless all are asked for.
const SAMPLE: usize = 400;
/// The families in which a harmless rewrite may differ: whose values overflow or underflow.
const EXTREME: [&str; 2] = ["values", "edge"];

/// Judge deliberately wrong implementations: all have to fail, and harmless rewrites to pass
///
/// Exit codes: 0 every wrong one is rejected and every harmless one accepted, 1 otherwise, 2 the
/// harness or the set-up failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Mutants {
    /// A directory with golden traces [default: golden/v1]
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// Only these mistakes, comma-separated
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Only the harmless rewrites
    #[arg(long, conflicts_with = "only")]
    harmless: bool,
    /// Every combination of every grid, not every so many
    #[arg(long)]
    all: bool,
    /// Only the runs of the smoke tier, each mistake until the first that rejects it
    #[arg(long, conflicts_with_all = ["all", "choose_smoke", "diagnose", "publish"])]
    smoke: bool,
    /// Choose the smoke tier anew and write it down
    #[arg(long)]
    choose_smoke: bool,
    /// Judge each mistake as a backend and count how often the diagnosis names it
    #[arg(long, conflicts_with = "choose_smoke")]
    diagnose: bool,
    /// Judge and diagnose, and write the table into crates/goldstep-mutants/MISTAKES.md; with
    /// --only, the rows of these mistakes
    #[arg(long, conflicts_with_all = ["choose_smoke", "diagnose", "format"])]
    publish: bool,
    /// What is printed to standard output
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table.
    Human,
    /// One JSON object.
    Json,
}

/// What became of one mutant.
struct Verdict {
    mistake: Mistake,
    report: Report,
    /// What the diagnosis says of a wrong one, if it was asked.
    named: Option<Named>,
}

impl Mutants {
    pub(crate) fn run(&self) -> Result<u8> {
        let directory = self.golden.clone().unwrap_or_else(|| workspace_root().join("golden/v1"));
        let golden = Golden::load(&directory)?;
        let mistakes = self.mistakes()?;
        if self.smoke {
            return smoke::check(&golden, &mistakes);
        }
        let start = Instant::now();
        let selection = selection(&golden, self.all)?;
        let bar = indicatif::ProgressBar::new(mistakes.len() as u64);
        let verdicts = side_by_side(&mistakes, |mistake| {
            let mut verdict = judge(&golden, &selection, mistake)?;
            if (self.diagnose || self.publish) && mistake.effect() == Effect::Wrong {
                verdict.named = Some(Named::of(&golden, mistake, &verdict.report));
            }
            bar.inc(1);
            Ok(verdict)
        })?;
        bar.finish_and_clear();
        if self.diagnose {
            return diagnosis::print(&verdicts);
        }
        if self.choose_smoke {
            return smoke::choose(&golden, &verdicts).map(|()| AGREED);
        }
        match self.format {
            _ if self.publish => page::publish(&verdicts, selection.len())?,
            Format::Human => table::print(&verdicts, selection.len(), start),
            Format::Json => println!("{:#}", table::json(&golden, &verdicts)),
        }
        let wrong = wrongly_judged(&verdicts);
        for line in &wrong {
            eprintln!("{line}");
        }
        Ok(if wrong.is_empty() { AGREED } else { MISMATCH })
    }

    fn mistakes(&self) -> Result<Vec<Mistake>> {
        if self.harmless {
            return Ok(Mistake::harmless().collect());
        }
        if self.only.is_empty() {
            return Ok(Mistake::wrong().chain(Mistake::harmless()).collect());
        }
        let find = |id: &String| {
            Mistake::from_id(id).with_context(|| format!("mistake must be a known id, got {id}"))
        };
        self.only.iter().map(find).collect()
    }
}

/// The known mistakes, for the diagnosis of whoever is judged.
pub(crate) fn suspects() -> Vec<Suspect> {
    let suspect = |mistake: Mistake| Suspect {
        id: mistake.id().to_owned(),
        what: mistake.what().to_owned(),
        make: Box::new(move || Ok(Box::new(Mutant::new(mistake)))),
    };
    Mistake::wrong().map(suspect).collect()
}

/// The smoke tier's verdicts for a report; nothing where its runs are not among the goldens.
pub(crate) fn smoke_as_json(golden: &Golden) -> Result<Option<serde_json::Value>> {
    let Some(selection) = smoke::selection(golden)? else { return Ok(None) };
    let mistakes: Vec<Mistake> = Mistake::wrong().chain(Mistake::harmless()).collect();
    let verdicts = side_by_side(&mistakes, |mistake| judge(golden, &selection, mistake))?;
    Ok(Some(table::json(golden, &verdicts)))
}

fn subject(mistake: Mistake) -> Subject {
    Subject::new(mistake.id(), Role::Other, move || Ok(Box::new(Mutant::new(mistake))))
}

/// All cases, and of each grid all combinations or every so many.
fn selection(golden: &Golden, all: bool) -> Result<Selection> {
    if all {
        return Ok(Selection::all(golden));
    }
    let mut names = Vec::new();
    for family in golden.families() {
        // Coprime to every number of values of an argument, so that no value is left out.
        let step = match family.traces {
            Traces::Grid(_) if family.len() > SAMPLE => coprime(family.len() / SAMPLE),
            _ => 1,
        };
        names.extend((0..family.len()).step_by(step).map(|position| family.trial(position).name()));
    }
    Ok(Selection::new(golden, &[], &names, Focus::default())?)
}

fn coprime(least: usize) -> usize {
    (least.max(2)..).find(|step| [2, 3, 5, 7].iter().all(|prime| step % prime != 0)).unwrap_or(1)
}

fn judge(golden: &Golden, selection: &Selection, mistake: Mistake) -> Result<Verdict> {
    let report = run(golden, selection, &subject(mistake), 1, &|_| {})?;
    Ok(Verdict { mistake, report, named: None })
}

/// Applies `work` to every mistake, in their order, on all processors.
fn side_by_side<T: Send>(
    mistakes: &[Mistake],
    work: impl Fn(Mistake) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<T>>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((index, mistake)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    mistakes.get(index).map(|mistake| (index, *mistake))
                } {
                    let result = work(mistake);
                    if let Ok(mut done) = done.lock() {
                        done.insert(index, result);
                    }
                }
            });
        }
    });
    let done = done.into_inner().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
    ensure!(done.len() == mistakes.len(), "a worker ended early");
    done.into_values().collect()
}

impl Verdict {
    /// Runs that reject it, extreme values aside for a harmless one.
    fn kills(&self) -> usize {
        let harmless = self.mistake.effect() == Effect::Harmless;
        let counts = self.report.families.iter().filter(|one| !(harmless && is_extreme(&one.id)));
        counts.map(|family| family.differ.len() + family.broken.len()).sum()
    }

    /// The first family that rejects it, and the first quantity that it spoils there.
    fn first(&self) -> Option<(&str, Quantity)> {
        let families = self.report.families.iter();
        let (family, divergence) =
            families.filter_map(|family| Some((family, &family.differ.first()?.1))).next()?;
        Some((family.id.as_str(), divergence.quantity()))
    }
}

fn is_extreme(family: &str) -> bool {
    EXTREME.iter().any(|name| family.starts_with(name))
}

fn wrongly_judged(verdicts: &[Verdict]) -> Vec<String> {
    let line = |verdict: &Verdict| match (verdict.mistake.effect(), verdict.kills()) {
        (Effect::Wrong, 0) => {
            Some(format!("SURVIVES  {}: {}", verdict.mistake.id(), verdict.mistake.what()))
        }
        (Effect::Harmless | Effect::None, kills) if kills > 0 => {
            let first = verdict.first().map_or_else(String::new, |(family, quantity)| {
                format!(", first {} in {family}", quantity.name())
            });
            Some(format!("REJECTED  {} in {kills} runs{first}", verdict.mistake.id()))
        }
        _ => None,
    };
    verdicts.iter().filter_map(line).collect()
}
