//! Adafactor's arguments, the scalars of its step, its state and its Keras configuration.

mod arguments;
mod keras_config;
mod scalars;
#[cfg(feature = "serde")]
mod serde;
mod state;

pub use arguments::{
    AdafactorArguments, AdafactorArgumentsBuilder, EmaArguments, GradientClipping,
    SecondMomentUnderflow,
};
pub use scalars::{AdafactorScalars, EmaScalars};
pub use state::{AdafactorState, SecondMoment, VariableState};
