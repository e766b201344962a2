//! Deliberately wrong Adafactors: what a judge does not notice here, it notices nowhere.
//!
//! [`Mutant`] is the scalar algorithm once more, with one [`Mistake`] asked for at the place where
//! that mistake would be made. Without one it equals the reference bit for bit. Some entries are no
//! mistakes but [harmless](Effect::Harmless) rewrites of correct code, which a judge has to accept:
//! together they bound its tolerances from both sides.
//!
//! No product crate depends on this one.

mod adafactor;
mod arithmetic;
mod clipping;
mod implementation;
mod layout;
mod mistake;
mod scalars;

pub use implementation::Mutant;
pub use mistake::{Effect, Mistake};
