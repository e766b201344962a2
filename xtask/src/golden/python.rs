//! The Python interpreters that record: finding one, and giving it the locked packages.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A version of TensorFlow, the Pythons that it has wheels for, and its locked packages.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) tensorflow: &'static str,
    /// The minor versions of Python 3, the preferred one first.
    pythons: &'static [u32],
    requirements: &'static str,
}

/// What the goldens are recorded from.
pub(super) const TENSORFLOW: Oracle =
    Oracle { tensorflow: "2.12.1", pythons: &[11, 10, 9, 8], requirements: "requirements.txt" };
/// What the known differences are recorded from as well.
pub(super) const TENSORFLOW_2_15: Oracle =
    Oracle { tensorflow: "2.15.1", pythons: &[11, 10, 9], requirements: "requirements-2.15.txt" };

/// Written into an environment when all packages are there.
const COMPLETE: &str = "goldstep-complete";

/// What a candidate says about itself: version, system, machine.
const DESCRIBE: &str = "import platform, sys; \
    print(sys.version_info[0], sys.version_info[1], platform.system(), platform.machine())";

/// The interpreter of a virtual environment with the oracle's packages; made if need be.
pub(super) fn provision(
    oracle: &Oracle,
    python: Option<&Path>,
    generator: &Path,
    scratch: &Path,
) -> Result<PathBuf> {
    let (python, minor) = find(oracle, python)?;
    let environment = scratch.join(format!("tensorflow-{}-python-3.{minor}", oracle.tensorflow));
    let requirements = generator.join(oracle.requirements);
    let locked = fs::read_to_string(&requirements)
        .with_context(|| format!("{} cannot be read", requirements.display()))?;
    let interpreter = environment.join("bin/python");
    let complete = environment.join(COMPLETE);
    if fs::read_to_string(&complete).is_ok_and(|installed| installed == locked) {
        return Ok(interpreter);
    }
    eprintln!("installing TensorFlow {} into {}", oracle.tensorflow, environment.display());
    super::replace::remove(&environment)?;
    let make = Command::new(&python).args(["-m", "venv"]).arg(&environment).output();
    succeed("a virtual environment (Debian: apt install python3-venv)", make)?;
    let install = Command::new(&interpreter)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--require-hashes", "--only-binary=:all:", "--requirement"])
        .arg(&requirements)
        .output();
    succeed("the locked packages", install)?;
    fs::write(&complete, locked).with_context(|| format!("{}", complete.display()))?;
    Ok(interpreter)
}

/// Whether there are interpreters for both oracles.
///
/// # Errors
/// What was found instead.
pub(super) fn fitting(python: Option<&Path>) -> Result<()> {
    for oracle in [TENSORFLOW, TENSORFLOW_2_15] {
        find(&oracle, python)?;
    }
    Ok(())
}

fn succeed(what: &str, output: std::io::Result<std::process::Output>) -> Result<()> {
    let output = output.with_context(|| format!("{what}: the program did not start"))?;
    ensure!(
        output.status.success(),
        "{what} must be installable, got {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(())
}

/// The first candidate that fits, and its minor version.
fn find(oracle: &Oracle, chosen: Option<&Path>) -> Result<(PathBuf, u32)> {
    let mut seen = String::new();
    for candidate in candidates(oracle, chosen) {
        let answer = Command::new(&candidate).args(["-c", DESCRIBE]).output();
        let Some(answer) = answer.ok().filter(|answer| answer.status.success()) else { continue };
        let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        if let Some(minor) = fits(oracle, &answer) {
            return Ok((candidate, minor));
        }
        let _ = write!(seen, "\n  {}: Python {}", candidate.display(), describe(&answer));
    }
    let found = if seen.is_empty() { "none".to_owned() } else { seen };
    let oldest = oracle.pythons.iter().min().copied().unwrap_or_default();
    bail!(
        "recording needs a Python of 3.{oldest} to 3.11 on Linux x86-64, for which TensorFlow {} has \
         wheels (name one with --python), got {found}",
        oracle.tensorflow,
    )
}

fn candidates(oracle: &Oracle, chosen: Option<&Path>) -> Vec<PathBuf> {
    if let Some(chosen) = chosen {
        return vec![chosen.to_owned()];
    }
    let versioned = oracle.pythons.iter().map(|minor| OsString::from(format!("python3.{minor}")));
    versioned.chain(["python3".into(), "python".into()]).map(PathBuf::from).collect()
}

/// The minor version, if the answer of a candidate is that of a fitting one.
fn fits(oracle: &Oracle, answer: &str) -> Option<u32> {
    let mut words = answer.split_whitespace();
    let (major, minor) = (words.next()?, words.next()?.parse().ok()?);
    let system = [words.next()?, words.next()?];
    let known = oracle.pythons.contains(&minor);
    (major == "3" && known && system == ["Linux", "x86_64"]).then_some(minor)
}

fn describe(answer: &str) -> String {
    answer.replacen(' ', ".", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pythons_with_wheels_fit() {
        assert_eq!(fits(&TENSORFLOW, "3 8 Linux x86_64"), Some(8));
        assert_eq!(fits(&TENSORFLOW_2_15, "3 8 Linux x86_64"), None);
        for answer in ["3 12 Linux x86_64", "2 7 Linux x86_64", "3 11 Darwin arm64", "", "3"] {
            assert_eq!(fits(&TENSORFLOW, answer), None, "{answer}");
        }
    }

    #[test]
    fn a_python_that_does_not_fit_is_named() {
        let error = find(&TENSORFLOW, Some(Path::new("no-such-python"))).unwrap_err().to_string();
        assert_eq!(
            error,
            "recording needs a Python of 3.8 to 3.11 on Linux x86-64, for which TensorFlow 2.12.1 \
             has wheels (name one with --python), got none"
        );
        assert_eq!(describe("3 13 Linux x86_64"), "3.13 Linux x86_64");
    }
}
