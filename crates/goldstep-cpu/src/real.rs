//! The types of arithmetic (f32, f64) and of elements in memory (also bf16 and f16).

use goldstep_core::Element;
use half::{bf16, f16};

use crate::bound::Stream;
use crate::execute::Context;
use crate::lanes::{ArrayLanes, Lanes, Memory};
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
{
    const ZERO: Self;
    const ONE: Self;
    /// The smallest positive normal number.
    const MIN_POSITIVE: Self;
    /// The largest finite number.
    const MAX: Self;
    const INFINITY: Self;
    fn root(self) -> Self;
    fn is_normal(self) -> bool;
    fn magnitude(self) -> Self;
}

macro_rules! real {
    ($real:ty) => {
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
real!(f32);
real!(f64);

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
