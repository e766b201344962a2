//! Answers as the harness reads them.

use std::borrow::Cow;
use std::fmt;

use goldstep_core::DType;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::item::{Bounds, Item, ListSeed, Number};
use super::serve::{column_elements, row_elements};
use crate::{Failure, StateField, StepIntermediates, StepResponse, Variable};

/// An answer to any message but `start`; which fields there are depends on the message.
#[derive(Debug, Default)]
pub(super) struct Answer<'a> {
    pub(super) seq: Option<u64>,
    error: Option<ErrorFields<'a>>,
    skip: Option<Cow<'a, str>>,
    iterations: Option<u64>,
    learning_rate: Option<f64>,
    lists: Lists<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorFields<'a> {
    #[serde(borrow)]
    stage: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// The lists by variable, in the order of [`NAMES`]; `Some(None)` is null.
type Lists<'a> = [Option<Option<Vec<Item<'a>>>>; NAMES.len()];

const NAMES: [&str; 10] = [
    "variables",
    "r",
    "c",
    "v",
    "ema",
    "clipped_gradient",
    "parameter_rms",
    "alpha",
    "update",
    "update_rms",
];

/// Reads an answer, holding no more of it than `0` allows.
struct AnswerSeed(Bounds);

impl<'a> Answer<'a> {
    pub(super) fn read(line: &'a [u8], bounds: Bounds) -> Result<Self, String> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let answer = AnswerSeed(bounds).deserialize(&mut deserializer);
        answer
            .and_then(|answer| deserializer.end().map(|()| answer))
            .map_err(|error| format!("an answer must be a JSON object of the protocol: {error}"))
    }

    /// Takes an error or a skip out of the answer; what is left is an answer in the affirmative.
    pub(super) fn accept(mut self) -> Result<Self, Failure> {
        if let Some(reason) = self.skip.take() {
            return Err(Failure::Skip { reason: reason.into_owned() });
        }
        match self.error.take() {
            None => Ok(self),
            Some(error) if !matches!(error.stage.as_ref(), "construct" | "step") => {
                Err(Failure::Protocol {
                    reason: format!("stage must be construct or step, got {:?}", error.stage),
                })
            }
            Some(error) => Err(Failure::Error {
                stage: error.stage.into_owned(),
                kind: error.kind.into_owned(),
                message: error.message.into_owned(),
            }),
        }
    }

    /// Checks that there is nothing but `seq`.
    pub(super) fn into_nothing(self) -> Result<(), String> {
        let list = NAMES.iter().zip(&self.lists).find(|(_, list)| list.is_some());
        let unexpected = list.map(|(name, _)| *name);
        let iterations = self.iterations.map(|_| "iterations");
        match unexpected.or(iterations).or(self.learning_rate.map(|_| "learning_rate")) {
            Some(name) => Err(format!("an answer must have the wanted fields only, got {name}")),
            None => Ok(()),
        }
    }

    /// The answer to `finalize`.
    pub(super) fn into_variables(
        mut self,
        dtype: DType,
        variables: &[Variable],
    ) -> Result<Vec<Vec<f64>>, String> {
        let values = self.tensors("variables", dtype, variables, |shape| Some(product(shape)))?;
        self.into_nothing()?;
        required("variables", values)
    }

    /// The answer to `step`.
    pub(super) fn into_step(
        mut self,
        dtype: DType,
        variables: &[Variable],
        states: &[StateField],
        intermediates: &[&str],
    ) -> Result<StepResponse, String> {
        let missing = |name: &str| format!("an answer to step must have {name}, got none");
        let whole = |shape: &[usize]| Some(product(shape));
        let factor = |elements: fn(&[usize]) -> usize| {
            move |shape: &[usize]| (shape.len() > 1).then(|| elements(shape))
        };
        let mut response = StepResponse {
            iterations: self.iterations.take().ok_or_else(|| missing("iterations"))?,
            learning_rate: self.learning_rate.take().ok_or_else(|| missing("learning_rate"))?,
            variables: required("variables", self.tensors("variables", dtype, variables, whole)?)?,
            ..StepResponse::default()
        };
        for state in states {
            match state {
                StateField::R => {
                    response.r = self.tensors("r", dtype, variables, factor(row_elements))?;
                }
                StateField::C => {
                    response.c = self.tensors("c", dtype, variables, factor(column_elements))?;
                }
                StateField::V => response.v = self.tensors("v", dtype, variables, whole)?,
                StateField::Ema => response.ema = self.tensors("ema", dtype, variables, whole)?,
            }
        }
        if !intermediates.is_empty() {
            response.intermediates = self.intermediates(dtype, variables, intermediates)?;
        }
        self.into_nothing()?;
        Ok(response)
    }

    /// The list `name`, one tensor per variable of as many elements as `elements` says; `None`
    /// stands for null, as `ema` may be as a whole and factors must be below rank 2.
    fn tensors(
        &mut self,
        name: &str,
        dtype: DType,
        variables: &[Variable],
        elements: impl Fn(&[usize]) -> Option<usize>,
    ) -> Result<Vec<Option<Vec<f64>>>, String> {
        let Some(items) = self.take(name, variables.len())? else {
            return Ok(vec![None; variables.len()]);
        };
        let read = |(item, variable): (Item<'_>, &Variable)| {
            let tensor = match elements(&variable.shape) {
                Some(elements) => item.into_tensor(dtype, elements),
                None if matches!(item, Item::Null) => Ok(None),
                None => Err("must be null below rank 2".to_owned()),
            };
            tensor.map_err(|error| format!("{name} of {} {error}", variable.name))
        };
        items.into_iter().zip(variables).map(read).collect()
    }

    fn intermediates(
        &mut self,
        dtype: DType,
        variables: &[Variable],
        names: &[&str],
    ) -> Result<Vec<Option<StepIntermediates>>, String> {
        let mut list: Vec<Option<StepIntermediates>> = vec![None; variables.len()];
        for name in names {
            if matches!(*name, "clipped_gradient" | "update") {
                let tensors = self.tensors(name, dtype, variables, |shape| Some(product(shape)))?;
                for (each, tensor) in list.iter_mut().zip(tensors) {
                    let Some(tensor) = tensor else { continue };
                    let each = each.get_or_insert_default();
                    *if *name == "update" {
                        &mut each.update
                    } else {
                        &mut each.clipped_gradient
                    } = Some(tensor);
                }
                continue;
            }
            let items = self.take(name, variables.len())?.unwrap_or_default();
            for ((each, item), variable) in list.iter_mut().zip(items).zip(variables) {
                let number = item
                    .into_number()
                    .map_err(|error| format!("{name} of {} {error}", variable.name))?;
                let Some(number) = number else { continue };
                let each = each.get_or_insert_default();
                *match *name {
                    "alpha" => &mut each.alpha,
                    "parameter_rms" => &mut each.parameter_rms,
                    _ => &mut each.update_rms,
                } = Some(number);
            }
        }
        Ok(list)
    }

    fn take(&mut self, name: &str, expected: usize) -> Result<Option<Vec<Item<'a>>>, String> {
        let position = NAMES.iter().position(|known| *known == name);
        let list = position.and_then(|position| self.lists[position].take());
        match list.ok_or_else(|| format!("an answer must have {name}, got none"))? {
            Some(items) if items.len() != expected => Err(format!(
                "{name} must have {expected} items, one per variable, got {}",
                items.len()
            )),
            list => Ok(list),
        }
    }
}

fn product(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn required(name: &str, list: Vec<Option<Vec<f64>>>) -> Result<Vec<Vec<f64>>, String> {
    list.into_iter()
        .map(|values| values.ok_or_else(|| format!("{name} must be tensors, got null")))
        .collect()
}

impl<'de> DeserializeSeed<'de> for AnswerSeed {
    type Value = Answer<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Answer<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AnswerSeed {
    type Value = Answer<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with seq")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Answer<'de>, A::Error> {
        let mut answer = Answer::default();
        while let Some(Name(name)) = fields.next_key()? {
            let twice = match name.as_ref() {
                "seq" => answer.seq.replace(value(&mut fields, &name)?).is_some(),
                "error" => answer.error.replace(value(&mut fields, &name)?).is_some(),
                "skip" => answer.skip.replace(value(&mut fields, &name)?).is_some(),
                "iterations" => answer.iterations.replace(value(&mut fields, &name)?).is_some(),
                "learning_rate" => {
                    let Number(value) = value(&mut fields, &name)?;
                    answer.learning_rate.replace(value).is_some()
                }
                name => {
                    let Some(position) = NAMES.iter().position(|known| *known == name) else {
                        return Err(A::Error::custom(format!("unknown field {name:?}")));
                    };
                    let list = fields
                        .next_value_seed(ListSeed(self.0))
                        .map_err(|error| in_field(name, &error))?;
                    answer.lists[position].replace(list).is_some()
                }
            };
            if twice {
                return Err(A::Error::custom(format!("{name} must come once")));
            }
        }
        Ok(answer)
    }
}

/// The value of the field `name`, which an error names.
fn value<'de, A, T>(fields: &mut A, name: &str) -> Result<T, A::Error>
where
    A: MapAccess<'de>,
    T: Deserialize<'de>,
{
    fields.next_value().map_err(|error| in_field(name, &error))
}

fn in_field<E: serde::de::Error>(name: &str, error: &E) -> E {
    E::custom(format!("{name}: {error}"))
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
