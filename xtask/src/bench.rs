//! `cargo xtask bench`: the measuring program, optimised.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{AGREED, FAILED, workspace_root};

/// Measure optimizers: `--suite bound` against the least memory traffic
///
/// All arguments go to the measuring program; `cargo xtask bench -- --help` lists them.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Arguments of the measuring program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<u8> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .current_dir(workspace_root())
            .args(["run", "--quiet", "--release", "--package", "benches", "--"])
            .args(&self.arguments)
            .status()
            .context("cargo did not start")?;
        Ok(if status.success() { AGREED } else { FAILED })
    }
}
