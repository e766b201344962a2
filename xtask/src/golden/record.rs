//! Runs the generator and shows how far it is.

use std::io::{BufRead, BufReader, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::scratch;
use crate::environment::{TENSORFLOW_2_12, TENSORFLOW_2_15};
use crate::workspace_root;

/// How many combinations of a grid a sample has.
pub(super) const SAMPLE: usize = 480;
/// The family that needs the second oracle.
const TWO_ORACLES: &str = "known-differences";

/// Whether there are interpreters for both oracles.
///
/// # Errors
/// What was found instead.
pub(super) fn fitting(python: Option<&Path>) -> Result<()> {
    for oracle in [TENSORFLOW_2_12, TENSORFLOW_2_15] {
        oracle.find(python)?;
    }
    Ok(())
}

/// What is to be recorded, and where to.
#[derive(Debug)]
pub(super) struct Recording {
    /// A directory that does not exist yet; it appears complete or not at all.
    pub(super) out: PathBuf,
    /// Traces from which all other families are taken.
    pub(super) base: Option<PathBuf>,
    /// How many combinations of a grid; all if `None`.
    pub(super) sample: Option<usize>,
    /// Families by id; all if empty.
    pub(super) families: Vec<String>,
    /// Processes.
    pub(super) jobs: Option<NonZeroUsize>,
    /// The Python to start from.
    pub(super) python: Option<PathBuf>,
    /// A program in place of the generator.
    pub(super) generator: Option<PathBuf>,
}

/// One line of the generator's standard error.
#[derive(Debug, Deserialize)]
struct Progress {
    progress: String,
    done: u64,
    total: u64,
    left_s: Option<f64>,
}

impl Recording {
    /// Records; the generator's summary, a line a family.
    pub(super) fn run(&self) -> Result<Vec<String>> {
        let mut command = self.command()?;
        // The generator stops when this end of its standard input closes, however we end.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("the generator did not start")?;
        let stdin = child.stdin.take();
        let said = follow(&mut child);
        let output = child.wait_with_output().context("the generator was lost")?;
        drop(stdin);
        // With this code the generator refuses what it was given, and says why at the end.
        let refused = said.last().filter(|_| output.status.code() == Some(2));
        if let Some(reason) = refused {
            let reason = reason.split_once("error: ").map_or(reason.as_str(), |(_, reason)| reason);
            bail!("the generator refused: {reason}");
        }
        ensure!(
            output.status.success(),
            "the generator failed with {}:\n{}",
            output.status,
            said.join("\n")
        );
        let summary = String::from_utf8_lossy(&output.stdout);
        Ok(summary.lines().map(str::to_owned).collect())
    }

    /// Runs the generator's own tests, which need no TensorFlow.
    pub(super) fn test(&self) -> Result<()> {
        if self.generator.is_some() {
            return Ok(());
        }
        let generator = workspace_root().join("golden/generator");
        let python = TENSORFLOW_2_12.interpreter(self.python.as_deref())?;
        let output = Command::new(python)
            .args(["-B", "-m", "unittest", "discover", "--quiet", "--start-directory"])
            .arg(generator.join("tests"))
            .output()
            .context("the generator's tests did not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the generator's tests must pass, got:\n{said}");
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let generator = workspace_root().join("golden/generator");
        let scratch = scratch()?;
        let mut command = if let Some(program) = &self.generator {
            Command::new(program)
        } else {
            let python = self.python.as_deref();
            let mut command = Command::new(TENSORFLOW_2_12.interpreter(python)?);
            // No compiled files beside the sources, whose sum goes into the manifest.
            command.arg("-B").arg(generator.join("generate.py"));
            if self.records(TWO_ORACLES) {
                command.arg("--python-2-15").arg(TENSORFLOW_2_15.interpreter(python)?);
            }
            command
        };
        command.arg("--out").arg(&self.out).arg("--work").arg(scratch.join("work"));
        command.args(["--progress", "json", "--stop-at-eof"]);
        if let Some(base) = &self.base {
            command.arg("--base").arg(base);
        }
        if !self.families.is_empty() {
            command.arg("--families").arg(self.families.join(","));
        }
        if let Some(sample) = self.sample {
            command.arg("--sample").arg(sample.to_string());
        }
        if let Some(jobs) = self.jobs {
            command.arg("--jobs").arg(jobs.to_string());
        }
        Ok(command)
    }

    fn records(&self, family: &str) -> bool {
        self.families.is_empty() || self.families.iter().any(|name| name == family)
    }
}

/// Shows the progress until the generator closes its standard error; what else it said there.
fn follow(child: &mut Child) -> Vec<String> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:<20} {wide_bar} {pos} of {len}, {prefix}")
    {
        bar.set_style(style);
    }
    let terminal = std::io::stderr().is_terminal();
    let mut said = Vec::new();
    let mut tenth = 0;
    let Some(stderr) = child.stderr.take() else { return said };
    for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
        let Ok(progress) = serde_json::from_str::<Progress>(&line) else {
            said.push(line);
            continue;
        };
        let left = progress.left_s.map_or_else(String::new, time_left);
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.progress);
        bar.set_prefix(left.clone());
        let reached = 10 * progress.done / progress.total.max(1);
        if !terminal && reached > tenth {
            tenth = reached;
            eprintln!("recorded {} of {} parts, {left}", progress.done, progress.total);
        }
    }
    bar.finish_and_clear();
    said
}

fn time_left(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s left")
    } else {
        format!("{:.0} min left", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_told_in_a_fitting_unit() {
        assert_eq!(time_left(12.3), "12 s left");
        assert_eq!(time_left(1500.0), "25 min left");
    }
}
