//! The optimizer's state, in host memory and back.

use goldstep_core::{AdafactorState, DType, Error, SecondMoment, Values, VariableState};
use tch::{Device, Kind, TchError, Tensor};

use super::scalars::largest_subnormal;
use super::{Adafactor, Moment, Slot, whole};
use crate::error::Context;

impl Adafactor {
    /// A copy of the complete state in host memory. The state of half-precision parameters is
    /// float32.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn state(&self) -> Result<AdafactorState, Error> {
        let mut variables = Vec::with_capacity(self.slots.len());
        for (slot, parameter) in self.slots.iter().zip(&self.parameters) {
            let get = |tensor: &Tensor| to_values(tensor).on("state", parameter.name());
            let second_moment = match &slot.moment {
                Moment::Full(v) => SecondMoment::Full(get(v)?),
                Moment::Factored { row, column } => {
                    SecondMoment::Factored { row_factor: get(row)?, column_factor: get(column)? }
                }
            };
            let average = slot.average.as_ref().map(get).transpose()?;
            variables.push(VariableState { second_moment, average });
        }
        Ok(AdafactorState { iterations: self.iterations, variables })
    }

    /// Replaces the complete state; the learning rate stays.
    ///
    /// # Errors
    /// A state that does not fit the arguments or the parameters; nothing is changed then.
    pub fn load_state(&mut self, state: &AdafactorState) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        state.check(&self.parameters, self.arguments().use_ema())?;
        // Everything is on the device before anything is replaced.
        let mut loaded = Vec::with_capacity(self.slots.len());
        for ((slot, parameter), from) in
            self.slots.iter().zip(&self.parameters).zip(&state.variables)
        {
            let put = |values: &Values, like: &Tensor| {
                from_values(values, slot.compute, &like.size(), self.device)
                    .on("state", parameter.name())
            };
            let moment = match (&slot.moment, &from.second_moment) {
                (Moment::Full(old), SecondMoment::Full(v)) => Moment::Full(put(v, old)?),
                (
                    Moment::Factored { row, column },
                    SecondMoment::Factored { row_factor, column_factor },
                ) => Moment::Factored {
                    row: put(row_factor, row)?,
                    column: put(column_factor, column)?,
                },
                _ => {
                    let (name, rule) = (parameter.name().into(), "must be of its rank".into());
                    return Err(Error::State { name, rule });
                }
            };
            let average =
                from.average.as_ref().map(|average| put(average, &slot.tensor)).transpose()?;
            // Factors that are all zero have seen no gradient: ε₁ makes every other one positive.
            let updated = match &from.second_moment {
                SecondMoment::Full(_) => true,
                SecondMoment::Factored { row_factor, column_factor } => {
                    let zero = |values: &Values| values.to_vec::<f64>().iter().all(|x| *x == 0.0);
                    !(zero(row_factor) && zero(column_factor))
                }
            };
            loaded.push((moment, average, updated));
        }
        for (slot, (moment, average, updated)) in self.slots.iter_mut().zip(loaded) {
            slot.moment = moment;
            slot.average = average;
            slot.updated = updated;
        }
        self.iterations = state.iterations;
        Ok(())
    }

    /// The second moment of parameter `index` as Keras keeps it: in the parameter's shape, on its
    /// device; rebuilt from the factors from rank 2, zeros before the parameter's first gradient.
    ///
    /// # Errors
    /// An index beyond the list, an error of libtorch.
    pub fn second_moment(&self, index: usize) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        let slot = self.slot(index)?;
        let name = self.parameters[index].name();
        let (row, column) = match &slot.moment {
            Moment::Full(v) => return v.f_detach_copy().on("second_moment", name),
            Moment::Factored { row, column } => (row, column),
        };
        let rebuild = || -> Result<Tensor, TchError> {
            let mut v = Tensor::f_zeros(&slot.shape, (slot.compute, self.device))?;
            if slot.updated {
                whole::rebuild(&mut v, row, column, largest_subnormal(slot.compute))?;
            }
            Ok(v)
        };
        rebuild().on("second_moment", name)
    }

    /// A copy of the average of parameter `index`, on its device; `None` without EMA and before
    /// the first step.
    ///
    /// # Errors
    /// As [`second_moment`](Self::second_moment).
    pub fn average(&self, index: usize) -> Result<Option<Tensor>, Error> {
        let average = self.slot(index)?.average.as_ref();
        let copy = average.map(Tensor::f_detach_copy).transpose();
        copy.on("average", self.parameters[index].name())
    }

    fn slot(&self, index: usize) -> Result<&Slot, Error> {
        let (expected, got) = (self.slots.len(), index);
        self.slots.get(index).ok_or(Error::Count { what: "parameters", expected, got })
    }
}

/// Copies a tensor of any device into host memory.
pub(crate) fn to_values(tensor: &Tensor) -> Result<Values, TchError> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let count = tensor.numel();
    macro_rules! copy {
        ($variant:ident, $zero:expr) => {{
            let mut values = vec![$zero; count];
            tensor.f_copy_data(&mut values, count)?;
            Ok(Values::$variant(values))
        }};
    }
    match tensor.f_kind()? {
        Kind::Double => copy!(Float64, 0.0_f64),
        Kind::Float => copy!(Float32, 0.0_f32),
        kind => Err(TchError::Kind(format!("state must be Float or Double, got {kind:?}"))),
    }
}

/// A tensor of `kind` from values of any type.
pub(crate) fn from_values(
    values: &Values,
    kind: Kind,
    shape: &[i64],
    device: Device,
) -> Result<Tensor, TchError> {
    let tensor = match values.dtype() {
        DType::Float64 => Tensor::f_from_slice(&values.to_vec::<f64>())?,
        _ => Tensor::f_from_slice(&values.to_vec::<f32>())?,
    };
    tensor.f_to_kind(kind)?.f_to_device(device)?.f_reshape(shape)
}
