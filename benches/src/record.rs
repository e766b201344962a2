//! Raw samples, one JSON object a line, written as they are made: an interruption keeps them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// The version of this format.
pub const FORMAT: &str = "goldstep-bench/1";

/// The verdict on an implementation that passed the goldens.
pub const PASSED: &str = "passed";

/// A line of a file of results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// What, where, when: the first line, and one more where a later run continued the file.
    Run(Box<Run>),
    /// One row against one peer, or ours alone.
    Block(Box<Block>),
    /// Instructions of a step of goldstep-cpu.
    Instructions(Instructions),
    /// Something that could not be measured.
    Failure(Failure),
}

/// What was run, where and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`FORMAT`].
    pub format: String,
    /// The command that makes such a file.
    pub command: String,
    /// The commit, with a `+` if files were changed since.
    pub commit: String,
    /// The day.
    pub date: String,
    /// The machine.
    pub machine: Machine,
    /// What the goldens say of each of our implementations in this tree: `passed`, or what else.
    pub verified: BTreeMap<String, String>,
}

/// Samples of contestants that took turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// The row's name.
    pub row: String,
    /// Elements of all parameters.
    pub elements: usize,
    /// Number of parameters.
    pub tensors: usize,
    /// Threads of each contestant.
    pub threads: usize,
    /// The peer that ours were measured against, by its name on the command line.
    pub peer: Option<String>,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Who took part.
    pub entrants: Vec<Entrant>,
}

/// One contestant's samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entrant {
    /// `cpu`, `cpu again`, `bound`, `torch`, `reference`, or a peer's name.
    pub name: String,
    /// Versions of what it is made of.
    pub versions: BTreeMap<String, String>,
    /// Steps in a sample.
    pub count: u32,
    /// Nanoseconds of a step, by round.
    pub ns: Vec<u64>,
    /// Nanoseconds of the construction.
    pub build_ns: Option<u64>,
    /// Nanoseconds of the first step, with whatever it compiles.
    pub first_ns: Option<u64>,
    /// Bytes of the state.
    pub state_bytes: Option<u64>,
    /// Bytes by which construction and three steps raised the highest memory of the process, over
    /// parameters and gradients.
    pub memory_bytes: Option<u64>,
    /// Mean absolute change of the parameters in three steps.
    pub change: Option<f64>,
    /// What it has to be.
    pub expected_change: Option<f64>,
}

/// Instructions of a step of goldstep-cpu, on one thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instructions {
    /// The row's name.
    pub row: String,
    /// The instruction set.
    pub isa: String,
    /// Instructions per parameter.
    pub per_parameter: f64,
}

/// Something that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The row's name.
    pub row: String,
    /// Threads.
    pub threads: usize,
    /// The peer, if it was against one.
    pub peer: Option<String>,
    /// Why.
    pub reason: String,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// Its first line. An implementation that did not pass in a later run has not passed here.
    pub run: Run,
    /// The runs that continued it, on the same machine.
    pub continued: Vec<Run>,
    /// What was measured.
    pub blocks: Vec<Block>,
    /// Instructions that were counted.
    pub instructions: Vec<Instructions>,
    /// What could not be.
    pub failures: Vec<Failure>,
}

/// A file of results that grows.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Begins a file; one that is there already is replaced.
    ///
    /// # Errors
    /// A path that cannot be written.
    pub fn create(path: &Path, run: &Run) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let mut open = OpenOptions::new();
        let file = open.create(true).write(true).truncate(true).open(path);
        let mut writer = Self(file.with_context(|| path.display().to_string())?);
        writer.write(&Record::Run(Box::new(run.clone())))?;
        Ok(writer)
    }

    /// Continues a file with another run.
    ///
    /// # Errors
    /// A path that cannot be written.
    pub fn append(path: &Path, run: &Run) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(path);
        let mut writer = Self(file.with_context(|| path.display().to_string())?);
        writer.write(&Record::Run(Box::new(run.clone())))?;
        Ok(writer)
    }

    /// Appends a line.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        self.0.write_all(line.as_bytes()).context("results must be writable")
    }
}

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that is not there or not of this format, with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> Result<Self> {
        let mut results: Option<Self> = None;
        for (index, line) in text.lines().enumerate() {
            let record: Record =
                serde_json::from_str(line).with_context(|| format!("line {}", index + 1))?;
            match (record, &mut results) {
                (Record::Run(run), results) => {
                    ensure!(run.format == FORMAT, "format must be {FORMAT}, got {}", run.format);
                    if let Some(results) = results {
                        results
                            .continue_with(*run)
                            .with_context(|| format!("line {}", index + 1))?;
                        continue;
                    }
                    *results = Some(Self {
                        run: *run,
                        continued: Vec::new(),
                        blocks: Vec::new(),
                        instructions: Vec::new(),
                        failures: Vec::new(),
                    });
                }
                (Record::Block(block), Some(results)) => results.blocks.push(*block),
                (Record::Instructions(one), Some(results)) => results.instructions.push(one),
                (Record::Failure(failure), Some(results)) => results.failures.push(failure),
                (_, None) => anyhow::bail!("line {}: a run must come first", index + 1),
            }
        }
        results.context("results must begin with a run, got an empty file")
    }

    /// Takes up the first line of a run that continued the file.
    fn continue_with(&mut self, run: Run) -> Result<()> {
        let (first, machine) = (&self.run.machine, &run.machine);
        ensure!(first == machine, "a file must hold one machine, got {first} and {machine}");
        for (name, verdict) in &run.verified {
            let known = self.run.verified.entry(name.clone()).or_insert_with(|| verdict.clone());
            if known == PASSED {
                known.clone_from(verdict);
            }
        }
        self.continued.push(run);
        Ok(())
    }

    /// The block of a row, alone or against a peer: the last one, since one that was interrupted may
    /// have been measured again.
    #[must_use]
    pub fn block(&self, row: &str, threads: usize, peer: Option<&str>) -> Option<&Block> {
        self.blocks.iter().rev().find(|block| {
            block.row == row && block.threads == threads && block.peer.as_deref() == peer
        })
    }

    /// Whether that block was measured to its end.
    #[must_use]
    pub fn has(&self, row: &str, threads: usize, peer: Option<&str>) -> bool {
        self.block(row, threads, peer).is_some_and(|block| !block.interrupted)
    }
}

impl Block {
    /// The entrant of that name.
    #[must_use]
    pub fn entrant(&self, name: &str) -> Option<&Entrant> {
        self.entrants.iter().find(|entrant| entrant.name == name)
    }
}

impl Entrant {
    /// The samples.
    #[must_use]
    pub fn samples(&self) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds, far below 2^53")]
        self.ns.iter().map(|ns| *ns as f64).collect()
    }

    /// Whether it computed what it has to, within a hundredth; `None` where that is unknown.
    #[must_use]
    pub fn computed_right(&self) -> Option<bool> {
        let (change, expected) = (self.change?, self.expected_change?);
        Some((change / expected - 1.0).abs() < 0.01)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(record: &Record) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    fn run(commit: &str, verdict: &str) -> Run {
        Run {
            format: FORMAT.to_owned(),
            command: "cargo xtask bench".to_owned(),
            commit: commit.to_owned(),
            date: "2026-11-23".to_owned(),
            machine: Machine {
                processor: "p".to_owned(),
                threads: 2,
                caches: Vec::new(),
                system: "s".to_owned(),
                compiler: "c".to_owned(),
            },
            verified: BTreeMap::from([("cpu".to_owned(), verdict.to_owned())]),
        }
    }

    fn block(peer: Option<&str>, interrupted: bool) -> Record {
        Record::Block(Box::new(Block {
            row: "256²".to_owned(),
            elements: 65_536,
            tensors: 1,
            threads: 1,
            peer: peer.map(str::to_owned),
            interrupted,
            entrants: Vec::new(),
        }))
    }

    #[test]
    fn a_file_can_be_continued() {
        let first = line(&Record::Run(Box::new(run("a", PASSED)))) + &line(&block(None, true));
        let results = Results::parse(&first).unwrap();
        assert!(!results.has("256²", 1, None));
        let second = Record::Run(Box::new(run("b", "failed the goldens")));
        let text = first + &line(&second) + &line(&block(None, false));
        let results = Results::parse(&text).unwrap();
        assert!(results.has("256²", 1, None) && !results.has("256²", 2, None));
        assert_eq!(results.continued[0].commit, "b");
        assert_eq!(results.run.verified["cpu"], "failed the goldens");
    }

    #[test]
    fn a_file_holds_one_machine_and_begins_with_a_run() {
        let mut other = run("b", PASSED);
        other.machine.processor.push('x');
        let text = [run("a", PASSED), other].map(|run| line(&Record::Run(Box::new(run)))).concat();
        let error = format!("{:#}", Results::parse(&text).unwrap_err());
        assert!(error.contains("line 2: a file must hold one machine"), "{error}");
        let error = Results::parse(&line(&block(None, false))).unwrap_err().to_string();
        assert_eq!(error, "line 1: a run must come first");
    }
}
