//! `cargo xtask migration`: a run that moves from tf.keras to Goldstep and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::cargo_in;
use crate::{AGREED, workspace_root};

/// At least one of the runs ended elsewhere than tf.keras did.
const MISMATCH: u8 = 1;
const SCRIPT: &str = "crates/goldstep-checkpoint/keras/record.py";
const VERSION: &str = "2.12.1";

/// Train in tf.keras, continue here, go back, and compare both ways. Needs TensorFlow 2.12.1.
///
/// Exit codes: 0 all agree, 1 one ends elsewhere, 2 something did not run.
#[derive(Debug, clap::Args)]
pub(crate) struct Migration {
    /// A Python that imports TensorFlow 2.12.1
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// Renew the small files that the Rust test reads where there is no Python
    #[arg(long)]
    record: bool,
}

impl Migration {
    pub(crate) fn run(&self) -> Result<u8> {
        let root = workspace_root();
        self.check_version()?;
        if self.record {
            let fixtures = root.join("crates/goldstep-checkpoint/tests/keras");
            ensure!(self.script(&root, "record", &fixtures)?, "{SCRIPT} record failed");
            return Ok(AGREED);
        }
        let directory = root.join("target/migration");
        fs::create_dir_all(&directory)
            .with_context(|| format!("{} cannot be created", directory.display()))?;
        ensure!(self.script(&root, "refuse", &directory)?, "{SCRIPT} refuse failed");
        ensure!(self.script(&root, "record", &directory)?, "{SCRIPT} record failed");
        let test = cargo_in(&root)
            .args(["test", "--quiet", "--package", "goldstep-checkpoint", "--test", "keras"])
            .env("GOLDSTEP_MIGRATION", &directory)
            .status()
            .context("cargo test did not start")?;
        if !test.success() {
            return Ok(MISMATCH);
        }
        println!("all cases: continued here, agrees with tf.keras continuing");
        Ok(if self.script(&root, "judge", &directory)? { AGREED } else { MISMATCH })
    }

    fn check_version(&self) -> Result<()> {
        let python = self.python.display();
        let output = Command::new(&self.python)
            .env("TF_CPP_MIN_LOG_LEVEL", "3")
            .args(["-c", "import tensorflow; print(tensorflow.__version__)"])
            .output()
            .with_context(|| format!("{python} did not start"))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(
            output.status.success() && version == VERSION,
            "{python} must import TensorFlow {VERSION}, got {}; \
             pip install tensorflow=={VERSION} (Python 3.8 to 3.11) and give it by --python",
            if version.is_empty() { "none" } else { &version }
        );
        Ok(())
    }

    fn script(&self, root: &Path, command: &str, directory: &Path) -> Result<bool> {
        let status = Command::new(&self.python)
            .arg(root.join(SCRIPT))
            .arg(command)
            .arg(directory)
            .status()
            .with_context(|| format!("{} did not start", self.python.display()))?;
        Ok(status.success())
    }
}
