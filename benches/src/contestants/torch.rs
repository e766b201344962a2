//! goldstep-torch on libtorch's CPU device.

use anyhow::{Context, Result, bail};
use goldstep_torch::{Adafactor, Gradient};
use tch::Tensor;

use super::{introduction, plan, state_bytes};
use crate::contestant::{Contestant, Facts, Introduction, Task};
use crate::input::{self, Part};

/// One task in float32.
#[derive(Debug, Default)]
pub(super) struct Torch {
    task: Option<Task>,
    parameters: Vec<Tensor>,
    gradients: Vec<Option<Gradient>>,
    optimizer: Option<Adafactor>,
}

impl Contestant for Torch {
    fn introduction(&self) -> Introduction {
        introduction("torch")
    }

    fn prepare(&mut self, task: &Task) -> Result<()> {
        if task.dtype != "float32" {
            bail!("dtype must be float32, got {}", task.dtype);
        }
        tch::set_num_threads(i32::try_from(task.threads)?);
        let (_, list) = plan(task)?;
        let tensors = |part| -> Result<Vec<Tensor>> {
            let tensor = |(index, parameter): (usize, &goldstep_core::Parameter)| {
                let values: Vec<f32> = input::values(part, index, parameter.elements()).collect();
                let shape: Vec<i64> = parameter
                    .shape()
                    .iter()
                    .map(|axis| i64::try_from(*axis))
                    .collect::<Result<_, _>>()?;
                Ok(Tensor::f_from_slice(&values)?.f_reshape(&shape)?)
            };
            list.iter().enumerate().map(tensor).collect()
        };
        *self = Self {
            parameters: tensors(Part::Parameter)?,
            gradients: tensors(Part::Gradient)?.into_iter().map(|g| Some(g.into())).collect(),
            task: Some(task.clone()),
            optimizer: None,
        };
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let (arguments, list) = plan(self.task.as_ref().context("prepare must come first")?)?;
        self.optimizer = Some(Adafactor::new(&arguments, &list, &self.parameters)?);
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.optimizer.as_mut().context("build must come first")?.step(&self.gradients)?;
        Ok(())
    }

    fn stream(&mut self) -> Result<()> {
        bail!("only cpu measures the bound")
    }

    fn facts(&mut self) -> Result<Facts> {
        let optimizer = self.optimizer.as_ref().context("build must come first")?;
        let state = optimizer.state()?;
        let read = |tensor: &Tensor| -> Result<Vec<f32>> {
            let mut values = vec![0.0; tensor.numel()];
            let count = values.len();
            tensor.f_copy_data(&mut values, count)?;
            Ok(values)
        };
        let values = self.parameters.iter().map(read).collect::<Result<Vec<_>>>()?;
        let parameters = values
            .iter()
            .map(|values| -> Box<dyn Iterator<Item = f32>> { Box::new(values.iter().copied()) });
        Ok(Facts { state_bytes: state_bytes(&state)?, change: input::change(parameters) })
    }
}
