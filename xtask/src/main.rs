//! The commands of Goldstep's repository: `cargo xtask` lists them.
//!
//! One file per command; each is a `clap::Args` with a `run`.

#![expect(clippy::print_stdout, reason = "results of commands go to standard output")]

mod adapter;
mod backends;
mod bench;
mod cargo;
mod coverage;
mod deny;
mod dependencies;
mod environment;
mod fuzz;
mod fuzz_inputs;
mod golden;
mod libtorch;
mod matrix;
mod memcheck;
mod migration;
mod mutants;
mod peers;
mod plots;
mod readme;
mod repro;
mod test;
mod tidy;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use goldstep_conformance::protocol::end_adapters;

/// All agree.
const AGREED: u8 = 0;
/// A mismatch.
const MISMATCH: u8 = 1;
/// The harness, an adapter or the set-up failed.
const FAILED: u8 = 2;
/// Goldens that tf.keras no longer confirms, or that are damaged.
const DRIFTED: u8 = 3;
/// As a shell reports the signal.
const BROKEN_PIPE: i32 = 141;

/// Goldstep proves optimizers step by step against the gold standard.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Verify),
    Golden(golden::Golden),
    Mutants(mutants::Mutants),
    Repro(repro::Repro),
    Test(test::Test),
    Bench(bench::Bench),
    Adapter(adapter::Adapter),
    Matrix(matrix::Matrix),
    Fuzz(fuzz::Fuzz),
    Migration(migration::Migration),
    Plots(plots::Plots),
    Coverage(coverage::Coverage),
    Memcheck(memcheck::Memcheck),
    Deny(deny::Deny),
    FuzzInputs(fuzz_inputs::FuzzInputs),
    Readme(readme::Readme),
    Libtorch(libtorch::Libtorch),
    Tidy(tidy::Tidy),
}

fn main() -> ExitCode {
    leave_with_the_reader();
    let outcome = match Cli::parse().command {
        Some(Command::Verify(command)) => command.run(),
        Some(Command::Golden(command)) => command.run(),
        Some(Command::Mutants(command)) => command.run(),
        Some(Command::Repro(command)) => command.run().map(|()| AGREED),
        Some(Command::Test(command)) => command.run(),
        Some(Command::Bench(command)) => command.run(),
        Some(Command::Adapter(command)) => command.run(),
        Some(Command::Matrix(command)) => command.run(),
        Some(Command::Fuzz(command)) => command.run(),
        Some(Command::Migration(command)) => command.run(),
        Some(Command::Plots(command)) => command.run().map(|()| AGREED),
        Some(Command::Coverage(command)) => command.run(),
        Some(Command::Memcheck(command)) => command.run(),
        Some(Command::Deny(command)) => command.run(),
        Some(Command::FuzzInputs(command)) => command.run(),
        Some(Command::Readme(command)) => command.run().map(|()| AGREED),
        Some(Command::Libtorch(command)) => command.run().map(|()| AGREED),
        Some(Command::Tidy(command)) => command.run().map(|()| AGREED),
        None => {
            println!("{}", Cli::command().render_help());
            Ok(AGREED)
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// A reader of standard output that has left, as `head` does, ends the command without a word, as a
/// signal ends other programs; not by the signal itself, which an adapter that breaks would send too.
fn leave_with_the_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let left = |text: &str| {
            text.starts_with("failed printing to stdout") && text.contains("Broken pipe")
        };
        if panic.payload_as_str().is_some_and(left) {
            end_adapters();
            std::process::exit(BROKEN_PIPE);
        }
        report(panic);
    }));
}

/// The folder of the workspace's manifest.
fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}
