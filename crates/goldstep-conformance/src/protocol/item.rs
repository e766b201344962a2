//! Values in a message: numbers, and tensors in either of their two forms.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use goldstep_core::{DType, Element};
use half::{bf16, f16};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

#[cfg(any(unix, test))]
use super::serve::{column_elements, row_elements};
#[cfg(any(unix, test))]
use crate::Variable;

/// A number, or one of the three strings that stand for the non-finite ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor).map(Number)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    #[expect(clippy::cast_precision_loss, reason = "a whole number in the place of a float")]
    fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "a whole number in the place of a float")]
    fn visit_u64<E>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<f64, E> {
        non_finite(value).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(value), &self))
    }
}

fn non_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// What may stand for one variable in a list of a message.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// Nothing.
    Null,
    /// A single number.
    Number(f64),
    /// Base64, or the name of a non-finite number.
    Text(Cow<'a, str>),
    /// A flat list.
    Numbers(Vec<f64>),
    /// Rows of a sparse gradient.
    Rows {
        /// Row numbers.
        indices: Vec<i64>,
        /// Values of the rows.
        values: Box<Item<'a>>,
    },
}

impl Item<'_> {
    /// How many values of type `dtype` it holds, if it is a tensor, whatever its shape asks for.
    pub(super) fn elements(&self, dtype: DType) -> Option<usize> {
        match self {
            Item::Numbers(values) => Some(values.len()),
            Item::Text(text) => {
                let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
                Some((text.len() / 4 * 3).saturating_sub(padding) / dtype.bytes())
            }
            _ => None,
        }
    }

    /// The tensor of `elements` values of type `dtype`, each rounded to it; `None` for null.
    pub(super) fn into_tensor(
        self,
        dtype: DType,
        elements: usize,
    ) -> Result<Option<Vec<f64>>, String> {
        let values = match self {
            Item::Null => return Ok(None),
            Item::Numbers(mut values) => {
                round(dtype, &mut values);
                values
            }
            Item::Text(text) => decode(dtype, elements, &text)?,
            Item::Number(value) => return Err(format!("must be a list, got {value}")),
            Item::Rows { .. } => return Err("must be a list, got an object".to_owned()),
        };
        if values.len() == elements {
            Ok(Some(values))
        } else {
            Err(format!("must have {elements} elements, got {}", values.len()))
        }
    }

    /// The number; `None` for null.
    #[cfg_attr(not(unix), expect(dead_code, reason = "only the harness's side reads answers"))]
    pub(super) fn into_number(self) -> Result<Option<f64>, String> {
        match self {
            Item::Null => Ok(None),
            Item::Number(value) => Ok(Some(value)),
            Item::Text(text) => match non_finite(&text) {
                Some(value) => Ok(Some(value)),
                None => Err(format!("must be a number, got {text:?}")),
            },
            Item::Numbers(_) => Err("must be a number, got a list".to_owned()),
            Item::Rows { .. } => Err("must be a number, got an object".to_owned()),
        }
    }
}

/// Rounds to the type: a decimal of another precision is accepted and means the nearest value.
fn round(dtype: DType, values: &mut [f64]) {
    fn each<T: Element>(values: &mut [f64]) {
        for value in values {
            *value = T::round_from(*value).to_f64();
        }
    }
    match dtype {
        DType::Float64 => {}
        DType::Float32 => each::<f32>(values),
        DType::Bfloat16 => each::<bf16>(values),
        DType::Float16 => each::<f16>(values),
    }
}

fn decode(dtype: DType, elements: usize, text: &str) -> Result<Vec<f64>, String> {
    // Checked before anything is allocated, so that a wrong length costs nothing.
    let bytes = elements.saturating_mul(dtype.bytes());
    let expected = bytes.div_ceil(3).saturating_mul(4);
    if text.len() != expected {
        return Err(format!(
            "must be base64 of {bytes} bytes ({expected} characters), got {} characters",
            text.len()
        ));
    }
    let raw = STANDARD.decode(text).map_err(|error| format!("must be base64: {error}"))?;
    if raw.len() != bytes {
        return Err(format!("must be base64 of {bytes} bytes, got {}", raw.len()));
    }
    Ok(match dtype {
        DType::Float64 => chunks(&raw, f64::from_le_bytes),
        DType::Float32 => chunks(&raw, |chunk| f64::from(f32::from_le_bytes(chunk))),
        DType::Bfloat16 => chunks(&raw, |chunk| f64::from(bf16::from_le_bytes(chunk))),
        DType::Float16 => chunks(&raw, |chunk| f64::from(f16::from_le_bytes(chunk))),
    })
}

fn chunks<const N: usize>(raw: &[u8], convert: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    raw.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
}

/// How much a message may hold, so that reading one never takes more memory than its case needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Items of a list: one per variable.
    pub(super) items: usize,
    /// Numbers of an item: elements of the largest variable or factor.
    pub(super) elements: usize,
}

impl Bounds {
    pub(super) const NONE: Self = Self { items: usize::MAX, elements: usize::MAX };

    /// What the answers of a case with these variables may hold.
    #[cfg(any(unix, test))]
    pub(super) fn of(variables: &[Variable]) -> Self {
        // The factors of an empty variable need not be empty: `[3, 0]` has three rows.
        let largest = |each: &Variable| {
            let factors = row_elements(&each.shape).max(column_elements(&each.shape));
            each.initial.len().max(factors)
        };
        let elements = variables.iter().map(largest).max().unwrap_or(0);
        Self { items: variables.len(), elements }
    }
}

/// Reads a list of items, or null.
pub(super) struct ListSeed(pub(super) Bounds);

impl<'de> DeserializeSeed<'de> for ListSeed {
    type Value = Option<Vec<Item<'de>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListSeed {
    type Value = Option<Vec<Item<'de>>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list with an item for each variable, or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(ItemSeed(self.0.elements))? {
            if list.len() == self.0.items {
                let rule = format!("a list must have {} items, one per variable", self.0.items);
                return Err(A::Error::custom(format!("{rule}, got more")));
            }
            list.push(item);
        }
        Ok(Some(list))
    }
}

/// Reads an item with at most so many numbers.
struct ItemSeed(usize);

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = Item<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed {
    type Value = Item<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a flat list of numbers, base64, a number or null")
    }

    fn visit_unit<E>(self) -> Result<Item<'de>, E> {
        Ok(Item::Null)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Item<'de>, E> {
        Ok(Item::Number(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Item<'de>, E> {
        NumberVisitor.visit_i64(value).map(Item::Number)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Item<'de>, E> {
        NumberVisitor.visit_u64(value).map(Item::Number)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Item<'de>, E> {
        Ok(Item::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Item<'de>, E> {
        Ok(Item::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Item<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(Number(value)) = numbers.next_element()? {
            if values.len() == self.0 {
                let most = self.0;
                return Err(A::Error::custom(format!(
                    "a tensor of this case has at most {most} elements, got more"
                )));
            }
            values.push(value);
        }
        Ok(Item::Numbers(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Item<'de>, A::Error> {
        let mut indices = None;
        let mut values = None;
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            match name.as_ref() {
                "indices" if indices.is_none() => indices = Some(fields.next_value()?),
                "values" if values.is_none() => {
                    values = Some(fields.next_value_seed(ItemSeed(self.0))?);
                }
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                    let rule = "rows have indices and values, once each";
                    return Err(A::Error::custom(format!("{rule}, got {name}")));
                }
            }
        }
        match (indices, values) {
            (Some(indices), Some(values)) => Ok(Item::Rows { indices, values: Box::new(values) }),
            _ => Err(A::Error::custom("rows must have indices and values")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::write::{Form, tensor};

    fn list(bounds: Bounds, text: &str) -> Result<Option<Vec<Item<'_>>>, serde_json::Error> {
        ListSeed(bounds).deserialize(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn tensors_round_trip_in_both_forms() {
        let values = [1.0 / 3.0, -0.0, 6.5e4, 1e-30, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for dtype in DType::ALL {
            let mut rounded = values.to_vec();
            round(dtype, &mut rounded);
            for form in [Form::Numbers, Form::Base64] {
                let mut line = b"[".to_vec();
                tensor(&mut line, dtype, form, &values);
                line.push(b']');
                let text = String::from_utf8(line).unwrap();
                let item = list(Bounds::NONE, &text).unwrap().unwrap().remove(0);
                let read = item.into_tensor(dtype, values.len()).unwrap().unwrap();
                let bits =
                    |list: &[f64]| -> Vec<u64> { list.iter().map(|v| v.to_bits()).collect() };
                assert_eq!(bits(&read[..4]), bits(&rounded[..4]), "{dtype} {text}");
                assert!(read[4].is_nan() && read[5].is_infinite() && read[6] < 0.0);
            }
        }
    }

    #[test]
    fn more_than_the_case_has_is_refused_while_reading() {
        let bounds = Bounds { items: 2, elements: 3 };
        for (text, message) in [
            ("[[1,2,3,4]]", "a tensor of this case has at most 3 elements, got more"),
            ("[null,null,null]", "a list must have 2 items, one per variable, got more"),
            ("[[\"nan\"]]", "expected a number, \"NaN\", \"Infinity\" or \"-Infinity\""),
            ("[{\"indices\":[1]}]", "rows must have indices and values"),
            ("[{\"rows\":[1]}]", "rows have indices and values, once each, got rows"),
        ] {
            let error = list(bounds, text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_tensor_of_another_length_is_refused() {
        let refused = |item: Item<'_>| item.into_tensor(DType::Float32, 2).unwrap_err();
        assert_eq!(refused(Item::Numbers(vec![1.0])), "must have 2 elements, got 1");
        let short = Item::Text(Cow::Borrowed("AAAA"));
        assert_eq!(refused(short), "must be base64 of 8 bytes (12 characters), got 4 characters");
        let broken = Item::Text(Cow::Borrowed("!!!!!!!!!!!!"));
        assert!(refused(broken).starts_with("must be base64: "));
    }
}
