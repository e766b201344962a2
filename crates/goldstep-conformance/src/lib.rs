//! Holds optimizers against traces of tf.keras, step by step, and explains the first difference.
//!
//! This crate knows the trace format and no backend. Whatever is judged comes through one door, the
//! trait [`Implementation`]: a backend of this workspace in process, a stranger's program over the
//! adapter protocol.
//!
//! Numbers of every element type are held as float64 here, in which each of them is exact.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use goldstep_conformance::golden::Golden;
//! use goldstep_conformance::{Selection, Subject, run};
//!
//! # fn subject() -> Subject { unimplemented!() }
//! let golden = Golden::load(Path::new("golden/v1"))?;
//! let report = run(&golden, &Selection::all(&golden), &subject(), 2, &|_| {})?;
//! assert!(report.agrees());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod agreement;
mod arguments;
pub mod explain;
mod free;
pub mod golden;
mod implementation;
mod in_process;
mod invocation;
mod judge;
mod known;
mod lack;
pub mod libtest;
mod observed;
mod panics;
pub mod protocol;
pub mod report;
mod run;
mod selection;
#[cfg(feature = "site")]
pub mod site;
mod subject;
mod watch;
mod wide;

pub use free::FreeRuns;
pub use implementation::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateField,
    StateRequest, StepIntermediates, StepRequest, StepResponse, Variable,
};
pub use in_process::{Builds, InProcess, Observed, Plain, Session};
pub use invocation::{Invocation, quoted};
pub use judge::{Check, Divergence, Finding, Focus, Judge, Likeness, Outcome, ValueDifference};
pub use known::{Known, KnownDifference};
pub use observed::{Observations, Worst};
pub use run::{FamilyReport, Report, run};
pub use selection::{Selection, SelectionError};
pub use subject::{Factory, Subject};
pub use watch::Watch;
pub use wide::Wide;
