//! The commands of Goldstep's repository: `cargo xtask` lists them.

#![expect(clippy::print_stdout, reason = "results of commands go to standard output")]

use anyhow::Result;
use clap::{CommandFactory, Parser};

/// Goldstep proves optimizers step by step against the gold standard.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {}

fn main() -> Result<()> {
    let _cli = Cli::parse();
    println!("{}", Cli::command().render_long_help());
    Ok(())
}
