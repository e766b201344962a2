//! Our own contestants.

mod cpu;
mod reference;
#[cfg(feature = "torch")]
mod torch;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use goldstep_core::{
    AdafactorArguments, AdafactorState, Parameter, ParameterList, SecondMoment, Values,
};

use crate::contestant::{Contestant, Introduction, Task};

/// The contestants that this program holds.
pub const NAMES: [&str; 2] = ["cpu", "reference"];

/// The contestant of that name.
///
/// # Errors
/// A name that is not one.
pub fn named(name: &str) -> Result<Box<dyn Contestant>> {
    match name {
        "cpu" => Ok(Box::new(cpu::Cpu::default())),
        "reference" => Ok(Box::new(reference::Reference::default())),
        _ => bail!("contestant must be one of {}, got {name}", NAMES.join(", ")),
    }
}

/// The libtorch backend.
#[cfg(feature = "torch")]
#[must_use]
pub fn torch() -> Box<dyn Contestant> {
    Box::new(torch::Torch::default())
}

fn introduction(name: &str) -> Introduction {
    let version = ("goldstep".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Introduction { name: name.to_owned(), versions: BTreeMap::from([version]) }
}

/// Arguments and parameter list of a task.
///
/// # Errors
/// Arguments that the optimizer refuses.
pub fn plan(task: &Task) -> Result<(AdafactorArguments, ParameterList)> {
    let arguments = AdafactorArguments::from_keras_config(&task.arguments)?;
    let shapes = task.shapes.iter().enumerate();
    let parameters = shapes.map(|(index, shape)| Parameter::new(format!("p{index}"), shape));
    Ok((arguments, ParameterList::new(parameters.collect::<Result<_, _>>()?)?))
}

/// Bytes of a state, averages included.
fn state_bytes(state: &AdafactorState) -> Result<u64> {
    let bytes = |values: &Values| values.len() * values.dtype().bytes();
    let of = state.variables.iter().map(|variable| {
        let moment = match &variable.second_moment {
            SecondMoment::Full(v) => bytes(v),
            SecondMoment::Factored { row_factor, column_factor } => {
                bytes(row_factor) + bytes(column_factor)
            }
        };
        moment + variable.average.as_ref().map_or(0, bytes)
    });
    Ok(u64::try_from(of.sum::<usize>())?)
}
