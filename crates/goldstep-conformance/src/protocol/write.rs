//! Pieces of a message, appended to a buffer that is reused from line to line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use goldstep_core::{DType, Element};
use half::{bf16, f16};
use serde::Serialize;

use crate::GradientValues;

/// How tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Shortest decimals that round-trip in the element type.
    Numbers,
    /// Base64 of the little-endian bytes in the element type.
    Base64,
}

/// Appends any value that cannot fail to be JSON.
pub(super) fn json(line: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Writing to memory cannot fail, and no map with keys other than strings is ever passed.
    let written = serde_json::to_writer(&mut *line, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

/// Appends text as it is.
pub(super) fn raw(line: &mut Vec<u8>, text: &str) {
    line.extend_from_slice(text.as_bytes());
}

/// Appends `,"name":`.
pub(super) fn key(line: &mut Vec<u8>, name: &str) {
    raw(line, ",\"");
    raw(line, name);
    raw(line, "\":");
}

/// Appends a float64 number.
pub(super) fn number(line: &mut Vec<u8>, value: f64) {
    if value.is_finite() { json(line, &value) } else { non_finite(line, value) }
}

fn non_finite(line: &mut Vec<u8>, value: f64) {
    let name = match (value.is_nan(), value > 0.0) {
        (true, _) => "\"NaN\"",
        (_, true) => "\"Infinity\"",
        (_, false) => "\"-Infinity\"",
    };
    raw(line, name);
}

/// Appends a list with one item for each element of `items`.
pub(super) fn list<I>(
    line: &mut Vec<u8>,
    items: impl IntoIterator<Item = I>,
    mut write: impl FnMut(&mut Vec<u8>, I),
) {
    line.push(b'[');
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            line.push(b',');
        }
        write(line, item);
    }
    line.push(b']');
}

/// Appends a tensor, or null.
pub(super) fn optional_tensor(
    line: &mut Vec<u8>,
    dtype: DType,
    form: Form,
    values: Option<&[f64]>,
) {
    match values {
        Some(values) => tensor(line, dtype, form, values),
        None => raw(line, "null"),
    }
}

/// Appends a tensor whose values are rounded to `dtype`.
pub(super) fn tensor(line: &mut Vec<u8>, dtype: DType, form: Form, values: &[f64]) {
    match (form, dtype) {
        (Form::Numbers, DType::Float64) => list(line, values, |line, value| number(line, *value)),
        (Form::Numbers, DType::Float32) => numbers::<f32>(line, values),
        (Form::Numbers, DType::Bfloat16) => numbers::<bf16>(line, values),
        (Form::Numbers, DType::Float16) => numbers::<f16>(line, values),
        (Form::Base64, _) => {
            let bytes = little_endian(dtype, values);
            line.push(b'"');
            let start = line.len();
            line.resize(start + bytes.len().div_ceil(3) * 4, 0);
            let written = STANDARD.encode_slice(&bytes, &mut line[start..]);
            debug_assert!(written.is_ok_and(|written| start + written == line.len()));
            line.push(b'"');
        }
    }
}

/// float32 and narrower: the shortest decimal of the float32 value.
fn numbers<T: Element>(line: &mut Vec<u8>, values: &[f64]) {
    list(line, values, |line, value| {
        let value = T::round_from(*value).to_f64();
        if value.is_finite() {
            json(line, &f32::round_from(value));
        } else {
            non_finite(line, value);
        }
    });
}

fn little_endian(dtype: DType, values: &[f64]) -> Vec<u8> {
    let values = values.iter();
    match dtype {
        DType::Float64 => values.flat_map(|value| value.to_le_bytes()).collect(),
        DType::Float32 => values.flat_map(|value| f32::round_from(*value).to_le_bytes()).collect(),
        DType::Bfloat16 => {
            values.flat_map(|value| bf16::round_from(*value).to_le_bytes()).collect()
        }
        DType::Float16 => values.flat_map(|value| f16::round_from(*value).to_le_bytes()).collect(),
    }
}

/// Appends a gradient, or null.
pub(super) fn gradient(
    line: &mut Vec<u8>,
    dtype: DType,
    form: Form,
    gradient: Option<&GradientValues>,
) {
    match gradient {
        None => raw(line, "null"),
        Some(GradientValues::Dense(values)) => tensor(line, dtype, form, values),
        Some(GradientValues::Sparse { indices, values }) => {
            raw(line, "{\"indices\":");
            json(line, indices);
            key(line, "values");
            tensor(line, dtype, form, values);
            line.push(b'}');
        }
    }
}
