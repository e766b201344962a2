//! burn-optim's Adafactor on burn's CPU backend, with its vector instructions and threads, as a
//! contestant.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use benches::contestant::{Contestant, Facts, Introduction, Task, serve};
use benches::input::{self, Part};
use burn_core::tensor::{DType, Device, Tensor, TensorData};
use burn_optim::{Adafactor, AdafactorConfig, AdafactorState, Optimizer};

fn main() -> Result<()> {
    serve(&mut Burn::default(), std::io::stdin().lock(), std::io::stdout().lock())
}

#[derive(Default)]
struct Burn {
    parameters: Vec<Box<dyn Parameter>>,
    learning_rate: f64,
    optimizer: Option<Adafactor>,
}

impl Contestant for Burn {
    fn introduction(&self) -> Introduction {
        let version = ("burn-optim".to_owned(), "0.23.0-pre.1".to_owned());
        Introduction { name: "burn".to_owned(), versions: BTreeMap::from([version]) }
    }

    fn prepare(&mut self, task: &Task) -> Result<()> {
        ensure!(task.dtype == "float32", "dtype must be float32, got {}", task.dtype);
        for name in task.arguments.keys() {
            ensure!(name == "learning_rate", "arguments must be plain, got {name}");
        }
        let rate = task.arguments.get("learning_rate").and_then(|value| value.as_f64());
        self.learning_rate = rate.context("learning_rate must be a number")?;
        // The old ones go before the new ones come.
        self.parameters.clear();
        let made = task.shapes.iter().enumerate().map(|(index, shape)| parameter(index, shape));
        self.parameters = made.collect::<Result<_>>()?;
        self.optimizer = None;
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        self.optimizer = Some(AdafactorConfig::new().build());
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        let optimizer = self.optimizer.as_ref().context("build must come first")?;
        for parameter in &mut self.parameters {
            parameter.step(optimizer, self.learning_rate);
        }
        Ok(())
    }

    fn stream(&mut self) -> Result<()> {
        bail!("only ours measures the bound")
    }

    fn facts(&mut self) -> Result<Facts> {
        let state_bytes = self.parameters.iter().map(|parameter| parameter.state_bytes()).sum();
        let values = self.parameters.iter().map(|parameter| parameter.values());
        Ok(Facts { state_bytes, change: input::change(values) })
    }
}

/// A tensor of any rank, its gradient, and the optimizer's state of it.
trait Parameter {
    fn step(&mut self, optimizer: &Adafactor, learning_rate: f64);
    fn state_bytes(&self) -> u64;
    fn values(&self) -> Box<dyn Iterator<Item = f32>>;
}

struct Ranked<const D: usize> {
    /// `None` only during a step, so that burn may work in place.
    tensor: Option<Tensor<D>>,
    gradient: Tensor<D>,
    state: Option<AdafactorState<D>>,
}

fn parameter(index: usize, shape: &[usize]) -> Result<Box<dyn Parameter>> {
    Ok(match *shape {
        [a] => Box::new(Ranked::new(index, [a])),
        [a, b] => Box::new(Ranked::new(index, [a, b])),
        [a, b, c, d] => Box::new(Ranked::new(index, [a, b, c, d])),
        _ => bail!("rank must be 1, 2 or 4, got {}", shape.len()),
    })
}

impl<const D: usize> Ranked<D> {
    fn new(index: usize, shape: [usize; D]) -> Self {
        let tensor = |part| -> Tensor<D> {
            let values: Vec<f32> = input::values(part, index, shape.iter().product()).collect();
            Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F32))
        };
        Self {
            tensor: Some(tensor(Part::Parameter)),
            gradient: tensor(Part::Gradient),
            state: None,
        }
    }
}

impl<const D: usize> Parameter for Ranked<D> {
    fn step(&mut self, optimizer: &Adafactor, learning_rate: f64) {
        if let Some(tensor) = self.tensor.take() {
            let gradient = self.gradient.clone();
            let (tensor, state) =
                optimizer.step(learning_rate, tensor, gradient, self.state.take());
            (self.tensor, self.state) = (Some(tensor), state);
        }
    }

    fn state_bytes(&self) -> u64 {
        let elements = |tensor: &Tensor<D>| tensor.dims().iter().product::<usize>();
        let of = |state: &AdafactorState<D>| {
            elements(&state.second_moment) + state.column_second_moment.as_ref().map_or(0, elements)
        };
        4 * self.state.as_ref().map_or(0, of) as u64
    }

    fn values(&self) -> Box<dyn Iterator<Item = f32>> {
        let values = self.tensor.as_ref().map(|tensor| tensor.to_data().iter::<f32>().collect());
        Box::new(values.unwrap_or_else(Vec::new).into_iter())
    }
}
