//! `cargo xtask fuzz-inputs`: everything that reads what others wrote, fed with damaged input.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::cargo;
use crate::{AGREED, MISMATCH, workspace_root};

/// Tests of `damaged_inputs`.
const TARGETS: [&str; 7] = [
    "golden_families",
    "cases",
    "checkpoints",
    "framed_checkpoints",
    "keras_configurations",
    "protocol_messages",
    "protocol_answers",
];

/// Feed the readers of traces, checkpoints, configurations and messages with damaged input.
///
/// A target stops at the first panic and prints the input.
///
/// Exit codes: 0 nothing found, 1 a panic or too much memory, 2 the test did not start.
#[derive(Debug, clap::Args)]
pub(crate) struct FuzzInputs {
    /// Only these targets [default: all]
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
    /// Seconds per target
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u64,
    /// The sequence of inputs; the same number gives the same ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Address space that the process may use; Linux and macOS only
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u64,
}

impl FuzzInputs {
    pub(crate) fn run(&self) -> Result<u8> {
        let root = workspace_root();
        let test = ["test", "--package", "goldstep", "--test", "damaged_inputs"];
        let built = cargo().args(test).arg("--no-run").status();
        ensure!(built.context("cargo did not start")?.success(), "damaged_inputs must compile");
        let mut command = if cfg!(unix) {
            // The limit is inherited by the test.
            let script = format!("ulimit -v {} && exec \"$0\" \"$@\"", self.memory * 1024);
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).arg(cargo().get_program());
            command
        } else {
            cargo()
        };
        let status = command
            .current_dir(&root)
            .args(test)
            .args(["--quiet", "--", "--nocapture", "--test-threads", "1"])
            .args((!self.targets.is_empty()).then_some("--exact"))
            .args(&self.targets)
            .env("GOLDSTEP_FUZZ_SECONDS", self.seconds.to_string())
            .env("GOLDSTEP_FUZZ_SEED", self.seed.to_string())
            .status()
            .context("cargo did not start")?;
        Ok(if status.success() { AGREED } else { MISMATCH })
    }
}
