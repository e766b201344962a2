//! burn-optim's Adafactor on burn's CPU backend, behind the adapter protocol.
//!
//! `--settings closest` leaves `relative_step` at burn's default, true, because in Keras the
//! argument has no effect; `--settings told` hands it on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use burn_core::tensor::{DType, Device, Tensor, TensorData};
use burn_optim::{Adafactor, AdafactorConfig, AdafactorState, Optimizer};
use goldstep_conformance::protocol::serve;
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateField,
    StateRequest, StepRequest, StepResponse,
};
use goldstep_core as goldstep;

const ARGUMENTS: [&str; 9] = [
    "learning_rate",
    "beta_2_decay",
    "epsilon_1",
    "epsilon_2",
    "clip_threshold",
    "relative_step",
    "weight_decay",
    "jit_compile",
    "name",
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let settings = match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => "closest".to_owned(),
        (Some("--settings"), Some(name), None) if name == "closest" || name == "told" => name,
        _ => {
            eprintln!("usage: burn-adapter [--settings closest|told]");
            return ExitCode::from(2);
        }
    };
    let mut burn = Burn::new(&settings);
    match serve(&mut burn, std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("burn-adapter: {error}");
            ExitCode::from(2)
        }
    }
}

struct Burn {
    description: Description,
    told: bool,
    optimizer: Adafactor,
    learning_rate: f64,
    iterations: u64,
    parameters: Vec<Box<dyn Parameter>>,
}

impl Burn {
    fn new(settings: &str) -> Self {
        let capabilities = Capabilities {
            dtypes: goldstep::DType::ALL.to_vec(),
            arguments: ARGUMENTS.map(str::to_owned).to_vec(),
            set_learning_rate: true,
            states: vec![StateField::R, StateField::C, StateField::V],
            ..Capabilities::minimal("goldstep")
        };
        let name = format!("burn-optim ({settings})");
        let source = "https://docs.rs/burn-optim";
        Self {
            description: Description::new(&name, "0.23.0-pre.1", "Rust", source, capabilities),
            told: settings == "told",
            optimizer: AdafactorConfig::new().build(),
            learning_rate: 0.0,
            iterations: 0,
            parameters: Vec::new(),
        }
    }
}

impl Implementation for Burn {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        let number = |name: &str, default: f64| {
            request.arguments.get(name).and_then(number).unwrap_or(default)
        };
        // burn has these in float32.
        let single = |name, default| number(name, default) as f32;
        let relative = request.arguments.get("relative_step").and_then(|value| value.as_bool());
        let config = AdafactorConfig::new()
            .with_epsilon_1(single("epsilon_1", 1e-30))
            .with_epsilon_2(single("epsilon_2", 1e-3))
            .with_clip_threshold(single("clip_threshold", 1.0))
            .with_decay_rate(number("beta_2_decay", -0.8))
            .with_weight_decay(single("weight_decay", 0.0))
            .with_relative_step(!self.told || relative.unwrap_or(true));
        self.optimizer = refusing("construct", || config.build())?;
        self.learning_rate = number("learning_rate", 0.001);
        self.iterations = 0;
        let dtype = match request.dtype {
            goldstep::DType::Float64 => DType::F64,
            goldstep::DType::Float32 => DType::F32,
            goldstep::DType::Bfloat16 => DType::BF16,
            goldstep::DType::Float16 => DType::F16,
        };
        let made = request.variables.iter().map(|one| {
            refusing("construct", || parameter(&one.shape, dtype, &one.initial))?
                .ok_or_else(|| skip("a rank above 6"))
        });
        self.parameters = made.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        self.iterations = request.iterations;
        for (index, parameter) in self.parameters.iter_mut().enumerate() {
            let (r, c, v) = (request.r[index], request.c[index], request.v[index]);
            parameter.set(request.iterations as usize, request.variables[index], r.or(v), c);
        }
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        if let Some(rate) = request.learning_rate.and_then(number) {
            self.learning_rate = rate;
        }
        for (parameter, gradient) in self.parameters.iter_mut().zip(request.gradients) {
            match gradient {
                None => {}
                Some(GradientValues::Dense(values)) => refusing("step", || {
                    parameter.step(&self.optimizer, self.learning_rate, values);
                })?,
                Some(GradientValues::Sparse { .. }) => return Err(skip("sparse")),
            }
        }
        self.iterations += 1;
        let mut response = StepResponse {
            iterations: self.iterations,
            learning_rate: f64::from(self.learning_rate as f32),
            ..StepResponse::default()
        };
        for parameter in &self.parameters {
            let [r, c, v] = parameter.states();
            response.variables.push(parameter.value());
            response.r.push(r);
            response.c.push(c);
            response.v.push(v);
        }
        Ok(response)
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        Err(skip("finalize"))
    }
}

/// A tensor of any rank, with the optimizer's state of it.
trait Parameter {
    fn value(&self) -> Vec<f64>;
    /// r and c from rank 2 on, v for every rank.
    fn states(&self) -> [Option<Vec<f64>>; 3];
    /// `second` is r from rank 2 on and v below.
    fn set(&mut self, time: usize, value: &[f64], second: Option<&[f64]>, c: Option<&[f64]>);
    fn step(&mut self, optimizer: &Adafactor, learning_rate: f64, gradient: &[f64]);
}

struct Ranked<const D: usize> {
    shape: [usize; D],
    dtype: DType,
    tensor: Tensor<D>,
    state: Option<AdafactorState<D>>,
}

/// `None` for a rank that burn's tensors could have but no trace has.
fn parameter(shape: &[usize], dtype: DType, initial: &[f64]) -> Option<Box<dyn Parameter>> {
    Some(match *shape {
        // burn has no tensor of rank 0.
        [] => Box::new(Ranked::new([1], dtype, initial)),
        [a] => Box::new(Ranked::new([a], dtype, initial)),
        [a, b] => Box::new(Ranked::new([a, b], dtype, initial)),
        [a, b, c] => Box::new(Ranked::new([a, b, c], dtype, initial)),
        [a, b, c, d] => Box::new(Ranked::new([a, b, c, d], dtype, initial)),
        [a, b, c, d, e] => Box::new(Ranked::new([a, b, c, d, e], dtype, initial)),
        [a, b, c, d, e, f] => Box::new(Ranked::new([a, b, c, d, e, f], dtype, initial)),
        _ => return None,
    })
}

impl<const D: usize> Ranked<D> {
    fn new(shape: [usize; D], dtype: DType, initial: &[f64]) -> Self {
        Self { shape, dtype, tensor: tensor(shape, dtype, initial), state: None }
    }
}

impl<const D: usize> Parameter for Ranked<D> {
    fn value(&self) -> Vec<f64> {
        values(&self.tensor)
    }

    fn states(&self) -> [Option<Vec<f64>>; 3] {
        // No state yet is a state of zeros, as tf.keras has it.
        let Some(state) = &self.state else { return zeros(&self.shape) };
        let second = values(&state.second_moment);
        let Some(column) = &state.column_second_moment else { return [None, None, Some(second)] };
        let (row, column) = (second, values(column));
        let (rows, columns) = (self.shape[D - 2], self.shape[D - 1]);
        let full = (0..self.shape.iter().product::<usize>()).map(|index| {
            let batch = index / (rows * columns);
            let mean = row[batch * rows..][..rows].iter().sum::<f64>() / rows as f64;
            row[index / columns] / mean * column[batch * columns + index % columns]
        });
        let full = full.collect();
        [Some(row), Some(column), Some(full)]
    }

    fn set(&mut self, time: usize, value: &[f64], second: Option<&[f64]>, c: Option<&[f64]>) {
        self.tensor = tensor(self.shape, self.dtype, value);
        // Half precision has its state in float32.
        let dtype = match self.dtype {
            DType::F16 | DType::BF16 => DType::F32,
            other => other,
        };
        let (mut row, mut column) = (self.shape, self.shape);
        if c.is_some() {
            (row[D - 1], column[D - 2]) = (1, 1);
        }
        // A state at time 0 would be one of a step that was: burn begins without any.
        self.state = second.filter(|_| time > 0).map(|second| AdafactorState {
            time,
            second_moment: tensor(row, dtype, second),
            column_second_moment: c.map(|values| tensor(column, dtype, values)),
        });
    }

    fn step(&mut self, optimizer: &Adafactor, learning_rate: f64, gradient: &[f64]) {
        let gradient = tensor(self.shape, self.dtype, gradient);
        let state = self.state.take();
        let (tensor, state) = optimizer.step(learning_rate, self.tensor.clone(), gradient, state);
        (self.tensor, self.state) = (tensor, state);
    }
}

fn zeros(shape: &[usize]) -> [Option<Vec<f64>>; 3] {
    let of = |size: usize| Some(vec![0.0; size]);
    let full = of(shape.iter().product());
    match shape {
        [leading @ .., rows, columns] => {
            let batches: usize = leading.iter().product();
            [of(batches * rows), of(batches * columns), full]
        }
        _ => [None, None, full],
    }
}

fn tensor<const D: usize>(shape: [usize; D], dtype: DType, values: &[f64]) -> Tensor<D> {
    let data = TensorData::new(values.to_vec(), shape);
    Tensor::from_data(data.convert_dtype(dtype), (&Device::flex(), dtype))
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// A JSON number; the non-finite ones are strings.
fn number(value: &serde_json::Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn skip(reason: &str) -> Failure {
    Failure::Skip { reason: reason.to_owned() }
}

/// burn refuses by a panic.
fn refusing<T>(stage: &str, work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Failure::Error {
            stage: stage.to_owned(),
            kind: "panic".to_owned(),
            message: text.unwrap_or("burn panicked").to_owned(),
        }
    })
}
