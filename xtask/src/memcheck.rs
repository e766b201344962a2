//! `cargo xtask memcheck`: the kernels' tests under valgrind.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cargo::cargo;
use crate::{AGREED, MISMATCH, workspace_root};

/// What valgrind exits with when it finds an error, unlike a test that fails.
const ERROR_FOUND: i32 = 99;
/// The crate whose kernels read and write through pointers.
const PACKAGE: &str = "goldstep-cpu";
/// How many random cases a property is tried with: under valgrind each takes seconds.
const CASES: &str = "PROPTEST_CASES";

/// Run the kernels' tests under valgrind's memcheck: no access outside a buffer, nothing decided by
/// memory that was never written
///
/// Valgrind offers AVX2 and no AVX-512, so that the portable and the AVX2 kernels run. Properties are
/// tried with three random cases, or as many as `PROPTEST_CASES` says. Exit codes: 0 clean, 1 an error
/// of memory or a test that fails, 2 the set-up failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Memcheck {
    /// The test targets, comma-separated; `lib` are the tests beside the code
    #[arg(long, value_delimiter = ',', default_value = "lib,input,store,reference,sparse,bits")]
    target: Vec<String>,
    /// Passed on to the tests, a part of their names for instance
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Memcheck {
    pub(crate) fn run(&self) -> Result<u8> {
        let version = Command::new("valgrind").arg("--version").output();
        let version = version.context("valgrind must be installed, as the package valgrind is")?;
        println!("memcheck: {}", String::from_utf8_lossy(&version.stdout).trim());
        let mut code = AGREED;
        for (target, program) in self.programs()? {
            let start = Instant::now();
            let status = Command::new("valgrind")
                .args(["--quiet", "--tool=memcheck", "--leak-check=no", "--track-origins=no"])
                .arg(format!("--error-exitcode={ERROR_FOUND}"))
                .arg(&program)
                .args(["--test-threads", "1"])
                .args(&self.arguments)
                .env(CASES, std::env::var_os(CASES).unwrap_or_else(|| "3".into()))
                .current_dir(workspace_root().join("crates").join(PACKAGE))
                .status()
                .context("valgrind must start")?;
            let verdict = match status.code() {
                Some(0) => "clean",
                Some(ERROR_FOUND) => "ERRORS OF MEMORY",
                _ => "TESTS FAILED",
            };
            println!("{target:10} {verdict}   {:.0} s", start.elapsed().as_secs_f64());
            code = if status.success() { code } else { MISMATCH };
        }
        Ok(code)
    }

    /// The test programs, by target.
    fn programs(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut cargo = cargo();
        cargo.args(["test", "--no-run", "--package", PACKAGE]);
        for target in &self.target {
            match target.as_str() {
                "lib" => cargo.arg("--lib"),
                name => cargo.args(["--test", name]),
            };
        }
        cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
        let output = cargo.output().context("cargo must run")?;
        ensure!(output.status.success(), "the tests must build, see the messages above");
        let messages = String::from_utf8_lossy(&output.stdout);
        let programs: Vec<_> = messages.lines().filter_map(test_program).collect();
        if programs.len() != self.target.len() {
            bail!("cargo must name {} programs, got {}", self.target.len(), programs.len());
        }
        Ok(programs)
    }
}

/// The target and the file of a test program that cargo has built.
fn test_program(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let executable = message.get("executable")?.as_str()?;
    let target = message.get("target")?;
    let is_library = target.get("kind")?.as_array()?.iter().any(|kind| kind == "lib");
    let name = if is_library { "lib" } else { target.get("name")?.as_str()? };
    Some((name.to_owned(), executable.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_the_messages() {
        let message = r#"{"executable":"/t/a","target":{"kind":["lib"],"name":"goldstep_cpu"}}"#;
        assert_eq!(test_program(message), Some(("lib".to_owned(), "/t/a".into())));
        let message = r#"{"executable":"/t/b","target":{"kind":["test"],"name":"store"}}"#;
        assert_eq!(test_program(message), Some(("store".to_owned(), "/t/b".into())));
        assert_eq!(test_program(r#"{"executable":null,"target":{}}"#), None);
        assert_eq!(test_program("Compiling"), None);
    }
}
