//! Holds optimizers against traces of tf.keras, step by step, and explains the first difference.
//!
//! This crate knows the trace format and no backend. Whatever is judged comes through one door, the
//! trait [`Implementation`]: a backend of this workspace in process, a stranger's program over the
//! adapter protocol.
//!
//! Numbers of every element type are held as float64 here, in which each of them is exact.

mod implementation;
pub mod protocol;

pub use implementation::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateField,
    StateRequest, StepIntermediates, StepRequest, StepResponse, Variable,
};
