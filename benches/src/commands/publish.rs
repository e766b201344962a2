//! Tables and plots of files of results, into the README and the documentation.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use benches::record::Results;
use benches::report::{plot, publication};

/// The samples behind everything that is published.
const SAMPLES: &str = "benches/results/published.jsonl";
/// The files with generated blocks.
const PAGES: [&str; 2] = ["README.md", "benches/README.md"];
/// The plots, by row; each is made for every number of threads.
const PLOTS: [(&str, &str); 2] = [("4096²", "4096"), ("BERT-base", "bert-base")];

#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// Samples that become the published ones; the published ones stay if absent
    samples: Option<PathBuf>,
    /// Change nothing; fail when a page does not agree with the published samples
    #[arg(long)]
    check: bool,
}

impl Publish {
    pub(crate) fn run(&self) -> Result<()> {
        if let Some(samples) = &self.samples {
            ensure!(!self.check, "--check takes no file: it checks what is published");
            let results = Results::read(samples)?;
            ensure!(
                results.blocks.iter().any(|block| block.peer.is_some()),
                "published results must hold other libraries, got {} without",
                samples.display()
            );
            if samples.canonicalize()? != Path::new(SAMPLES).canonicalize().unwrap_or_default() {
                fs::copy(samples, SAMPLES).context(SAMPLES)?;
            }
        }
        if !Path::new(SAMPLES).exists() {
            return self.nothing_published();
        }
        let results = Results::read(Path::new(SAMPLES))?;
        for page in PAGES {
            let text = fs::read_to_string(page).context(page)?;
            let mut renewed = text.clone();
            for (name, content) in publication(&results) {
                renewed = replace_block(&renewed, name, &content);
            }
            self.put(Path::new(page), &renewed)?;
        }
        for threads in results.thread_counts() {
            for (row, file) in PLOTS {
                let path = format!("benches/results/{file}-{threads}.svg");
                self.put(Path::new(&path), &plot(&results, row, threads))?;
            }
        }
        println!("bench: what is published agrees with {SAMPLES}");
        Ok(())
    }

    /// Without samples no number may stand anywhere.
    fn nothing_published(&self) -> Result<()> {
        for page in PAGES {
            let text = fs::read_to_string(page).context(page)?;
            let blocks = ["performance", "performance-place", "performance-rows"];
            let is_empty = |name: &&str| replace_block(&text, name, "") == text;
            ensure!(blocks.iter().all(is_empty), "{page} must hold no numbers without {SAMPLES}");
        }
        println!("bench: nothing is published yet");
        Ok(())
    }

    fn put(&self, path: &Path, content: &str) -> Result<()> {
        let same = fs::read_to_string(path).is_ok_and(|text| text == content);
        ensure!(
            same || !self.check,
            "{} must agree with {SAMPLES}, run `cargo xtask bench --publish`",
            path.display()
        );
        if same { Ok(()) } else { fs::write(path, content).context(path.display().to_string()) }
    }
}

/// Replaces what stands between the markers of a block; a page without it stays as it is.
fn replace_block(text: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- begin generated: {name} ");
    let end = format!("<!-- end generated: {name} -->");
    let found = text.find(&begin).and_then(|start| {
        let body = start + text[start..].find('\n')? + 1;
        Some((body, body + text[body..].find(&end)?))
    });
    match found {
        Some((body, stop)) => format!("{}{content}{}", &text[..body], &text[stop..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_replaced_and_missing_ones_left() {
        let text = "a\n<!-- begin generated: x (how) -->\nold\n<!-- end generated: x -->\nb\n";
        assert_eq!(replace_block(text, "x", "new\n"), text.replace("old", "new"));
        assert_eq!(replace_block(text, "y", "new\n"), text);
    }
}
