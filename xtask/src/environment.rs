//! Python environments with pinned packages, below `target/python`: made on demand and shared by
//! every command that needs one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace_root;

/// A set of packages, and the interpreters that have wheels for them.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Its name in messages, and of its folder.
    pub(crate) name: &'static str,
    /// The pinned packages, as a path from the workspace's root.
    requirements: &'static str,
    /// The minor versions of Python 3, the preferred one first.
    pythons: &'static [u32],
    /// What the installed packages take, and what is needed to install them.
    megabytes: u64,
}

/// What the goldens were recorded from.
pub(crate) const TENSORFLOW_2_12: Environment = Environment {
    name: "tensorflow-2.12.1",
    requirements: "golden/generator/requirements.txt",
    pythons: &[11, 10, 9, 8],
    megabytes: 1200,
};
/// A later tf.keras, before Keras 3.
pub(crate) const TENSORFLOW_2_15: Environment = Environment {
    name: "tensorflow-2.15.1",
    requirements: "golden/generator/requirements-2.15.txt",
    pythons: &[11, 10, 9],
    megabytes: 1300,
};
/// Keras 3 and optax, over JAX on a CPU.
pub(crate) const JAX: Environment = Environment {
    name: "jax",
    requirements: "adapters/requirements/jax.txt",
    pythons: &[11, 12, 13],
    megabytes: 800,
};
/// PyTorch and transformers. The wheel of PyTorch does not load without CUDA's libraries.
pub(crate) const TORCH: Environment = Environment {
    name: "torch",
    requirements: "adapters/requirements/torch.txt",
    pythons: &[11],
    megabytes: 6500,
};

/// What a candidate says about itself: version, system, machine.
const DESCRIBE: &str = "import platform, sys; \
    print(*sys.version_info[:2], platform.system(), platform.machine())";
/// Written into an environment when all packages are there: what was installed.
const COMPLETE: &str = "complete.txt";

impl Environment {
    /// Its interpreter. It is made if need be, from the Python `chosen` or the first that fits, with
    /// progress on standard error; two runs that ask for it at once make it once, and what an
    /// interrupted run left is made anew.
    pub(crate) fn interpreter(&self, chosen: Option<&Path>) -> Result<PathBuf> {
        let (python, minor) = self.find(chosen)?;
        let requirements = workspace_root().join(self.requirements);
        let locked = fs::read_to_string(&requirements)
            .with_context(|| format!("{} must be readable", requirements.display()))?;
        let parent = workspace_root().join("target/python");
        fs::create_dir_all(&parent)
            .with_context(|| format!("{} must be writable", parent.display()))?;
        let name = format!("{}-python-3.{minor}", self.name);
        let lock = File::create(parent.join(format!("{name}.lock")))?;
        if lock.try_lock().is_err() {
            eprintln!("{}: another run makes this environment, waiting", self.name);
            lock.lock().context("the lock of the environment")?;
        }

        let folder = parent.join(&name);
        let interpreter = folder.join("bin/python");
        let complete = folder.join(COMPLETE);
        if fs::read_to_string(&complete).is_ok_and(|installed| installed == locked) {
            return Ok(interpreter);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("{} must be removable", folder.display()))?;
        }
        self.check_space(&parent)?;
        eprintln!("{}: up to {} MB into {}", self.name, self.megabytes, folder.display());
        let made = self.make(&python, &folder, &requirements);
        if made.is_err() {
            // Whatever happened: no gigabyte stays behind.
            let _removed = fs::remove_dir_all(&folder);
        }
        made?;
        fs::write(&complete, locked).with_context(|| complete.display().to_string())?;
        Ok(interpreter)
    }

    fn make(&self, python: &Path, folder: &Path, requirements: &Path) -> Result<()> {
        call(Command::new(python).args(["-m", "venv"]).arg(folder))
            .context("a virtual environment must be possible (Debian: apt install python3-venv)")?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]);
        // Where the file has a hash, pip demands one of every package.
        pip.args(["--only-binary=:all:", "--requirement"]).arg(requirements);
        call(&mut pip).with_context(|| format!("the packages of {} must be installable", self.name))
    }

    /// Refuses to begin what cannot end: pip's own message is lost when the disk is full.
    fn check_space(&self, folder: &Path) -> Result<()> {
        let disk = rustix::fs::statvfs(folder).context("the free space of the target folder")?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize) / 1_000_000;
        ensure!(
            free >= self.megabytes,
            "{} must have {} MB free for {}, got {free} MB",
            folder.display(),
            self.megabytes,
            self.name
        );
        Ok(())
    }

    /// The first interpreter that has wheels for the packages, and its minor version.
    ///
    /// # Errors
    /// What was found instead.
    pub(crate) fn find(&self, chosen: Option<&Path>) -> Result<(PathBuf, u32)> {
        let versioned = self.pythons.iter().map(|minor| format!("python3.{minor}").into());
        let candidates = match chosen {
            Some(chosen) => vec![chosen.to_owned()],
            None => versioned.chain(["python3".into(), "python".into()]).collect(),
        };
        let mut seen = String::new();
        for candidate in candidates {
            let answer = Command::new(&candidate).args(["-c", DESCRIBE]).output();
            let Some(answer) = answer.ok().filter(|answer| answer.status.success()) else {
                continue;
            };
            let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
            if let Some(minor) = self.fits(&answer) {
                return Ok((candidate, minor));
            }
            let described = answer.replacen(' ', ".", 1);
            let _ = write!(seen, "\n  {}: Python {described}", candidate.display());
        }
        let wanted: Vec<String> = self.pythons.iter().map(|minor| format!("3.{minor}")).collect();
        bail!(
            "{} needs Python {} on Linux x86-64, for which its packages have wheels (name one with \
             --python), got {}",
            self.name,
            wanted.join(" or "),
            if seen.is_empty() { "none" } else { &seen }
        )
    }

    /// The minor version, if the answer of a candidate is that of a fitting one.
    fn fits(&self, answer: &str) -> Option<u32> {
        let words: Vec<&str> = answer.split_whitespace().collect();
        let [major, minor, system, machine] = words[..] else { return None };
        let minor = minor.parse().ok().filter(|minor| self.pythons.contains(minor));
        minor.filter(|_| [major, system, machine] == ["3", "Linux", "x86_64"])
    }
}

/// Runs a program whose output is progress.
fn call(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.stdout(std::io::stderr());
    let status = output.status().with_context(|| format!("{} must be there", program.display()))?;
    ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pythons_with_wheels_fit() {
        assert_eq!(TENSORFLOW_2_12.fits("3 8 Linux x86_64"), Some(8));
        assert_eq!(TENSORFLOW_2_15.fits("3 8 Linux x86_64"), None);
        for answer in ["3 12 Linux x86_64", "2 7 Linux x86_64", "3 11 Darwin arm64", "", "3"] {
            assert_eq!(TORCH.fits(answer), None, "{answer}");
        }
    }

    #[test]
    fn a_python_that_does_not_fit_is_named() {
        let error = TENSORFLOW_2_15.find(Some(Path::new("no-such-python"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensorflow-2.15.1 needs Python 3.11 or 3.10 or 3.9 on Linux x86-64, for which its \
             packages have wheels (name one with --python), got none"
        );
    }

    #[test]
    fn every_package_is_pinned() {
        for environment in [TENSORFLOW_2_12, TENSORFLOW_2_15, JAX, TORCH] {
            let path = workspace_root().join(environment.requirements);
            let text = fs::read_to_string(path).unwrap().replace("\\\n", " ");
            let pins: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(pins.len() > 10, "{}", environment.name);
            for pin in pins {
                assert!(pin.contains("=="), "{pin}");
                // PyTorch's and CUDA's wheels, of 3 GB, are pinned by their version alone.
                assert!(environment.name == TORCH.name || pin.contains("--hash=sha256:"), "{pin}");
            }
        }
    }
}
