//! Why an implementation differs: one block per cause, never one per run.
//!
//! Failing runs are gathered by what they have in common, the first divergence is shown in causal
//! order with the oracle's intermediates beside it, and known mistakes are tried for the one that
//! gives the same numbers.

mod block;
mod causal;
mod cause;
mod detail;
mod diagnosis;
mod features;
mod formula;
mod look;
mod places;
mod predicate;
mod record;
mod shrink;
mod unit_test;

#[cfg(feature = "site")]
pub(crate) use block::field_shape;
pub use causal::{CausalEntry, CausalState};
pub(crate) use cause::part;
#[cfg(feature = "site")]
pub(crate) use cause::shown;
pub use cause::{Cause, Part, explain};
pub use detail::{Detail, Field, Growth, detail, growth};
pub(crate) use diagnosis::gives_the_same;
pub use diagnosis::{Diagnosis, Suspect};
pub use predicate::{Feature, Run, describe};
pub use shrink::restricted;
pub use unit_test::{Target, unit_test};
