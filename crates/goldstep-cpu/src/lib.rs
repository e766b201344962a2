//! Adafactor on the CPU: blocked, multithreaded, vectorised, with the same bits for every number of
//! threads, every instruction set and every grouping of the work.
//!
//! ```
//! use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
//! use goldstep_cpu::Adafactor;
//!
//! let arguments = AdafactorArguments::builder().learning_rate(0.01).build()?;
//! let list = ParameterList::new(vec![
//!     Parameter::new("dense/kernel", &[64, 10])?,
//!     Parameter::new("dense/bias", &[10])?,
//! ])?;
//! let mut optimizer = Adafactor::<f32>::build(&arguments, &list)?;
//!
//! let (mut kernel, mut bias) = (vec![0.1_f32; 640], vec![0.0_f32; 10]);
//! let (of_kernel, of_bias) = (vec![0.5_f32; 640], vec![0.5_f32; 10]);
//! let gradients = [Some(Gradient::Dense(&of_kernel)), Some(Gradient::Dense(&of_bias))];
//! optimizer.step(&mut [&mut kernel, &mut bias], &gradients)?;
//! assert!(kernel.iter().all(|&x| x < 0.1));
//! # Ok::<(), goldstep_core::Error>(())
//! ```
//!
//! [`Adafactor`] steps over borrowed slices, or over ndarray views with
//! [`step_views`](Adafactor::step_views). [`ParameterStore`] holds the parameters and saves one read
//! of them in every step. The state of a matrix is one value per row and one per column.
//!
//! # How it works
//!
//! Plan → execute → kernels. A plan cuts each parameter into tiles of fixed size, a function of its
//! shape alone. Execution folds the tiles' results along that cut, in a fixed tree, on as many
//! threads as there are. Kernels are loops over slices, written once over sixteen lanes and
//! compiled for AVX-512, AVX2 and the target's baseline; the best one is chosen at run time, and
//! the environment variable `GOLDSTEP_ISA` (`portable`, `avx2`, `avx512`) forces one. On other
//! processors than x86-64 the portable kernels run; they were run on x86-64 only. There, where the
//! baseline lacks fused multiplication and addition, they are several times as slow as the others.
//!
//! A step of a large matrix reads the gradient once for its statistics and once for the update,
//! and reads and writes the parameter: 16 bytes per f32 parameter, 20 without a store. `rms(u)`
//! comes out of the statistics by algebra where the range of the factors proves that this agrees
//! with the literal formula, and from one more read where it does not, so that infinities and NaN
//! appear where they do in Keras.
//!
//! A sparse gradient touches only its rows of a parameter from rank 2 on. In a store, of a matrix's
//! `Σp²` only the runs of some 2,048 elements in which they lie are read again, for 64 bytes kept for
//! each run: blocks of some 32,768 up to 64 columns, and all of a parameter from rank 3 on or of few
//! and very long rows. Decay, averages, constraints and the second moment of a vector need all of it.
//!
//! # Where it differs from Keras
//!
//! For bf16 and f16 parameters all arithmetic, the factors and the averages are f32. ε₁ is then not
//! rounded to zero, sums do not overflow, and small updates of averages are not lost. Rows of a
//! sparse gradient are clipped in f32 too, and summed in their own type, as in Keras.
#![doc = include_str!("../BOUND.md")]

mod adafactor;
mod bound;
mod builder;
#[cfg(feature = "conformance")]
pub mod conformance;
mod execute;
mod isa;
mod kernels;
mod lanes;
mod list;
mod matrix;
mod memory;
mod pass;
mod plan;
mod real;
mod scalars;
mod scratch;
mod sparse;
mod squares;
mod store;
mod summary;
mod tile;
mod variable;
mod views;
pub use adafactor::Adafactor;
pub use bound::Extra as BoundExtra;
pub use builder::AdafactorBuilder;
pub use isa::Isa;
pub use memory::{ALIGNMENT, AlignedBuffer};
pub use real::CpuElement;
pub use store::ParameterStore;
