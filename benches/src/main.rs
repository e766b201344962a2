//! The measuring program behind `cargo xtask bench`.
#![expect(clippy::print_stdout, reason = "results of commands go to standard output")]

mod commands;

use std::process::ExitCode;

use clap::Parser;

/// Measure optimizers.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
enum Cli {
    /// Steps against the least memory traffic, in one process
    Bound(commands::bound::Bound),
    /// Every implementation, and other libraries, side by side
    Table(commands::table::Table),
    /// Two files of results, row by row
    Compare(commands::compare::Compare),
    /// Tables and plots of files of results, into the README and the documentation
    Publish(commands::publish::Publish),
    /// What peers are run with, one a line: `python ENVIRONMENT` or `cargo FOLDER`
    #[command(hide = true)]
    Peers(commands::table::Programs),
    /// Serve one of our implementations as a contestant
    #[command(hide = true)]
    Contestant(commands::table::Serve),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse() {
        Cli::Bound(command) => command.run(),
        Cli::Table(command) => command.run(),
        Cli::Compare(command) => command.run(),
        Cli::Publish(command) => command.run(),
        Cli::Peers(command) => command.run(),
        Cli::Contestant(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
