//! `cargo xtask test`: every test of the workspace.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{AGREED, MISMATCH, workspace_root};

/// Run every test
///
/// Exit codes: 0 all pass, 1 one fails or does not build, 2 cargo did not start.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Passed on to `cargo test`, after `--` to the tests
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Test {
    pub(crate) fn run(&self) -> Result<u8> {
        // The cargo that runs this, so that a chosen toolchain stays chosen.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .current_dir(workspace_root())
            .args(["test", "--workspace"])
            .args(&self.arguments)
            .status()
            .context("cargo did not start")?;
        Ok(if status.success() { AGREED } else { MISMATCH })
    }
}
