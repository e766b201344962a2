//! A drop-in beside `tch::nn::Optimizer`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use goldstep_core::{
    AdafactorArguments, AdafactorState, Constraint, Error, LearningRate, Parameter, ParameterList,
    StepReport, Values,
};
use tch::nn::{self, OptimizerConfig, VarStore, Variables};
use tch::{Kind, TchError, Tensor};

use crate::adafactor::{Adafactor, Gradient, Groups, sum_of_squares, widened};
use crate::error::Context;

/// Adafactor over the trainable variables of a `VarStore`, with the methods of
/// `tch::nn::Optimizer`.
///
/// Three things differ from tch's. A method that can fail returns a `Result` where tch panics.
/// Variables without a gradient, which includes those of a frozen store, are left alone; a step in
/// which no variable has one is an error. And there is no `set_momentum` or `set_momentum_group`:
/// Adafactor has no momentum.
///
/// Variables that are added to the store later are picked up before the next step, `zero_grad` or
/// load, or by [`add_missing_variables`](Self::add_missing_variables); they start with the
/// optimizer's iteration count and an empty state. A variable's group (`Path::set_group`) decides
/// its learning rate and weight decay.
#[derive(Debug)]
pub struct Optimizer {
    variables: Arc<Mutex<Variables>>,
    /// What the optimizer begins with once the store has a variable.
    groups: Groups,
    excluded: Vec<String>,
    constraints: Vec<(String, Constraint)>,
    /// `None` while the store is empty.
    adafactor: Option<Adafactor>,
    /// Never steps: only an optimizer of libtorch can take a gradient away again.
    gradients: nn::Optimizer,
}

impl Optimizer {
    /// An optimizer for all trainable variables of `store`, present and future.
    ///
    /// # Errors
    /// Variables that cannot be optimized, see [`Adafactor::new`].
    pub fn new(store: &VarStore, arguments: &AdafactorArguments) -> Result<Self, Error> {
        let mut optimizer = Self {
            variables: store.variables_.clone(),
            groups: Groups::new(arguments.clone()),
            excluded: Vec::new(),
            constraints: Vec::new(),
            adafactor: None,
            gradients: nn::Sgd::default()
                .build(store, 0.0)
                .on("zero_grad", "the store's variables")?,
        };
        optimizer.add_missing_variables()?;
        Ok(optimizer)
    }

    /// Forgets the gradients of all variables, so that one which the next backward pass does not
    /// reach has none.
    ///
    /// # Errors
    /// Variables added since that cannot be optimized.
    pub fn zero_grad(&mut self) -> Result<(), Error> {
        self.add_missing_variables()?;
        self.gradients.zero_grad();
        Ok(())
    }

    /// Limits each element of every gradient to `[-max, max]`, in place.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn clip_grad_value(&self, max: f64) -> Result<(), Error> {
        for_each_gradient(&self.trainable_variables(), |gradient| {
            let _clipped = values_of(gradient)?.f_clamp_(-max, max)?;
            Ok(())
        })
        .on("clip_grad_value", "all variables")
    }

    /// Scales all gradients, in place, so that their norm, as one vector, is at most `max`.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn clip_grad_norm(&self, max: f64) -> Result<(), Error> {
        let clip = || -> Result<(), TchError> {
            let tensors = self.trainable_variables();
            let mut total: Option<Tensor> = None;
            for_each_gradient(&tensors, |gradient| {
                let values = widened(&values_of(gradient)?)?;
                let squares = sum_of_squares(&values, None)?;
                total = Some(match &total {
                    Some(total) => total.f_add(&squares.f_to_kind(Kind::Double)?)?,
                    None => squares.f_to_kind(Kind::Double)?,
                });
                Ok(())
            })?;
            let Some(total) = total else { return Ok(()) };
            let norm = total.f_sqrt()?.f_double_value(&[])?;
            // tch's own rule, epsilon included.
            let scale = max / (norm + 1e-6);
            if scale < 1.0 {
                for_each_gradient(&tensors, |gradient| {
                    let _scaled = values_of(gradient)?.f_mul_scalar_(scale)?;
                    Ok(())
                })?;
            }
            Ok(())
        };
        clip().on("clip_grad_norm", "all variables")
    }

    /// One step with the gradients that `backward` left in the variables. The learning rate in the
    /// report is that of group 0.
    ///
    /// # Errors
    /// As [`Adafactor::step`].
    pub fn step(&mut self) -> Result<StepReport, Error> {
        self.add_missing_variables()?;
        let gradients: Vec<Option<Gradient>> = self
            .tensors()
            .iter()
            .map(|tensor| Some(tensor.grad()).filter(Tensor::defined).map(Gradient::Tensor))
            .collect();
        match &mut self.adafactor {
            Some(adafactor) => adafactor.step(&gradients),
            None => Err(Error::EmptyList),
        }
    }

    /// Zeroes the gradients, runs the backward pass from `loss`, makes a step.
    ///
    /// # Errors
    /// As [`step`](Self::step); a backward pass that fails.
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<StepReport, Error> {
        self.backward(loss)?;
        self.step()
    }

    /// As [`backward_step`](Self::backward_step) with
    /// [`clip_grad_value`](Self::clip_grad_value) before the step.
    ///
    /// # Errors
    /// As [`backward_step`](Self::backward_step).
    pub fn backward_step_clip(&mut self, loss: &Tensor, max: f64) -> Result<StepReport, Error> {
        self.backward(loss)?;
        self.clip_grad_value(max)?;
        self.step()
    }

    /// As [`backward_step`](Self::backward_step) with [`clip_grad_norm`](Self::clip_grad_norm)
    /// before the step.
    ///
    /// # Errors
    /// As [`backward_step`](Self::backward_step).
    pub fn backward_step_clip_norm(
        &mut self,
        loss: &Tensor,
        max: f64,
    ) -> Result<StepReport, Error> {
        self.backward(loss)?;
        self.clip_grad_norm(max)?;
        self.step()
    }

    /// Assigns the learning rate of all groups, those that come later included.
    ///
    /// # Errors
    /// As [`LearningRate::assign`]: NaN, infinite, negative, a number onto a schedule.
    pub fn set_lr(&mut self, lr: impl Into<LearningRate>) -> Result<(), Error> {
        self.assign_rate(None, lr.into())
    }

    /// Assigns the learning rate of one group.
    ///
    /// # Errors
    /// As [`set_lr`](Self::set_lr).
    pub fn set_lr_group(&mut self, group: usize, lr: impl Into<LearningRate>) -> Result<(), Error> {
        self.assign_rate(Some(group), lr.into())
    }

    /// Assigns the weight decay of all groups, those that come later included.
    ///
    /// # Errors
    /// NaN or negative.
    pub fn set_weight_decay(&mut self, weight_decay: f64) -> Result<(), Error> {
        self.groups().assign(None, |own| own.assign_weight_decay(Some(weight_decay)))
    }

    /// Assigns the weight decay of one group.
    ///
    /// # Errors
    /// As [`set_weight_decay`](Self::set_weight_decay).
    pub fn set_weight_decay_group(&mut self, group: usize, weight_decay: f64) -> Result<(), Error> {
        self.groups().assign(Some(group), |own| own.assign_weight_decay(Some(weight_decay)))
    }

    /// Picks up the variables that were added to the store, all or none of them. The methods that
    /// need them do so themselves.
    ///
    /// # Errors
    /// Variables that cannot be optimized, see [`Adafactor::new`].
    pub fn add_missing_variables(&mut self) -> Result<(), Error> {
        let known = self.adafactor.as_ref().map_or(0, |adafactor| adafactor.parameters().len());
        let variables = lock(&self.variables);
        let missing = variables.trainable_variables.iter().skip(known);
        let missing: Vec<_> = missing.map(|var| (&var.tensor, var.group)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let list = self.describe(&variables, known + missing.len())?;
        match &mut self.adafactor {
            Some(adafactor) => adafactor.extend(list, &missing),
            None => {
                let groups = self.groups.clone();
                self.adafactor = Some(Adafactor::with_groups(groups, list, &missing)?);
                Ok(())
            }
        }
    }

    /// All trainable variables of the store.
    #[must_use]
    pub fn trainable_variables(&self) -> Vec<Tensor> {
        let variables = lock(&self.variables);
        variables.trainable_variables.iter().map(|var| var.tensor.shallow_clone()).collect()
    }

    /// Exempts the variables in whose name (`layer.weight`) one of the patterns is found from
    /// weight decay, later ones included; a second call replaces the first.
    ///
    /// # Errors
    /// A pattern that is not a regular expression; nothing is changed then.
    pub fn exclude_from_weight_decay(&mut self, patterns: &[&str]) -> Result<(), Error> {
        let excluded: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        // Any list shows whether the patterns are well-formed.
        ParameterList::new(vec![Parameter::new("any", &[])?])?
            .exclude_from_weight_decay(&excluded)?;
        self.excluded = excluded;
        self.rename()
    }

    /// Constrains the variable of that name after each step in which it had a gradient.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn set_constraint(&mut self, name: &str, constraint: Constraint) -> Result<(), Error> {
        self.constraints.retain(|(other, _)| other != name);
        self.constraints.push((name.to_owned(), constraint));
        self.rename()
    }

    /// Sets every variable to its average; without EMA nothing happens.
    ///
    /// # Errors
    /// No step so far.
    pub fn finalize_variable_values(&mut self) -> Result<(), Error> {
        match &mut self.adafactor {
            Some(adafactor) => adafactor.finalize_variable_values(),
            None => Err(Error::NotBuilt { what: "finalize_variable_values" }),
        }
    }

    /// Steps done.
    #[must_use]
    pub fn iterations(&self) -> u64 {
        self.adafactor.as_ref().map_or(0, Adafactor::iterations)
    }

    /// The optimizer behind this one, for its state; `None` while the store is empty.
    #[must_use]
    pub const fn adafactor(&self) -> Option<&Adafactor> {
        self.adafactor.as_ref()
    }

    /// Replaces the complete state; variables are in the order in which the store got them.
    ///
    /// # Errors
    /// As [`Adafactor::load_state`].
    pub fn load_state(&mut self, state: &AdafactorState) -> Result<(), Error> {
        self.add_missing_variables()?;
        match &mut self.adafactor {
            Some(adafactor) => adafactor.load_state(state),
            None => Err(Error::EmptyList),
        }
    }

    /// Replaces the values of the variables, in the order in which the store got them.
    ///
    /// # Errors
    /// As [`Adafactor::load_variables`].
    pub fn load_variables(&mut self, variables: &[Values]) -> Result<(), Error> {
        self.add_missing_variables()?;
        match &mut self.adafactor {
            Some(adafactor) => adafactor.load_variables(variables),
            None => Err(Error::EmptyList),
        }
    }

    fn backward(&mut self, loss: &Tensor) -> Result<(), Error> {
        self.zero_grad()?;
        loss.f_backward().on("backward pass", "the loss")
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.adafactor.iter().flat_map(Adafactor::tensors).map(Tensor::shallow_clone).collect()
    }

    fn assign_rate(&mut self, group: Option<usize>, rate: LearningRate) -> Result<(), Error> {
        self.groups().assign(group, |own| own.assign_learning_rate(rate.clone()))
    }

    fn groups(&mut self) -> &mut Groups {
        self.adafactor.as_mut().map_or(&mut self.groups, Adafactor::groups_mut)
    }

    /// Applies exclusions and constraints to the variables that are there.
    fn rename(&mut self) -> Result<(), Error> {
        let variables = lock(&self.variables);
        let known = self.adafactor.as_ref().map_or(0, |adafactor| adafactor.parameters().len());
        if known > 0 {
            let list = self.describe(&variables, known)?;
            if let Some(adafactor) = &mut self.adafactor {
                adafactor.set_parameters(list);
            }
        }
        Ok(())
    }

    /// The first `count` trainable variables as a parameter list.
    fn describe(&self, variables: &Variables, count: usize) -> Result<ParameterList, Error> {
        let names = names(variables);
        let mut parameters = Vec::with_capacity(count);
        for (index, var) in variables.trainable_variables.iter().take(count).enumerate() {
            let shape: Vec<usize> =
                var.tensor.size().iter().map(|axis| usize::try_from(*axis).unwrap_or(0)).collect();
            let name = match names.get(&address(&var.tensor)) {
                Some(&name) => name.to_owned(),
                None => format!("variable {index}"),
            };
            let constraint = self.constraints.iter().find(|(other, _)| *other == name);
            let mut parameter = Parameter::new(name, &shape)?;
            if let Some((_, constraint)) = constraint {
                parameter = parameter.with_constraint(*constraint);
            }
            parameters.push(parameter);
        }
        let mut list = ParameterList::new(parameters)?;
        if !self.excluded.is_empty() {
            list.exclude_from_weight_decay(&self.excluded)?;
        }
        Ok(list)
    }
}

/// The names of the variables by address: the store keeps names and trainable variables apart, so
/// memory tells which is which. Empty variables have none.
fn names(variables: &Variables) -> HashMap<usize, &str> {
    let named = variables.named_variables.iter().filter(|(_, tensor)| tensor.numel() > 0);
    named.map(|(name, tensor)| (address(tensor), name.as_str())).collect()
}

fn address(tensor: &Tensor) -> usize {
    tensor.data_ptr() as usize
}

fn for_each_gradient(
    tensors: &[Tensor],
    mut change: impl FnMut(&mut Tensor) -> Result<(), TchError>,
) -> Result<(), TchError> {
    let _guard = tch::no_grad_guard();
    for tensor in tensors {
        let mut gradient = tensor.grad();
        if gradient.defined() {
            change(&mut gradient)?;
        }
    }
    Ok(())
}

/// The stored values of a gradient, which share its memory.
fn values_of(gradient: &Tensor) -> Result<Tensor, TchError> {
    if gradient.is_sparse() { gradient.f_internal_values() } else { Ok(gradient.shallow_clone()) }
}

/// A panic elsewhere while the lock was held leaves the list itself intact.
fn lock(variables: &Mutex<Variables>) -> MutexGuard<'_, Variables> {
    variables.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
