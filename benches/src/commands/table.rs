//! Every implementation, and other libraries, side by side.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use benches::contestant::serve;
use benches::contestants;
use benches::instructions;
use benches::machine::Machine;
use benches::plan::{Extent, PEERS, Peer, Row};
use benches::record::{FORMAT, Results, Run, Writer};
use benches::report::{headline, rows};
use benches::rounds::Effort;
use benches::session::Session;

/// Set by Ctrl-C; the second one ends the program at once.
static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Debug, clap::Args)]
pub(crate) struct Table {
    /// How much is measured
    #[arg(long, value_enum, default_value = "quick")]
    extent: Extent,
    /// Only rows whose name contains one of these; of all rows
    #[arg(long, value_name = "NAME")]
    row: Vec<String>,
    /// Numbers of threads; one and all by default
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Other libraries on the headline rows, by name: `none`, `all` or a list
    #[arg(long, value_delimiter = ',', default_value = "none")]
    peers: Vec<String>,
    /// What runs a peer: for each line of `peers` the Python of the environment, or the program
    /// that cargo built
    #[arg(long, value_name = "LINE=PROGRAM")]
    peer_program: Vec<String>,
    /// The folder of the peers' programs
    #[arg(long, value_name = "DIR", default_value = "benches/peers")]
    scripts: PathBuf,
    /// The program of the libtorch backend
    #[arg(long, value_name = "PROGRAM")]
    torch: Option<PathBuf>,
    /// Without the scalar reference
    #[arg(long)]
    no_reference: bool,
    /// Count instructions with callgrind, where it is installed
    #[arg(long)]
    instructions: bool,
    /// What the goldens say of an implementation of ours
    #[arg(long, value_name = "NAME=passed|REASON")]
    verified: Vec<String>,
    /// Where the samples go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Continue such a file: what it holds is not measured again
    #[arg(long)]
    resume: bool,
    /// The command that is recorded as the one that makes this file
    #[arg(long, default_value = "")]
    command: String,
    /// Print the records as JSON lines in place of tables
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Which one
    name: String,
}

/// What peers are run with, one a line: `python ENVIRONMENT` or `cargo FOLDER`
#[derive(Debug, clap::Args)]
pub(crate) struct Programs {
    /// `none`, `all` or a list
    #[arg(value_delimiter = ',')]
    peers: Vec<String>,
}

impl Programs {
    pub(crate) fn run(&self) -> Result<()> {
        for peer in chosen_peers(&self.peers)? {
            println!("{}", peer.program);
        }
        Ok(())
    }
}

impl Serve {
    pub(crate) fn run(&self) -> Result<()> {
        let mut contestant = contestants::named(&self.name)?;
        serve(&mut *contestant, std::io::stdin().lock(), std::io::stdout().lock())
    }
}

impl Table {
    pub(crate) fn run(&self) -> Result<()> {
        ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("\nending after this sample; once more ends at once");
        })?;
        let rows_to_measure = self.rows()?;
        let all_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut threads = self.threads.clone();
        if threads.is_empty() {
            threads = vec![1, all_threads];
        }
        threads.dedup();
        ensure!(!threads.contains(&0), "threads must be above 0");
        let session = Session {
            program: std::env::current_exe().context("this program")?,
            torch: self.torch.clone(),
            peer_scripts: self.scripts.clone(),
            peer_programs: pairs(&self.peer_program, "peer-program")?
                .into_iter()
                .map(|(name, program)| (name, program.into()))
                .collect(),
            instructions: self.instructions && instructions::is_possible(),
            reference: !self.no_reference,
            effort: if self.extent == Extent::Quick { Effort::QUICK } else { Effort::FULL },
            stop: &STOP,
        };
        let run = Run {
            format: FORMAT.to_owned(),
            command: self.command.clone(),
            commit: commit(),
            date: output("date", &["-u", "+%Y-%m-%d"]),
            machine: Machine::here(),
            verified: pairs(&self.verified, "verified")?,
        };
        let before = if self.resume { Some(Results::read(&self.out)?) } else { None };
        if let Some(before) = &before {
            let (machine, here) = (&before.run.machine, &run.machine);
            ensure!(machine == here, "{} is of {machine}, this is {here}", self.out.display());
        }
        let mut writer = match before {
            Some(_) => Writer::append(&self.out, &run)?,
            None => Writer::create(&self.out, &run)?,
        };
        let peers = chosen_peers(&self.peers)?;
        session.run(&rows_to_measure, &threads, &peers, before.as_ref(), &mut writer)?;
        let results = Results::read(&self.out)?;
        if self.json {
            print!("{}", std::fs::read_to_string(&self.out)?);
        } else {
            println!("{}\n\n{}", results.run.machine, rows(&results));
            if results.blocks.iter().any(|block| block.peer.is_some()) {
                println!("{}", headline(&results));
            }
        }
        eprintln!("samples: {}", self.out.display());
        Ok(())
    }

    fn rows(&self) -> Result<Vec<Row>> {
        if self.row.is_empty() {
            return Ok(self.extent.rows());
        }
        let all = Extent::Full.rows();
        let names: Vec<String> = all.iter().map(Row::name).collect();
        for wanted in &self.row {
            ensure!(
                names.iter().any(|name| name.contains(wanted.as_str())),
                "row must be part of one of {}, got {wanted}",
                names.join(" | ")
            );
        }
        // A name in full means that row alone.
        let chosen = |row: &Row| {
            let name = row.name();
            self.row.iter().any(|wanted| {
                if names.contains(wanted) {
                    name == *wanted
                } else {
                    name.contains(wanted.as_str())
                }
            })
        };
        let mut rows: Vec<Row> = all.into_iter().filter(chosen).collect();
        for row in &mut rows {
            // Who asks for a plain row may see other libraries on it too.
            row.headline |= row.is_plain();
        }
        Ok(rows)
    }
}

fn chosen_peers(names: &[String]) -> Result<Vec<&'static Peer>> {
    match names {
        [one] if one == "none" => Ok(Vec::new()),
        [one] if one == "all" => Ok(PEERS.iter().collect()),
        names => names.iter().map(|name| Peer::named(name)).collect(),
    }
}

fn pairs(values: &[String], what: &str) -> Result<BTreeMap<String, String>> {
    let pair = |value: &String| {
        let (name, value) = value
            .split_once('=')
            .with_context(|| format!("{what} must be NAME=VALUE, got {value}"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    values.iter().map(pair).collect()
}

/// The commit, with a `+` if anything but results differs from it.
fn commit() -> String {
    let changed = output(
        "git",
        &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!benches/results"],
    );
    let mark = if changed.is_empty() { "" } else { "+" };
    format!("{}{mark}", output("git", &["rev-parse", "--short=10", "HEAD"]))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
