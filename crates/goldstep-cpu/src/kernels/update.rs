//! The second pass over a matrix: `p −= g·s_i·t_j`, and `Σp²` of what was written.
//!
//! `s_i = α / max(1, rms(u) / d) / √(r_i / mean(r))` and `t_j = 1 / √c_j`: the literal update with
//! its factors taken together, for matrices of which [`crate::matrix`] has proved that no factor
//! and no product leaves the normal range.

use super::{Clip, Decay, Line, lane, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};
use crate::tile::{Tile, TileMut};

/// Independent sums of squares. They are part of the bits: [`SquareSum`] uses the same.
const SUMS: usize = 4;

/// Updates a tile and returns the sum of its new squares.
pub(crate) struct Update<'a, T: CpuElement, C, D> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) clip: C,
    pub(crate) decay: D,
    /// `s_i`, from the row at `first_row` on.
    pub(crate) row_scale: &'a [Line<T::Real>],
    /// Where the tile's first row stands in `row_scale`.
    pub(crate) first_row: usize,
    /// `t_j`, padded to whole lines.
    pub(crate) column_scale: &'a [Line<T::Real>],
}

impl<T: CpuElement, C: Clip<T::Real>, D: Decay<T::Real>> Kernel for Update<'_, T, C, D> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let Self { mut parameter, gradient, clip, decay, row_scale, first_row, column_scale } =
            self;
        let rule = Shares { clip, decay, row_scale, first_row, column_scale };
        each_vector::<T, V>(&mut parameter, gradient, &rule)
    }
}

/// The new value of sixteen elements.
///
/// A trait and not a closure: only a method can be made to lie inside the function that carries
/// the instruction set.
pub(super) trait Rule<R: Real> {
    /// From the old value and the gradient in row `i` and vector `j` of columns.
    fn new_value<V: Lanes<Real = R>>(&self, old: V, gradient: V, i: usize, j: usize) -> V;
}

/// `p −= g·s_i·t_j`.
struct Shares<'a, R, C, D> {
    clip: C,
    decay: D,
    row_scale: &'a [Line<R>],
    first_row: usize,
    column_scale: &'a [Line<R>],
}

impl<R: Real, C: Clip<R>, D: Decay<R>> Rule<R> for Shares<'_, R, C, D> {
    #[inline(always)]
    fn new_value<V: Lanes<Real = R>>(&self, old: V, gradient: V, i: usize, j: usize) -> V {
        let row = V::splat(lane(self.row_scale, self.first_row + i));
        let scale = row.mul(V::load(&self.column_scale[j].0));
        self.decay.apply(old).sub(self.clip.apply(gradient).mul(scale))
    }
}

/// Replaces every vector of a tile by its new value and returns the sum of the new squares, as they
/// were rounded to memory.
#[inline(always)]
pub(super) fn each_vector<T: CpuElement, V: Lanes<Real = T::Real> + Memory<T>>(
    parameter: &mut TileMut<'_, T>,
    gradient: Tile<'_, T>,
    rule: &impl Rule<T::Real>,
) -> f64 {
    let mut sums = [V::zero(); SUMS];
    let mut tails = V::zero();
    for i in 0..gradient.rows() {
        let (p, p_tail) = parameter.row(i).as_chunks_mut::<LANES>();
        let (g, g_tail) = gradient.row(i).as_chunks::<LANES>();
        let (p_groups, p_few) = p.as_chunks_mut::<SUMS>();
        let (g_groups, g_few) = g.as_chunks::<SUMS>();
        let many = p_groups.len() * SUMS;
        for (group, (p, g)) in p_groups.iter_mut().zip(g_groups).enumerate() {
            for k in 0..SUMS {
                let (old, g) = (V::read(&p[k]), V::read(&g[k]));
                let new = rule.new_value(old, g, i, group * SUMS + k).write(&mut p[k]);
                sums[k] = sums[k].add(squared(new));
            }
        }
        for (k, (p, g)) in p_few.iter_mut().zip(g_few).enumerate() {
            let new = rule.new_value(V::read(p), V::read(g), i, many + k).write(p);
            tails = tails.add(squared(new));
        }
        if !p_tail.is_empty() {
            let (old, g) = (V::read_head(p_tail), V::read_head(g_tail));
            let value = rule.new_value(old, g, i, many + p_few.len());
            value.write_head(p_tail);
            tails = tails.add(squared(V::read_head(p_tail)));
        }
    }
    tree(sums).total() + tails.total()
}

#[inline(always)]
fn squared<V: Lanes>(x: V) -> V {
    x.mul(x)
}

/// `Σp²` of a tile, to the bit what an update of this tile would have returned.
pub(crate) struct SquareSum<'a, T: CpuElement> {
    pub(crate) parameter: Tile<'a, T>,
}

impl<T: CpuElement> Kernel for SquareSum<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let mut sums = [V::zero(); SUMS];
        let mut tails = V::zero();
        for i in 0..self.parameter.rows() {
            let (p, p_tail) = self.parameter.row(i).as_chunks::<LANES>();
            let (groups, few) = p.as_chunks::<SUMS>();
            for p in groups {
                for k in 0..SUMS {
                    sums[k] = sums[k].add(squared(V::read(&p[k])));
                }
            }
            for p in few {
                tails = tails.add(squared(V::read(p)));
            }
            if !p_tail.is_empty() {
                tails = tails.add(squared(V::read_head(p_tail)));
            }
        }
        tree(sums).total() + tails.total()
    }
}
