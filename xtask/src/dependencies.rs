//! Dependencies: each has its reason in crates/ARCHITECTURE.md, and a user gets few of them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::cargo_in;

/// Where the reasons stand: rows `| dependency | crates | why |`.
const REASONS: &str = "crates/ARCHITECTURE.md";
const HEADING: &str = "## Dependencies";
/// The most crates that `goldstep` with default features may consist of, itself included.
const MOST_CRATES: usize = 50;

/// A crate of the workspace and one that it depends on.
type Pair = (String, String);

/// Checks the reasons and the size of the tree; the number of crates in it.
pub(crate) fn check(root: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(root.join(REASONS))?;
    let (reasons, pairs) = (reasons(&text)?, direct(root)?);
    for (package, dependency) in &pairs {
        ensure!(
            reasons.contains(&(package.clone(), dependency.clone())),
            "{REASONS} must say why {package} depends on {dependency}"
        );
    }
    let stale = reasons.difference(&pairs).next();
    if let Some((package, dependency)) = stale {
        ensure!(false, "{REASONS} gives a reason for {dependency} in {package}, which lacks it");
    }
    let crates = tree(root)?;
    ensure!(
        crates.len() <= MOST_CRATES,
        "goldstep must consist of at most {MOST_CRATES} crates, got {}: {crates:?}",
        crates.len()
    );
    Ok(crates.len())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let output = cargo_in(root).args(arguments).output().context("cargo did not start")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Every direct dependency of every crate, those of tests included, our own crates not.
fn direct(root: &Path) -> Result<BTreeSet<Pair>> {
    let text = cargo(root, &["metadata", "--format-version", "1", "--no-deps", "--offline"])?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let pairs = packages.iter().flat_map(|package| {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        dependencies.map(move |dependency| (name(package), name(dependency)))
    });
    Ok(pairs.filter(|(_, dependency)| !dependency.starts_with("goldstep")).collect())
}

/// The pairs that a table gives a reason for.
fn reasons(text: &str) -> Result<BTreeSet<Pair>> {
    let (_, section) =
        text.split_once(HEADING).with_context(|| format!("{REASONS}: no {HEADING}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut pairs = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [dependency, crates, why] = cells[..] else {
            anyhow::bail!("{REASONS}: a row must have three cells, got {row}");
        };
        ensure!(!why.is_empty(), "{REASONS} must say why, got nothing for {dependency}");
        for package in crates.split(", ") {
            pairs.insert((package.to_owned(), dependency.trim_matches('`').to_owned()));
        }
    }
    Ok(pairs)
}

/// What a user of `goldstep` compiles.
fn tree(root: &Path) -> Result<BTreeSet<String>> {
    let arguments = [
        "tree",
        "--offline",
        "--package",
        "goldstep",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ];
    let text = cargo(root, &arguments)?;
    let package = |line: &str| line.split(" (").next().map(|name| name.trim().to_owned());
    Ok(text.lines().filter(|line| !line.is_empty()).filter_map(package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dependency_has_its_reason_and_users_get_few() {
        let crates = check(&crate::workspace_root()).unwrap();
        assert!(crates > 10, "cargo tree printed {crates} crates");
    }

    #[test]
    fn a_row_gives_a_reason_for_each_crate_it_names() {
        let text = "## Dependencies\n| `a` | x, y | why |\n## Next\n| `b` | x | why |\n";
        let expected = [("x", "a"), ("y", "a")].map(|(x, a)| (x.to_owned(), a.to_owned()));
        assert_eq!(reasons(text).unwrap(), BTreeSet::from(expected));
        assert!(reasons("## Dependencies\n| `a` | x | |\n").is_err());
    }
}
