//! What every Goldstep optimizer backend shares: arguments, learning-rate schedules, parameter
//! lists, the scalars of a step, the state's layout, errors and traits.
//!
//! This crate never touches tensor data and starts no thread. Behaviour follows
//! `tf.keras.optimizers.experimental.Adafactor` of TensorFlow 2.12.1, names follow its arguments.
//!
//! ```
//! use goldstep_core::{AdafactorArguments, Parameter, ParameterList};
//!
//! let arguments = AdafactorArguments::builder().learning_rate(0.01).weight_decay(0.004).build()?;
//! let mut parameters = ParameterList::new(vec![
//!     Parameter::new("dense/kernel", &[64, 10])?,
//!     Parameter::new("dense/bias", &[10])?,
//! ])?;
//! parameters.exclude_from_weight_decay(&["bias"])?;
//! assert!(parameters[0].decays() && !parameters[1].decays());
//! assert_eq!(arguments.weight_decay(), Some(0.004));
//! # Ok::<(), goldstep_core::Error>(())
//! ```

mod adafactor;
mod dtype;
mod error;
mod gradient;
mod learning_rate;
mod optimizer;
mod parameters;
mod schedule;
mod values;

pub use adafactor::{
    AdafactorArguments, AdafactorArgumentsBuilder, AdafactorScalars, AdafactorState, EmaArguments,
    EmaScalars, GradientClipping, SecondMoment, SecondMomentUnderflow, VariableState,
};
pub use dtype::{DType, Element};
pub use error::{Error, Stage};
pub use gradient::Gradient;
pub use learning_rate::LearningRate;
pub use optimizer::{HostOptimizer, Intermediates, ObservableOptimizer, StepReport};
pub use parameters::{Constraint, Layout, Parameter, ParameterList};
pub use schedule::{LearningRateSchedule, Schedule};
pub use values::Values;
