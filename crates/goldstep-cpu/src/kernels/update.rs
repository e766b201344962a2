//! The second pass over a matrix: `p −= g·s_i·t_j`, and `Σp²` of what was written.
//!
//! `s_i = α / max(1, rms(u) / d) / √(r_i / mean(r))` and `t_j = √(1 / c_j)`: the literal update with
//! its factors taken together, for matrices of which [`crate::matrix`] has proved that no factor
//! and no product leaves the normal range.

use std::ops::Range;

use super::narrow_update::{Factors, narrow};
use super::squares::{FlatSquares, GROUP, SUMS, Squares, is_narrow, rows_per_run};
use super::{CHAIN, Clip, Decay, Line, read_up_to, write_up_to};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::memory::ALIGNMENT;
use crate::real::{CpuElement, Real};
use crate::tile::{Tile, TileMut};

/// Bytes of the smallest pages, beyond which no processor reads ahead on its own.
const PAGE: usize = 4096;
/// Lines of a page that are asked for.
const LINES: usize = 2;

/// Updates a tile and returns the sum of its new squares.
pub(crate) struct Update<'a, T: CpuElement, C, D> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) gradient: Tile<'a, T>,
    /// Whether they come from beyond the caches.
    pub(crate) far: bool,
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
        let Self { mut parameter, gradient, far, clip, decay, row_scale, first_row, column_scale } =
            self;
        if is_narrow(gradient) {
            let factors = Factors { row_scale, first_row, column_scale };
            return narrow::<T, V, C, D>(parameter.elements(), gradient, clip, decay, factors);
        }
        let row_scale = &Line::flatten(row_scale)[first_row..];
        let rule = Shares { far, clip, decay, row_scale, column_scale };
        each_vector::<T, V>(&mut parameter, gradient, &rule)
    }
}

/// The new value of sixteen elements.
///
/// A trait and not a closure: only a method can be made to lie inside the function that carries
/// the instruction set.
pub(super) trait Rule<R: Real> {
    /// Sixteen values along a row.
    type Column;
    /// Whether what is updated comes from beyond the caches.
    #[inline(always)]
    fn is_far(&self) -> bool {
        false
    }
    /// What is the same for all of row `i`: loaded once, since stores hide that it does not change.
    fn row<V: Lanes<Real = R>>(&self, i: usize) -> V;
    /// What is the same for all of a column, for each vector of columns.
    fn columns(&self) -> &[Self::Column];
    /// Vector `j` of them, of which the last may be filled up.
    #[inline(always)]
    fn column(&self, j: usize) -> &Self::Column {
        &self.columns()[j]
    }
    /// From the old value and the gradient at that row and those columns.
    fn new_value<V>(&self, old: V, gradient: V, row: V, column: &Self::Column) -> V
    where
        V: Lanes<Real = R>;
}

/// `p −= g·s_i·t_j`.
struct Shares<'a, R, C, D> {
    far: bool,
    clip: C,
    decay: D,
    row_scale: &'a [R],
    column_scale: &'a [Line<R>],
}

impl<R: Real, C: Clip<R>, D: Decay<R>> Rule<R> for Shares<'_, R, C, D> {
    type Column = Line<R>;

    #[inline(always)]
    fn is_far(&self) -> bool {
        self.far
    }

    #[inline(always)]
    fn row<V: Lanes<Real = R>>(&self, i: usize) -> V {
        V::splat(self.row_scale[i])
    }

    #[inline(always)]
    fn columns(&self) -> &[Line<R>] {
        self.column_scale
    }

    #[inline(always)]
    fn new_value<V>(&self, old: V, gradient: V, row: V, column: &Line<R>) -> V
    where
        V: Lanes<Real = R>,
    {
        let scale = row.mul(V::load(&column.0));
        self.decay.apply(old).minus_product(self.clip.apply(gradient), scale)
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
    let mut squares = Squares::<V>::new();
    let (rows, groups) = (gradient.rows(), gradient.columns() / GROUP);
    // Said once, so that neither a row nor a vector is looked for again in the loops: of 256
    // elements a row takes some fifty cycles.
    assert!(parameter.rows() == rows, "tiles of different shapes");
    let columns = &rule.columns().as_chunks::<SUMS>().0[..groups];
    let rows_per_run = rows_per_run(gradient.columns());
    let mut rows_of_run = 0;
    for i in 0..rows {
        let (p, p_rest) = parameter.row(i).split_at_mut(groups * GROUP);
        let (g, g_rest) = gradient.row(i).split_at(groups * GROUP);
        let p = &mut p.as_chunks_mut::<LANES>().0.as_chunks_mut::<SUMS>().0[..groups];
        let g = &g.as_chunks::<LANES>().0.as_chunks::<SUMS>().0[..groups];
        let row = rule.row::<V>(i);
        let mut start = 0;
        while start < groups {
            let end = groups.min(start + CHAIN);
            if rule.is_far() {
                ask_for_next_pages::<T, V>(p[start..end].as_ptr_range());
                ask_for_next_pages::<T, V>(g[start..end].as_ptr_range());
            }
            for j in start..end {
                for k in 0..SUMS {
                    let (old, gradient) = (V::read(&p[j][k]), V::read(&g[j][k]));
                    let new = rule.new_value(old, gradient, row, &columns[j][k]);
                    squares.add(k, new.write(&mut p[j][k]));
                }
            }
            squares.pass(end - start);
            start = end;
        }
        let rest = p_rest.chunks_mut(LANES).zip(g_rest.chunks(LANES));
        for (j, (p, g)) in (groups * SUMS..).zip(rest) {
            let (old, g) = (read_up_to::<T, V>(p), read_up_to::<T, V>(g));
            squares.add_tail(write_up_to(rule.new_value(old, g, row, rule.column(j)), p));
        }
        rows_of_run += 1;
        if rows_of_run == rows_per_run {
            squares.end_run();
            rows_of_run = 0;
        }
    }
    if is_narrow(gradient) {
        let columns = gradient.columns();
        return V::call(FlatSquares { elements: &*parameter.elements(), columns });
    }
    squares.total()
}

/// Asks for the first lines of the pages that begin in these groups or less than a page behind them:
/// a processor reads ahead within a page and begins anew in the next. 2048² took 1.46 of its bound
/// in place of 1.24 without, 4096² 1.24 in place of 1.13.
#[inline(never)]
fn ask_for_next_pages<T, V: Lanes>(groups: Range<*const [[T; LANES]; SUMS]>) {
    let (start, end) = (groups.start.cast::<u8>(), groups.end.addr());
    let mut page = start.wrapping_add(PAGE - start.addr() % PAGE);
    while page.addr() < end + PAGE {
        for line in 0..LINES {
            V::fetch(page.wrapping_add(line * ALIGNMENT));
        }
        page = page.wrapping_add(PAGE);
    }
}
