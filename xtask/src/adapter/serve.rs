//! `cargo xtask adapter serve`: a backend of the workspace as an adapter.

use anyhow::{Context, Result};
use goldstep_conformance::FreeRuns;
use goldstep_conformance::protocol::serve;

use crate::{AGREED, backends};

/// Speak the adapter protocol for a backend of this workspace, for a harness of one's own
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The backend's name
    backend: String,
}

impl Serve {
    pub(super) fn run(&self) -> Result<u8> {
        let subjects =
            backends::subjects(std::slice::from_ref(&self.backend), "cpu", FreeRuns::All, &[])?;
        let subject = subjects.first().context("a backend is needed")?;
        let mut implementation = (subject.make)()?;
        serve(implementation.as_mut(), std::io::stdin().lock(), std::io::stdout().lock())?;
        Ok(AGREED)
    }
}
