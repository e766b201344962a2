//! `cargo xtask tidy`: rules of the tree that no compiler checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{dependencies, workspace_root};

/// The largest file outside the golden traces.
const LARGEST_FILE: u64 = 2 * 1024 * 1024;
/// All golden traces together.
const LARGEST_GOLDENS: u64 = 15 * 1024 * 1024;
/// The function that is the algorithm.
const ALGORITHM: &str = "crates/goldstep-reference/src/adafactor.rs";
/// The backends that do the same thing in their own way.
const BACKENDS: [&str; 2] = ["crates/goldstep-cpu/src", "crates/goldstep-torch/src"];

/// Lines of an example at most.
const EXAMPLE: usize = 39;
/// What `cargo xtask adapter new` writes, and its lines at most.
const TEMPLATE: (&str, usize) = ("crates/goldstep-conformance/examples/adapter_template.rs", 60);

/// Check sizes of files and examples, labels of the algorithm, reasons of dependencies.
#[derive(Debug, clap::Args)]
pub(crate) struct Tidy {}

impl Tidy {
    pub(crate) fn run(&self) -> Result<()> {
        let root = workspace_root();
        let files = tracked_files(&root)?;
        check_sizes(&root, &files)?;
        check_examples(&root, &files)?;
        let labels = check_labels(&root, &files)?;
        let crates = dependencies::check(&root)?;
        println!("tidy: {} files, {labels} labels, goldstep of {crates} crates", files.len());
        Ok(())
    }
}

fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git").current_dir(root).args(["ls-files", "-z"]).output();
    let output = output.context("git ls-files did not start")?;
    ensure!(output.status.success(), "git ls-files failed with {}", output.status);
    let text = String::from_utf8(output.stdout).context("file names must be UTF-8")?;
    let existing = text.split_terminator('\0').map(PathBuf::from).filter(|f| root.join(f).exists());
    Ok(existing.collect())
}

fn check_sizes(root: &Path, files: &[PathBuf]) -> Result<()> {
    let mut goldens = 0;
    for file in files {
        let bytes = fs::metadata(root.join(file))?.len();
        if file.starts_with("golden/v1") {
            goldens += bytes;
        } else if bytes > LARGEST_FILE {
            bail!("{} must have at most {LARGEST_FILE} bytes, got {bytes}", file.display());
        }
    }
    ensure!(
        goldens <= LARGEST_GOLDENS,
        "golden/v1 must have at most {LARGEST_GOLDENS} bytes, got {goldens}"
    );
    Ok(())
}

/// An example shows one thing: who reads it sees all of it at once.
fn check_examples(root: &Path, files: &[PathBuf]) -> Result<()> {
    for file in files.iter().filter(|file| is_example(file)) {
        let lines = fs::read_to_string(root.join(file))?.lines().count();
        let (template, longer) = TEMPLATE;
        let most = if file == Path::new(template) { longer } else { EXAMPLE };
        ensure!(lines <= most, "{} must have at most {most} lines, got {lines}", file.display());
    }
    Ok(())
}

/// `examples/NAME.rs` or `examples/NAME/main.rs` of a crate.
fn is_example(file: &Path) -> bool {
    let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    matches!(parts.as_slice(), ["crates", _, "examples", _, "main.rs"])
        || matches!(parts.as_slice(), ["crates", _, "examples", name] if name.ends_with(".rs"))
}

/// Each operation of the algorithm is labelled once, in order; every backend cites all of them.
fn check_labels(root: &Path, files: &[PathBuf]) -> Result<usize> {
    let source = fs::read_to_string(root.join(ALGORITHM))?;
    let labels: Vec<u32> = source.lines().filter_map(trailing_label).collect();
    let expected: Vec<u32> = (1..).take(labels.len()).collect();
    ensure!(
        !labels.is_empty() && labels == expected,
        "labels of {ALGORITHM} must be A1, A2, … in order, got {labels:?}"
    );
    for backend in BACKENDS {
        let sources = files.iter().filter(|file| file.starts_with(backend));
        let mut cited = BTreeSet::new();
        let mut any = false;
        for file in sources.filter(|file| file.extension().is_some_and(|e| e == "rs")) {
            any = true;
            for label in fs::read_to_string(root.join(file))?.lines().flat_map(cited_labels) {
                ensure!(
                    labels.contains(&label),
                    "{} cites A{label}, which {ALGORITHM} lacks",
                    file.display()
                );
                cited.insert(label);
            }
        }
        let missing: Vec<_> = labels.iter().filter(|label| !cited.contains(label)).collect();
        ensure!(!any || missing.is_empty(), "{backend} must cite every label, lacks {missing:?}");
    }
    Ok(labels.len())
}

/// The label that ends a line of the algorithm, `… // A7`.
fn trailing_label(line: &str) -> Option<u32> {
    let (_, comment) = line.rsplit_once("//")?;
    comment.trim().strip_prefix('A')?.parse().ok()
}

/// All labels in the comment of a line, alone (`A7`) or as a range (`A9–A11`).
fn cited_labels(line: &str) -> Vec<u32> {
    let Some((_, comment)) = line.split_once("//") else { return Vec::new() };
    let mut labels = Vec::new();
    for word in comment.split(|c: char| !c.is_alphanumeric() && c != '–') {
        let ends: Vec<Option<u32>> =
            word.split('–').map(|end| end.strip_prefix('A')?.parse().ok()).collect();
        match ends.as_slice() {
            [Some(label)] => labels.push(*label),
            [Some(first), Some(last)] => labels.extend(*first..=*last),
            _ => {}
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found() {
        let found = |file: &str| is_example(Path::new(file));
        assert!(found("crates/a/examples/b.rs") && found("crates/a/examples/b/main.rs"));
        assert!(!found("crates/a/examples/b/data.rs") && !found("crates/a/src/examples.rs"));
    }

    #[test]
    fn labels_are_found() {
        assert_eq!(trailing_label("let a = b; //   A12"), Some(12));
        assert_eq!(trailing_label("let a = b; // All of it"), None);
        assert_eq!(cited_labels("// the means (A9–A11), then A13."), [9, 10, 11, 13]);
        assert_eq!(cited_labels("let A4 = 3; // nothing"), [0_u32; 0]);
    }
}
