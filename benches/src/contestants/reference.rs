//! goldstep-reference: the oracle, written to be read.

use anyhow::{Context, Result, bail};
use goldstep_core::{Gradient, HostOptimizer};
use goldstep_reference::Adafactor;

use super::{introduction, plan, state_bytes};
use crate::contestant::{Contestant, Facts, Introduction, Task};
use crate::input::{self, Part};

/// One task in float32.
#[derive(Debug, Default)]
pub(super) struct Reference {
    task: Option<Task>,
    parameters: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    optimizer: Option<Adafactor<f32>>,
}

impl Contestant for Reference {
    fn introduction(&self) -> Introduction {
        introduction("reference")
    }

    fn prepare(&mut self, task: &Task) -> Result<()> {
        if task.dtype != "float32" {
            bail!("dtype must be float32, got {}", task.dtype);
        }
        let (_, list) = plan(task)?;
        let tensors = |part| -> Vec<Vec<f32>> {
            let sizes = list.iter().map(goldstep_core::Parameter::elements).enumerate();
            sizes.map(|(index, length)| input::values(part, index, length).collect()).collect()
        };
        *self = Self {
            parameters: tensors(Part::Parameter),
            gradients: tensors(Part::Gradient),
            task: Some(task.clone()),
            optimizer: None,
        };
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let (arguments, list) = plan(self.task.as_ref().context("prepare must come first")?)?;
        self.optimizer = Some(Adafactor::build(&arguments, &list)?);
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let optimizer = self.optimizer.as_mut().context("build must come first")?;
        let mut parameters: Vec<&mut [f32]> =
            self.parameters.iter_mut().map(Vec::as_mut_slice).collect();
        let gradients: Vec<_> = self
            .gradients
            .iter()
            .map(|gradient| Some(Gradient::Dense(gradient.as_slice())))
            .collect();
        optimizer.step(&mut parameters, &gradients)?;
        Ok(())
    }

    fn stream(&mut self) -> Result<()> {
        bail!("only cpu measures the bound")
    }

    fn facts(&mut self) -> Result<Facts> {
        let optimizer = self.optimizer.as_ref().context("build must come first")?;
        let state = optimizer.state();
        let parameters = self.parameters.iter().map(|parameter| -> Box<dyn Iterator<Item = f32>> {
            Box::new(parameter.iter().copied())
        });
        Ok(Facts { state_bytes: state_bytes(&state)?, change: input::change(parameters) })
    }
}
