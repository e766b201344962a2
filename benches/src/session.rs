//! The whole run: which blocks, in which order, with which processes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::contestant::Task;
use crate::instructions;
use crate::plan::{Dialect, LEARNING_RATE, Peer, Program, Row, full_below_128};
use crate::process::{Launch, Process};
use crate::record::{Block, Entrant, Failure, Instructions, Record, Results, Writer};
use crate::rounds::{Call, Effort, STEPS_BEFORE, Turn, expected_seconds, introduce, take_turns};

/// How contestants are started, and how much is measured.
#[derive(Debug)]
pub struct Session {
    /// This program, which holds our contestants.
    pub program: PathBuf,
    /// The program of the libtorch backend, if it takes part.
    pub torch: Option<PathBuf>,
    /// Where the programs of the peers lie.
    pub peer_scripts: PathBuf,
    /// The Python of each environment, and the program of each workspace.
    pub peer_programs: BTreeMap<String, PathBuf>,
    /// Whether callgrind counts instructions.
    pub instructions: bool,
    /// Whether the scalar reference takes part.
    pub reference: bool,
    /// How long it all takes.
    pub effort: Effort,
    /// Whether somebody wants it to end.
    pub stop: &'static AtomicBool,
}

/// One block to measure.
#[derive(Debug, Clone, Copy)]
struct Step<'a> {
    row: &'a Row,
    threads: usize,
    peer: Option<&'a Peer>,
}

impl Session {
    /// Measures every row on each number of threads, ours first, then each peer on the headline
    /// rows, without what was measured `before`. Lines go to `writer` as they are made.
    ///
    /// # Errors
    /// Results that cannot be written. What a contestant cannot do is a line of the results.
    pub fn run(
        &self,
        rows: &[Row],
        threads: &[usize],
        peers: &[&Peer],
        before: Option<&Results>,
        writer: &mut Writer,
    ) -> Result<()> {
        let mut steps = Vec::new();
        for row in rows {
            steps.extend(threads.iter().map(|&threads| Step { row, threads, peer: None }));
        }
        for peer in peers {
            for &threads in threads {
                let headline = rows.iter().filter(|row| row.headline);
                steps.extend(headline.map(|row| Step { row, threads, peer: Some(peer) }));
            }
        }
        steps.retain(|Step { row, threads, peer }| {
            let peer = peer.map(|peer| peer.name);
            !before.is_some_and(|before| before.has(&row.name(), *threads, peer))
        });
        let mut progress = Progress::new(&steps);
        // A peer is started once for all rows: its imports take seconds.
        let mut guest: Option<((&str, usize), Process)> = None;
        for (index, step) in steps.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            progress.show(index, step);
            let wanted = step.peer.map(|peer| (peer.name, step.threads));
            if guest.as_ref().map(|(key, _)| *key) != wanted {
                guest = None;
            }
            let outcome = self.block(step, &mut guest);
            let record = match outcome {
                Ok(block) => Record::Block(Box::new(block)),
                Err(error) => {
                    guest = None;
                    progress.complain(step, &error);
                    Record::Failure(Failure {
                        row: step.row.name(),
                        threads: step.threads,
                        peer: step.peer.map(|peer| peer.name.to_owned()),
                        reason: format!("{error:#}"),
                    })
                }
            };
            writer.write(&record)?;
            if let Some(counted) = self.instructions(step) {
                writer.write(&counted)?;
            }
            progress.done(step);
        }
        progress.end();
        Ok(())
    }

    fn block<'a>(
        &self,
        step: &Step<'a>,
        guest: &mut Option<((&'a str, usize), Process)>,
    ) -> Result<Block> {
        let Step { row, threads, peer } = *step;
        let task = row.task(threads);
        let mut processes = vec![self.ours("cpu", threads)?];
        let mut entrants = vec![introduce(&mut processes[0], &task, "cpu")?];
        let mut turns = vec![Turn { name: "cpu".to_owned(), process: 0, call: Call::Step }];
        if peer.is_none() {
            // The same process twice shows the noise of a ratio.
            for (name, call) in [("cpu again", Call::Step), ("bound", Call::Stream)] {
                turns.push(Turn { name: name.to_owned(), process: 0, call });
                entrants.push(bare(name));
            }
        }
        let ours_change = entrants[0].change;
        let mut others = Vec::new();
        if self.reference && peer.is_none() && row.has_reference() && threads == 1 {
            others.push(("reference", self.ours("reference", threads)?));
        }
        let torch_peer = peer.is_none_or(|peer| peer.name.starts_with("torch-adafactor"));
        if let Some(program) = self.torch.as_ref().filter(|_| torch_peer)
            && row.dtype == "float32"
        {
            let launch = Launch { command: vec![program.into()] };
            others.push(("torch", Process::start(&launch, threads)?));
        }
        for (name, mut process) in others {
            let entrant = introduce(&mut process, &task, name)?;
            entrants.push(Entrant { expected_change: ours_change, ..entrant });
            turns.push(Turn { name: name.to_owned(), process: processes.len(), call: Call::Step });
            processes.push(process);
        }
        if let Some(peer) = peer {
            let mut process = match guest.take() {
                Some((_, process)) => process,
                None => self.peer(peer, threads)?,
            };
            let entrant = introduce(&mut process, &task, peer.name)?;
            let expected_change = self.expected_change(peer, &task, ours_change)?;
            entrants.push(Entrant { expected_change, ..entrant });
            turns.push(Turn {
                name: peer.name.to_owned(),
                process: processes.len(),
                call: Call::Step,
            });
            processes.push(process);
        }
        let interrupted =
            take_turns(&mut processes, &turns, &mut entrants, self.effort, self.stop)?;
        if let Some(peer) = peer
            && let Some(process) = processes.pop()
        {
            *guest = Some(((peer.name, threads), process));
        }
        Ok(Block {
            row: row.name(),
            elements: row.workload.elements(),
            tensors: row.workload.shapes.len(),
            threads,
            peer: peer.map(|peer| peer.name.to_owned()),
            interrupted,
            entrants,
        })
    }

    /// Counts instructions once per row, of rows that valgrind steps in seconds.
    fn instructions(&self, step: &Step<'_>) -> Option<Record> {
        const LARGEST: usize = 1_100_000;
        let Step { row, threads, peer } = *step;
        let wanted = self.instructions && peer.is_none() && threads == 1;
        if !wanted || row.workload.elements() > LARGEST || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let name = row.name();
        Some(match instructions::per_parameter(&self.program, &row.task(1)) {
            Ok(per_parameter) => Record::Instructions(Instructions {
                row: name,
                isa: instructions::ISA.to_owned(),
                per_parameter,
            }),
            Err(error) => Record::Failure(Failure {
                row: name,
                threads,
                peer: None,
                reason: format!("{error:#}"),
            }),
        })
    }

    /// What a peer's parameters have to do in the first steps, by its dialect.
    fn expected_change(&self, peer: &Peer, task: &Task, ours: Option<f64>) -> Result<Option<f64>> {
        match peer.dialect {
            Dialect::Adafactor => Ok(ours),
            Dialect::AdamW => Ok(Some(LEARNING_RATE * f64::from(STEPS_BEFORE))),
            Dialect::AdafactorFullBelow128 => {
                let shapes = full_below_128(&task.shapes);
                if shapes == task.shapes {
                    return Ok(ours);
                }
                let mut process = self.ours("cpu", task.threads)?;
                let task = Task { shapes, ..task.clone() };
                Ok(introduce(&mut process, &task, "cpu")?.change)
            }
        }
    }

    fn ours(&self, name: &str, threads: usize) -> Result<Process> {
        let command = [self.program.as_os_str(), "contestant".as_ref(), name.as_ref()];
        let launch = Launch { command: command.map(OsString::from).to_vec() };
        Process::start(&launch, threads).with_context(|| name.to_owned())
    }

    fn peer(&self, peer: &Peer, threads: usize) -> Result<Process> {
        let program = self.peer_programs.get(&peer.program.to_string());
        let program = program.with_context(|| format!("no program for {}", peer.program))?;
        let mut command = vec![OsString::from(program)];
        if let Program::Python { script, mode, .. } = peer.program {
            let script = self.peer_scripts.join(script);
            command.extend([script.into(), mode.into(), threads.to_string().into()]);
        }
        Process::start(&Launch { command }, threads).with_context(|| peer.name.to_owned())
    }
}

/// An entrant that shares the process of another.
fn bare(name: &str) -> Entrant {
    Entrant {
        name: name.to_owned(),
        versions: BTreeMap::new(),
        count: 0,
        ns: Vec::new(),
        build_ns: None,
        first_ns: None,
        state_bytes: None,
        memory_bytes: None,
        change: None,
        expected_change: None,
    }
}

/// What runs and how long it will take, on standard error.
#[derive(Debug)]
struct Progress {
    start: Instant,
    blocks: usize,
    expected: f64,
    done: f64,
    terminal: bool,
}

impl Progress {
    fn new(steps: &[Step<'_>]) -> Self {
        let expected = steps.iter().map(seconds).sum();
        let terminal = std::io::stderr().is_terminal();
        Self { start: Instant::now(), blocks: steps.len(), expected, done: 0.0, terminal }
    }

    fn show(&self, index: usize, step: &Step<'_>) {
        let against = step.peer.map_or("ours".to_owned(), |peer| peer.title.to_owned());
        let so_far = self.start.elapsed().as_secs_f64();
        // Until something has been measured, the guess has to do.
        let pace = if self.done > 0.0 { so_far / self.done } else { 1.0 };
        let left = (self.expected - self.done) * pace;
        let line = format!(
            "[{}/{}] {}, {} thread{}: {against}; {:.0} min {:02.0} s left",
            index + 1,
            self.blocks,
            step.row.name(),
            step.threads,
            if step.threads == 1 { "" } else { "s" },
            (left / 60.0).floor(),
            (left % 60.0).floor(),
        );
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            let _shown = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    fn complain(&self, step: &Step<'_>, error: &anyhow::Error) {
        let who = step.peer.map_or("ours", |peer| peer.name);
        let before = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!("{before}{who} on {}: {error:#}", step.row.name());
    }

    fn done(&mut self, step: &Step<'_>) {
        self.done += seconds(step);
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        eprintln!("measured in {:.0} s", self.start.elapsed().as_secs_f64());
    }
}

fn seconds(step: &Step<'_>) -> f64 {
    expected_seconds(step.row.workload.elements(), step.peer.is_some())
}
