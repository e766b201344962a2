//! The types of arithmetic (f32, f64) and of elements in memory (also bf16 and f16).

use std::array::from_fn;

use goldstep_core::Element;
use half::{bf16, f16};

use crate::bound::Stream;
use crate::execute::Context;
use crate::lanes::{ArrayLanes, LANES, Lanes, Memory};
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2F32, Avx2F64, Avx512F32, Avx512F64};
use crate::scalars::{Clipping, StepScalars};
use crate::squares::flat_square_sum;
use crate::variable::{Source, Variable};

/// A type that the kernels compute in and that the state is kept in.
pub trait Real:
    Element
    + CpuElement<Real = Self>
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
{
    const ZERO: Self;
    const ONE: Self;
    /// The smallest positive normal number.
    const MIN_POSITIVE: Self;
    /// The largest finite number.
    const MAX: Self;
    const INFINITY: Self;
    fn root(self) -> Self;
    /// `x + a·b`, rounded as [`Lanes::plus_product`].
    fn plus_products(x: &[Self; LANES], a: &[Self; LANES], b: &[Self; LANES]) -> [Self; LANES];
    fn is_normal(self) -> bool;
    fn magnitude(self) -> Self;
}

macro_rules! real {
    ($real:ty, $plus_products:expr) => {
        impl Real for $real {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const MIN_POSITIVE: Self = <$real>::MIN_POSITIVE;
            const MAX: Self = <$real>::MAX;
            const INFINITY: Self = <$real>::INFINITY;
            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn plus_products(
                x: &[Self; LANES],
                a: &[Self; LANES],
                b: &[Self; LANES],
            ) -> [Self; LANES] {
                $plus_products(x, a, b)
            }
            fn is_normal(self) -> bool {
                self.is_normal()
            }
            #[inline(always)]
            fn magnitude(self) -> Self {
                self.abs()
            }
        }
    };
}
real!(f32, plus_products);
real!(f64, |x: &[f64; LANES], a: &[f64; LANES], b: &[f64; LANES]| from_fn(|i| x[i] + a[i] * b[i]));

/// Whether every processor of this target adds a product with one rounding.
const HAS_FUSED: bool = cfg!(any(
    target_feature = "fma",
    target_arch = "aarch64",
    target_arch = "loongarch64",
    target_arch = "powerpc64",
    target_arch = "riscv64",
    target_arch = "s390x",
));

/// `x + a·b`, rounded once.
#[inline(always)]
fn plus_products(x: &[f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) -> [f32; LANES] {
    if HAS_FUSED { from_fn(|i| a[i].mul_add(b[i], x[i])) } else { plus_products_by_f64(x, a, b) }
}

/// The same in f64, in which the product is exact. Rounding its sum a second time, to f32, is to the
/// same value unless the first gave the middle of two f32, which below the normal range lies
/// elsewhere. Inlined it took 1.5 ns an element, and 0.9 so.
#[inline(never)]
fn plus_products_by_f64(x: &[f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) -> [f32; LANES] {
    const LOST: u32 = (1 << (f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS)) - 1;
    const MIDDLE: u32 = LOST / 2 + 1;
    let (mut sums, mut is_doubtful) = ([0.0; LANES], false);
    for i in 0..LANES {
        let sum = f64::from(x[i]) + f64::from(a[i]) * f64::from(b[i]);
        #[expect(clippy::cast_possible_truncation, reason = "this is the rounding")]
        let (rounded, low) = (sum as f32, sum.to_bits() as u32);
        // The least normal number may have been rounded up to.
        is_doubtful |= (low & LOST == MIDDLE) | (rounded.abs() <= f32::MIN_POSITIVE);
        sums[i] = rounded;
    }
    if is_doubtful { from_fn(|i| fused(x[i], a[i], b[i])) } else { sums }
}

/// `x + a·b`, rounded once, whatever the values.
fn fused(x: f32, a: f32, b: f32) -> f32 {
    let (x, product) = (f64::from(x), f64::from(a) * f64::from(b));
    let sum = x + product;
    // What rounding has taken from the sum; NaN where the sum is not finite.
    let of_product = sum - x;
    let error = (x - (sum - of_product)) + (product - of_product);
    // Rounded to odd instead – towards zero, then the last bit set if anything was lost –, so that
    // rounding to f32 rounds as if it were the first: no tie comes about.
    let (bits, is_inexact) = (sum.to_bits(), u64::from(error.abs() > 0.0));
    let is_above = (bits ^ error.to_bits()) >> 63 & is_inexact;
    #[expect(clippy::cast_possible_truncation, reason = "this is the rounding")]
    let rounded = f64::from_bits((bits - is_above) | is_inexact) as f32;
    rounded
}

/// An element type, the type that it is computed in, and the lanes of each instruction set.
///
/// f32 and f64 compute in themselves; the halves, and their state, in f32.
pub trait CpuElement: Element {
    #[doc(hidden)]
    type Real: Real;
    #[doc(hidden)]
    type Portable: Lanes<Real = Self::Real> + Memory<Self>;
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    type Avx2: Lanes<Real = Self::Real> + Memory<Self>;
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    type Avx512: Lanes<Real = Self::Real> + Memory<Self>;

    #[doc(hidden)]
    fn to_real(self) -> Self::Real;
    #[doc(hidden)]
    fn from_real(value: Self::Real) -> Self;

    // The entry points of the work itself are methods of the types, so that their many kernels are
    // compiled once, in this crate, and not again in every crate that names an optimizer.

    /// [`Variable::step`].
    #[doc(hidden)]
    fn step(
        variable: &mut Variable<Self>,
        context: &Context<'_, Self::Real>,
        scalars: &StepScalars<Self::Real>,
        clipping: Clipping<Self::Real>,
        parameter: &mut [Self],
        gradient: Source<'_, Self>,
    );

    /// `Σx²` of a run of elements.
    #[doc(hidden)]
    fn square_sum(context: &Context<'_, Self::Real>, elements: &[Self]) -> f64;

    /// [`Stream::one`].
    #[doc(hidden)]
    fn stream(
        variable: &mut Variable<Self>,
        context: &Context<'_, Self::Real>,
        stream: &Stream,
        parameter: &mut [Self],
        gradient: &[Self],
    ) -> f64;
}

macro_rules! vectors {
    ($element:ty, $real:ty, $avx2:ty, $avx512:ty, $to:expr, $from:expr) => {
        impl CpuElement for $element {
            type Real = $real;
            type Portable = ArrayLanes<$real>;
            #[cfg(target_arch = "x86_64")]
            type Avx2 = $avx2;
            #[cfg(target_arch = "x86_64")]
            type Avx512 = $avx512;

            #[inline(always)]
            fn to_real(self) -> $real {
                $to(self)
            }
            #[inline(always)]
            fn from_real(value: $real) -> Self {
                $from(value)
            }
            fn step(
                variable: &mut Variable<Self>,
                context: &Context<'_, $real>,
                scalars: &StepScalars<$real>,
                clipping: Clipping<$real>,
                parameter: &mut [Self],
                gradient: Source<'_, Self>,
            ) {
                variable.step(context, scalars, clipping, parameter, gradient);
            }
            fn square_sum(context: &Context<'_, $real>, elements: &[Self]) -> f64 {
                flat_square_sum(context, elements)
            }
            fn stream(
                variable: &mut Variable<Self>,
                context: &Context<'_, $real>,
                stream: &Stream,
                parameter: &mut [Self],
                gradient: &[Self],
            ) -> f64 {
                stream.one(variable, context, parameter, gradient)
            }
        }
    };
}
vectors!(f32, f32, Avx2F32, Avx512F32, |x| x, |x| x);
vectors!(f64, f64, Avx2F64, Avx512F64, |x| x, |x| x);
vectors!(bf16, f32, Avx2F32, Avx512F32, bf16::to_f32, bf16::from_f32);
vectors!(f16, f32, Avx2F32, Avx512F32, f16::to_f32, f16::from_f32);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values around the ends of the range and where sums are ties.
    fn value() -> impl Strategy<Value = f32> {
        let near = |exponent: i32| {
            (-2_i8..=2).prop_map(move |ulps| {
                f32::from(ulps).mul_add(f32::EPSILON, 1.0) * 2.0_f32.powi(exponent)
            })
        };
        prop_oneof![
            any::<u32>().prop_map(f32::from_bits),
            (-149..128).prop_flat_map(near),
            (-30..30).prop_flat_map(near).prop_map(|x| -x),
            Just(0.0),
            Just(-0.0),
            Just(f32::MAX),
            Just(f32::INFINITY),
        ]
    }

    fn is_same(found: f32, expected: f32) -> bool {
        found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_product_is_added_with_one_rounding(x in value(), a in value(), b in value()) {
            let (found, expected) = (fused(x, a, b), a.mul_add(b, x));
            prop_assert!(is_same(found, expected), "{x:e} + {a:e} · {b:e}: {found:e}, {expected:e}");
            let found = plus_products_by_f64(&[x; LANES], &[a; LANES], &[b; LANES])[0];
            prop_assert!(is_same(found, expected), "{x:e} + {a:e} · {b:e}: {found:e}, {expected:e}");
        }
    }

    /// The sum is a little below the middle between the largest subnormal number and the least normal
    /// one, and its f64 in the middle.
    #[test]
    fn a_tie_at_the_end_of_the_normal_range_is_not_made() {
        let (a, b) = (411_849.0 * 2.0_f32.powi(-90), -20_857.0 * 2.0_f32.powi(-93));
        let x = f32::MIN_POSITIVE;
        assert_eq!(a.mul_add(b, x).to_bits(), 0x007f_ffff);
        let lanes = plus_products_by_f64(&[x; LANES], &[a; LANES], &[b; LANES]);
        assert_eq!(lanes.map(f32::to_bits), [0x007f_ffff; LANES]);
    }

    /// The product is half a unit of `x` less 2^-46 of it, too little for an f64 to show: the sum
    /// would be a tie there, and go away from the truth, to the even one.
    #[test]
    fn a_tie_is_not_made() {
        let (a, b) = (1.0 + f32::EPSILON, 2.0_f32.powi(-24) * (1.0 - f32::EPSILON));
        let x = 1.0 + f32::EPSILON;
        for (x, b) in [(x, b), (-x, -b)] {
            assert_eq!(a.mul_add(b, x).to_bits(), x.to_bits());
            assert_eq!(fused(x, a, b).to_bits(), x.to_bits());
            let lanes = plus_products_by_f64(&[x; LANES], &[a; LANES], &[b; LANES]);
            assert_eq!(lanes.map(f32::to_bits), [x.to_bits(); LANES]);
        }
    }
}
