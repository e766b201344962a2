//! `cargo xtask test`: every test of the workspace, those that need libtorch too.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{BESIDE, build, cargo};
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
        let arguments = self.passed_on();
        let mut workspace = cargo();
        workspace.args(["test", "--workspace"]).args(&arguments);
        if !workspace.status().context("cargo did not start")?.success() {
            return Ok(MISMATCH);
        }
        // With the profile of the worker that verify runs, so that libtorch's bindings, which take
        // minutes, are built once.
        let installation = libtorch::find_or_provide()?;
        // The programs of a package without a build script do not know where libtorch lies.
        let libraries = installation.directory.join("lib");
        let passes = |package: &[&str], targets: &[String]| {
            let mut test = libtorch::cargo(&installation);
            test.args(["test", "--release"]).args(BESIDE).args(package).args(targets);
            test.args(&arguments).env("LD_LIBRARY_PATH", &libraries);
            test.status().map(|status| status.success()).context("cargo did not start")
        };
        let torch = ["--package", "goldstep-torch", "--features", "goldstep-torch/worker"];
        // Checkpoints between the backends, and the example.
        let facade = ["--package", "goldstep", "--features", "goldstep/torch"];
        let passed = passes(&torch, &targets_of("goldstep-torch")?)?
            && passes(&torch, &["--doc".to_owned()])?
            && passes(&facade, &["--test".to_owned(), "torch".to_owned()])?
            && passes(&facade, &["--doc".to_owned()])?;
        if !passed {
            return Ok(MISMATCH);
        }
        let example = [&facade[..], &["--example", "train_torch"]].concat();
        let mut example = Command::new(build(libtorch::cargo(&installation), &example)?);
        let status = example.env("LD_LIBRARY_PATH", &libraries).status();
        let passed = status.context("the example did not start")?.success();
        Ok(if passed { AGREED } else { MISMATCH })
    }

    /// What cargo is given: a `--` that came first too, which clap keeps for itself.
    fn passed_on(&self) -> Vec<String> {
        let first = std::env::args().skip_while(|word| word != "test").nth(1);
        let kept = first.filter(|word| word == "--" && self.arguments.first() != Some(word));
        kept.into_iter().chain(self.arguments.iter().cloned()).collect()
    }
}

/// All targets of a package with tests, by name: those of xtask, which is built beside it, are not
/// run a second time.
fn targets_of(package: &str) -> Result<Vec<String>> {
    let directory = workspace_root().join("crates").join(package).join("tests");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    let mut targets = vec!["--lib".to_owned()];
    targets.extend(names.into_iter().flat_map(|name| ["--test".to_owned(), name]));
    Ok(targets)
}
