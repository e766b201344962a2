//! `cargo xtask adapter`: programs of other people that speak the adapter protocol.

mod check;
mod new;

use anyhow::Result;
use clap::Subcommand;

/// Programs that speak the adapter protocol: check one, begin one.
#[derive(Debug, clap::Args)]
pub(crate) struct Adapter {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    New(new::New),
}

impl Adapter {
    /// The exit code.
    pub(crate) fn run(&self) -> Result<u8> {
        match &self.command {
            Command::Check(command) => command.run(),
            Command::New(command) => command.run(),
        }
    }
}
