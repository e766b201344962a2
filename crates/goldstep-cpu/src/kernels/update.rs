//! The second pass over a matrix: `p −= g·s_i·t_j`, and `Σp²` of what was written.
//!
//! `s_i = α / max(1, rms(u) / d) / √(r_i / mean(r))` and `t_j = √(1 / c_j)`: the literal update with
//! its factors taken together, for matrices of which [`crate::matrix`] has proved that no factor
//! and no product leaves the normal range.

use std::ops::Range;

use super::narrow::NARROW;
use super::narrow_update::{Factors, ROWS, narrow};
use super::{CHAIN, Clip, Decay, Line, read_up_to, tree, write_up_to};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory, Routine};
use crate::memory::ALIGNMENT;
use crate::real::{CpuElement, Real};
use crate::tile::{Tile, TileMut};

/// Independent sums of squares. They are part of the bits: [`SquareSum`] uses the same.
pub(super) const SUMS: usize = 4;
/// Elements that go into them at a time.
pub(super) const GROUP: usize = SUMS * LANES;
/// Bytes of the smallest pages, beyond which no processor reads ahead on its own.
const PAGE: usize = 4096;
/// Lines of a page that are asked for.
const LINES: usize = 2;

/// A sum of squares in three levels: chains, runs of rows, all. It is part of the bits: an update and
/// [`SquareSum`] go through a tile in the same steps.
pub(super) struct Squares<V> {
    sums: [V; SUMS],
    groups: usize,
    tails: V,
    run: V,
    total: V,
}

/// Rows whose squares are summed from nothing: a chain of groups, or one row of more.
pub(crate) const fn rows_per_run(columns: usize) -> usize {
    match (columns / GROUP, CHAIN) {
        (0, chain) => chain,
        (groups, chain) if groups < chain => chain / groups,
        _ => 1,
    }
}

impl<V: Lanes> Squares<V> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let zero = V::zero();
        Self { sums: [zero; SUMS], groups: 0, tails: zero, run: zero, total: zero }
    }

    /// Adds vector `k` of a group.
    #[inline(always)]
    pub(super) fn add(&mut self, k: usize, x: V) {
        self.sums[k] = self.sums[k].plus_product(x, x);
    }

    /// Adds a vector that belongs to no group.
    #[inline(always)]
    pub(super) fn add_tail(&mut self, x: V) {
        self.tails = self.tails.plus_product(x, x);
    }

    /// Ends a number of groups.
    #[inline(always)]
    pub(super) fn pass(&mut self, groups: usize) {
        self.groups += groups;
        if self.groups >= CHAIN {
            self.run = self.run.add(tree(self.sums));
            self.sums = [V::zero(); SUMS];
            self.groups = 0;
        }
    }

    /// Ends a run of rows.
    #[inline(always)]
    fn end_run(&mut self) {
        let total = self.total.add(self.of_run());
        *self = Self { total, ..Self::new() };
    }

    /// The sum of the rows since the last run has ended.
    #[inline(always)]
    fn of_run(&self) -> V {
        self.run.add(tree(self.sums)).add(self.tails)
    }

    #[inline(always)]
    pub(super) fn total(self) -> f64 {
        self.total.add(self.of_run()).total()
    }
}

/// Whether a tile is updated without regard to its rows: one vector of a row would be mostly empty,
/// and a row of 8 took 10 ns. A function of the shape, since only parts of rows are not contiguous.
#[inline(always)]
fn is_narrow<T>(tile: Tile<'_, T>) -> bool {
    tile.columns() <= NARROW && tile.is_contiguous()
}

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

/// `Σp²` of a tile, to the bit what an update of this tile would have returned.
pub(crate) struct SquareSum<'a, T: CpuElement> {
    pub(crate) parameter: Tile<'a, T>,
}

impl<T: CpuElement> Kernel for SquareSum<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        if is_narrow(self.parameter) {
            let columns = self.parameter.columns();
            return V::call(FlatSquares { elements: self.parameter.elements(), columns });
        }
        let (mut total, mut rest) = (V::zero(), self.parameter);
        while rest.rows() > 0 {
            let (rows, after) = rest.split_rows(rows_per_run(rest.columns()));
            total = total.add(of_run::<T, V>(rows));
            rest = after;
        }
        total.total()
    }
}

/// [`SquareSum`] of a tile of which the sums of some runs are known; the others become so.
pub(crate) struct SquareRuns<'a, T: CpuElement> {
    pub(crate) parameter: Tile<'a, T>,
    /// A bit for each run.
    pub(crate) known: &'a mut u32,
    /// One for each run, none for a narrow matrix.
    pub(crate) sums: &'a mut [Line<T::Real>],
}

impl<T: CpuElement> Kernel for SquareRuns<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let Self { parameter, known, sums } = self;
        if is_narrow(parameter) {
            let columns = parameter.columns();
            return V::call(FlatSquares { elements: parameter.elements(), columns });
        }
        let (mut total, mut rest) = (V::zero(), parameter);
        for (k, sum) in sums.iter_mut().enumerate() {
            let (rows, after) = rest.split_rows(rows_per_run(rest.columns()));
            if *known >> k & 1 == 0 {
                of_run::<T, V>(rows).store(&mut sum.0);
            }
            total = total.add(V::load(&sum.0));
            rest = after;
        }
        *known = u32::MAX;
        total.total()
    }
}

/// The squares of a run of rows, summed into sixteen lanes.
#[inline(always)]
fn of_run<T: CpuElement, V: Lanes<Real = T::Real> + Memory<T>>(rows: Tile<'_, T>) -> V {
    let mut squares = Squares::<V>::new();
    for i in 0..rows.rows() {
        let (p, p_tail) = rows.row(i).as_chunks::<LANES>();
        let (groups, few) = p.as_chunks::<SUMS>();
        for chain in groups.chunks(CHAIN) {
            for p in chain {
                for (k, p) in p.iter().enumerate() {
                    squares.add(k, V::read(p));
                }
            }
            squares.pass(chain.len());
        }
        for p in few {
            squares.add_tail(V::read(p));
        }
        if !p_tail.is_empty() {
            squares.add_tail(V::read_head(p_tail));
        }
    }
    squares.of_run()
}

/// The squares of a narrow tile of `columns`, in the steps of [`narrow`].
struct FlatSquares<'a, T> {
    elements: &'a [T],
    columns: usize,
}

impl<T, V: Lanes + Memory<T>> Routine<V> for FlatSquares<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut squares = Squares::<V>::new();
        for part in self.elements.chunks(ROWS * self.columns) {
            let (vectors, tail) = part.as_chunks::<LANES>();
            let (groups, few) = vectors.as_chunks::<SUMS>();
            for group in groups {
                for (k, vector) in group.iter().enumerate() {
                    squares.add(k, V::read(vector));
                }
            }
            squares.pass(groups.len());
            for vector in few {
                squares.add_tail(V::read(vector));
            }
            if !tail.is_empty() {
                squares.add_tail(V::read_head(tail));
            }
        }
        squares.total()
    }
}
