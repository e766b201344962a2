//! Numbers of one element type that compute as TensorFlow's CPU kernels do.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

use goldstep_core::Element;

/// A number of type `T` whose every operation is rounded to `T` and flushed.
///
/// Operations run in float64 and are rounded once: for `+ − × ÷ √` of float32 that is the correctly
/// rounded float32 result (53 ≥ 2·24 + 2 digits), and the halves round through float32 as they do
/// in TensorFlow. Subnormal operands and results become 0, as TensorFlow's CPU kernels run with
/// flush-to-zero and denormals-are-zero; float16 does not flush, since it computes in float32.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Real<T>(T);

impl<T: Element> Real<T> {
    /// The number as a kernel reads it.
    pub(crate) fn read(value: T) -> Self {
        Self(value.flush())
    }

    /// The nearest number to `value`.
    pub(crate) fn round(value: f64) -> Self {
        Self(T::round_from(value).flush())
    }

    /// The number as a kernel writes it.
    pub(crate) fn write(self) -> T {
        self.0
    }

    /// The exact value.
    pub(crate) fn to_f64(self) -> f64 {
        self.0.to_f64()
    }

    pub(crate) fn square(self) -> Self {
        self * self
    }

    pub(crate) fn sqrt(self) -> Self {
        Self::round(self.to_f64().sqrt())
    }

    /// `1/√x`, rounded once.
    pub(crate) fn rsqrt(self) -> Self {
        Self::round(1.0 / self.to_f64().sqrt())
    }

    /// The larger one; NaN if either is NaN, as `tf.maximum` in eager mode.
    pub(crate) fn max(self, other: Self) -> Self {
        match self.to_f64().partial_cmp(&other.to_f64()) {
            Some(Ordering::Less) => other,
            Some(_) => self,
            None => Self::round(f64::NAN),
        }
    }

    /// The smaller one; NaN if either is NaN, as `tf.minimum` in eager mode.
    pub(crate) fn min(self, other: Self) -> Self {
        match self.to_f64().partial_cmp(&other.to_f64()) {
            Some(Ordering::Greater) => other,
            Some(_) => self,
            None => Self::round(f64::NAN),
        }
    }

    /// The exact sum, rounded once.
    ///
    /// TensorFlow sums in `T`, in packets and trees whose shape depends on the machine; the exact
    /// sum lies in the middle of what they give. It overflows where theirs does, since every sum
    /// here is one of squares. For float16 and bfloat16 its kernels add sequentially in the half
    /// type below 8 elements and along columns, in packets of 8 above (executed on 2.12.1), which
    /// is up to half an eps per element away.
    pub(crate) fn sum(values: impl Iterator<Item = Self>) -> Self {
        Self::round(exact_sum(values.map(Self::to_f64)))
    }

    /// The mean as TensorFlow forms it: the sum in `T`, divided by the count in `T`. Empty: NaN.
    pub(crate) fn mean(values: impl Iterator<Item = Self>, count: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "TensorFlow casts the count to the type")]
        let count = count as f64;
        Self::sum(values) / Self::round(count)
    }

    /// The root of the mean square. Empty: NaN.
    pub(crate) fn rms(values: &[Self]) -> Self {
        Self::mean(values.iter().map(|value| value.square()), values.len()).sqrt()
    }
}

/// The sum with twice the digits of float64 (Neumaier), so that it is exact for float64 as well.
fn exact_sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    // What is lost beside an infinity is NaN and says nothing.
    if sum.is_finite() { sum + lost } else { sum }
}

impl<T: Element> Add for Real<T> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::round(self.to_f64() + other.to_f64())
    }
}

impl<T: Element> Sub for Real<T> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::round(self.to_f64() - other.to_f64())
    }
}

impl<T: Element> Mul for Real<T> {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self::round(self.to_f64() * other.to_f64())
    }
}

impl<T: Element> Div for Real<T> {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        Self::round(self.to_f64() / other.to_f64())
    }
}

impl<T: Element> Neg for Real<T> {
    type Output = Self;

    fn neg(self) -> Self {
        Self::round(-self.to_f64())
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn subnormal_results_and_operands_are_zero() {
        let tiny = Real::<f32>::round(1e-20);
        assert_eq!((tiny * tiny).write().to_bits(), 0);
        assert!(Real::read(f32::from_bits(1)).rsqrt().write().is_infinite());
        assert_eq!((Real::<bf16>::round(1e-20) * Real::round(1e-20)).to_f64().to_bits(), 0);
        assert!((Real::<f16>::round(1e-3) * Real::round(1e-3)).to_f64() > 0.0);
    }

    #[test]
    fn operations_round_as_the_native_ones() {
        let pairs = [(0.1_f32, 0.3), (1.0e20, 3.0e-5), (-7.7, 1.234_567_8), (3.0e38, 3.0e38)];
        for (a, b) in pairs {
            let (x, y) = (Real::read(a), Real::read(b));
            assert_eq!((x + y).write().to_bits(), (a + b).to_bits());
            assert_eq!((x - y).write().to_bits(), (a - b).to_bits());
            assert_eq!((x * y).write().to_bits(), (a * b).to_bits());
            assert_eq!((x / y).write().to_bits(), (a / b).to_bits());
            assert_eq!(y.sqrt().write().to_bits(), b.sqrt().to_bits());
        }
    }

    #[test]
    fn comparisons_propagate_nan() {
        let (one, nan) = (Real::<f32>::round(1.0), Real::round(f64::NAN));
        for value in [one.max(nan), nan.max(one), one.min(nan), nan.min(one)] {
            assert!(value.to_f64().is_nan());
        }
    }

    #[test]
    fn sums_are_exact_in_every_type() {
        let small = 2.0_f64.powi(-53);
        let values = std::iter::once(1.0).chain(std::iter::repeat_n(small, 1 << 10));
        let sum = Real::<f64>::sum(values.map(Real::round)).to_f64();
        assert_eq!(sum.to_bits(), (1.0 + 2.0_f64.powi(-43)).to_bits());
        for order in [[1.0, 1e100, 1.0, -1e100], [1e100, 1.0, -1e100, 1.0]] {
            let sum = Real::<f64>::sum(order.map(Real::round).into_iter()).to_f64();
            assert_eq!(sum.to_bits(), 2.0_f64.to_bits());
        }
        let infinite = [f64::MAX, f64::MAX, 1.0].map(Real::<f64>::round);
        assert!(Real::sum(infinite.into_iter()).to_f64().is_infinite());
    }

    #[test]
    fn a_mean_of_nothing_is_nan() {
        assert!(Real::<f32>::rms(&[]).to_f64().is_nan());
    }

    #[test]
    fn sums_of_squares_overflow_in_their_type() {
        let large = [Real::<f16>::round(200.0); 2];
        assert!(Real::rms(&large).to_f64().is_infinite());
        assert_eq!(
            Real::rms(&[Real::<f32>::round(200.0); 2]).to_f64().to_bits(),
            200_f64.to_bits()
        );
    }
}
