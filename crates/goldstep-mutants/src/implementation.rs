//! The door through which a mutant is judged.

use goldstep_conformance::protocol::INTERMEDIATES;
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateField,
    StateRequest, StepRequest, StepResponse,
};
use goldstep_core::{AdafactorArguments, Error, Gradient, LearningRate, Parameter, ParameterList};
use serde_json::{Map, Value};

use crate::adafactor::{Adafactor, Slot};
use crate::arithmetic::Arithmetic;
use crate::mistake::Mistake;

/// An Adafactor with one mistake.
#[derive(Debug)]
pub struct Mutant {
    mistake: Mistake,
    description: Description,
    optimizer: Option<Adafactor>,
}

impl Mutant {
    /// An implementation with this mistake.
    #[must_use]
    pub fn new(mistake: Mistake) -> Self {
        let capabilities = Capabilities {
            intermediates: INTERMEDIATES.map(str::to_owned).to_vec(),
            ..Capabilities::everything()
        };
        let description = Description {
            name: mistake.id().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            language: "Rust".to_owned(),
            source: format!("goldstep-mutants: {}", mistake.what()),
            capabilities,
        };
        Self { mistake, description, optimizer: None }
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn mistake(&self) -> Mistake {
        self.mistake
    }

    fn optimizer(&mut self) -> Result<&mut Adafactor, Failure> {
        let missing = || Failure::Protocol { reason: "nothing was built".to_owned() };
        self.optimizer.as_mut().ok_or_else(missing)
    }

    fn arguments(&self, arguments: &Map<String, Value>) -> Result<AdafactorArguments, Error> {
        match AdafactorArguments::from_keras_config(arguments) {
            Err(Error::BothClipNorms { .. }) if self.mistake == Mistake::BothNormsAccepted => {
                let mut one = arguments.clone();
                one.remove("global_clipnorm");
                AdafactorArguments::from_keras_config(&one)
            }
            other => other,
        }
    }

    fn parameters(&self, request: &BuildRequest<'_>) -> Result<ParameterList, Error> {
        let patterns = request.exclude_from_weight_decay;
        let patterns: Vec<String> = match self.mistake {
            Mistake::ExclusionIgnored => Vec::new(),
            Mistake::ExclusionFirstPattern => patterns.iter().take(1).cloned().collect(),
            Mistake::ExclusionMatchesStart => {
                patterns.iter().map(|pattern| format!("^(?:{pattern})")).collect()
            }
            _ => patterns.to_vec(),
        };
        let parameter = |variable: &goldstep_conformance::Variable| {
            let parameter = Parameter::new(variable.name.as_str(), &variable.shape)?;
            Ok(match variable.constraint {
                Some(constraint) => parameter.with_constraint(constraint),
                None => parameter,
            })
        };
        let list = request.variables.iter().map(parameter).collect::<Result<Vec<_>, Error>>()?;
        let mut parameters = ParameterList::new(list)?;
        parameters.exclude_from_weight_decay(&patterns)?;
        if self.mistake == Mistake::ExclusionInverted && !patterns.is_empty() {
            let invert = |variable: &goldstep_conformance::Variable| {
                let decays =
                    parameters.iter().any(|p| p.name() == variable.name.as_str() && p.decays());
                let inverted = parameter(variable)?;
                Ok(if decays { inverted.without_weight_decay() } else { inverted })
            };
            let list = request.variables.iter().map(invert).collect::<Result<Vec<_>, Error>>()?;
            parameters = ParameterList::new(list)?;
        }
        Ok(parameters)
    }
}

impl Implementation for Mutant {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.optimizer = None;
        let arguments = self.arguments(request.arguments)?;
        let parameters = self.parameters(request)?;
        let lengths = request.variables.iter().map(|variable| variable.initial.len());
        parameters.check_parameters(lengths)?;
        self.optimizer = Some(Adafactor {
            a: Arithmetic { dtype: request.dtype, mistake: self.mistake },
            learning_rate: arguments.learning_rate().clone(),
            iterations: 0,
            variables: request.variables.iter().map(|variable| variable.initial.clone()).collect(),
            slots: parameters.iter().map(|p| Slot::new(p, self.mistake)).collect(),
            arguments,
            parameters,
        });
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        let mistake = self.mistake;
        let optimizer = self.optimizer()?;
        let given = |list: &[Option<&[f64]>], index: usize| {
            list.get(index).copied().flatten().map(<[f64]>::to_vec)
        };
        if mistake != Mistake::IterationsNotRestored {
            optimizer.iterations = request.iterations;
        }
        for (index, slot) in optimizer.slots.iter_mut().enumerate() {
            optimizer.variables[index] = request.variables[index].to_vec();
            if mistake != Mistake::EmaNotRestored && optimizer.arguments.use_ema() {
                slot.average = given(request.ema, index);
            }
            if mistake == Mistake::FactorsNotRestored {
                continue;
            }
            slot.restore(
                given(request.r, index),
                given(request.c, index),
                given(request.v, index),
                optimizer.a,
            );
        }
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        let mistake = self.mistake;
        let optimizer = self.optimizer()?;
        let mut rate = optimizer.learning_rate.clone();
        if let Some(value) = request.learning_rate {
            let next = LearningRate::from_keras_config(value);
            next.and_then(|next| rate.assign(next)).map_err(|error| Failure::at_step(&error))?;
        }
        let gradients: Vec<Option<GradientValues>> =
            request.gradients.iter().map(|gradient| gradient.cloned()).collect();
        let gradients = optimizer.checked(gradients)?;
        let ignored = match mistake {
            Mistake::AssignedRateIgnored | Mistake::AssignedRateLate => true,
            Mistake::AssignedRateIgnoredAtFirst => optimizer.iterations == 0,
            _ => false,
        };
        if !ignored {
            optimizer.learning_rate = rate.clone();
        }
        let (lr, intermediates) = optimizer.step(&gradients);
        if mistake == Mistake::AssignedRateLate {
            optimizer.learning_rate = rate;
        }
        let mut response = optimizer.response(request);
        response.learning_rate = f64::from(lr);
        if request.intermediates {
            response.intermediates = intermediates;
        }
        Ok(response)
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        let mistake = self.mistake;
        let optimizer = self.optimizer()?;
        if optimizer.arguments.use_ema() && mistake != Mistake::FinalizeIgnored {
            for (values, slot) in optimizer.variables.iter_mut().zip(&optimizer.slots) {
                let what = "finalize_variable_values";
                let average = slot.average.as_ref();
                values.clone_from(
                    average.ok_or_else(|| Failure::at_step(&Error::NotBuilt { what }))?,
                );
            }
        }
        Ok(optimizer.variables.clone())
    }
}

impl Adafactor {
    /// The gradients, if a step can be made with them; with the mistakes made in checking.
    fn checked(
        &self,
        mut gradients: Vec<Option<GradientValues>>,
    ) -> Result<Vec<Option<GradientValues>>, Failure> {
        if self.a.mistake == Mistake::SparseOutOfRangeDropped {
            for (gradient, parameter) in gradients.iter_mut().zip(self.parameters.iter()) {
                if let Some(GradientValues::Sparse { indices, .. }) = gradient {
                    let rows = parameter.shape().first().copied().unwrap_or(0);
                    let outside = |index: &i64| usize::try_from(*index).is_ok_and(|i| i >= rows);
                    indices.iter_mut().filter(|index| outside(index)).for_each(|index| *index = -1);
                }
            }
        }
        let borrowed: Vec<Option<Gradient<'_, f64>>> = gradients
            .iter()
            .map(|gradient| {
                gradient.as_ref().map(|gradient| match gradient {
                    GradientValues::Dense(values) => Gradient::Dense(values),
                    GradientValues::Sparse { indices, values } => {
                        Gradient::Sparse { indices, values }
                    }
                })
            })
            .collect();
        let lengths = self.variables.iter().map(Vec::len);
        match self.parameters.check_step(lengths, &borrowed) {
            Err(Error::NoGradients { .. }) if self.a.mistake == Mistake::AllMissingAccepted => {
                Ok(gradients)
            }
            Err(error) => Err(Failure::at_step(&error)),
            Ok(()) => Ok(gradients),
        }
    }

    fn response(&self, request: &StepRequest<'_>) -> StepResponse {
        let mut response = StepResponse {
            iterations: self.iterations,
            variables: self.variables.clone(),
            ..StepResponse::default()
        };
        let wanted = |field| request.states.contains(&field);
        for slot in &self.slots {
            let (r, c) = match slot.factors(self.a) {
                Some((r, c)) => (Some(r), Some(c)),
                None => (None, None),
            };
            if wanted(StateField::R) {
                response.r.push(r);
            }
            if wanted(StateField::C) {
                response.c.push(c);
            }
            if wanted(StateField::V) {
                response.v.push(Some(slot.second_moment(self.a)));
            }
            if wanted(StateField::Ema) {
                response.ema.push(slot.average.clone());
            }
        }
        response
    }
}

impl Slot {
    /// Takes a checkpoint's second moment.
    fn restore(
        &mut self,
        r: Option<Vec<f64>>,
        c: Option<Vec<f64>>,
        v: Option<Vec<f64>>,
        a: Arithmetic,
    ) {
        let Some(keras) = &self.keras else {
            if let Some(v) = v {
                // A variable below rank 2 starts from zeros, which is what an unused one shows.
                (self.v, self.updated) = (v, true);
            }
            return;
        };
        let (Some(r), Some(c)) = (r, c) else { return };
        let updated = r.iter().chain(&c).any(|factor| factor.abs() > 0.0 || factor.is_nan());
        self.v = match v {
            Some(v) => v,
            None => {
                let mut v = vec![0.0; self.v.len()];
                for b in 0..keras.batches {
                    let mean =
                        a.mean(r[b * keras.rows..(b + 1) * keras.rows].iter().copied(), keras.rows);
                    for i in 0..keras.rows {
                        for (j, at) in keras.row(b, i).enumerate() {
                            let row = a.round(r[b * keras.rows + i] / mean);
                            v[at] = a.times(row, c[b * keras.columns + j]);
                        }
                    }
                }
                v
            }
        };
        self.updated = updated;
        if self.factoring.is_some() && r.len() == self.r.len() && c.len() == self.c.len() {
            (self.r, self.c) = (r, c);
        }
    }
}
