//! Numbers of a run-time element type that compute as TensorFlow's CPU kernels do, or err.

use std::cmp::Ordering;

use goldstep_core::DType;
use half::{bf16, f16};

use crate::Mistake;

/// The rules of an element type: how an operation is rounded, and how numbers are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) dtype: DType,
    pub(crate) mistake: Mistake,
}

impl Arithmetic {
    /// The result of one operation.
    pub(crate) fn round(self, value: f64) -> f64 {
        match self.mistake {
            Mistake::WideArithmetic if self.is_wide() => value,
            Mistake::SubnormalsKept => self.round_unflushed(value),
            Mistake::Float64InFloat32 if self.dtype == DType::Float64 => {
                DType::Float32.round(value)
            }
            _ => self.dtype.round(value),
        }
    }

    /// Whether more digits on the way leave a result within the tolerance. In half precision they do
    /// not: a mean that Keras freezes would move.
    fn is_wide(self) -> bool {
        matches!(self.dtype, DType::Float32 | DType::Float64)
    }

    /// A number as it is written to memory.
    pub(crate) fn store(self, value: f64) -> f64 {
        if self.mistake == Mistake::WideArithmetic && self.is_wide() {
            self.dtype.round(value)
        } else {
            self.round(value)
        }
    }

    fn round_unflushed(self, value: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
        let single = value as f32;
        match self.dtype {
            DType::Float64 => value,
            DType::Float32 => f64::from(single),
            DType::Bfloat16 => f64::from(bf16::from_f32(single)),
            DType::Float16 => f64::from(f16::from_f32(single)),
        }
    }

    /// `a · b`, rounded.
    pub(crate) fn times(self, a: f64, b: f64) -> f64 {
        self.round(a * b)
    }

    /// `a · b + c · d` with every operation rounded.
    pub(crate) fn blend(self, a: f64, b: f64, c: f64, d: f64) -> f64 {
        self.round(self.times(a, b) + self.times(c, d))
    }

    /// The larger one; NaN if either is NaN.
    pub(crate) fn max(self, a: f64, b: f64) -> f64 {
        if self.mistake == Mistake::NanSwallowed {
            return a.max(b);
        }
        match a.partial_cmp(&b) {
            Some(Ordering::Less) => b,
            Some(_) => a,
            None => f64::NAN,
        }
    }

    /// The smaller one; NaN if either is NaN.
    pub(crate) fn min(self, a: f64, b: f64) -> f64 {
        if self.mistake == Mistake::NanSwallowed {
            return a.min(b);
        }
        match a.partial_cmp(&b) {
            Some(Ordering::Greater) => b,
            Some(_) => a,
            None => f64::NAN,
        }
    }

    /// `1/√x`.
    pub(crate) fn rsqrt(self, x: f64) -> f64 {
        match self.mistake {
            Mistake::RsqrtOf12Bits => {
                let exact = 1.0 / x.sqrt();
                if exact.is_finite() { self.round(exact * (1.0 + 1.0 / 4096.0)) } else { exact }
            }
            Mistake::DividesByRoot => self.round(1.0 / self.round(x.sqrt())),
            _ => self.round(1.0 / x.sqrt()),
        }
    }

    /// The exact sum, rounded once, as in the reference.
    pub(crate) fn sum(self, values: impl DoubleEndedIterator<Item = f64>) -> f64 {
        match self.mistake {
            Mistake::SumsOneByOne => {
                return values.fold(0.0, |sum, value| self.round(sum + value));
            }
            Mistake::SumsBackwards => return self.sum_of_blocks(values.rev()),
            _ => {}
        }
        let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
        for value in values {
            let next = sum + value;
            let larger = sum.abs() >= value.abs();
            lost += if larger { (sum - next) + value } else { (value - next) + sum };
            sum = next;
        }
        self.round(if sum.is_finite() { sum + lost } else { sum })
    }

    /// Blocks of 64 added up one by one, then their sums likewise: in one chain the 10,260 blocks of a
    /// matrix of 1026 × 640 would lose 8e-6 of an RMS, which is a mistake.
    fn sum_of_blocks(self, values: impl Iterator<Item = f64>) -> f64 {
        let mut sums: Vec<f64> = values.collect();
        while sums.len() > 1 {
            let block = |values: &[f64]| values.iter().fold(0.0, |sum, x| self.round(sum + x));
            sums = sums.chunks(64).map(block).collect();
        }
        sums.first().copied().unwrap_or(0.0)
    }

    /// The mean; empty: NaN.
    pub(crate) fn mean(self, values: impl DoubleEndedIterator<Item = f64>, count: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "TensorFlow casts the count to the type")]
        let count = self.dtype.round(count as f64);
        match self.mistake {
            Mistake::MeanByReciprocal => self.times(self.sum(values), self.round(1.0 / count)),
            _ => self.round(self.sum(values) / count),
        }
    }

    /// The root of the mean square; empty: NaN.
    pub(crate) fn rms(self, values: &[f64]) -> f64 {
        self.round(self.mean(values.iter().map(|x| self.times(*x, *x)), values.len()).sqrt())
    }

    /// The root of the sum of squares.
    pub(crate) fn norm(self, values: &[f64]) -> f64 {
        self.round(self.sum(values.iter().map(|x| self.times(*x, *x))).sqrt())
    }
}
