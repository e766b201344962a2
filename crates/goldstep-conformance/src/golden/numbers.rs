//! Tensors in JSON: flat lists of decimals, with words for what is not finite.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goldstep_core::{DType, Element};
use half::{bf16, f16};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::{GoldenError, Place};

/// A flat, row-major tensor of a golden trace; every element type is exact in float64.
pub type Tensor = Arc<[f64]>;

/// The most elements that all records of a directory may ask for without listing them.
const MOST_TILED_ELEMENTS: usize = 1 << 25;

/// What is left of [`MOST_TILED_ELEMENTS`]: a short file must not fill the memory.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(AtomicUsize::new(MOST_TILED_ELEMENTS))
    }

    fn take(&self, elements: usize) -> bool {
        let left = |left: usize| left.checked_sub(elements);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }
}

/// One number, or one of the words `NaN`, `Infinity`, `-Infinity`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }

            #[expect(clippy::cast_precision_loss, reason = "a decimal becomes the nearest float")]
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            #[expect(clippy::cast_precision_loss, reason = "a decimal becomes the nearest float")]
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                match text {
                    "NaN" => Ok(Number(f64::NAN)),
                    "Infinity" => Ok(Number(f64::INFINITY)),
                    "-Infinity" => Ok(Number(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}

/// A flat list of numbers.
#[derive(Debug, Clone)]
pub(super) struct Flat(pub(super) Vec<f64>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlatVisitor;
        impl<'de> Visitor<'de> for FlatVisitor {
            type Value = Flat;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a flat list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Flat, A::Error> {
                collect(list).map(Flat)
            }
        }
        deserializer.deserialize_seq(FlatVisitor)
    }
}

/// A tensor as it stands in a case: listed, or tiled.
#[derive(Debug, Clone)]
pub(super) enum RawTensor {
    /// All of its values.
    Flat(Vec<f64>),
    /// Values that are repeated cyclically until the shape is full.
    Tiled(Vec<f64>),
}

/// A gradient as it stands in a case.
#[derive(Debug, Clone)]
pub(super) enum RawGradient {
    Dense(RawTensor),
    Sparse { indices: Vec<i64>, values: RawTensor },
}

impl<'de> Deserialize<'de> for RawGradient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GradientVisitor;
        impl<'de> Visitor<'de> for GradientVisitor {
            type Value = RawGradient;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a flat list, {\"tiled\"} or {\"indices\", \"values\"}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawGradient, A::Error> {
                collect(list).map(|values| RawGradient::Dense(RawTensor::Flat(values)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawGradient, A::Error> {
                const FIELDS: &[&str] = &["tiled", "indices", "values"];
                let (mut tiled, mut indices, mut values) = (None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    let repeated = match key.as_str() {
                        "tiled" => tiled.replace(map.next_value::<Flat>()?).is_some(),
                        "indices" => indices.replace(map.next_value::<Vec<i64>>()?).is_some(),
                        "values" => values.replace(map.next_value::<RawTensor>()?).is_some(),
                        _ => return Err(de::Error::unknown_field(&key, FIELDS)),
                    };
                    if repeated {
                        return Err(de::Error::custom(format!("the field {key} twice")));
                    }
                }
                match (tiled, indices, values) {
                    (Some(Flat(tiled)), None, None) => {
                        Ok(RawGradient::Dense(RawTensor::Tiled(tiled)))
                    }
                    (None, Some(indices), Some(values)) => {
                        Ok(RawGradient::Sparse { indices, values })
                    }
                    _ => Err(de::Error::custom("neither tiled alone nor indices with values")),
                }
            }
        }
        deserializer.deserialize_any(GradientVisitor)
    }
}

impl<'de> Deserialize<'de> for RawTensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RawGradient::deserialize(deserializer)? {
            RawGradient::Dense(tensor) => Ok(tensor),
            RawGradient::Sparse { .. } => Err(de::Error::custom("rows where a tensor belongs")),
        }
    }
}

fn collect<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Vec<f64>, A::Error> {
    // Grown as numbers come: what a list promises to hold is never believed.
    let mut values = Vec::new();
    while let Some(Number(value)) = list.next_element()? {
        values.push(value);
    }
    Ok(values)
}

/// The number of elements of a shape.
pub(super) fn elements(
    place: Place<'_>,
    name: &str,
    shape: &[usize],
) -> Result<usize, GoldenError> {
    goldstep_core::Parameter::new(name, shape).map(|parameter| parameter.elements()).map_err(|_| {
        place.content(
            format!("shape of {name}"),
            "have a size below 2^63 bytes",
            super::error::shortened(&format!("{shape:?}")),
        )
    })
}

impl RawTensor {
    /// The values, rounded to `dtype`; there must be `elements` of them.
    pub(super) fn into_values(
        self,
        place: Place<'_>,
        dtype: DType,
        elements: usize,
        budget: &Budget,
        what: impl Fn() -> String,
    ) -> Result<Vec<f64>, GoldenError> {
        let mut values = match self {
            Self::Flat(values) => values,
            Self::Tiled(tile) => {
                if !budget.take(elements) {
                    let rule = format!(
                        "be listed where all tiled tensors exceed {MOST_TILED_ELEMENTS} elements"
                    );
                    return Err(place.content(what(), rule, elements.to_string()));
                }
                if tile.is_empty() && elements > 0 {
                    return Err(place.content(what(), "repeat at least one value", "none"));
                }
                tile.into_iter().cycle().take(elements).collect()
            }
        };
        if values.len() != elements {
            let rule = format!("have {elements} elements");
            return Err(place.content(what(), rule, values.len().to_string()));
        }
        round(place, dtype, &mut values, what)?;
        Ok(values)
    }
}

/// Rounds decimals to the values of `dtype` for which they stand.
pub(super) fn round(
    place: Place<'_>,
    dtype: DType,
    values: &mut [f64],
    what: impl Fn() -> String,
) -> Result<(), GoldenError> {
    for value in values {
        let decimal = *value;
        // A decimal of a half is the shortest one of the same float32, which is exact.
        let (rounded, stands_for) = match dtype {
            DType::Float64 => (decimal, decimal),
            DType::Float32 => (f64::from(f32::round_from(decimal)), decimal),
            DType::Bfloat16 => {
                let carrier = f32::round_from(decimal);
                (bf16::from_f32(carrier).to_f64(), f64::from(carrier))
            }
            DType::Float16 => {
                let carrier = f32::round_from(decimal);
                (f16::from_f32(carrier).to_f64(), f64::from(carrier))
            }
        };
        let is_half = matches!(dtype, DType::Bfloat16 | DType::Float16);
        let exact = rounded.to_bits() == stands_for.to_bits() || decimal.is_nan();
        if decimal.is_finite() && (!rounded.is_finite() || (is_half && !exact)) {
            let rule = format!("hold values of {dtype}");
            return Err(place.content(what(), rule, format!("{decimal:?}")));
        }
        *value = rounded;
    }
    Ok(())
}

/// Appends the little-endian bytes of values in `dtype`; NaN has the bits of the quiet NaN.
pub(super) fn push_bytes(dtype: DType, values: &[f64], bytes: &mut Vec<u8>) {
    for value in values {
        match dtype {
            DType::Float64 => bytes.extend_from_slice(&value.to_le_bytes()),
            DType::Float32 => bytes.extend_from_slice(&f32::round_from(*value).to_le_bytes()),
            DType::Bfloat16 => bytes.extend_from_slice(&bf16::round_from(*value).to_le_bytes()),
            DType::Float16 => bytes.extend_from_slice(&f16::round_from(*value).to_le_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn place() -> Place<'static> {
        Place { path: Path::new("a.json"), line: 1 }
    }

    fn tensor(json: &str, dtype: DType, elements: usize) -> Result<Vec<f64>, String> {
        serde_json::from_str::<RawTensor>(json)
            .map_err(|error| error.to_string())?
            .into_values(place(), dtype, elements, &Budget::new(), || "x".to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn decimals_become_the_values_of_their_type() {
        let values = tensor("[0.1, 1e20, -0.0, 3]", DType::Float32, 4).unwrap();
        let expected = [0.1_f32, 1e20, -0.0, 3.0].map(f64::from);
        assert!(values.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        let words = tensor(r#"["NaN", "Infinity", "-Infinity"]"#, DType::Float16, 3).unwrap();
        assert!(words[0].is_nan());
        assert_eq!(words[1..], [f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(tensor("[0.0999755859375]", DType::Float16, 1).unwrap(), [0.099_975_585_937_5]);
    }

    #[test]
    fn tiles_fill_the_shape() {
        let tiled = tensor(r#"{"tiled": [1, 2]}"#, DType::Float64, 5).unwrap();
        assert_eq!(tiled, [1.0, 2.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn bad_tensors_are_explained() {
        for (json, dtype, elements, message) in [
            ("[1e39]", DType::Float32, 1, "a.json:1: x must hold values of float32, got 1e39"),
            ("[0.1]", DType::Bfloat16, 1, "a.json:1: x must hold values of bfloat16, got 0.1"),
            ("[1, 2]", DType::Float64, 3, "a.json:1: x must have 3 elements, got 2"),
            (
                r#"{"tiled": [0]}"#,
                DType::Float64,
                1 << 27,
                "a.json:1: x must be listed where all tiled tensors exceed 33554432 elements, got 134217728",
            ),
            (
                r#"{"tiled": []}"#,
                DType::Float64,
                1,
                "a.json:1: x must repeat at least one value, got none",
            ),
        ] {
            assert_eq!(tensor(json, dtype, elements).unwrap_err(), message);
        }
        for json in ["[\"nan\"]", "[null]", "{\"tiled\": [1], \"tiled\": [1]}", "{\"rows\": 1}"] {
            assert!(tensor(json, DType::Float32, 1).is_err(), "{json}");
        }
        assert!(tensor("[1e400]", DType::Float64, 1).is_err());
    }

    #[test]
    fn bytes_are_those_of_the_type() {
        let mut bytes = Vec::new();
        push_bytes(DType::Float32, &[1.0], &mut bytes);
        push_bytes(DType::Bfloat16, &[1.0], &mut bytes);
        assert_eq!(bytes, [0, 0, 128, 63, 128, 63]);
    }
}
