//! Backends of this process as judged implementations.

use goldstep_core::{
    AdafactorArguments, AdafactorState, DType, Element, Error, Gradient, HostOptimizer,
    Intermediates, LearningRate, ObservableOptimizer, Parameter, ParameterList, SecondMoment,
    StepReport, Values, VariableState,
};
use half::{bf16, f16};

use crate::implementation::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateField,
    StateRequest, StepIntermediates, StepRequest, StepResponse,
};

/// A backend that can be judged in process: it builds optimizers for the element type `T`.
///
/// The module `conformance` of goldstep-reference shows the ten lines that it takes.
pub trait Builds<T: Element> {
    /// What runs one case: [`Plain`] or [`Observed`] around an optimizer.
    type Session: Session<T>;

    /// Plans an optimizer.
    ///
    /// # Errors
    /// What the backend cannot serve.
    fn build(
        &self,
        arguments: &AdafactorArguments,
        parameters: &ParameterList,
    ) -> Result<Self::Session, Error>;
}

/// An optimizer in the hands of the judge.
pub trait Session<T: Element> {
    /// The optimizer.
    type Optimizer: HostOptimizer<T>;

    /// Whether [`step_observed`](Self::step_observed) returns intermediates.
    const OBSERVABLE: bool;

    /// The optimizer.
    fn optimizer(&mut self) -> &mut Self::Optimizer;

    /// One step; the records of intermediates are there only where they can be observed.
    ///
    /// # Errors
    /// As [`HostOptimizer::step`].
    fn step_observed(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<(StepReport, Vec<Intermediates>), Error>;
}

/// An optimizer that does not show its intermediates.
#[derive(Debug, Clone)]
pub struct Plain<O>(pub O);

/// An optimizer that shows its intermediates.
#[derive(Debug, Clone)]
pub struct Observed<O>(pub O);

impl<T: Element, O: HostOptimizer<T>> Session<T> for Plain<O> {
    type Optimizer = O;

    const OBSERVABLE: bool = false;

    fn optimizer(&mut self) -> &mut O {
        &mut self.0
    }

    fn step_observed(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<(StepReport, Vec<Intermediates>), Error> {
        self.0.step(parameters, gradients).map(|report| (report, Vec::new()))
    }
}

impl<T: Element, O: ObservableOptimizer<T>> Session<T> for Observed<O> {
    type Optimizer = O;

    const OBSERVABLE: bool = true;

    fn optimizer(&mut self) -> &mut O {
        &mut self.0
    }

    fn step_observed(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<(StepReport, Vec<Intermediates>), Error> {
        self.0.step_observed(parameters, gradients)
    }
}

impl Capabilities {
    /// Everything that the project's own backends do, except for showing intermediates.
    #[must_use]
    pub fn everything() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            dtypes: DType::ALL.to_vec(),
            arguments: crate::arguments::ARGUMENTS.map(str::to_owned).to_vec(),
            schedules: owned(&crate::arguments::SCHEDULES),
            sparse: true,
            ema: true,
            constraints: true,
            exclude: true,
            set_learning_rate: true,
            finalize: true,
            states: vec![StateField::R, StateField::C, StateField::V, StateField::Ema],
            set_state: true,
            intermediates: Vec::new(),
            expectation: "goldstep".to_owned(),
        }
    }
}

/// A backend of this process behind the one door.
pub struct InProcess<B>
where
    B: Builds<f64> + Builds<f32> + Builds<bf16> + Builds<f16>,
{
    backend: B,
    description: Description,
    running: Option<Running<B>>,
}

/// The optimizer of the current case.
enum Running<B>
where
    B: Builds<f64> + Builds<f32> + Builds<bf16> + Builds<f16>,
{
    Float64(Run<f64, <B as Builds<f64>>::Session>),
    Float32(Run<f32, <B as Builds<f32>>::Session>),
    Bfloat16(Run<bf16, <B as Builds<bf16>>::Session>),
    Float16(Run<f16, <B as Builds<f16>>::Session>),
}

impl<B> InProcess<B>
where
    B: Builds<f64> + Builds<f32> + Builds<bf16> + Builds<f16>,
{
    /// A backend and who it is; the intermediates that it shows are added to its capabilities.
    pub fn new(backend: B, mut description: Description) -> Self {
        if <<B as Builds<f32>>::Session as Session<f32>>::OBSERVABLE {
            let names = crate::protocol::INTERMEDIATES.map(str::to_owned);
            description.capabilities.intermediates = names.to_vec();
        }
        Self { backend, description, running: None }
    }
}

/// Calls the same code for the optimizer of whichever element type is running.
macro_rules! with_running {
    ($self:ident, $run:ident => $call:expr) => {
        match $self.running.as_mut() {
            Some(Running::Float64($run)) => $call,
            Some(Running::Float32($run)) => $call,
            Some(Running::Bfloat16($run)) => $call,
            Some(Running::Float16($run)) => $call,
            None => Err(Failure::Protocol { reason: "no optimizer has been built".to_owned() }),
        }
    };
}

impl<B> Implementation for InProcess<B>
where
    B: Builds<f64> + Builds<f32> + Builds<bf16> + Builds<f16>,
{
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.running = None;
        let running = match request.dtype {
            DType::Float64 => Run::build(&self.backend, request).map(Running::Float64),
            DType::Float32 => Run::build(&self.backend, request).map(Running::Float32),
            DType::Bfloat16 => Run::build(&self.backend, request).map(Running::Bfloat16),
            DType::Float16 => Run::build(&self.backend, request).map(Running::Float16),
        };
        self.running = Some(running?);
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        with_running!(self, run => run.set_state(request))
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        with_running!(self, run => run.step(request))
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        with_running!(self, run => run.finalize())
    }
}

/// One optimizer with the variables that it works on.
struct Run<T, S> {
    session: S,
    ema: bool,
    factored: Vec<bool>,
    variables: Vec<Vec<T>>,
}

impl<T: Element, S: Session<T>> Run<T, S> {
    fn build(
        backend: &impl Builds<T, Session = S>,
        request: &BuildRequest<'_>,
    ) -> Result<Self, Failure> {
        let arguments = AdafactorArguments::from_keras_config(request.arguments)?;
        let parameters = parameter_list(request)?;
        let session = backend.build(&arguments, &parameters)?;
        Ok(Self {
            session,
            ema: arguments.use_ema(),
            factored: parameters.iter().map(|one| one.shape().len() >= 2).collect(),
            variables: request.variables.iter().map(|one| from_f64(&one.initial)).collect(),
        })
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        let values = |values: &[f64]| Values::round_from(T::DTYPE, values.iter().copied());
        let missing = |what: &str| Failure::Protocol { reason: format!("state without {what}") };
        let mut states = Vec::with_capacity(self.variables.len());
        for (index, factored) in self.factored.iter().enumerate() {
            let field = |what, list: &[Option<&[f64]>]| {
                list.get(index).copied().flatten().map(values).ok_or_else(|| missing(what))
            };
            let second_moment = if *factored {
                SecondMoment::Factored {
                    row_factor: field("r", request.r)?,
                    column_factor: field("c", request.c)?,
                }
            } else {
                SecondMoment::Full(field("v", request.v)?)
            };
            let average = self.ema.then(|| field("ema", request.ema)).transpose()?;
            states.push(VariableState { second_moment, average });
        }
        let state = AdafactorState { iterations: request.iterations, variables: states };
        self.session.optimizer().load_state(&state).map_err(|error| Failure::at_step(&error))?;
        for (own, given) in self.variables.iter_mut().zip(request.variables) {
            own.clear();
            own.extend(given.iter().map(|value| T::round_from(*value)));
        }
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        if let Some(value) = request.learning_rate {
            let rate = LearningRate::from_keras_config(value);
            rate.and_then(|rate| self.session.optimizer().set_learning_rate(rate))
                .map_err(|error| Failure::at_step(&error))?;
        }
        let values: Vec<Vec<T>> =
            request.gradients.iter().map(|one| gradient_values(*one)).collect();
        let gradients = request.gradients.iter().zip(&values).map(|(gradient, values)| {
            gradient.map(|gradient| match gradient {
                GradientValues::Dense(_) => Gradient::Dense(values.as_slice()),
                GradientValues::Sparse { indices, .. } => Gradient::Sparse { indices, values },
            })
        });
        let gradients: Vec<Option<Gradient<'_, T>>> = gradients.collect();
        let mut parameters: Vec<&mut [T]> =
            self.variables.iter_mut().map(Vec::as_mut_slice).collect();
        let (report, records) = if request.intermediates {
            self.session.step_observed(&mut parameters, &gradients)
        } else {
            let report = self.session.optimizer().step(&mut parameters, &gradients);
            report.map(|report| (report, Vec::new()))
        }
        .map_err(|error| Failure::at_step(&error))?;
        Ok(self.response(report, records, request))
    }

    fn response(
        &mut self,
        report: StepReport,
        records: Vec<Intermediates>,
        request: &StepRequest<'_>,
    ) -> StepResponse {
        let wants = |field| request.states.contains(&field);
        let mut response = StepResponse {
            iterations: report.iterations,
            learning_rate: f64::from(report.learning_rate),
            variables: self.variables.iter().map(|values| to_f64(values)).collect(),
            ..StepResponse::default()
        };
        let optimizer = self.session.optimizer();
        if wants(StateField::R) || wants(StateField::C) || wants(StateField::Ema) {
            for state in optimizer.state().variables {
                let (r, c) = match state.second_moment {
                    SecondMoment::Full(_) => (None, None),
                    SecondMoment::Factored { row_factor, column_factor } => {
                        (Some(row_factor.to_vec()), Some(column_factor.to_vec()))
                    }
                };
                response.r.push(r);
                response.c.push(c);
                response.ema.push(state.average.map(|average| average.to_vec()));
            }
        }
        if wants(StateField::V) {
            let second_moment = |index| Some(to_f64(&optimizer.second_moment(index)));
            response.v = (0..self.variables.len()).map(second_moment).collect();
        }
        if request.intermediates && S::OBSERVABLE {
            response.intermediates = vec![None; self.variables.len()];
            for record in records {
                let position = record.parameter;
                response.intermediates[position] = Some(StepIntermediates {
                    clipped_gradient: Some(record.clipped_gradient),
                    parameter_rms: Some(record.parameter_rms),
                    alpha: Some(record.step_size),
                    update: Some(record.update),
                    update_rms: Some(record.update_rms),
                });
            }
        }
        response
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        let mut parameters: Vec<&mut [T]> =
            self.variables.iter_mut().map(Vec::as_mut_slice).collect();
        self.session
            .optimizer()
            .finalize_variable_values(&mut parameters)
            .map_err(|error| Failure::at_step(&error))?;
        Ok(self.variables.iter().map(|values| to_f64(values)).collect())
    }
}

fn parameter_list(request: &BuildRequest<'_>) -> Result<ParameterList, Error> {
    let parameter = |variable: &crate::implementation::Variable| {
        let parameter = Parameter::new(&variable.name, &variable.shape)?;
        Ok(match variable.constraint {
            Some(constraint) => parameter.with_constraint(constraint),
            None => parameter,
        })
    };
    let parameters = request.variables.iter().map(parameter).collect::<Result<_, Error>>()?;
    let mut list = ParameterList::new(parameters)?;
    if !request.exclude_from_weight_decay.is_empty() {
        list.exclude_from_weight_decay(request.exclude_from_weight_decay)?;
    }
    Ok(list)
}

fn gradient_values<T: Element>(gradient: Option<&GradientValues>) -> Vec<T> {
    match gradient {
        Some(GradientValues::Dense(values) | GradientValues::Sparse { values, .. }) => {
            from_f64(values)
        }
        None => Vec::new(),
    }
}

fn from_f64<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|value| T::round_from(*value)).collect()
}

fn to_f64<T: Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}
