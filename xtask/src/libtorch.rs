//! `cargo xtask libtorch`: finds libtorch, or provides it from pinned wheels.
//!
//! xtask itself links no libtorch.

mod install;
mod known;
mod wheels;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::cargo::build;

pub(crate) use known::known_differences;

/// The libtorch that tch 0.26.0 wants, exactly: another one links and then fails with a message
/// about something else. `.cargo/config.toml` names the folder; a test below holds them together.
pub(crate) const VERSION: &str = "2.13.0";

/// What to do where libtorch cannot be provided.
pub(crate) const REMEDY: &str = "set LIBTORCH to the folder of a libtorch 2.13.0 (CPU or CUDA), or \
     LIBTORCH_USE_PYTORCH=1 where Python has torch 2.13.0; `--backend reference,cpu` does without";

/// Find libtorch or provide it, and say which.
#[derive(Debug, Args)]
pub(crate) struct Libtorch {
    /// Build the worker that serves the libtorch backend, too, and print its path.
    #[arg(long)]
    worker: bool,
}

/// A libtorch of the right version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    pub(crate) origin: Origin,
    pub(crate) directory: PathBuf,
}

/// Who brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `LIBTORCH` points to it.
    User,
    /// `LIBTORCH_USE_PYTORCH` is set and Python has it.
    Python,
    /// It was made from pinned wheels, now or before.
    Provided,
}

impl Libtorch {
    pub(crate) fn run(&self) -> Result<()> {
        let found = find_or_provide()?;
        let origin = match found.origin {
            Origin::User => "from LIBTORCH",
            Origin::Python => "from Python, as LIBTORCH_USE_PYTORCH says",
            Origin::Provided => "provided from pinned wheels",
        };
        println!("libtorch {VERSION}  {}  {origin}", found.directory.display());
        if self.worker {
            println!("worker  {}", worker()?.display());
        }
        Ok(())
    }
}

/// A libtorch of the right version: the user's, else the one under the target folder, which is
/// made if it is not there.
///
/// # Errors
/// A user's libtorch of another version; no way to provide one. The message says what to set.
pub(crate) fn find_or_provide() -> Result<Installation> {
    let root = crate::workspace_root();
    let provided = root.join("target/libtorch").join(VERSION);
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return from_python();
    }
    if let Some(directory) = std::env::var_os("LIBTORCH").map(PathBuf::from)
        && !same_place(&directory, &provided)
    {
        check_version(&directory)?;
        return Ok(Installation { origin: Origin::User, directory });
    }
    install::provide(&provided)?;
    Ok(Installation { origin: Origin::Provided, directory: provided })
}

/// Builds the worker that serves the libtorch backend over the adapter protocol.
///
/// # Errors
/// No libtorch, or a build that fails.
pub(crate) fn worker() -> Result<PathBuf> {
    let installation = find_or_provide()?;
    let worker = ["--package", "goldstep-torch", "--features", "goldstep-torch/worker"];
    build(cargo(&installation), &[&worker[..], &["--bin", "goldstep-torch-worker"]].concat())
}

/// A cargo that builds against that libtorch.
pub(crate) fn cargo(installation: &Installation) -> Command {
    let mut cargo = crate::cargo::cargo();
    if installation.origin == Origin::Provided {
        // `.cargo/config.toml` says it; a second way of saying it would rebuild torch-sys.
        cargo.env_remove("LIBTORCH");
    }
    cargo
}

fn same_place(left: &Path, right: &Path) -> bool {
    let plain = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    plain(left) == plain(right)
}

fn check_version(directory: &Path) -> Result<()> {
    let place = directory.display();
    let found = version_of(directory).with_context(|| {
        format!(
            "LIBTORCH must be a folder of libtorch {VERSION}, got {place} without build-version or \
             include/torch/headeronly/version.h"
        )
    })?;
    ensure!(
        found == VERSION,
        "LIBTORCH must be libtorch {VERSION}, got version {found} in {place}"
    );
    let library = directory.join("lib/libtorch_cpu.so");
    ensure!(
        !cfg!(target_os = "linux") || library.is_file(),
        "LIBTORCH must hold lib/libtorch_cpu.so, got {place} without"
    );
    Ok(())
}

/// The version that a folder of libtorch, or of Python's torch package, says it has.
fn version_of(directory: &Path) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    let plain = |version: &str| version.trim().split('+').next().unwrap_or_default().to_owned();
    if let Some(version) = read("build-version") {
        return Some(plain(&version));
    }
    let headers =
        ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];
    headers.into_iter().filter_map(read).find_map(|text| {
        let part = |name: &str| {
            let define = format!("#define TORCH_VERSION_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&define))?;
            line.trim().parse::<u32>().ok()
        };
        Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
    })
}

/// torch-sys asks the same Python the same question.
fn from_python() -> Result<Installation> {
    let program = if std::env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let script =
        "import os, torch; print(torch.__version__); print(os.path.dirname(torch.__file__))";
    let output = Command::new(program).args(["-c", script]).output();
    let output = output.with_context(|| format!("LIBTORCH_USE_PYTORCH needs {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let (Some(version), Some(directory)) = (lines.next(), lines.next()) else {
        bail!("LIBTORCH_USE_PYTORCH needs torch {VERSION} in {program}, got none");
    };
    let found = version.split('+').next().unwrap_or_default();
    ensure!(
        found == VERSION,
        "LIBTORCH_USE_PYTORCH must find torch {VERSION}, got version {found} in {directory}"
    );
    Ok(Installation { origin: Origin::Python, directory: PathBuf::from(directory) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        folder
    }

    #[test]
    fn versions_are_read_where_builds_keep_them() {
        let zip = folder("build-version", "2.13.0+cu130\n");
        assert_eq!(version_of(zip.path()).as_deref(), Some("2.13.0"));
        let header = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 5\n#define TORCH_VERSION_PATCH 1\n";
        let wheel = folder("include/torch/headeronly/version.h", header);
        assert_eq!(version_of(wheel.path()).as_deref(), Some("2.5.1"));
        assert_eq!(version_of(Path::new("/nowhere")), None);
    }

    #[test]
    fn another_version_is_refused_with_both_named() {
        let old = folder("build-version", "2.5.1");
        let message = check_version(old.path()).unwrap_err().to_string();
        assert!(message.contains("must be libtorch 2.13.0, got version 2.5.1"), "{message}");
        let empty = folder("build-version", "2.13.0");
        let message = check_version(empty.path()).unwrap_err().to_string();
        assert!(message.contains("must hold lib/libtorch_cpu.so"), "{message}");
    }

    #[test]
    fn the_version_stands_in_one_place() {
        let root = crate::workspace_root();
        let config = std::fs::read_to_string(root.join(".cargo/config.toml")).unwrap();
        assert!(config.contains(&format!("\"target/libtorch/{VERSION}\"")), "{config}");
        let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap();
        assert!(lock.contains("name = \"torch-sys\"\nversion = \"0.26.0\""));
        assert!(REMEDY.contains(VERSION) && wheels::WHEELS[0].requirement.ends_with(VERSION));
    }
}
