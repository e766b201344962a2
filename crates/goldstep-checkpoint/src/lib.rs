//! Save the complete state of an optimizer and continue from it, on the same backend or another.
//!
//! ```
//! use goldstep_checkpoint::Checkpoint;
//! use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
//! use goldstep_reference::Adafactor;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("run.safetensors");
//! let arguments = AdafactorArguments::builder().learning_rate(0.5).build()?;
//! let parameters = ParameterList::new(vec![Parameter::new("w", &[2, 2])?])?;
//! let mut optimizer = Adafactor::build(&arguments, &parameters)?;
//! let mut w = [1.0_f32, 2.0, 3.0, 4.0];
//! optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&[0.1, 0.2, 0.3, 0.4]))])?;
//! Checkpoint::of(&optimizer)?.with_variables(&[&w])?.save(&path)?;
//!
//! let checkpoint = Checkpoint::load(&path)?;
//! let mut resumed: Adafactor<f32> = checkpoint.restore(&parameters)?;
//! let mut again = [0.0_f32; 4];
//! checkpoint.copy_variables_to(&mut [&mut again])?;
//! assert_eq!((resumed.state(), again), (optimizer.state(), w));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The layout `goldstep-checkpoint/1`
//!
//! A file is in the [safetensors](https://github.com/huggingface/safetensors) format, so that every
//! language reads it. It is the same for every backend. For a parameter named `NAME`:
//!
//! | tensor | shape | when |
//! |---|---|---|
//! | `row_factor/NAME` | `shape[..-1]` | rank ≥ 2: running mean of `g² + ε₁` over columns |
//! | `column_factor/NAME` | `shape[..-2] + shape[-1..]` | rank ≥ 2: running mean over rows |
//! | `second_moment/NAME` | `shape` | rank < 2; from rank 2 it is rebuilt from the factors |
//! | `average/NAME` | `shape` | with `use_ema`, after the first step |
//! | `variable/NAME` | `shape` | the parameter's value; of all parameters or of none |
//!
//! `variable/NAME` has the parameter's type. A state has the type in which the backend keeps it:
//! the parameter's, or float32 for float16 and bfloat16. Each value is stored bit for bit; a backend
//! that keeps a narrower state than the file holds rounds to nearest when it loads.
//!
//! `__metadata__` has two entries: `goldstep`, a JSON text, and `goldstep_crc32`, the CRC-32 (IEEE) of
//! that text. All checksums are eight hexadecimal digits. The JSON text is one object; unknown fields
//! are errors:
//!
//! | field | meaning |
//! |---|---|
//! | `format` | `goldstep-checkpoint/1` |
//! | `optimizer` | `adafactor` |
//! | `iterations` | steps done |
//! | `arguments` | Keras's configuration with the learning rate assigned last, see [`AdafactorArguments::from_keras_config`](goldstep_core::AdafactorArguments::from_keras_config); the class name `Custom` stands for a schedule of the user's own, which has to be given again |
//! | `parameters` | in order: `name`, `shape`, `dtype`, `weight_decay` (false: excluded), `constraint`: null, `{"type": "non_negative"}` or `{"type": "clip", "minimum", "maximum"}` |
//! | `crc32` | tensor → checksum of its bytes, for every tensor |
//!
//! The same checkpoint gives the same bytes. Readers take exactly the version they know; a later
//! version gets another number and readers of it will take this one too.

mod checkpoint;
mod document;
mod error;
mod header;
mod values;
mod write;

pub use checkpoint::Checkpoint;
pub use error::CheckpointError;
