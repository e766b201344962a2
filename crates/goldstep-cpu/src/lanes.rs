//! Sixteen lanes of one floating-point type, the same on every processor.
//!
//! A kernel is written once over [`Lanes`] and compiled for each instruction set. Every operation
//! is either element by element or, for sums of lanes, in an order that is fixed here. A
//! multiplication is fused with an addition where the source says so, on every processor and in
//! f32 only. The results are therefore the same bits whatever the register width.

mod array;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use array::ArrayLanes;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2F32, Avx2F64, Avx512F32, Avx512F64};

use goldstep_core::Element;

use crate::real::Real;

/// Lanes of a vector: sixteen f32 fill one AVX-512 register and one cache line.
pub(crate) const LANES: usize = 16;

/// Sixteen values of [`Real`] and what the kernels do with them.
///
/// The implementations for AVX2 and AVX-512 may be used only below [`crate::isa::Isa::run`], which
/// is the only caller of a kernel.
pub trait Lanes: Copy {
    /// The type of arithmetic.
    type Real: Real;
    /// Whether the kernels that gain by it are compiled for each kind of clipping.
    const BY_KIND: bool = true;

    /// Runs a part of a kernel as a function of its own.
    fn call<P: Routine<Self>>(part: P) -> P::Output;
    fn splat(value: Self::Real) -> Self;
    fn load(source: &[Self::Real; LANES]) -> Self;
    fn store(self, target: &mut [Self::Real; LANES]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self + a·b`: rounded once in f32; in f64, where a processor without the instruction would
    /// have no cheap substitute, twice.
    fn plus_product(self, a: Self, b: Self) -> Self;
    /// `self − a·b`, rounded as [`plus_product`](Self::plus_product).
    fn minus_product(self, a: Self, b: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    /// `if self < other { self } else { other }`: `other` where either is NaN.
    fn lesser(self, other: Self) -> Self;
    /// `if self > other { self } else { other }`: `other` where either is NaN.
    fn greater(self, other: Self) -> Self;
    /// Zero where the magnitude is below the smallest normal number; NaN stays.
    fn flush(self) -> Self;
    /// Whether every lane is below the other's; NaN is not.
    fn is_below(self, other: Self) -> bool;
    /// `if_zero` where this is zero of either sign, `otherwise` elsewhere and where this is NaN.
    fn select_zero(self, if_zero: Self, otherwise: Self) -> Self;
    /// In lane `l` lane `index[l]` of this one, or lane `index[l] - 16` of the other. Every index is
    /// below 32.
    fn merge(self, other: Self, index: &[u32; LANES]) -> Self;
    /// In lane `l` lane `index[l]`, which is below 16.
    fn permute(self, index: &[u32; LANES]) -> Self;
    /// The sums of neighbouring lanes: of each four lanes, the first two are pairs of `self`, the
    /// others pairs of `other`.
    fn pair_sums(self, other: Self) -> Self;
    /// The sums of neighbouring fours of lanes: lanes 0 to 7 are those of `self`, 8 to 15 those of
    /// `other`.
    fn four_sums(self, other: Self) -> Self;

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(Self::Real::ZERO)
    }

    /// Asks for memory that will be read soon, no nearer than the second-level cache; it need not
    /// exist. Nothing where the processor has no such thing.
    ///
    /// What is asked into the first-level cache drives out what is worked on: 1,000,000 × 8 took
    /// 1.45 of its bound in place of 1.19.
    #[inline(always)]
    fn fetch<T>(_: *const T) {}

    /// The same into the first-level cache, for what lies in the second one.
    #[inline(always)]
    fn fetch_near<T>(_: *const T) {}

    #[inline(always)]
    fn to_array(self) -> [Self::Real; LANES] {
        let mut array = [Self::Real::ZERO; LANES];
        self.store(&mut array);
        array
    }

    /// The smallest lane; a NaN may be missed.
    #[inline(always)]
    fn least(self) -> Self::Real {
        let mut least = self;
        for half in &HALVES {
            least = least.lesser(least.permute(half));
        }
        least.to_array()[0]
    }

    /// The largest lane; a NaN may be missed.
    #[inline(always)]
    fn largest(self) -> Self::Real {
        let mut largest = self;
        for half in &HALVES {
            largest = largest.greater(largest.permute(half));
        }
        largest.to_array()[0]
    }

    /// The sum of all lanes, added in f64 in a fixed tree.
    #[inline(always)]
    fn total(self) -> f64 {
        let array = self.to_array();
        // A loop: `map` is a call, of which each lane calls the conversion.
        let mut lane = [0.0; LANES];
        for i in 0..LANES {
            lane[i] = array[i].to_f64();
        }
        let quarter = |i: usize| (lane[i] + lane[i + 1]) + (lane[i + 2] + lane[i + 3]);
        (quarter(0) + quarter(4)) + (quarter(8) + quarter(12))
    }
}

/// The upper half of what is left, and the lower one, in each step of a reduction.
static HALVES: [[u32; LANES]; 4] = halves();

#[expect(clippy::cast_possible_truncation, reason = "below 16")]
const fn halves() -> [[u32; LANES]; 4] {
    let mut halves = [[0; LANES]; 4];
    let mut at = 0;
    while at < 4 * LANES {
        let (step, lane) = (at / LANES, at % LANES);
        halves[step][lane] = (lane ^ (LANES >> (step + 1))) as u32;
        at += 1;
    }
    halves
}

/// A part of a kernel that is compiled once for each [`Lanes`], where an inlined function would be
/// compiled at every use. `run` must be `#[inline(always)]`, as a kernel's.
pub trait Routine<V> {
    type Output;
    fn run(self) -> Self::Output;
}

/// Lanes that can be read from, and rounded to, elements of type `T` in memory.
pub trait Memory<T>: Lanes {
    fn read(source: &[T; LANES]) -> Self;
    /// Writes all lanes and returns them as they were rounded to memory.
    fn write(self, target: &mut [T; LANES]) -> Self;
    /// The first `source.len()` lanes, fewer than [`LANES`]; the others are zero.
    fn read_head(source: &[T]) -> Self;
    /// Writes the first `target.len()` lanes, fewer than [`LANES`].
    fn write_head(self, target: &mut [T]);
}

/// The sums of `R` vectors, a power of two, one in each lane, every vector summed in a fixed tree.
/// The other lanes are zero.
#[inline(always)]
pub(crate) fn sums_of_rows<V: Lanes, const R: usize>(v: &[V; R]) -> V {
    let mut sums = *v;
    let mut count = R;
    // Each level halves the lanes of a row; it halves the vectors too, as long as there are two.
    for level in 0..LANES.ilog2() {
        let vectors = count.div_ceil(2);
        for i in 0..vectors {
            let (a, b) = (sums[2 * i], if count == 1 { V::zero() } else { sums[2 * i + 1] });
            sums[i] = if level < 2 { a.pair_sums(b) } else { a.four_sums(b) };
        }
        count = vectors;
    }
    sums[0]
}
