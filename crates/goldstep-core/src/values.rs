//! Tensor values whose element type is known at run time only.

use half::{bf16, f16};

use crate::{DType, Element};

/// A flat, row-major tensor of one of the four element types, owned by the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// float64 values.
    Float64(Vec<f64>),
    /// float32 values.
    Float32(Vec<f32>),
    /// bfloat16 values.
    Bfloat16(Vec<bf16>),
    /// float16 values.
    Float16(Vec<f16>),
}

impl Values {
    /// Copies a slice of any element type.
    #[must_use]
    pub fn from_slice<T: Element>(values: &[T]) -> Self {
        // Exact: every element type embeds in float64 and comes back unchanged.
        Self::round_from(T::DTYPE, values.iter().map(|value| value.to_f64()))
    }

    /// Collects float64 numbers, each rounded to `dtype`.
    #[must_use]
    pub fn round_from(dtype: DType, values: impl IntoIterator<Item = f64>) -> Self {
        fn collect<T: Element>(values: impl IntoIterator<Item = f64>) -> Vec<T> {
            values.into_iter().map(T::round_from).collect()
        }
        match dtype {
            DType::Float64 => Self::Float64(collect(values)),
            DType::Float32 => Self::Float32(collect(values)),
            DType::Bfloat16 => Self::Bfloat16(collect(values)),
            DType::Float16 => Self::Float16(collect(values)),
        }
    }

    /// The values in another type, rounded where it is narrower.
    #[must_use]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        fn convert<S: Element, T: Element>(values: &[S]) -> Vec<T> {
            values.iter().map(|value| T::round_from(value.to_f64())).collect()
        }
        match self {
            Self::Float64(values) => convert(values),
            Self::Float32(values) => convert(values),
            Self::Bfloat16(values) => convert(values),
            Self::Float16(values) => convert(values),
        }
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        match self {
            Self::Float64(_) => DType::Float64,
            Self::Float32(_) => DType::Float32,
            Self::Bfloat16(_) => DType::Bfloat16,
            Self::Float16(_) => DType::Float16,
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Float64(values) => values.len(),
            Self::Float32(values) => values.len(),
            Self::Bfloat16(values) => values.len(),
            Self::Float16(values) => values.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_comes_back_unchanged() {
        let values = [1.5_f32, f32::MIN_POSITIVE / 2.0, -0.0, f32::INFINITY];
        let stored = Values::from_slice(&values);
        assert_eq!(stored.dtype(), DType::Float32);
        let bits: Vec<u32> = stored.to_vec::<f32>().iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, values.map(f32::to_bits));
    }

    #[test]
    fn the_number_of_elements() {
        for dtype in DType::ALL {
            let values = Values::round_from(dtype, [1.0, 2.0, 3.0]);
            assert_eq!((values.dtype(), values.len(), values.is_empty()), (dtype, 3, false));
            assert!(Values::round_from(dtype, []).is_empty());
        }
    }
}
