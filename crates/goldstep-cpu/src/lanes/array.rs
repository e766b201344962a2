//! Lanes as an array: for every processor, and the definition that the others must agree with.
//!
//! What no inner loop over f32 or f64 needs is a function that is called: unrolled sixteen times at
//! each of its uses it was most of this crate's machine code, and of the time to compile it.

use std::array::from_fn;

use super::{LANES, Lanes, Memory, Routine};
use crate::real::{CpuElement, Real};

/// Sixteen lanes in an array; the compiler chooses the registers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct ArrayLanes<R>([R; LANES]);

impl<R: Real> ArrayLanes<R> {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(R, R) -> R) -> Self {
        Self(from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl<R: Real> Lanes for ArrayLanes<R> {
    type Real = R;
    // A third of the machine code of these lanes, for a branch beside sixteen lanes of arithmetic.
    const BY_KIND: bool = false;

    #[inline(never)]
    fn call<P: Routine<Self>>(part: P) -> P::Output {
        part.run()
    }
    #[inline(always)]
    fn splat(value: R) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn load(source: &[R; LANES]) -> Self {
        Self(*source)
    }
    #[inline(always)]
    fn store(self, target: &mut [R; LANES]) {
        *target = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        Self(R::plus_products(&self.0, &a.0, &b.0))
    }
    #[inline(always)]
    fn minus_product(self, a: Self, b: Self) -> Self {
        Self(R::plus_products(&self.0, &a.0.map(|a| -a), &b.0))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(Real::root))
    }
    #[inline(always)]
    fn lesser(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn greater(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn flush(self) -> Self {
        Self(self.0.map(|x| if x.magnitude() < R::MIN_POSITIVE { R::ZERO } else { x }))
    }
    #[inline(always)]
    fn is_below(self, other: Self) -> bool {
        let mut all = true;
        for i in 0..LANES {
            all &= self.0[i] < other.0[i];
        }
        all
    }
    #[inline(always)]
    fn select_zero(self, if_zero: Self, otherwise: Self) -> Self {
        Self(from_fn(|i| if self.0[i] == R::ZERO { if_zero.0[i] } else { otherwise.0[i] }))
    }
    #[inline(always)]
    fn merge(self, other: Self, index: &[u32; LANES]) -> Self {
        let both = [self.0, other.0];
        Self(index.map(|at| both.as_flattened()[at as usize % (2 * LANES)]))
    }
    #[inline(always)]
    fn permute(self, index: &[u32; LANES]) -> Self {
        Self(index.map(|at| self.0[at as usize % LANES]))
    }
    #[inline(always)]
    fn pair_sums(self, other: Self) -> Self {
        Self(from_fn(|i| {
            let source = if i % 4 < 2 { &self.0 } else { &other.0 };
            let at = i / 4 * 4 + i % 2 * 2;
            source[at] + source[at + 1]
        }))
    }
    #[inline(always)]
    fn four_sums(self, other: Self) -> Self {
        Self(from_fn(|i| {
            let source = if i < 8 { &self.0 } else { &other.0 };
            let at = i % 8 / 4 * 8 + i % 4;
            source[at] + source[at + 4]
        }))
    }
}

impl<T: CpuElement<Real = R>, R: Real> Memory<T> for ArrayLanes<R> {
    #[inline(always)]
    fn read(source: &[T; LANES]) -> Self {
        if is_converted::<T>() { from_memory(source) } else { Self(source.map(T::to_real)) }
    }
    #[inline(always)]
    fn write(self, target: &mut [T; LANES]) -> Self {
        if is_converted::<T>() {
            to_memory(self, target)
        } else {
            *target = self.0.map(T::from_real);
            self
        }
    }
    #[inline(never)]
    fn read_head(source: &[T]) -> Self {
        let mut lanes = [R::ZERO; LANES];
        for (lane, element) in lanes.iter_mut().zip(source) {
            *lane = element.to_real();
        }
        Self(lanes)
    }
    #[inline(never)]
    fn write_head(self, target: &mut [T]) {
        for (element, lane) in target.iter_mut().zip(self.0) {
            *element = T::from_real(lane);
        }
    }
}

/// Whether elements are converted, at a cost beside which a call is little.
#[inline(always)]
const fn is_converted<T: CpuElement>() -> bool {
    size_of::<T>() != size_of::<T::Real>()
}

#[inline(never)]
fn from_memory<T: CpuElement>(source: &[T; LANES]) -> ArrayLanes<T::Real> {
    ArrayLanes(source.map(T::to_real))
}

#[inline(never)]
fn to_memory<T: CpuElement>(
    lanes: ArrayLanes<T::Real>,
    target: &mut [T; LANES],
) -> ArrayLanes<T::Real> {
    *target = lanes.0.map(T::from_real);
    from_memory(target)
}
