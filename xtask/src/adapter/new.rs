//! `cargo xtask adapter new`: a template that already runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{AGREED, workspace_root};

const PYTHON: &str = include_str!("../../../adapters/templates/adapter.py");
/// An example of the conformance crate, so that it is compiled with every test.
const RUST: &str =
    include_str!("../../../crates/goldstep-conformance/examples/adapter_template.rs");

/// Write the template of an adapter, which already runs, to be filled in.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The language.
    #[arg(long, value_enum)]
    lang: Language,
    /// Where it goes: a file for Python, a folder with a package for Rust.
    #[arg(long)]
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    Python,
    Rust,
}

impl New {
    pub(super) fn run(&self) -> Result<u8> {
        match self.lang {
            Language::Python => {
                let path = self.path.clone().unwrap_or_else(|| "adapter.py".into());
                write_new(&path, PYTHON)?;
                let file = path.display();
                println!("wrote {file}; next:");
                println!("  cargo xtask adapter check -- python3 {file}");
            }
            Language::Rust => {
                let folder = self.path.clone().unwrap_or_else(|| "my-adapter".into());
                fs::create_dir_all(folder.join("src"))
                    .with_context(|| format!("{} cannot be made", folder.display()))?;
                write_new(&folder.join("Cargo.toml"), &manifest())?;
                write_new(&folder.join("src/main.rs"), RUST)?;
                let folder = folder.display();
                println!("wrote {folder}; next:");
                println!("  cargo build --release --manifest-path {folder}/Cargo.toml");
                println!("  cargo xtask adapter check -- {folder}/target/release/my-adapter");
            }
        }
        Ok(AGREED)
    }
}

/// A package of its own, so that it may lie inside this workspace's folder or anywhere else.
fn manifest() -> String {
    let conformance = workspace_root().join("crates/goldstep-conformance");
    format!(
        "[package]\nname = \"my-adapter\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\ngoldstep-conformance = {{ path = {:?} }}\n\n[workspace]\n",
        conformance.display().to_string()
    )
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    ensure!(!path.exists(), "{} must not exist yet, got a file", path.display());
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_short_enough_to_read_at_once() {
        for text in [PYTHON, RUST] {
            assert!(text.lines().count() <= 60, "{}", text.lines().count());
        }
    }
}
