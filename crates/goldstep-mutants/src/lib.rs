//! Deliberately wrong Adafactors: what a judge does not notice here, it notices nowhere.
//!
//! [`Mutant`] is the scalar algorithm once more, with one [`Mistake`] asked for at the place where
//! that mistake would be made. Without one it equals the reference bit for bit. Some entries are no
//! mistakes but [harmless](Effect::Harmless) rewrites of correct code, which a judge has to accept:
//! together they bound its tolerances from both sides.
//!
//! # Harmless rewrites
//!
//! Each is the same real number, computed in another order or wider, so that only roundings differ:
//! a few of them per value, fewer than a judge of floating-point numbers may ask for.
//!
//! - `column_normalised`: `mean(r) = mean(c)`: both are averages, with the same weights, of the
//!   mean of `g² + ε₁` over all elements, so `r/mean(r) · c = r · (c/mean(c))`.
//! - `decay_factor_first`: `(x · wd) · lr = x · (wd · lr)`: two roundings either way.
//! - `divides_by_root`: `g · rsqrt(v) = g/√v`: TensorFlow's `rsqrt` is itself up to 2.5 ULP
//!   off, root and quotient up to 1.
//! - `wide_arithmetic`: float32 in float64, rounded when stored, is closer to the real number
//!   than float32; not for the halves, whose averages Keras lets stand still for want of
//!   digits.
//! - `mean_by_reciprocal`: `sum/n = sum · (1/n)`: one rounding more.
//! - `sums_backwards`: a sum does not depend on the order of its terms; blocks and a tree keep
//!   the error as small as TensorFlow's own blocks do.
//! - `step_divided_first`: `α · (u/d) = (α/d) · u`: two roundings either way.
//! - `epsilon_after_mean`: a mean is linear: `mean(g² + ε₁) = mean(g²) + ε₁`, with fewer
//!   roundings.
//! - `clip_by_factor`: `g · c / max(norm, c) = g · min(1, c/norm)`, for a norm of 0 too.
//!
//! They stop being equal where an intermediate overflows or underflows, which depends on the order:
//! the family of extreme values is judged but not counted for them.
//! `cargo xtask mutants --harmless` runs all of them over all families (of the large grid 400
//! combinations, with `--all` every one) and fails if a run of another family rejects one.
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
