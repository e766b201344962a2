//! The libtorch backend: in place on tensors of `tch`, on a CPU or a CUDA device. `Optimizer` has the methods
//! of `tch::nn::Optimizer` over a `VarStore`.

#[doc(inline)]
pub use goldstep_torch::*;
/// The version of tch, and with it of libtorch, that the optimizer works on.
pub use tch;

use tch::Tensor;

use crate::{Checkpoint, CheckpointError, Error, ParameterList};

/// A checkpoint of an optimizer and its parameters, the same as of any other backend. For an [`Optimizer`]
/// give `optimizer.adafactor()`. Learning rates and weight decays of groups other than 0 are not in it.
///
/// # Errors
/// An error of libtorch.
///
/// ```
/// use goldstep::torch::tch::{Device, Kind, Tensor};
/// use goldstep::torch::{self, Adafactor, Gradient};
/// use goldstep::{AdafactorArguments, Parameter, ParameterList};
///
/// let parameters = ParameterList::new(vec![Parameter::new("w", &[2, 2])?])?;
/// let w = [Tensor::ones([2, 2], (Kind::Float, Device::Cpu))];
/// let mut optimizer = Adafactor::new(&AdafactorArguments::default(), &parameters, &w)?;
/// optimizer.step(&[Some(Gradient::Tensor(Tensor::ones([2, 2], (Kind::Float, Device::Cpu))))])?;
/// let checkpoint = torch::checkpoint(&optimizer)?;
///
/// let again = [Tensor::zeros([2, 2], (Kind::Float, Device::Cpu))];
/// let resumed = torch::restore(&checkpoint, &parameters, &again)?;
/// assert_eq!((resumed.iterations(), &again), (1, &w));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn checkpoint(optimizer: &Adafactor) -> Result<Checkpoint, CheckpointError> {
    let arguments = optimizer.arguments();
    Checkpoint::new(arguments, optimizer.parameters(), &optimizer.dtypes(), optimizer.state()?)?
        .with_variable_values(optimizer.variables()?)
}

/// An optimizer that continues the run of a checkpoint of any backend. Values of the parameters, if the
/// checkpoint has them, are copied into `tensors`.
///
/// # Errors
/// As [`Checkpoint::check`] and [`Adafactor::new`]; a schedule of the user's own that was not given
/// again. Nothing is copied then.
pub fn restore(
    checkpoint: &Checkpoint,
    parameters: &ParameterList,
    tensors: &[Tensor],
) -> Result<Adafactor, CheckpointError> {
    let arguments = checkpoint.arguments_to_resume()?;
    let mut optimizer = Adafactor::new(arguments, parameters, tensors)?;
    checkpoint.check(parameters, &optimizer.dtypes())?;
    optimizer.load_state(checkpoint.state())?;
    if let Some(variables) = checkpoint.variables() {
        optimizer.load_variables(variables)?;
    }
    Ok(optimizer)
}

/// Continues the run of a checkpoint of any backend over a `VarStore`. Build `optimizer` from
/// [`Checkpoint::arguments_to_resume`], with exclusions and constraints as in the run that was saved; the store's
/// trainable variables have to be those of the checkpoint, in the order in which the store got them. Their values, if
/// the checkpoint has them, are copied into the store.
///
/// # Errors
/// As [`Checkpoint::check`]; an empty store, averages without `use_ema`. Nothing is loaded then.
pub fn load(checkpoint: &Checkpoint, optimizer: &mut Optimizer) -> Result<(), CheckpointError> {
    optimizer.add_missing_variables()?;
    let own = optimizer.adafactor().ok_or(Error::EmptyList)?;
    checkpoint.check(own.parameters(), &own.dtypes())?;
    optimizer.load_state(checkpoint.state())?;
    if let Some(variables) = checkpoint.variables() {
        optimizer.load_variables(variables)?;
    }
    Ok(())
}
