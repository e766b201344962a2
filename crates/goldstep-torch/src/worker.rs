//! The libtorch backend behind the door through which every implementation is judged.

use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateField,
    StateRequest, StepRequest, StepResponse,
};
use goldstep_core::{
    AdafactorArguments, AdafactorState, DType, Error, LearningRate, Parameter, ParameterList,
    SecondMoment, Values, VariableState,
};
use tch::{Device, Kind, TchError, Tensor};

use crate::adafactor::{Adafactor, Gradient};
use crate::error::Context;

/// An [`Adafactor`] on one device, as the harness sees it.
#[derive(Debug)]
pub struct TorchImplementation {
    description: Description,
    device: Device,
    whole_tensors: bool,
    case: Option<Case>,
}

#[derive(Debug)]
struct Case {
    kind: Kind,
    optimizer: Adafactor,
    tensors: Vec<Tensor>,
    ema: bool,
}

impl TorchImplementation {
    /// Judges the optimizer on `device`. With `whole_tensors` it takes the operations that serve
    /// every device on the CPU too, see [`Adafactor::use_whole_tensors`].
    #[must_use]
    pub fn new(device: Device, whole_tensors: bool) -> Self {
        let description = Description {
            name: "goldstep-torch".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            language: "Rust, libtorch".to_owned(),
            source: env!("CARGO_PKG_REPOSITORY").to_owned(),
            capabilities: Capabilities::everything(),
        };
        Self { description, device, whole_tensors, case: None }
    }

    fn case(&mut self) -> Result<&mut Case, Failure> {
        self.case.as_mut().ok_or_else(|| Failure::at_step(&Error::NotBuilt { what: "build" }))
    }
}

impl Implementation for TorchImplementation {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.case = None;
        let arguments = AdafactorArguments::from_keras_config(request.arguments)?;
        let parameters = request.variables.iter().map(|variable| {
            let parameter = Parameter::new(&*variable.name, &variable.shape)?;
            Ok(match variable.constraint {
                Some(constraint) => parameter.with_constraint(constraint),
                None => parameter,
            })
        });
        let mut parameters = ParameterList::new(parameters.collect::<Result<_, Error>>()?)?;
        if !request.exclude_from_weight_decay.is_empty() {
            parameters.exclude_from_weight_decay(request.exclude_from_weight_decay)?;
        }
        let kind = kind(request.dtype);
        let variables = request.variables.iter().zip(&parameters);
        let tensors: Vec<Tensor> = variables
            .map(|(variable, parameter)| {
                tensor(&variable.initial, &shape(parameter), kind, self.device)
                    .on("initial value", parameter.name())
            })
            .collect::<Result<_, _>>()?;
        let mut optimizer = Adafactor::new(&arguments, &parameters, &tensors)?;
        if self.whole_tensors {
            optimizer.use_whole_tensors();
        }
        self.case = Some(Case { kind, optimizer, tensors, ema: arguments.use_ema() });
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        let case = self.case()?;
        let wide = |values: &[f64]| Values::Float64(values.to_vec());
        let mut variables = Vec::with_capacity(case.tensors.len());
        for index in 0..case.tensors.len() {
            let second_moment = match (part(request.r, index), part(request.c, index)) {
                (Some(r), Some(c)) => {
                    SecondMoment::Factored { row_factor: wide(r), column_factor: wide(c) }
                }
                _ => SecondMoment::Full(wide(part(request.v, index).unwrap_or_default())),
            };
            // Before the first step averages do not exist yet.
            let average = part(request.ema, index).filter(|_| case.ema);
            variables.push(VariableState { second_moment, average: average.map(wide) });
        }
        let state = AdafactorState { iterations: request.iterations, variables };
        case.optimizer.load_state(&state).map_err(|error| Failure::at_step(&error))?;
        for (target, values) in case.tensors.iter_mut().zip(request.variables) {
            tensor(values, &target.size(), case.kind, target.device())
                .and_then(|values| target.f_copy_(&values))
                .on("set_state", "a variable")
                .map_err(|error| Failure::at_step(&error))?;
        }
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        let case = self.case()?;
        case.step(request).map_err(|error| Failure::at_step(&error))
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        let case = self.case()?;
        let mut finalize = || {
            case.optimizer.finalize_variable_values()?;
            case.variables()
        };
        finalize().map_err(|error| Failure::at_step(&error))
    }
}

impl Case {
    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Error> {
        if let Some(rate) = request.learning_rate {
            self.optimizer.set_learning_rate(LearningRate::from_keras_config(rate)?)?;
        }
        let both = request.gradients.iter().zip(self.optimizer.parameters());
        let gradients: Vec<Option<Gradient>> = both
            .map(|(gradient, parameter)| {
                let gradient = gradient.map(|gradient| {
                    check(gradient, parameter)?;
                    self.gradient(gradient, parameter).on("gradient", parameter.name())
                });
                gradient.transpose()
            })
            .collect::<Result<_, _>>()?;
        let report = self.optimizer.step(&gradients)?;
        let mut response = StepResponse {
            iterations: report.iterations,
            learning_rate: f64::from(report.learning_rate),
            variables: self.variables()?,
            ..StepResponse::default()
        };
        let wants = |field| request.states.contains(&field);
        let state = self.optimizer.state()?;
        for (index, variable) in state.variables.iter().enumerate() {
            let (r, c) = match &variable.second_moment {
                SecondMoment::Full(_) => (None, None),
                SecondMoment::Factored { row_factor, column_factor } => {
                    (Some(row_factor.to_vec()), Some(column_factor.to_vec()))
                }
            };
            if wants(StateField::R) {
                response.r.push(r);
            }
            if wants(StateField::C) {
                response.c.push(c);
            }
            if wants(StateField::V) {
                let v = self.optimizer.second_moment(index)?;
                response.v.push(Some(host(&v).on("second_moment", "a variable")?));
            }
            if wants(StateField::Ema) {
                response.ema.push(variable.average.as_ref().map(Values::to_vec));
            }
        }
        Ok(response)
    }

    fn gradient(
        &self,
        gradient: &GradientValues,
        parameter: &Parameter,
    ) -> Result<Gradient, TchError> {
        let device = self.optimizer.device();
        match gradient {
            GradientValues::Dense(values) => {
                Ok(Gradient::Tensor(tensor(values, &shape(parameter), self.kind, device)?))
            }
            GradientValues::Sparse { indices, values } => {
                let mut shape = shape(parameter);
                if let Some(rows) = shape.first_mut() {
                    *rows = i64::try_from(indices.len()).unwrap_or(i64::MAX);
                }
                Ok(Gradient::Rows {
                    indices: Tensor::f_from_slice(indices)?.f_to_device(device)?,
                    values: tensor(values, &shape, self.kind, device)?,
                })
            }
        }
    }

    fn variables(&self) -> Result<Vec<Vec<f64>>, Error> {
        self.tensors.iter().map(|tensor| host(tensor).on("variables", "a variable")).collect()
    }
}

/// Refuses what libtorch could not bring into the parameter's shape, as the other backends do.
fn check(gradient: &GradientValues, parameter: &Parameter) -> Result<(), Error> {
    parameter.check_gradient(&match gradient {
        GradientValues::Dense(values) => goldstep_core::Gradient::Dense(values.as_slice()),
        GradientValues::Sparse { indices, values } => {
            goldstep_core::Gradient::Sparse { indices, values }
        }
    })
}

fn part<'a>(list: &[Option<&'a [f64]>], index: usize) -> Option<&'a [f64]> {
    list.get(index).copied().flatten()
}

fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::Float64 => Kind::Double,
        DType::Float32 => Kind::Float,
        DType::Bfloat16 => Kind::BFloat16,
        DType::Float16 => Kind::Half,
    }
}

fn shape(parameter: &Parameter) -> Vec<i64> {
    parameter.shape().iter().map(|axis| i64::try_from(*axis).unwrap_or(i64::MAX)).collect()
}

fn tensor(values: &[f64], shape: &[i64], kind: Kind, device: Device) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(values)?.f_to_kind(kind)?.f_to_device(device)?.f_reshape(shape)
}

fn host(tensor: &Tensor) -> Result<Vec<f64>, TchError> {
    let tensor = tensor.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut values = vec![0.0; tensor.numel()];
    let count = values.len();
    tensor.f_copy_data(&mut values, count)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use goldstep_conformance::Variable;

    use super::*;

    #[test]
    fn gradients_of_another_length_are_refused_as_by_the_other_backends() {
        let variable = Variable {
            name: "w".to_owned(),
            shape: vec![2, 2],
            initial: vec![1.0; 4],
            constraint: None,
        };
        let mut worker = TorchImplementation::new(Device::Cpu, false);
        let request = BuildRequest {
            dtype: DType::Float32,
            arguments: &Default::default(),
            exclude_from_weight_decay: &[],
            variables: &[variable],
        };
        worker.build(&request).unwrap();
        let rows = GradientValues::Sparse { indices: vec![0, 1], values: vec![1.0; 3] };
        for gradient in [GradientValues::Dense(vec![1.0]), rows] {
            let request = StepRequest {
                learning_rate: None,
                gradients: &[Some(&gradient)],
                states: &[],
                intermediates: false,
            };
            let refused = worker.step(&request);
            let Err(Failure::Error { stage, kind, .. }) = refused else { panic!("{refused:?}") };
            assert_eq!((&*stage, &*kind), ("step", "InvalidArgumentError"));
        }
    }
}
