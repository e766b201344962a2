//! `cargo xtask deny`: licences, sources, duplicates and advisories of the dependencies.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{AGREED, MISMATCH, workspace_root};

/// Check licences, sources, duplicates and advisories of all dependencies. Needs cargo-deny.
#[derive(Debug, clap::Args)]
pub(crate) struct Deny {}

impl Deny {
    #[expect(clippy::unused_self, reason = "every command is a struct with a run")]
    pub(crate) fn run(&self) -> Result<u8> {
        let installed = Command::new("cargo").args(["deny", "--version"]).output();
        if !installed.is_ok_and(|output| output.status.success()) {
            bail!("cargo-deny must be installed, got none; cargo install cargo-deny --locked");
        }
        let mut code = AGREED;
        for check in ["licenses", "bans", "sources"] {
            let (passed, _) = deny(check)?;
            println!("{check:10} {}", if passed { "ok" } else { "FAILED" });
            code = if passed { code } else { MISMATCH };
        }
        let (passed, output) = deny("advisories")?;
        // Only a database that cannot be had is no verdict.
        let unreachable = output.contains("failed to fetch advisory database");
        match (passed, unreachable) {
            (true, _) => println!("advisories ok"),
            (false, true) => println!("advisories not checked: their database cannot be reached"),
            (false, false) => {
                println!("advisories FAILED");
                code = MISMATCH;
            }
        }
        Ok(code)
    }
}

/// Runs one check; what it says goes to standard error unless it passed.
fn deny(check: &str) -> Result<(bool, String)> {
    let output = Command::new("cargo")
        .current_dir(workspace_root())
        .args(["deny", "--log-level", "error", "check", check])
        .output()
        .context("cargo deny did not start")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        eprintln!("{text}");
    }
    Ok((output.status.success(), text))
}
