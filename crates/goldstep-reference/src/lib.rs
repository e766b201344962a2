//! Scalar optimizers that read like their algorithms: slow and obviously right.
//!
//! [`Adafactor`] computes what `tf.keras.optimizers.experimental.Adafactor` of TensorFlow 2.12.1
//! computes, operation by operation in the variable's own type, flush-to-zero included. Its
//! intermediates can be observed, which makes it the oracle that explains other backends' mistakes.
//!
//! ```
//! use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
//! use goldstep_reference::Adafactor;
//!
//! let arguments = AdafactorArguments::builder().learning_rate(0.5).build()?;
//! let parameters = ParameterList::new(vec![Parameter::new("w", &[2, 2])?])?;
//! let mut optimizer = Adafactor::build(&arguments, &parameters)?;
//!
//! let mut w = [1.0_f32, 2.0, 3.0, 4.0];
//! optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&[0.1, 0.2, 0.3, 0.4]))])?;
//! assert!(w[0] < 1.0);
//! # Ok::<(), goldstep_core::Error>(())
//! ```

mod adafactor;
mod clipping;
#[cfg(feature = "conformance")]
pub mod conformance;
mod real;

pub use adafactor::Adafactor;
