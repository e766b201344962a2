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
        if !status.success() {
            return Ok(MISMATCH);
        }
        // The facade over libtorch: checkpoints between the backends, and the example. The programs of a
        // package without a build script do not know where libtorch lies.
        let libraries = installation.directory.join("lib");
        let facade = ["--release", "--package", "goldstep", "--features", "torch"];
        let run = |command: &str, target: [&str; 2]| {
            libtorch::cargo(&installation)
                .arg(command)
                .args(facade)
                .args(target)
                .env("LD_LIBRARY_PATH", &libraries)
                .status()
                .context("cargo did not start")
        };
        let passed = run("test", ["--test", "torch"])?.success()
            && run("run", ["--example", "train_torch"])?.success();
        Ok(if passed { AGREED } else { MISMATCH })
    }
}
