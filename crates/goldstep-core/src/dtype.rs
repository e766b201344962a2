//! The element types of tensors and their rounding.

use std::fmt;

use half::{bf16, f16};

/// The element type of a variable, of its gradient and, in Keras, of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary64.
    Float64,
    /// IEEE binary32.
    Float32,
    /// The upper half of a binary32.
    Bfloat16,
    /// IEEE binary16.
    Float16,
}

impl DType {
    /// All element types, widest first.
    pub const ALL: [Self; 4] = [Self::Float64, Self::Float32, Self::Bfloat16, Self::Float16];

    /// The name that TensorFlow uses: `float64`, `float32`, `bfloat16`, `float16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float64 => "float64",
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }

    /// The type of that name, if it is one of the four.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes per element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Float64 => 8,
            Self::Float32 => 4,
            Self::Bfloat16 | Self::Float16 => 2,
        }
    }

    /// The distance from 1 to the next larger number.
    #[must_use]
    pub const fn epsilon(self) -> f64 {
        match self {
            Self::Float64 => f64::EPSILON,
            Self::Float32 => 1.0 / 8_388_608.0,
            Self::Bfloat16 => 1.0 / 128.0,
            Self::Float16 => 1.0 / 1024.0,
        }
    }

    /// The smallest positive normal number.
    #[must_use]
    pub fn min_positive(self) -> f64 {
        match self {
            Self::Float64 => f64::MIN_POSITIVE,
            Self::Float32 | Self::Bfloat16 => f64::from(f32::MIN_POSITIVE),
            Self::Float16 => f64::from(f16::MIN_POSITIVE),
        }
    }

    /// `value` rounded to this type as TensorFlow's CPU kernels leave it: halves pass through
    /// float32, and a float32, float64 or bfloat16 result below the normal range is zero.
    #[must_use]
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::Float64 => f64::round_from(value).flush(),
            Self::Float32 => f64::from(f32::round_from(value).flush()),
            Self::Bfloat16 => f64::from(bf16::round_from(value).flush()),
            Self::Float16 => f64::from(f16::round_from(value).flush()),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f64 {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
    impl Sealed for half::f16 {}
}

/// A Rust type that is one of the four element types. Sealed.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// Which element type this is.
    const DTYPE: DType;

    /// The exact value as float64.
    fn to_f64(self) -> f64;

    /// The nearest value of this type; halves round twice, through float32, as TensorFlow does.
    fn round_from(value: f64) -> Self;

    /// Zero of the same sign where TensorFlow's flush-to-zero mode would see a subnormal number.
    ///
    /// float16 arithmetic runs in float32, where every float16 number is normal: nothing flushes.
    #[must_use]
    fn flush(self) -> Self;
}

impl Element for f64 {
    const DTYPE: DType = DType::Float64;

    #[inline]
    fn to_f64(self) -> f64 {
        self
    }

    fn round_from(value: f64) -> Self {
        value
    }

    #[inline]
    fn flush(self) -> Self {
        if self.is_subnormal() { 0.0_f64.copysign(self) } else { self }
    }
}

impl Element for f32 {
    const DTYPE: DType = DType::Float32;

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
    fn round_from(value: f64) -> Self {
        value as Self
    }

    #[inline]
    fn flush(self) -> Self {
        if self.is_subnormal() { 0.0_f32.copysign(self) } else { self }
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::Bfloat16;

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn round_from(value: f64) -> Self {
        Self::from_f32(f32::round_from(value))
    }

    #[inline]
    fn flush(self) -> Self {
        if self.to_f32().is_subnormal() {
            Self::from_f32(0.0_f32.copysign(self.to_f32()))
        } else {
            self
        }
    }
}

impl Element for f16 {
    const DTYPE: DType = DType::Float16;

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn round_from(value: f64) -> Self {
        Self::from_f32(f32::round_from(value))
    }

    #[inline]
    fn flush(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(DType::from_name("float8"), None);
        assert_eq!(DType::ALL.map(DType::name), ["float64", "float32", "bfloat16", "float16"]);
        assert_eq!(DType::ALL.map(DType::bytes), [8, 4, 2, 2]);
        assert_eq!(DType::Bfloat16.to_string(), "bfloat16");
    }

    #[test]
    fn subnormals_flush_except_in_float16() {
        assert!(DType::Float32.round(1e-40).to_bits() == 0);
        assert!(DType::Float32.round(-1e-40).to_bits() == (-0.0_f64).to_bits());
        assert!(DType::Float64.round(1e-310).to_bits() == 0);
        assert!(DType::Bfloat16.round(1e-40).to_bits() == 0);
        assert!(DType::Float16.round(6e-8) > 0.0);
        assert!(DType::Float16.round(1e-30).to_bits() == 0);
    }

    #[test]
    fn epsilon_is_the_gap_above_one() {
        for dtype in DType::ALL {
            let above = |epsilons: f64| dtype.round(1.0 + epsilons * dtype.epsilon()) - 1.0;
            assert_eq!(above(1.0).to_bits(), dtype.epsilon().to_bits());
            assert_eq!(above(0.25).to_bits(), 0.0_f64.to_bits());
            assert!(dtype.epsilon() > 0.0);
        }
    }

    #[test]
    fn min_positive_is_where_subnormals_begin() {
        // The exponent's least value in each format: −1022, −126 and, for the short one, −14.
        let least = [-1022, -126, -126, -14].map(|exponent| 2.0_f64.powi(exponent).to_bits());
        assert_eq!(DType::ALL.map(|dtype| dtype.min_positive().to_bits()), least);
        for dtype in [DType::Float64, DType::Float32, DType::Bfloat16] {
            let least = dtype.min_positive();
            assert_eq!(dtype.round(least).to_bits(), least.to_bits());
            assert_eq!(dtype.round(least * 0.75).to_bits(), 0.0_f64.to_bits());
        }
    }

    #[test]
    fn elements_are_exact_in_float64() {
        fn comes_back<T: Element>() {
            for value in [0.0, -2.5, 1024.0] {
                assert_eq!(T::round_from(value).to_f64().to_bits(), f64::to_bits(value));
            }
        }
        comes_back::<f64>();
        comes_back::<f32>();
        comes_back::<bf16>();
        comes_back::<f16>();
    }
}
