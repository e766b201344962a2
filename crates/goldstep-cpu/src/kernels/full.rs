//! Parameters below rank 2, whose second moment is kept for each element.
//!
//! ```text
//! v  = flush(β₂ v + (1 − β₂)(g² + ε₁))
//! u  = g · (1 / √v),  Σu²                              first pass
//! p −= α · (u / max(1, rms(u) / d))              second pass
//! ```
//!
//! A root and two divisions for each vector are what a parameter in a cache waits for: where it is not
//! split, the first pass keeps its `u` for the second, and dividing by 1 is left out.

use goldstep_core::{Element, SecondMomentUnderflow};

use super::literal::update_of;
use super::update::{Rule, each_vector};
use super::{CHAIN, Clip, Decay, Line, Moment, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};
use crate::tile::{Tile, TileMut};

/// Vectors whose divisions and square roots are in flight together.
const SUMS: usize = 4;
/// `u`; with [`SecondMomentUnderflow::Finite`] zero where there is no second moment.
#[inline(always)]
fn update_or_none<V: Lanes, C: Clip<V::Real>>(
    gradient: V,
    clip: C,
    second_moment: V,
    underflow: SecondMomentUnderflow,
) -> V {
    let u = update_of(gradient, clip, second_moment);
    match underflow {
        SecondMomentUnderflow::MatchKeras => u,
        _ => second_moment.select_zero(V::zero(), u),
    }
}

/// Updates the second moment of a run of elements and returns their `Σu²`.
pub(crate) struct FullStatistics<'a, T: CpuElement, C> {
    pub(crate) gradient: &'a [T],
    pub(crate) clip: C,
    pub(crate) moment: Moment<T::Real>,
    pub(crate) underflow: SecondMomentUnderflow,
    pub(crate) second_moment: &'a mut [T::Real],
    /// Takes up `u`; empty if it is not wanted. What is behind the last element is not read again.
    pub(crate) updates: &'a mut [Line<T::Real>],
}

impl<T: CpuElement, C: Clip<T::Real>> Kernel for FullStatistics<'_, T, C> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let Self { gradient, clip, moment, underflow, second_moment, updates } = self;
        let take_up = TakeUp { clip, moment, underflow };
        let (g, g_tail) = gradient.as_chunks::<LANES>();
        let (v, v_tail) = second_moment.as_chunks_mut::<LANES>();
        let (g_groups, g_few) = g.as_chunks::<SUMS>();
        let (v_groups, v_few) = v.as_chunks_mut::<SUMS>();
        let mut updates = updates.iter_mut();
        let mut keep = |u: V| {
            if let Some(line) = updates.next() {
                u.store(&mut line.0);
            }
        };
        let mut sum = V::zero();
        for (g_run, v_run) in g_groups.chunks(CHAIN).zip(v_groups.chunks_mut(CHAIN)) {
            let mut sums = [V::zero(); SUMS];
            for (g, v) in g_run.iter().zip(v_run) {
                for k in 0..SUMS {
                    let (new, u) = take_up.one(V::read(&g[k]), V::load(&v[k]));
                    new.store(&mut v[k]);
                    keep(u);
                    sums[k] = sums[k].plus_product(u, u);
                }
            }
            sum = sum.add(tree(sums));
        }
        for (g, v) in g_few.iter().zip(v_few) {
            let (new, u) = take_up.one(V::read(g), V::load(v));
            new.store(v);
            keep(u);
            sum = sum.plus_product(u, u);
        }
        let mut total = sum.total();
        if !g_tail.is_empty() {
            let mut lanes = [T::Real::ONE; LANES];
            lanes[..v_tail.len()].copy_from_slice(v_tail);
            let (new, u) = take_up.one(V::read_head(g_tail), V::load(&lanes));
            new.store(&mut lanes);
            v_tail.copy_from_slice(&lanes[..v_tail.len()]);
            keep(u);
            let squared = u.mul(u).to_array();
            total = squared[..v_tail.len()].iter().fold(total, |total, x| total + x.to_f64());
        }
        total
    }
}

/// How a second moment takes up a gradient.
struct TakeUp<R, C> {
    clip: C,
    moment: Moment<R>,
    underflow: SecondMomentUnderflow,
}

impl<R: Real, C: Clip<R>> TakeUp<R, C> {
    /// The new second moments and the update.
    #[inline(always)]
    fn one<V: Lanes<Real = R>>(&self, gradient: V, old: V) -> (V, V) {
        let new = self.moment.blend(old, self.clip.square(gradient));
        let u = update_or_none(gradient, self.clip, new, self.underflow);
        (new, u)
    }
}

/// Updates a run of elements, one row of a tile, and returns the sum of its new squares.
pub(crate) struct FullUpdate<'a, T: CpuElement, C, D> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) clip: C,
    pub(crate) decay: D,
    /// `v`, or `u` if the statistics have kept it.
    pub(crate) source: &'a [T::Real],
    pub(crate) is_kept: bool,
    pub(crate) underflow: SecondMomentUnderflow,
    /// `max(1, rms(u) / d)`.
    pub(crate) divisor: T::Real,
    /// α.
    pub(crate) step_size: T::Real,
}

impl<T: CpuElement, C: Clip<T::Real>, D: Decay<T::Real>> Kernel for FullUpdate<'_, T, C, D> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let Self { mut parameter, gradient, clip, decay, source, is_kept, underflow, .. } = self;
        let (vectors, tail) = source.as_chunks::<LANES>();
        let mut last = [T::Real::ONE; LANES];
        last[..tail.len()].copy_from_slice(tail);
        let divisor = (self.divisor != T::Real::ONE).then_some(self.divisor);
        let step_size = self.step_size;
        let rule = Full { clip, decay, vectors, last, is_kept, underflow, divisor, step_size };
        each_vector::<T, V>(&mut parameter, gradient, &rule)
    }
}

struct Full<'a, R, C, D> {
    clip: C,
    decay: D,
    /// Second moments, or updates.
    vectors: &'a [[R; LANES]],
    /// Those after the last whole vector.
    last: [R; LANES],
    /// Whether they are updates.
    is_kept: bool,
    underflow: SecondMomentUnderflow,
    /// Nothing for 1.
    divisor: Option<R>,
    step_size: R,
}

impl<R: Real, C: Clip<R>, D: Decay<R>> Rule<R> for Full<'_, R, C, D> {
    type Column = [R; LANES];

    #[inline(always)]
    fn row<V: Lanes<Real = R>>(&self, _: usize) -> V {
        V::zero()
    }

    #[inline(always)]
    fn columns(&self) -> &[[R; LANES]] {
        self.vectors
    }

    #[inline(always)]
    fn column(&self, j: usize) -> &[R; LANES] {
        self.vectors.get(j).unwrap_or(&self.last)
    }

    #[inline(always)]
    fn new_value<V>(&self, old: V, gradient: V, _: V, column: &[R; LANES]) -> V
    where
        V: Lanes<Real = R>,
    {
        let mut u = V::load(column);
        if !self.is_kept {
            u = update_or_none(gradient, self.clip, u, self.underflow);
        }
        if let Some(divisor) = self.divisor {
            u = u.div(V::splat(divisor));
        }
        self.decay.apply(old).sub(u.mul(V::splat(self.step_size)))
    }
}
