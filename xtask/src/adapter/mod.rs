//! `cargo xtask adapter`: programs of other people that speak the adapter protocol.

mod check;
mod new;
mod serve;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use goldstep_conformance::protocol::{AdapterCommand, Limits, end_adapters};
use goldstep_conformance::{Invocation, Subject};

/// What a shell says of a command that an interruption ended.
const INTERRUPTED: i32 = 130;
/// The default of `--adapter-timeout`.
const ANSWER_SECONDS: f64 = 10.0;
/// The longest time for an answer, in seconds: a day.
const LONGEST_ANSWER: f64 = 86_400.0;

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

/// Ends all programs with this command when it is interrupted: what hangs would go on without it.
pub(crate) fn end_with_this_command() -> Result<()> {
    let end = || {
        end_adapters();
        std::process::exit(INTERRUPTED);
    };
    ctrlc::set_handler(end).context("Ctrl-C")
}

/// Programs that are judged, as options of a command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AdapterOptions {
    /// A program that speaks the adapter protocol, with its arguments; judged beside the backends
    /// that --backend names, alone if it names none; may be repeated
    #[arg(long, value_name = "COMMAND")]
    pub(crate) adapter: Vec<String>,
    /// Seconds that such a program has for each answer, and six times as many to start
    #[arg(long, value_name = "SECONDS", default_value_t = ANSWER_SECONDS)]
    pub(crate) adapter_timeout: f64,
}

impl AdapterOptions {
    /// Each program as a subject under the name that it gives itself, with a number behind it where
    /// another subject, or one of `others`, has that name.
    pub(crate) fn subjects(&self, others: &[Subject]) -> Result<Vec<Subject>> {
        let answer = duration("--adapter-timeout", self.adapter_timeout)?;
        let limits = Limits { answer, start: answer * 6, ..Limits::default() };
        let mut names: Vec<String> = others.iter().map(|one| one.name.clone()).collect();
        let subject = |line: &String| {
            let command = AdapterCommand::from_line(line)?.with_limits(limits);
            let mut subject =
                Subject::adapter(command).with_context(|| format!("adapter {line}"))?;
            subject.name = distinct(subject.name, &names);
            names.push(subject.name.clone());
            let mut invocation = Invocation::adapter(line);
            if answer != Duration::from_secs_f64(ANSWER_SECONDS) {
                invocation =
                    invocation.with("--adapter-timeout", &self.adapter_timeout.to_string());
            }
            Ok(subject.with_invocation(invocation))
        };
        self.adapter.iter().map(subject).collect()
    }
}

/// A time in seconds that an option gives.
fn duration(option: &str, seconds: f64) -> Result<Duration> {
    ensure!(
        seconds > 0.0 && seconds <= LONGEST_ANSWER,
        "{option} must be above 0 and at most {LONGEST_ANSWER} seconds, got {seconds}"
    );
    Ok(Duration::from_secs_f64(seconds))
}

/// The name, or `name 2` and so on where it is taken.
fn distinct(name: String, taken: &[String]) -> String {
    if !taken.contains(&name) {
        return name;
    }
    let mut numbered = (2..=taken.len() + 1).map(|number| format!("{name} {number}"));
    numbered.find(|one| !taken.contains(one)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_one_name_are_told_apart() {
        let mut names = vec!["cpu".to_owned()];
        for name in ["mine", "cpu", "mine", "cpu", "cpu 2"] {
            names.push(distinct(name.to_owned(), &names));
        }
        assert_eq!(names, ["cpu", "mine", "cpu 2", "mine 2", "cpu 3", "cpu 2 2"]);
    }

    #[test]
    fn times_that_no_clock_can_add_are_refused() {
        assert_eq!(duration("--timeout", 0.5).unwrap(), Duration::from_millis(500));
        for seconds in [-1.0, 0.0, 1e19, f64::INFINITY, f64::NAN] {
            let refusal = duration("--timeout", seconds).unwrap_err().to_string();
            let rule = "--timeout must be above 0 and at most 86400 seconds";
            let expected = format!("{rule}, got {seconds}");
            assert_eq!(refusal, expected);
        }
    }
}
