//! How Goldstep is measured: paired rounds, workloads, the machine.
//!
//! - [`measure`]: two things timed in turn, and what their ratio says.
//! - [`workloads`]: lists of shapes; [`models`]: those of models that people train.
//! - [`bound`]: the suite that measures a step against the least memory traffic it can have.
//! - [`machine`]: where a measurement was made.

pub mod bound;
pub mod machine;
pub mod measure;
pub mod models;
pub mod workloads;
