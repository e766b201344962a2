//! What a checkpoint needs besides the state.

use goldstep_core::{AdafactorArguments, DType, Error, Values};
use tch::Kind;

use super::Adafactor;
use super::state::{from_values, to_values};
use crate::error::Context;

impl Adafactor {
    /// The arguments, with the learning rate and weight decay of the next step; with those of
    /// group 0 where groups differ.
    #[must_use]
    pub fn arguments(&self) -> &AdafactorArguments {
        self.groups.of(0)
    }

    /// The element type of each parameter.
    #[must_use]
    pub fn dtypes(&self) -> Vec<DType> {
        self.slots.iter().map(|slot| dtype(slot.kind)).collect()
    }

    /// A copy of the parameters in host memory, each in its own type.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn variables(&self) -> Result<Vec<Values>, Error> {
        let slots = self.slots.iter().zip(&self.parameters);
        slots
            .map(|(slot, parameter)| {
                // Halves are numbers of the wider type, too.
                let wide = slot.tensor.f_detach().and_then(|tensor| tensor.f_to_kind(slot.compute));
                let values = wide.and_then(|tensor| to_values(&tensor));
                let values = values.on("variables", parameter.name())?;
                Ok(match dtype(slot.kind) {
                    DType::Float64 | DType::Float32 => values,
                    half => Values::round_from(half, values.to_vec::<f64>()),
                })
            })
            .collect()
    }

    /// Replaces the values of the parameters, rounded where the parameter's type is narrower.
    ///
    /// # Errors
    /// Another count or length than the parameters have: nothing is changed then. An error of
    /// libtorch.
    pub fn load_variables(&mut self, variables: &[Values]) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        self.parameters.check_parameters(variables.iter().map(Values::len))?;
        let mut loaded = Vec::with_capacity(variables.len());
        for ((slot, parameter), values) in self.slots.iter().zip(&self.parameters).zip(variables) {
            let tensor = from_values(values, slot.kind, &slot.shape, self.device);
            loaded.push(tensor.on("variables", parameter.name())?);
        }
        for ((slot, parameter), values) in self.slots.iter_mut().zip(&self.parameters).zip(&loaded)
        {
            slot.tensor.f_copy_(values).on("variables", parameter.name())?;
        }
        Ok(())
    }
}

/// A parameter's kind is one of these four, see [`Adafactor::new`].
const fn dtype(kind: Kind) -> DType {
    match kind {
        Kind::Double => DType::Float64,
        Kind::Half => DType::Float16,
        Kind::BFloat16 => DType::Bfloat16,
        _ => DType::Float32,
    }
}
