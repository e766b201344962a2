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

use crate::backends::{CPU_STORE, NAMES};
use crate::{verify, workspace_root};

/// What is measured, and the backends that have to pass for it: `cpu` is measured in a store.
pub(super) const MEASURED: [(&str, &[&str]); 3] =
    [("reference", &["reference"]), ("cpu", &["cpu", CPU_STORE]), ("torch", &["torch"])];

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

/// What is known in this tree of what is measured; backends of which nothing is known are verified
/// first.
pub(super) fn verdicts(names: &[String]) -> Result<Vec<(String, String)>> {
    let wanted = || MEASURED.iter().filter(|(name, _)| names.iter().any(|one| one == name));
    let backends = wanted().flat_map(|(_, backends)| *backends);
    let unknown: Vec<String> = backends
        .filter(|name| matches!(verdict(name), Ok(None)))
        .map(|name| (*name).to_owned())
        .collect();
    if !unknown.is_empty() {
        eprintln!("verifying {} first", unknown.join(", "));
        record(&digest()?, &verify::everything(&unknown)?)?;
    }
    let known = |(name, backends): &(&str, &[&str])| {
        let found: Vec<Option<String>> =
            backends.iter().map(|backend| verdict(backend)).collect::<Result<_>>()?;
        let verdict = if found.iter().flatten().any(|verdict| verdict != PASSED) {
            "failed the goldens"
        } else if found.contains(&None) {
            "not verified"
        } else {
            PASSED
        };
        Ok(((*name).to_owned(), verdict.to_owned()))
    };
    wanted().map(known).collect()
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
