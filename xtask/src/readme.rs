//! `cargo xtask readme`: the generated blocks of the README.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace_root;

/// Renew the numbers in the README from the golden traces.
#[derive(Debug, clap::Args)]
pub(crate) struct Readme {
    /// Change nothing; fail when a block is out of date
    #[arg(long)]
    check: bool,
}

impl Readme {
    pub(crate) fn run(&self) -> Result<()> {
        let root = workspace_root();
        let path = root.join("README.md");
        let text = fs::read_to_string(&path).context("README.md")?;
        let renewed = replace_block(&text, "goldens", &goldens(&root)?)?;
        if self.check && renewed != text {
            bail!("README.md must agree with golden/v1, run `cargo xtask readme`");
        }
        if renewed != text {
            fs::write(&path, renewed).context("README.md")?;
        }
        println!("readme: up to date");
        Ok(())
    }
}

/// Replaces what stands between the markers of a block.
pub(crate) fn replace_block(text: &str, name: &str, content: &str) -> Result<String> {
    let begin = format!("<!-- begin generated: {name} ");
    let end = format!("<!-- end generated: {name} -->");
    let start = text.find(&begin).with_context(|| format!("README.md lacks the block {name}"))?;
    let body = start + text[start..].find('\n').map_or(0, |newline| newline + 1);
    let stop = body + text[body..].find(&end).with_context(|| format!("{name} has no end"))?;
    Ok(format!("{}{content}{}", &text[..body], &text[stop..]))
}

/// A row per golden family, from the manifest.
fn goldens(root: &Path) -> Result<String> {
    let manifest = fs::read_to_string(root.join("golden/v1/manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest).context("golden/v1/manifest.json")?;
    let mut table = String::from("| family | holds | is there to catch |\n|---|---|---|\n");
    for family in manifest["families"].as_array().context("the manifest lists no families")? {
        let text = |field: &str| family[field].as_str().unwrap_or_default().to_owned();
        let counts = family["counts"].as_object().context("a family has no counts")?;
        let holds: Vec<String> = ["combinations", "errors", "trajectories", "cases", "steps"]
            .iter()
            .filter_map(|field| Some(format!("{} {field}", grouped(counts.get(*field)?.as_u64()?))))
            .collect();
        writeln!(table, "| `{}` | {} | {} |", text("id"), holds.join(", "), text("purpose"))?;
    }
    Ok(table)
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_replaced_between_their_markers() {
        let text = "a\n<!-- begin generated: x (how) -->\nold\n<!-- end generated: x -->\nb\n";
        let renewed = replace_block(text, "x", "new\n").unwrap();
        assert_eq!(renewed, text.replace("old", "new"));
        assert!(replace_block(text, "y", "").is_err());
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([1, 999, 36_864, 1_000_000].map(grouped), ["1", "999", "36,864", "1,000,000"]);
    }
}
