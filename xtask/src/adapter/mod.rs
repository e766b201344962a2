//! `cargo xtask adapter`: programs of other people that speak the adapter protocol.

mod check;
mod new;
mod serve;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use goldstep_conformance::Subject;
use goldstep_conformance::protocol::{AdapterCommand, Limits};

/// Programs that speak the adapter protocol: check one, begin one, be one
#[derive(Debug, clap::Args)]
pub(crate) struct Adapter {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    New(new::New),
    Serve(serve::Serve),
}

impl Adapter {
    /// The exit code.
    pub(crate) fn run(&self) -> Result<u8> {
        match &self.command {
            Command::Check(command) => command.run(),
            Command::New(command) => command.run(),
            Command::Serve(command) => command.run(),
        }
    }
}

/// Programs that are judged, as options of a command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AdapterOptions {
    /// A program that speaks the adapter protocol, with its arguments; judged beside the backends
    /// that --backend names, alone if it names none; may be repeated
    #[arg(long, value_name = "COMMAND")]
    pub(crate) adapter: Vec<String>,
    /// Seconds that such a program has for each answer, and six times as many to start
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(crate) adapter_timeout: f64,
}

impl AdapterOptions {
    /// Each program as a subject under the name that it gives itself.
    pub(crate) fn subjects(&self) -> Result<Vec<Subject>> {
        let answer = Duration::try_from_secs_f64(self.adapter_timeout)
            .with_context(|| format!("--adapter-timeout {}", self.adapter_timeout))?;
        let limits = Limits { answer, start: answer * 6, ..Limits::default() };
        let subject = |line: &String| {
            let command = AdapterCommand::from_line(line)?.with_limits(limits);
            Subject::adapter(command).with_context(|| format!("adapter {line}"))
        };
        self.adapter.iter().map(subject).collect()
    }
}
