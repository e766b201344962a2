//! `cargo xtask bench`: verify, then measure side by side.

mod verified;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::{build, cargo, cargo_in, executable};
use crate::environment::{JAX, TENSORFLOW_2_12, TORCH};
use crate::{AGREED, FAILED, libtorch, workspace_root};

pub(crate) use verified::{digest, record};

/// Measure steps of every implementation and of other libraries, and publish the tables
///
/// Implementations have to pass the goldens first. Without a choice the headline rows and all
/// others are measured, against all libraries: an hour and more. Ctrl-C keeps what was measured.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("extent").args(["quick", "headline", "row"])))]
pub(crate) struct Bench {
    /// A few rows for a glance, without other libraries: under two minutes
    #[arg(long)]
    quick: bool,
    /// Only the rows on which other libraries are measured: about an hour
    #[arg(long)]
    headline: bool,
    /// Only rows whose name contains this; repeatable
    #[arg(long, value_name = "NAME")]
    row: Vec<String>,
    /// Our implementations, comma-separated [default: all; reference,cpu with --quick]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    backend: Vec<String>,
    /// Other libraries, by name: none, all or a list [default: all; none with --quick]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,
    /// Numbers of threads, comma-separated [default: one and all]
    #[arg(long, value_name = "COUNT", value_delimiter = ',')]
    threads: Vec<String>,
    /// Where the samples go [default: benches/results/DATE-COMMIT.jsonl]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Continue a file of samples that was interrupted, or lacks a library: what it holds is not
    /// measured again
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    resume: Option<PathBuf>,
    /// What is printed to standard output
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Renew the tables and plots of README and documentation from what was measured
    #[arg(long, conflicts_with = "quick")]
    publish: bool,
    /// The same from samples that were measured before; nothing is measured
    #[arg(long, value_name = "FILE", conflicts_with_all = ["extent", "publish", "compare"])]
    publish_from: Option<PathBuf>,
    /// Only check that every published number has samples behind it
    #[arg(long, conflicts_with_all = ["extent", "publish", "compare", "publish_from"])]
    check: bool,
    /// Only compare two files of samples
    #[arg(long, value_names = ["BEFORE", "AFTER"], num_args = 2, conflicts_with_all = ["extent", "publish"])]
    compare: Vec<PathBuf>,
    /// `table`, or `bound`: steps against the least memory traffic, in one process
    #[arg(long, value_enum, default_value_t = Suite::Table)]
    suite: Suite,
    /// Arguments of the bound suite
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Tables in Markdown.
    Human,
    /// The samples, one JSON object a line.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// The tables that are published.
    Table,
    /// Steps against the least memory traffic, in one process.
    Bound,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<u8> {
        let program = build(cargo(), &["--package", "benches", "--bin", "benches"])?;
        let mut command = Command::new(program);
        command.current_dir(workspace_root());
        if self.suite == Suite::Bound {
            command.arg("bound").args(&self.arguments);
            if self.quick {
                command.arg("--quick");
            }
            return status(command);
        }
        ensure!(self.arguments.is_empty(), "arguments after -- must be of --suite bound");
        if let [before, after] = self.compare.as_slice() {
            command.arg("compare").arg(before).arg(after);
            return status(command);
        }
        if self.check || self.publish_from.is_some() {
            command.arg("publish").args(&self.publish_from);
            if self.check {
                command.arg("--check");
            }
            return status(command);
        }
        let given = self.resume.as_ref().or(self.out.as_ref());
        let out = given.cloned().map_or_else(default_out, Ok)?;
        self.measure(&mut command, &out)?;
        // Ctrl-C reaches the measuring program too, which ends after its sample.
        ctrlc::set_handler(|| ()).context("Ctrl-C")?;
        let outcome = status(command)?;
        if self.publish && outcome == AGREED {
            let mut publish =
                Command::new(build(cargo(), &["--package", "benches", "--bin", "benches"])?);
            publish.current_dir(workspace_root()).arg("publish").arg(&out);
            return status(publish);
        }
        Ok(outcome)
    }

    /// The arguments of a measurement: everything that it needs is made here.
    fn measure(&self, command: &mut Command, out: &PathBuf) -> Result<()> {
        let extent = match (self.quick, self.headline) {
            (true, _) => "quick",
            (_, true) => "headline",
            _ => "full",
        };
        command.args(["table", "--extent", extent]);
        for row in &self.row {
            command.arg("--row").arg(row);
        }
        if !self.threads.is_empty() {
            command.arg("--threads").arg(self.threads.join(","));
        }
        let names = self.backends()?;
        let is_wanted = |name: &str| names.iter().any(|one| one == name);
        for (name, verdict) in verified::verdicts(&names)? {
            command.arg("--verified").arg(format!("{name}={verdict}"));
        }
        if is_wanted("cpu") && !self.quick {
            command.arg("--instructions");
        }
        if !is_wanted("reference") {
            command.arg("--no-reference");
        }
        if is_wanted("torch") {
            let cargo = libtorch::cargo(&libtorch::find_or_provide()?);
            let arguments = [
                "--package",
                "benches",
                "--features",
                "benches/torch",
                "--bin",
                "contestant-torch",
            ];
            command.arg("--torch").arg(build(cargo, &arguments)?);
        }
        let wanted = self.peers();
        command.arg("--peers").arg(wanted.join(","));
        for line in peer_programs(command.get_program().into(), &wanted)? {
            let program = peer_program(&line)?;
            command.arg("--peer-program").arg(format!("{line}={}", program.display()));
        }
        command.arg("--out").arg(out).arg("--command").arg(self.command_line());
        if self.resume.is_some() {
            command.arg("--resume");
        }
        if self.format == Format::Json {
            command.arg("--json");
        }
        Ok(())
    }

    fn backends(&self) -> Result<Vec<String>> {
        if !self.backend.is_empty() {
            let known = verified::MEASURED.map(|(name, _)| name);
            for name in &self.backend {
                ensure!(
                    known.contains(&name.as_str()),
                    "backend must be one of {}, got {name}",
                    known.join(", ")
                );
            }
            return Ok(self.backend.clone());
        }
        let all = verified::MEASURED.iter().map(|(name, _)| *name);
        Ok(all.filter(|name| !(self.quick && *name == "torch")).map(str::to_owned).collect())
    }

    fn peers(&self) -> Vec<String> {
        match (self.peers.is_empty(), self.quick) {
            (false, _) => self.peers.clone(),
            (true, true) => vec!["none".to_owned()],
            (true, false) => vec!["all".to_owned()],
        }
    }

    /// The command that makes such a file again.
    fn command_line(&self) -> String {
        let mut line = "cargo xtask bench".to_owned();
        let arguments = std::env::args().skip(2).filter(|argument| argument != "--publish");
        for argument in arguments {
            line.push(' ');
            let plain = |c: char| c.is_alphanumeric() || "-_=.,/²".contains(c);
            if argument.chars().all(plain) {
                line.push_str(&argument);
            } else {
                line.push_str(&format!("'{argument}'"));
            }
        }
        line
    }
}

/// The Python of an environment or the program of a workspace, which is made if need be.
fn peer_program(line: &str) -> Result<PathBuf> {
    const WITHOUT: &str = "`--peers none` does without other libraries";
    if let Some(folder) = line.strip_prefix("cargo ") {
        return executable(peer_build(folder)).context(WITHOUT);
    }
    let known = [TENSORFLOW_2_12, JAX, TORCH];
    let found = known.iter().find(|one| Some(one.name) == line.strip_prefix("python "));
    let found = found.with_context(|| format!("no environment is called {line}"))?;
    found.interpreter(None).context(WITHOUT)
}

/// Cargo that builds a peer: a workspace of its own, with nothing beside it.
fn peer_build(folder: &str) -> Command {
    let mut cargo = cargo_in(&workspace_root().join("benches/peers").join(folder));
    let target = workspace_root().join("target").join(format!("contestant-{folder}"));
    cargo.args(["build", "--release", "--locked", "--target-dir"]).arg(target);
    cargo
}

/// What those peers are run with.
fn peer_programs(program: OsString, wanted: &[String]) -> Result<BTreeSet<String>> {
    let output = Command::new(program).arg("peers").arg(wanted.join(",")).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", error.trim().trim_start_matches("error: "));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn status(mut command: Command) -> Result<u8> {
    let status = command.status().context("the measuring program did not start")?;
    Ok(if status.success() { AGREED } else { FAILED })
}

/// A name of its own for each day and commit.
fn default_out() -> Result<PathBuf> {
    let output = |program: &str, arguments: &[&str]| -> Result<String> {
        let output =
            Command::new(program).current_dir(workspace_root()).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let time = output("date", &["-u", "+%Y%m%d-%H%M"])?;
    let commit = output("git", &["rev-parse", "--short=10", "HEAD"])?;
    Ok(PathBuf::from(format!("benches/results/{time}-{commit}.jsonl")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was asked for `xtask` too, which no peer's workspace has, and no run against other libraries
    /// began.
    #[test]
    fn a_peer_is_built_by_itself() {
        let cargo = peer_build("burn");
        let folder = cargo.get_current_dir().unwrap();
        assert!(folder.join("Cargo.lock").is_file(), "{}", folder.display());
        let arguments: Vec<_> = cargo.get_args().collect();
        assert!(!arguments.iter().any(|argument| *argument == "--package"), "{arguments:?}");
    }
}
