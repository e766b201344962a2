//! Cargo as commands run it: the one that runs this program, so that a chosen toolchain stays chosen.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace_root;

/// Arguments with which cargo builds another package beside this program, which is built already: so
/// the crates that both need get the features with which they were compiled, and are not compiled
/// again.
pub(crate) const BESIDE: [&str; 2] = ["--package", "xtask"];

/// Cargo in the workspace.
pub(crate) fn cargo() -> Command {
    cargo_in(&workspace_root())
}

/// Cargo in another folder.
pub(crate) fn cargo_in(directory: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(directory);
    cargo
}

/// Builds a program of the workspace, optimised, and gives its path.
///
/// # Errors
/// A build that fails; its messages have gone to standard error.
pub(crate) fn build(mut cargo: Command, arguments: &[&str]) -> Result<PathBuf> {
    cargo.args(["build", "--release"]).args(BESIDE).args(arguments);
    executable(cargo)
}

/// Runs a cargo that builds one program, and gives the program's path.
///
/// # Errors
/// As for [`build`].
pub(crate) fn executable(mut cargo: Command) -> Result<PathBuf> {
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = cargo.output().context("cargo must run")?;
    let arguments = cargo.get_args().map(|argument| argument.to_string_lossy());
    let arguments = arguments.collect::<Vec<_>>().join(" ");
    ensure!(output.status.success(), "see the messages above: cargo {arguments} failed");
    // One message a line, and the one of the program itself names the file.
    let path = String::from_utf8_lossy(&output.stdout).lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    path.with_context(|| format!("cargo {arguments} names no program"))
}
