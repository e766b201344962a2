//! The loops over elements: slices and scalars in, no allocation, no settings, no threads.
//!
//! Every kernel is one body over sixteen [`Lanes`], compiled per instruction set by
//! [`Isa::run`](crate::Isa). What it computes, and in which order, is a function of the shape that
//! it is given.

pub(crate) mod columns;
pub(crate) mod elements;
pub(crate) mod factors;
pub(crate) mod full;
pub(crate) mod literal;
pub(crate) mod rows;
pub(crate) mod stream;
pub(crate) mod update;

use crate::lanes::{LANES, Lanes};
use crate::real::Real;

/// Sixteen values on cache lines of their own.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Line<R>(pub(crate) [R; LANES]);

/// Value `index` of an array of lines.
#[inline(always)]
pub(crate) fn lane<R: Copy>(lines: &[Line<R>], index: usize) -> R {
    lines[index / LANES].0[index % LANES]
}

/// How a running mean of squares takes up a new mean: `β·old + (1 − β)·(mean + ε₁)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<R> {
    pub(crate) beta_2: R,
    pub(crate) one_minus_beta_2: R,
    pub(crate) epsilon_1: R,
}

impl<R: Real> Moment<R> {
    /// The new running means; what falls below the normal range is zero, as in TensorFlow.
    #[inline(always)]
    pub(crate) fn blend<V: Lanes<Real = R>>(self, old: V, mean: V) -> V {
        let fresh = V::splat(self.one_minus_beta_2).mul(mean.add(V::splat(self.epsilon_1)));
        V::splat(self.beta_2).mul(old).add(fresh).flush()
    }
}

/// Smallest and largest value and the sum of a factor.
///
/// NaN is found in the sum; the extremes may miss it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) least: f64,
    pub(crate) largest: f64,
    pub(crate) sum: f64,
}

impl Extent {
    /// The extent of nothing.
    pub(crate) const EMPTY: Self =
        Self { least: f64::INFINITY, largest: f64::NEG_INFINITY, sum: 0.0 };

    /// The extent of both, sums added in this order.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            largest: self.largest.max(other.largest),
            sum: self.sum + other.sum,
        }
    }
}

/// What clipping does to each element of a gradient.
pub(crate) trait Clip<R: Real>: Copy + Send + Sync {
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V;
}

/// No clipping.
#[derive(Clone, Copy)]
pub(crate) struct Unclipped;

/// Clipping by a norm: every element times this.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<R>(pub(crate) R);

/// Clipping by value: every element into `[-value, value]`; NaN stays.
#[derive(Clone, Copy)]
pub(crate) struct Bounded<R>(pub(crate) R);

impl<R: Real> Clip<R> for Unclipped {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        gradient
    }
}

impl<R: Real> Clip<R> for Scaled<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        gradient.mul(V::splat(self.0))
    }
}

impl<R: Real> Clip<R> for Bounded<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        let below = V::splat(self.0).lesser(gradient);
        V::splat(R::ZERO - self.0).greater(below)
    }
}

/// What weight decay does to each element of a parameter.
pub(crate) trait Decay<R: Real>: Copy + Send + Sync {
    fn apply<V: Lanes<Real = R>>(self, parameter: V) -> V;
}

/// No weight decay.
#[derive(Clone, Copy)]
pub(crate) struct Undecayed;

/// `x − x·weight_decay·learning_rate`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decayed<R> {
    pub(crate) weight_decay: R,
    pub(crate) learning_rate: R,
}

impl<R: Real> Decayed<R> {
    /// What becomes of a single element.
    pub(crate) fn of_one(self, parameter: R) -> R {
        parameter - parameter * self.weight_decay * self.learning_rate
    }
}

impl<R: Real> Decay<R> for Undecayed {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, parameter: V) -> V {
        parameter
    }
}

impl<R: Real> Decay<R> for Decayed<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, parameter: V) -> V {
        let part = parameter.mul(V::splat(self.weight_decay));
        parameter.sub(part.mul(V::splat(self.learning_rate)))
    }
}

/// The sum of a few vectors in a fixed tree; their number is a power of two.
#[inline(always)]
pub(crate) fn tree<V: Lanes, const K: usize>(mut sums: [V; K]) -> V {
    let mut width = K;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            sums[k] = sums[k].add(sums[k + width]);
        }
    }
    sums[0]
}
