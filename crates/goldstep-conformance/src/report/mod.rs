//! Reports for people and programs.

mod failure;
mod fold;
mod json;
pub(crate) mod numbers;
pub(crate) mod standing;
mod summary;

#[cfg(feature = "site")]
pub(crate) use failure::stale;
pub use failure::{failures, not_answered};
pub use fold::folded;
pub use json::json;
pub use summary::{golden_line, summary};
