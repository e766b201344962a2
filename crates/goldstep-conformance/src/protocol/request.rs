//! Messages as an adapter reads them.

use std::borrow::Cow;

use goldstep_core::{Constraint, DType, Parameter};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::item::{Bounds, Item, ListSeed, Number};
use crate::{GradientValues, Variable};

/// Any message; which fields there are depends on the command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) command: Cow<'a, str>,
    pub(super) protocol: Option<u64>,
    pub(super) seq: Option<u64>,
    #[serde(borrow)]
    pub(super) dtype: Option<Cow<'a, str>>,
    pub(super) arguments: Option<Map<String, Value>>,
    pub(super) exclude_from_weight_decay: Option<Vec<String>>,
    /// Objects in `build`, tensors in `set_state`.
    #[serde(borrow)]
    pub(super) variables: Option<&'a RawValue>,
    pub(super) iterations: Option<u64>,
    #[serde(borrow, default)]
    pub(super) r: List<'a>,
    #[serde(borrow, default)]
    pub(super) c: List<'a>,
    #[serde(borrow, default)]
    pub(super) v: List<'a>,
    #[serde(borrow, default)]
    pub(super) ema: List<'a>,
    pub(super) learning_rate: Option<Value>,
    #[serde(borrow, default)]
    pub(super) gradients: List<'a>,
    #[serde(borrow)]
    pub(super) want: Option<Vec<Cow<'a, str>>>,
}

/// A list by variable; null counts as absent.
#[derive(Debug, Default)]
pub(super) struct List<'a>(pub(super) Option<Vec<Item<'a>>>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ListSeed(Bounds::NONE).deserialize(deserializer).map(Self)
    }
}

impl List<'_> {
    /// The tensors, of as many elements each as `elements` says; as many `None` for null.
    pub(super) fn into_tensors(
        self,
        field: &str,
        dtype: DType,
        elements: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Vec<Option<Vec<f64>>>, String> {
        let expected = elements.len();
        let Some(items) = self.0 else { return Ok(vec![None; expected]) };
        if items.len() != expected {
            return Err(format!("{field} must have {expected} items, got {}", items.len()));
        }
        let read = |(position, (item, elements)): (usize, (Item<'_>, usize))| {
            item.into_tensor(dtype, elements)
                .map_err(|error| format!("{field}[{position}] {error}"))
        };
        items.into_iter().zip(elements).enumerate().map(read).collect()
    }
}

/// A variable of `build`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariableFields<'a> {
    name: String,
    shape: Vec<usize>,
    #[serde(borrow)]
    initial: &'a RawValue,
    constraint: Option<ConstraintFields>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ConstraintFields {
    NonNegative {},
    Clip { minimum: Number, maximum: Number },
}

impl VariableFields<'_> {
    /// The variable, and whether its value came as base64.
    pub(super) fn into_variable(self, dtype: DType) -> Result<(Variable, bool), String> {
        let base64 = self.initial.get().starts_with('"');
        let list = format!("[{}]", self.initial.get());
        let items = ListSeed(Bounds::NONE)
            .deserialize(&mut serde_json::Deserializer::from_str(&list))
            .map_err(|error| format!("initial of {}: {error}", self.name))?;
        let sized = Parameter::new(&self.name, &self.shape).map_err(|error| error.to_string())?;
        let elements = sized.elements();
        let initial = match items.into_iter().flatten().next() {
            Some(item) => item.into_tensor(dtype, elements),
            None => Ok(None),
        }
        .map_err(|error| format!("initial of {} {error}", self.name))?
        .ok_or_else(|| format!("initial of {} must be a tensor, got null", self.name))?;
        let constraint = self.constraint.map(|constraint| match constraint {
            ConstraintFields::NonNegative {} => Constraint::NonNegative,
            ConstraintFields::Clip { minimum: Number(minimum), maximum: Number(maximum) } => {
                Constraint::Clip { minimum, maximum }
            }
        });
        Ok((Variable { name: self.name, shape: self.shape, initial, constraint }, base64))
    }
}

/// Reads the gradients of a step.
pub(super) fn gradients(
    list: List<'_>,
    dtype: DType,
    variables: &[Variable],
) -> Result<Vec<Option<GradientValues>>, String> {
    let items = list.0.ok_or("step must have gradients")?;
    if items.len() != variables.len() {
        return Err(format!("gradients must have {} items, got {}", variables.len(), items.len()));
    }
    let read = |(position, (item, variable)): (usize, (Item<'_>, &Variable))| {
        gradient(item, dtype, variable).map_err(|error| format!("gradients[{position}] {error}"))
    };
    items.into_iter().zip(variables).enumerate().map(read).collect()
}

fn gradient(
    item: Item<'_>,
    dtype: DType,
    variable: &Variable,
) -> Result<Option<GradientValues>, String> {
    let Item::Rows { indices, values } = item else {
        let values = tensor_of_any_length(item, dtype, variable.initial.len())?;
        return Ok(values.map(GradientValues::Dense));
    };
    let row: usize = variable.shape.iter().skip(1).product();
    let values = tensor_of_any_length(*values, dtype, indices.len().saturating_mul(row))?
        .ok_or("must have values, got null")?;
    Ok(Some(GradientValues::Sparse { indices, values }))
}

/// Whether a gradient fits its variable is the optimizer's to say, so numbers of another count pass.
fn tensor_of_any_length(
    item: Item<'_>,
    dtype: DType,
    elements: usize,
) -> Result<Option<Vec<f64>>, String> {
    let elements = item.elements(dtype).unwrap_or(elements);
    item.into_tensor(dtype, elements)
}
