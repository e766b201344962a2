//! Adafactor for Rust, proven step by step against `tf.keras.optimizers.experimental.Adafactor` of
//! TensorFlow 2.12.1: Keras's argument names and defaults, Keras's numbers.
//!
//! ```
//! # #[cfg(feature = "cpu")] {
//! use goldstep::cpu::Adafactor;
//! use goldstep::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
//!
//! // The parameters stay yours. Here the loss is (w − 3)², whose gradient is 2 (w − 3).
//! let mut w = [0.0_f32];
//! let arguments = AdafactorArguments::builder().learning_rate(0.5).build()?;
//! let parameters = ParameterList::new(vec![Parameter::new("w", &[1])?])?;
//! let mut optimizer = Adafactor::build(&arguments, &parameters)?;
//! # let mut step = || -> Result<(), goldstep::Error> {
//! let gradient = [2.0 * (w[0] - 3.0)];
//! optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&gradient))])?;
//! # Ok(()) };
//! # for _ in 0..2000 { step()?; }
//! # assert!((w[0] - 3.0).abs() < 0.1, "{w:?}");
//! # }
//! # Ok::<(), goldstep::Error>(())
//! ```
//!
//! # Backends
//!
//! Every backend is constructed from the same [`AdafactorArguments`] and the same [`ParameterList`];
//! changing the backend changes one path.
//!
//! | feature | type | parameters live in |
//! |---|---|---|
//! | `cpu`, the default | `goldstep::cpu::Adafactor<T>` | slices or ndarray views of f32, f64, bf16 or f16; blocked, multithreaded, vectorised |
//! | `reference` | `goldstep::reference::Adafactor<T>` | slices of f32, f64, bf16 or f16; slow, obviously right |
//! | `torch` | `goldstep::torch::Optimizer`, `goldstep::torch::Adafactor` | tensors of `tch`, on CPU and CUDA |
//!
//! # Guide
//!
//! The [`guide`] teaches: a first training loop, how Adafactor works, what each argument does, how to
//! move from Keras, checkpoints, how implementations differ, and how all of this is tested.
//!
//! # Other features
//!
//! `serde`: [`AdafactorArguments`] as Keras's configuration in JSON, or any serde format that describes itself and has a null.
//!
//! # Logs
//!
//! Saving and loading of checkpoints is logged through `tracing`; the events are listed in
//! [`guide::checkpoints`](guide::checkpoints#logs).

#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod guide;

/// The code of the README runs too.
#[cfg(all(doctest, feature = "cpu"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc(inline)]
pub use goldstep_checkpoint::{Checkpoint, CheckpointError};
#[doc(inline)]
pub use goldstep_core::{
    AdafactorArguments, AdafactorArgumentsBuilder, AdafactorScalars, AdafactorState, Constraint,
    DType, Element, EmaArguments, EmaScalars, Error, Gradient, GradientClipping, HostOptimizer,
    Intermediates, Layout, LearningRate, LearningRateSchedule, ObservableOptimizer, Parameter,
    ParameterList, Schedule, SecondMoment, SecondMomentUnderflow, Stage, StepReport, Values,
    VariableState,
};

/// The fast backend for parameters in host memory: blocked, multithreaded, vectorised; the same bits for
/// every number of threads and every instruction set.
#[cfg(feature = "cpu")]
#[cfg_attr(docsrs, doc(cfg(feature = "cpu")))]
pub mod cpu {
    #[doc(inline)]
    pub use goldstep_cpu::*;
}

/// The scalar backend: one function that reads like the algorithm, operation by operation as
/// TensorFlow computes it, in the variable's own type. The oracle of the others; for learning and
/// testing, not for speed.
#[cfg(feature = "reference")]
#[cfg_attr(docsrs, doc(cfg(feature = "reference")))]
pub mod reference {
    #[doc(inline)]
    pub use goldstep_reference::Adafactor;
}

#[cfg(feature = "torch")]
#[cfg_attr(docsrs, doc(cfg(feature = "torch")))]
pub mod torch;
