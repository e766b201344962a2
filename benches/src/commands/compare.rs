//! Two files of results, row by row.

use std::path::PathBuf;

use anyhow::Result;
use benches::record::Results;
use benches::report::compare;

#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// The results from before
    before: PathBuf,
    /// The results from after
    after: PathBuf,
}

impl Compare {
    pub(crate) fn run(&self) -> Result<()> {
        let (before, after) = (Results::read(&self.before)?, Results::read(&self.after)?);
        print!("{}", compare(&before, &after));
        Ok(())
    }
}
