//! `cargo xtask golden`: record the golden traces, compare them with tf.keras, prove them whole.

mod check;
mod decimal;
mod difference;
mod ids;
mod lint;
mod record;
mod replace;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::record::Recording;
use crate::{AGREED, DRIFTED, workspace_root};

/// Record the golden traces from tf.keras, compare them with it, or prove that they are whole
///
/// Exit codes: 0 done or no difference, 2 the set-up failed, 3 the goldens drifted or are damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Golden {
    /// Only record in a temporary place and compare; a sample of the large grid
    #[arg(long, conflicts_with = "lint")]
    check: bool,
    /// With --check: every combination, not a sample
    #[arg(long, requires = "check", conflicts_with = "lint")]
    all: bool,
    /// With --check: where no Python fits, say so and succeed
    #[arg(long, requires = "check", conflicts_with = "lint")]
    skip_without_python: bool,
    /// Only prove schema, sums, order, numbers, counts and ids of what is there
    #[arg(long)]
    lint: bool,
    /// Only these families, comma-separated; recording leaves the others as they are
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "lint")]
    family: Vec<String>,
    /// The directory of the traces [default: golden/v1]
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// The Python that makes the virtual environments [default: the first fitting one]
    #[arg(long, value_name = "PATH", conflicts_with = "lint")]
    python: Option<PathBuf>,
    /// Recording processes [default: one for each core]
    #[arg(long, value_name = "N", conflicts_with = "lint")]
    jobs: Option<NonZeroUsize>,
    /// A program in place of the generator, for the test of this command
    #[arg(long, value_name = "PATH", hide = true)]
    generator: Option<PathBuf>,
}

impl Golden {
    pub(crate) fn run(&self) -> Result<u8> {
        let directory = self.golden.clone().unwrap_or_else(|| workspace_root().join("golden/v1"));
        if self.lint {
            return lint_command(&directory);
        }
        // A Python that does not fit is refused whoever else records.
        if self.generator.is_none() && !self.skip_without_python {
            record::fitting(self.python.as_deref())?;
        }
        // Held until the end: two recordings would take each other's places.
        let _lock = replace::Lock::take(&scratch()?)?;
        replace::clean(&directory)?;
        if self.check { self.compare(&directory) } else { self.renew(&directory) }
    }

    /// Records, proves the result, and puts it in the place of the old traces.
    fn renew(&self, directory: &Path) -> Result<u8> {
        let new = replace::beside(directory, "new");
        let base = (!self.family.is_empty()).then(|| directory.to_owned());
        let recording = self.recording(new.clone(), base, None);
        for line in recording.run()? {
            println!("{line}");
        }
        let problems = lint::lint(&new)?;
        if let Some(first) = problems.first() {
            replace::remove(&new)?;
            bail!("what was recorded is not whole, so nothing was replaced: {first}");
        }
        replace::exchange(&new, directory)?;
        println!("{} renewed", directory.display());
        Ok(AGREED)
    }

    /// Records in a temporary place and compares.
    fn compare(&self, directory: &Path) -> Result<u8> {
        if self.skip_without_python
            && let Err(reason) = record::fitting(self.python.as_deref())
        {
            println!("skipped: {reason:#}");
            return Ok(AGREED);
        }
        let fresh = scratch()?.join(format!("check-{}", std::process::id()));
        let sample = (!self.all).then_some(record::SAMPLE);
        let recording = self.recording(fresh.clone(), None, sample);
        recording.test()?;
        let outcome = recording.run().and_then(|_| check::compare(directory, &fresh, &self.family));
        replace::remove(&fresh)?;
        let comparison = outcome?;
        print!("{comparison}");
        Ok(if comparison.agrees() { AGREED } else { DRIFTED })
    }

    fn recording(&self, out: PathBuf, base: Option<PathBuf>, sample: Option<usize>) -> Recording {
        Recording {
            out,
            base,
            sample,
            families: self.family.clone(),
            jobs: self.jobs,
            python: self.python.clone(),
            generator: self.generator.clone(),
        }
    }
}

fn lint_command(directory: &Path) -> Result<u8> {
    let started = Instant::now();
    let problems = lint::lint(directory)?;
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        let noun = if problems.len() == 1 { "problem" } else { "problems" };
        println!(
            "{} {noun}; git has the traces as they were committed, `cargo xtask golden` records them \
             again",
            problems.len()
        );
        return Ok(DRIFTED);
    }
    println!("{} is whole ({:.1} s)", directory.display(), started.elapsed().as_secs_f64());
    if !ids::has_history(directory) {
        println!("there is no last commit of it, with which ids could be compared");
    }
    Ok(AGREED)
}

/// Where environments, checkpoints and temporary recordings live.
fn scratch() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), PathBuf::from);
    let path = target.join("golden");
    std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    Ok(path)
}
