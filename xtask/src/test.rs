//! `cargo xtask test`: every test of the workspace, those that need libtorch too.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{AGREED, MISMATCH, libtorch, workspace_root};

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
        if !status.success() {
            return Ok(MISMATCH);
        }
        // With the profile of the worker that verify runs, so that libtorch's bindings, which take
        // minutes, are built once.
        let installation = libtorch::find_or_provide()?;
        let status = libtorch::cargo(&installation)
            .args(["test", "--release", "--package", "goldstep-torch", "--features", "worker"])
            .args(&self.arguments)
            .status()
            .context("cargo did not start")?;
        Ok(if status.success() { AGREED } else { MISMATCH })
    }
}
