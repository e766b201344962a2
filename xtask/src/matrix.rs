//! `cargo xtask matrix`: what the Adafactors of other libraries compute differently.

mod page;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use goldstep_conformance::golden::{Family, Golden};
use goldstep_conformance::{Capabilities, Focus, Report, Selection, Subject, run};

use self::page::{Circumstances, Page};
use crate::adapter::end_with_this_command;
use crate::peers::{PEERS, Peer};
use crate::{AGREED, FAILED, workspace_root};

/// Hold the Adafactors of other libraries against the goldens, and write the page about it
///
/// Each library is installed on demand into an environment of its own below target/python; burn is
/// built, where it is named. What is not run keeps its place in the page.
#[derive(Debug, clap::Args)]
pub(crate) struct Matrix {
    /// Libraries by name, comma-separated; all those for Python if absent
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
    /// Runs of the traces that need what it does not have; none of them was tried.
    beyond: usize,
}

impl Matrix {
    pub(crate) fn run(&self) -> Result<u8> {
        end_with_this_command()?;
        let root = workspace_root();
        let golden = Golden::load(&self.golden.clone().unwrap_or_else(|| root.join("golden/v1")))?;
        let output = self.output.clone().unwrap_or_else(|| root.join("adapters/PEERS.md"));
        let mut page = match output.exists() {
            true => Page::read(&fs::read_to_string(&output)?),
            false => Page::default(),
        };
        let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("the date")?;
        let circumstances = Circumstances {
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            sample: self.sample,
        };
        let mut absent = Vec::new();
        for peer in self.peers()? {
            match self.rows(peer, &golden) {
                Ok(rows) => page.renew(&golden, peer, &rows, &circumstances),
                // The others still have something to tell.
                Err(error) => {
                    eprintln!("{}: {error:#}", peer.name);
                    absent.push(peer.name);
                }
            }
            ensure!(!page.is_empty(), "a library must answer, got none");
            // At once: the next library may take long, or be interrupted.
            fs::write(&output, page.text()).with_context(|| output.display().to_string())?;
        }
        println!("wrote {}", output.display());
        if absent.is_empty() {
            return Ok(AGREED);
        }
        println!("not in this run, because they did not start: {}", absent.join(", "));
        Ok(FAILED)
    }

    fn peers(&self) -> Result<Vec<&'static Peer>> {
        for choice in &self.python {
            let (peer, _) = choice
                .split_once('=')
                .with_context(|| format!("--python must be PEER=PYTHON, got {choice}"))?;
            Peer::named(peer)?;
        }
        match self.peer.as_slice() {
            [] => Ok(PEERS.iter().filter(|peer| peer.by_default()).collect()),
            names => names.iter().map(|name| Peer::named(name)).collect(),
        }
    }

    /// What a peer computes, with each of its sets of settings.
    fn rows(&self, peer: &'static Peer, golden: &Golden) -> Result<Vec<Row>> {
        let name = peer.name;
        let program = peer.provide(self.interpreter(name))?;
        let settings: Vec<_> = match peer.settings {
            [] => vec![None],
            settings => settings.iter().copied().map(Some).collect(),
        };
        let threads = available_parallelism().map_or(1, usize::from);
        let row = |settings: Option<(&'static str, &'static str)>| {
            let label = settings.map_or(String::new(), |(key, _)| format!(" ({key})"));
            let command = peer.command(&program, settings.map(|(key, _)| key));
            let subject = Subject::adapter(command)?;
            let description = (subject.make)()?.describe().clone();
            let mut drawn = Vec::new();
            let mut beyond = 0;
            for family in golden.families() {
                let possible = possible(family, &description.capabilities);
                beyond += family.len() - possible.len();
                drawn.extend(spread(&possible, self.sample).map(|at| family.trial(at).name()));
            }
            let selection = Selection::new(golden, &[], &drawn, Focus::default())?;
            let report = run(golden, &selection, &subject, threads, &|_| {})?;
            let seconds = report.elapsed.as_secs_f64();
            eprintln!("{name}{label}: {} runs, {seconds:.0} s", selection.len());
            Ok(Row { peer, settings, report, beyond })
        };
        settings.into_iter().map(row).collect()
    }

    fn interpreter(&self, name: &str) -> Option<PathBuf> {
        let mut choices = self.python.iter().filter_map(|choice| choice.split_once('='));
        choices.find(|(peer, _)| *peer == name).map(|(_, python)| python.into())
    }
}

/// The runs of a family that an implementation can be asked to do, by position.
fn possible(family: &Family, can: &Capabilities) -> Vec<usize> {
    (0..family.len()).filter(|at| can.lack(&family.trial(*at)).is_none()).collect()
}

/// At most `most` of `all`, evenly spread; 0 for all of them.
fn spread(all: &[usize], most: usize) -> impl Iterator<Item = usize> {
    let count = if most == 0 { all.len() } else { all.len().min(most) };
    (0..count).map(move |index| all[index * all.len() / count])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_drawn_among_what_is_possible() {
        let golden = Golden::load(&workspace_root().join("golden/v1")).unwrap();
        let family = golden.families().iter().find(|one| one.id == "grid-f32").unwrap();
        let mut can = Capabilities::minimal("goldstep");
        assert!(possible(family, &can).is_empty());
        can.dtypes.push(goldstep_core::DType::Float32);
        can.arguments.extend(["beta_2_decay".to_owned(), "relative_step".to_owned()]);
        let some = possible(family, &can);
        assert!(!some.is_empty() && some.len() < family.len());
        let drawn: Vec<usize> = spread(&some, 5).collect();
        assert_eq!(drawn.len(), some.len().min(5));
        assert!(drawn.iter().all(|at| can.lack(&family.trial(*at)).is_none()));
        assert_eq!(spread(&some, 0).count(), some.len());
    }
}
