//! `cargo xtask coverage`: lines that the tests reach, per crate.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::cargo_in;
use crate::{AGREED, MISMATCH, workspace_root};

/// Crates that have to reach [`LEAST`].
const CRATES: [&str; 5] = [
    "goldstep-checkpoint",
    "goldstep-conformance",
    "goldstep-core",
    "goldstep-cpu",
    "goldstep-reference",
];
/// Crates whose tests reach them as well: the judge's explanations are tested on mutants, its reports and
/// what becomes of halves by the command that prints them.
const OTHER_TESTS: [&str; 2] = ["goldstep-mutants", "xtask"];
/// Share of lines that the tests have to reach, in percent.
const LEAST: f64 = 95.0;

/// Measure which lines the tests reach, per crate. Needs llvm-profdata and llvm-cov.
#[derive(Debug, clap::Args)]
pub(crate) struct Coverage {
    /// The folder of llvm-profdata and llvm-cov; default: rustup's component llvm-tools, then PATH
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
    /// Print the files with the most lines missed, this many
    #[arg(long, value_name = "N", default_value_t = 0)]
    files: usize,
}

/// Lines counted and lines reached.
#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    count: u64,
    covered: u64,
}

impl Coverage {
    pub(crate) fn run(&self) -> Result<u8> {
        let root = workspace_root();
        let (profdata, cov) = (self.tool("llvm-profdata")?, self.tool("llvm-cov")?);
        let target = root.join("target/coverage");
        let raw = target.join("raw");
        if raw.exists() {
            fs::remove_dir_all(&raw)?;
        }
        let crates: Vec<&str> =
            CRATES.into_iter().filter(|name| root.join("crates").join(name).exists()).collect();
        let binaries = test(&root, &target, &raw, &crates)?;
        let merged = target.join("all.profdata");
        let mut files: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(&raw).context("the tests left no profile")? {
            files.push(entry?.path().into());
        }
        let status = Command::new(&profdata)
            .args(["merge", "--sparse", "--output"])
            .arg(&merged)
            .args(files)
            .status()?;
        ensure!(status.success(), "{} failed", profdata.display());
        let report = export(&cov, &merged, &binaries)?;
        self.print(&root, &report, &crates)
    }

    /// A tool of the LLVM that rustc has: profiles of another version cannot be read.
    fn tool(&self, name: &str) -> Result<PathBuf> {
        let sysroot = Command::new("rustc").args(["--print", "target-libdir"]).output()?;
        let libraries = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
        let component = libraries.parent().map(|target| target.join("bin"));
        let folders = self.tools.iter().cloned().chain(component);
        if let Some(tool) = folders.map(|folder| folder.join(name)).find(|tool| tool.exists()) {
            return Ok(tool);
        }
        let version = |program: &str, argument: &str| -> Option<String> {
            let output = Command::new(program).arg(argument).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let after = text.split("LLVM version").nth(1)?;
            after.trim_start_matches([':', ' ']).split('.').next().map(str::to_owned)
        };
        let (own, rustc) = (version(name, "--version"), version("rustc", "-vV"));
        if own.is_some() && own == rustc {
            return Ok(PathBuf::from(name));
        }
        bail!(
            "{name} must be of LLVM {}, as rustc is, got {}; rustup component add llvm-tools, or --tools DIR",
            rustc.unwrap_or_default(),
            own.unwrap_or_else(|| "none".to_owned())
        )
    }

    fn print(&self, root: &Path, report: &Value, crates: &[&str]) -> Result<u8> {
        let mut totals = BTreeMap::<&str, Lines>::new();
        let mut files = Vec::new();
        let all = report["data"][0]["files"].as_array().context("llvm-cov wrote no files")?;
        for file in all {
            let name = Path::new(file["filename"].as_str().unwrap_or_default());
            let Ok(relative) = name.strip_prefix(root.join("crates")) else { continue };
            let Some(own) = crates.iter().find(|name| relative.starts_with(name)) else { continue };
            if !relative.starts_with(Path::new(own).join("src")) {
                continue;
            }
            let lines = &file["summary"]["lines"];
            let number = |field: &str| lines[field].as_u64().unwrap_or_default();
            let lines = Lines { count: number("count"), covered: number("covered") };
            let total = totals.entry(own).or_default();
            total.count += lines.count;
            total.covered += lines.covered;
            files.push((lines.count - lines.covered, relative.display().to_string()));
        }
        let mut code = AGREED;
        for name in crates {
            let lines = totals.get(name).copied().unwrap_or_default();
            let percent = percent(lines);
            let verdict = if percent >= LEAST { "ok" } else { "TOO LOW" };
            println!("{name:22} {percent:5.1} % of {} lines   {verdict}", lines.count);
            code = if percent >= LEAST { code } else { MISMATCH };
        }
        files.sort_unstable_by(|left, right| right.cmp(left));
        for (missed, name) in files.iter().take(self.files) {
            println!("    {missed:5} lines missed in {name}");
        }
        Ok(code)
    }
}

fn percent(lines: Lines) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer lines than 2^53")]
    let (count, covered) = (lines.count as f64, lines.covered as f64);
    if lines.count == 0 { 0.0 } else { 100.0 * covered / count }
}

/// Runs the tests with instrumented code; the test programs, for their maps of lines.
fn test(root: &Path, target: &Path, raw: &Path, crates: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let command = || {
        let mut command = cargo_in(root);
        command.arg("test").arg("--tests").arg("--target-dir").arg(target);
        command.env("RUSTFLAGS", "-C instrument-coverage");
        command.env("LLVM_PROFILE_FILE", raw.join("%p-%m.profraw"));
        let tested = crates.iter().chain(&OTHER_TESTS);
        command.args(tested.flat_map(|name| ["--package", name]));
        command
    };
    let status = command().arg("--quiet").status().context("cargo test did not start")?;
    ensure!(status.success(), "the tests must pass before their coverage means anything");
    let output = command().args(["--no-run", "--message-format", "json"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = |message: Value| message["executable"].as_str().map(PathBuf::from);
    Ok(messages.filter_map(program).collect())
}

fn export(cov: &Path, merged: &Path, binaries: &BTreeSet<PathBuf>) -> Result<Value> {
    let mut command = Command::new(cov);
    command.args(["export", "--summary-only", "--instr-profile"]).arg(merged);
    for (index, binary) in binaries.iter().enumerate() {
        if index > 0 {
            command.arg("--object");
        }
        command.arg(binary);
    }
    let output = command.output().with_context(|| format!("{} did not start", cov.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
