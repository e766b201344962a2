//! Which implementations passed the goldens, in this very tree.
//!
//! A verification of everything takes minutes, so that its outcome is kept under the target folder
//! together with a digest of the sources and goldens that it was made from.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use goldstep_conformance::Report;
use sha2::{Digest, Sha256};

use crate::backends::NAMES;
use crate::{verify, workspace_root};

/// What decides the outcome of a verification.
const SOURCES: [&str; 4] = ["crates", "golden/v1", "Cargo.toml", "Cargo.lock"];
const PASSED: &str = "passed";

/// Keeps what a complete verification of backends found, for those that are measured; `digest` is
/// that of the sources before it.
pub(crate) fn record(digest: &str, reports: &[Report]) -> Result<()> {
    fs::create_dir_all(folder())?;
    for report in reports.iter().filter(|report| NAMES.contains(&report.name.as_str())) {
        let verdict = if report.agrees() && !report.is_broken() { PASSED } else { "failed" };
        fs::write(folder().join(&report.name), format!("{digest} {verdict}\n"))?;
    }
    Ok(())
}

/// What is known of each backend in this tree; those of which nothing is known are verified first.
pub(super) fn verdicts(names: &[String]) -> Result<Vec<(String, String)>> {
    let unknown: Vec<String> =
        names.iter().filter(|name| matches!(verdict(name), Ok(None))).cloned().collect();
    if !unknown.is_empty() {
        eprintln!("verifying {} first", unknown.join(", "));
        record(&digest()?, &verify::everything(&unknown)?)?;
    }
    let known = |name: &String| {
        let verdict = match verdict(name)?.as_deref() {
            Some(PASSED) => PASSED,
            Some(_) => "failed the goldens",
            None => "not verified",
        };
        Ok((name.clone(), verdict.to_owned()))
    };
    names.iter().map(known).collect()
}

fn verdict(name: &str) -> Result<Option<String>> {
    let digest = digest()?;
    let Ok(text) = fs::read_to_string(folder().join(name)) else { return Ok(None) };
    let known = text.split_once(' ').filter(|(of, _)| *of == digest);
    Ok(known.map(|(_, verdict)| verdict.trim().to_owned()))
}

fn folder() -> PathBuf {
    workspace_root().join("target/verified")
}

/// A digest of the sources: those of the commit, what differs from it, and what it does not have.
pub(crate) fn digest() -> Result<String> {
    let git = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new("git")
            .current_dir(workspace_root())
            .args(arguments)
            .args(SOURCES)
            .output();
        let output = output.context("git must run")?;
        ensure!(output.status.success(), "git {} must work", arguments.join(" "));
        Ok(output.stdout)
    };
    let mut hasher = Sha256::new();
    hasher.update(git(&["ls-tree", "-r", "HEAD", "--"])?);
    hasher.update(git(&["diff", "HEAD", "--"])?);
    let others = git(&["ls-files", "--others", "--exclude-standard", "-z", "--"])?;
    hasher.update(&others);
    for path in String::from_utf8_lossy(&others).split_terminator('\0') {
        let text = fs::read(workspace_root().join(path));
        hasher.update(text.with_context(|| format!("{path} must be readable"))?);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
