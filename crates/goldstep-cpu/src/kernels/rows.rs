//! Statistics of a matrix that is read row by row.
//!
//! For each block of a few rows:
//!
//! ```text
//! S_i  = Σ_j g_ij²                              first sub-pass, from memory
//! r_i  = β₂ r_i + (1 − β₂)(S_i / n + ε₁)
//! C_j += Σ_i g_ij²,  W_j += Σ_i g_ij² / r_i     second sub-pass, from the cache
//! ```
//!
//! The first sub-pass waits for memory, the second for arithmetic, and between them stands a chain
//! of two divisions, as long as a third of the work on four rows of 256 elements. What lies between
//! depends on the length of the rows:
//!
//! - Of short rows three blocks fit into a first-level cache beside the column sums. The first
//!   sub-pass of the next block comes between, and the second asks for the block after that, wherever
//!   it lies: 32,768 × 512 took 0.88 of the time of asking a second-level cache for two rows.
//! - Of longer ones the second sub-pass of a block and the first of the next are one loop: a vector of
//!   columns of this one, a vector of each row of that one. 1024² took 0.98 of the time of two loops,
//!   4096² 0.94; 300 columns took 1.04, in which the chain is not hidden.

use super::narrow::{NARROW, narrow};
use super::{CHAIN, Clip, Extent, ForClip, Line, Moment, Range, add_to, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory, Routine, sums_of_rows};
use crate::real::{CpuElement, Real};
use crate::tile::{Band, Tile};
use goldstep_core::Element;

/// Independent sums of a row. Eight were no faster with AVX-512, and spill with AVX2.
const SUMS: usize = 4;
/// Rows of a block. Eight spill with AVX2.
const ROWS: usize = 4;
/// Columns up to which rows are short.
const SHORT: usize = 512;
/// Columns up to which two blocks stay in a second-level cache.
const LONG: usize = 16 * 1024;

/// Updates the row factor of a tile of whole rows and adds to the column sums `C` and `W`.
pub(crate) struct RowStatistics<'a, T: CpuElement, C> {
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) clip: C,
    pub(crate) moment: Moment<T::Real>,
    pub(crate) row_factor: &'a mut [T::Real],
    /// `C_j`, padded to whole lines; added to.
    pub(crate) column_sums: &'a mut [Line<T::Real>],
    /// `W_j`, padded to whole lines; added to.
    pub(crate) weighted_sums: &'a mut [Line<T::Real>],
}

impl<T: CpuElement, C: Clip<T::Real>> Kernel for RowStatistics<'_, T, C> {
    type Element = T;
    type Output = Extent;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> Extent {
        let Self { gradient, clip, moment, row_factor, column_sums, weighted_sums } = self;
        #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
        let count = T::Real::round_from(gradient.columns() as f64);
        let factors = Factors { moment, count };
        let sums = (&mut *column_sums, &mut *weighted_sums);
        // Rows of a block: a function of the shape alone.
        match gradient.columns() {
            n if n <= NARROW => narrow::<T, V, C>(gradient, clip, row_factor, factors, sums),
            n if n <= SHORT => short_rows::<T, V, C>(gradient, clip, row_factor, factors, sums),
            n if n <= LONG => {
                clip.by_kind::<V>(LongRows {
                    gradient,
                    row_factor: &mut *row_factor,
                    factors,
                    sums,
                });
            }
            _ => single_rows::<T, V, C>(gradient, clip, row_factor, factors, sums),
        }
        Range::<V>::of(row_factor)
    }
}

/// How row factors are updated.
#[derive(Clone, Copy)]
pub(super) struct Factors<R> {
    moment: Moment<R>,
    /// `n`.
    count: R,
}

impl<R: Real> Factors<R> {
    /// Updates at most sixteen row factors from the row sums `S` and returns `1 / r`.
    #[inline(always)]
    pub(super) fn update<V: Lanes<Real = R>>(&self, r: &mut [R], sums: V) -> V {
        let means = sums.div(V::splat(self.count));
        if let Some(r) = r.first_chunk_mut::<LANES>() {
            return self.update_sixteen(r, means);
        }
        let mut lanes = [R::ONE; LANES];
        lanes[..r.len()].copy_from_slice(r);
        let inverse = self.update_sixteen(&mut lanes, means);
        r.copy_from_slice(&lanes[..r.len()]);
        inverse
    }

    /// `1 / n`.
    pub(super) fn share(&self) -> R {
        R::ONE / self.count
    }

    /// The same for sixteen, from the means `S / n`.
    #[inline(always)]
    pub(super) fn update_sixteen<V>(&self, r: &mut [R; LANES], means: V) -> V
    where
        V: Lanes<Real = R>,
    {
        let new = self.moment.blend(V::load(r), means);
        new.store(r);
        V::splat(R::ONE).div(new)
    }
}

/// Column sums and weighted column sums.
pub(super) type Sums<'a, R> = (&'a mut [Line<R>], &'a mut [Line<R>]);

/// [`Factors::update`] for the squares of at most sixteen rows.
pub(super) struct InverseFactors<'a, V: Lanes> {
    pub(super) factors: Factors<V::Real>,
    pub(super) row_factor: &'a mut [V::Real],
    /// The squares of each row, summed into sixteen lanes.
    pub(super) squares: &'a [V; LANES],
}

impl<V: Lanes> Routine<V> for InverseFactors<'_, V> {
    type Output = [V::Real; LANES];

    #[inline(always)]
    fn run(self) -> [V::Real; LANES] {
        self.factors.update(self.row_factor, sums_of_rows(self.squares)).to_array()
    }
}

/// Blocks of short rows.
#[inline(always)]
fn short_rows<T, V, C>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V::Real>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) where
    V: Lanes + Memory<T>,
    C: Clip<V::Real>,
{
    let (blocks, few) = row_factor.as_chunks_mut::<ROWS>();
    let mut before: Option<Block<'_, T, V, ROWS>> = None;
    let mut rest = gradient;
    for row_factor in blocks {
        let (rows, after) = rest.split_rows(ROWS);
        rest = after;
        let mut squares = [V::zero(); ROWS];
        for (i, squares) in squares.iter_mut().enumerate() {
            *squares = squares_of_row(rows.row(i), clip);
        }
        if let Some(before) = before.take() {
            let mut ask = Ask::<_, ROWS>(before.rows.band());
            before.add_columns(clip, (&mut *column_sums, &mut *weighted_sums), &mut ask);
        }
        before = Some(Block::new(rows, &squares, row_factor, factors));
    }
    if let Some(block) = before {
        let (column_sums, weighted_sums) = (&mut *column_sums, &mut *weighted_sums);
        V::call(AddColumns { block, clip, column_sums, weighted_sums });
    }
    single_rows::<T, V, C>(rest, clip, few, factors, (column_sums, weighted_sums));
}

/// Blocks of longer rows. A branch for each vector of the one loop would cost more than the loop saves:
/// 1024² took 1.2 of the time with `clipvalue`.
struct LongRows<'a, T, R> {
    gradient: Tile<'a, T>,
    row_factor: &'a mut [R],
    factors: Factors<R>,
    sums: Sums<'a, R>,
}

impl<T, V: Lanes + Memory<T>> ForClip<V> for LongRows<'_, T, V::Real> {
    #[inline(always)]
    fn run<C: Clip<V::Real>>(self, clip: C) {
        let Self { gradient, row_factor, factors, sums: (column_sums, weighted_sums) } = self;
        let (blocks, few) = row_factor.as_chunks_mut::<ROWS>();
        let mut rest = gradient;
        if let Some((first, others)) = blocks.split_first_mut() {
            let (mut rows, after) = rest.split_rows(ROWS);
            rest = after;
            let squares = RowSquares::<T, V, C, ROWS>::new(rows, clip).of_all();
            let mut block = Block::new(rows, &squares, first, factors);
            for row_factor in others {
                (rows, rest) = rest.split_rows(ROWS);
                let mut squares = RowSquares::new(rows, clip);
                block.add_columns(clip, (&mut *column_sums, &mut *weighted_sums), &mut squares);
                block = Block::new(rows, &squares.totals, row_factor, factors);
            }
            let (column_sums, weighted_sums) = (&mut *column_sums, &mut *weighted_sums);
            V::call(AddColumns { block, clip, column_sums, weighted_sums });
        }
        single_rows::<T, V, C>(rest, clip, few, factors, (column_sums, weighted_sums));
    }
}

/// Rows one by one.
#[inline(always)]
fn single_rows<T, V, C>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V::Real>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) where
    V: Lanes + Memory<T>,
    C: Clip<V::Real>,
{
    let mut rest = gradient;
    for row_factor in row_factor.as_chunks_mut::<1>().0 {
        let (row, after) = rest.split_rows(1);
        rest = after;
        let squares = [squares_of_row::<T, V, C>(row.row(0), clip)];
        let block = Block::new(row, &squares, row_factor, factors);
        let (column_sums, weighted_sums) = (&mut *column_sums, &mut *weighted_sums);
        V::call(AddColumns { block, clip, column_sums, weighted_sums });
    }
}

/// A block of rows whose factors are known.
struct Block<'a, T, V, const R: usize> {
    rows: Tile<'a, T>,
    /// `1 / r`.
    inverse: [V; R],
}

impl<'a, T, V: Lanes + Memory<T>, const R: usize> Block<'a, T, V, R> {
    /// Updates the factors.
    #[inline(always)]
    fn new(
        rows: Tile<'a, T>,
        squares: &[V; R],
        row_factor: &mut [V::Real; R],
        factors: Factors<V::Real>,
    ) -> Self {
        let lanes = factors.update::<V>(row_factor, sums_of_rows(squares)).to_array();
        let mut inverse = [V::zero(); R];
        for i in 0..R {
            inverse[i] = V::splat(lanes[i]);
        }
        Self { rows, inverse }
    }

    /// Adds all columns to their sums, and does something else in the same loop.
    #[inline(always)]
    fn add_columns<C: Clip<V::Real>>(
        self,
        clip: C,
        (column_sums, weighted_sums): Sums<'_, V::Real>,
        beside: &mut impl Beside<V>,
    ) {
        let Self { rows, inverse } = self;
        let band = rows.band::<R>();
        let whole = band.vectors().min(beside.vectors());
        let (columns, last_column) = column_sums.split_at_mut(whole);
        let (weighted, last_weighted) = weighted_sums.split_at_mut(whole);
        let mut start = 0;
        while start < whole {
            let end = whole.min(start + CHAIN);
            for q in start..end {
                let (mut c, mut w) = (V::zero(), V::zero());
                for (k, &inverse) in inverse.iter().enumerate() {
                    beside.vector(k, q);
                    let square = clip.square(V::read(band.vector(k, q)));
                    c = c.add(square);
                    w = w.plus_product(square, inverse);
                }
                add_to(c, &mut columns[q]);
                add_to(w, &mut weighted[q]);
            }
            beside.end_chain();
            start = end;
        }
        let ([last_column, ..], [last_weighted, ..]) = (last_column, last_weighted) else { return };
        let (mut c, mut w) = (V::zero(), V::zero());
        for (k, inverse) in inverse.into_iter().enumerate() {
            beside.tail(k, whole);
            let square = clip.square(V::read_head(&rows.row(k)[whole * LANES..]));
            c = c.add(square);
            w = w.plus_product(square, inverse);
        }
        add_to(c, last_column);
        add_to(w, last_weighted);
    }
}

/// What is done beside [`Block::add_columns`].
///
/// A trait and not a closure: only a method can be made to lie inside the function that carries
/// the instruction set.
trait Beside<V> {
    /// Whole vectors of its rows, if it has any: with the same number the compiler checks once.
    #[inline(always)]
    fn vectors(&self) -> usize {
        usize::MAX
    }
    /// With row `k`, at vector `q` of the columns.
    #[inline(always)]
    fn vector(&mut self, _k: usize, _q: usize) {}
    /// After [`CHAIN`] vectors or the last whole one.
    #[inline(always)]
    fn end_chain(&mut self) {}
    /// With row `k`, at the columns from vector `whole` on, which do not fill one.
    #[inline(always)]
    fn tail(&mut self, _k: usize, _whole: usize) {}
}

/// Nothing.
impl<V> Beside<V> for () {}

/// Asks for the rows two blocks behind a block.
struct Ask<'a, T, const R: usize>(Band<'a, T, R>);

impl<T, V: Lanes, const R: usize> Beside<V> for Ask<'_, T, R> {
    #[inline(always)]
    fn vector(&mut self, k: usize, q: usize) {
        V::fetch_near(self.0.ahead(2 * R + k, q));
    }
}

/// The squares of the rows of a block, each summed into sixteen lanes.
struct RowSquares<'a, T, V, C, const R: usize> {
    rows: Tile<'a, T>,
    band: Band<'a, T, R>,
    clip: C,
    sums: [V; R],
    totals: [V; R],
}

impl<'a, T, V: Lanes + Memory<T>, C: Clip<V::Real>, const R: usize> RowSquares<'a, T, V, C, R> {
    #[inline(always)]
    fn new(rows: Tile<'a, T>, clip: C) -> Self {
        Self { rows, band: rows.band(), clip, sums: [V::zero(); R], totals: [V::zero(); R] }
    }

    /// The same where there is nothing to do beside.
    #[inline(always)]
    fn of_all(mut self) -> [V; R] {
        let whole = self.band.vectors();
        let mut start = 0;
        while start < whole {
            let end = whole.min(start + CHAIN);
            for q in start..end {
                for k in 0..R {
                    self.vector(k, q);
                }
            }
            self.end_chain();
            start = end;
        }
        if whole * LANES < self.rows.columns() {
            for k in 0..R {
                self.tail(k, whole);
            }
        }
        self.totals
    }
}

impl<T, V, C, const R: usize> Beside<V> for RowSquares<'_, T, V, C, R>
where
    V: Lanes + Memory<T>,
    C: Clip<V::Real>,
{
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.band.vectors()
    }

    #[inline(always)]
    fn vector(&mut self, k: usize, q: usize) {
        let vector = V::read(self.band.vector(k, q));
        self.sums[k] = self.clip.add_square(self.sums[k], vector);
    }

    #[inline(always)]
    fn end_chain(&mut self) {
        for (total, sum) in self.totals.iter_mut().zip(&mut self.sums) {
            *total = total.add(*sum);
            *sum = V::zero();
        }
    }

    #[inline(always)]
    fn tail(&mut self, k: usize, whole: usize) {
        let tail = V::read_head(&self.rows.row(k)[whole * LANES..]);
        self.totals[k] = self.clip.add_square(self.totals[k], tail);
    }
}

/// [`Block::add_columns`], where there is nothing to do beside.
struct AddColumns<'a, T, V: Lanes, C, const R: usize> {
    block: Block<'a, T, V, R>,
    clip: C,
    column_sums: &'a mut [Line<V::Real>],
    weighted_sums: &'a mut [Line<V::Real>],
}

impl<T, V, C, const R: usize> Routine<V> for AddColumns<'_, T, V, C, R>
where
    V: Lanes + Memory<T>,
    C: Clip<V::Real>,
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { block, clip, column_sums, weighted_sums } = self;
        block.add_columns(clip, (column_sums, weighted_sums), &mut ());
    }
}

/// The squares of a row, summed into sixteen lanes.
#[inline(always)]
fn squares_of_row<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(row: &[T], clip: C) -> V {
    let (vectors, tail) = row.as_chunks::<LANES>();
    let (mut groups, few) = vectors.as_chunks::<SUMS>();
    let mut sum = V::zero();
    while groups.len() > CHAIN {
        let (run, more) = groups.split_at(CHAIN);
        sum = sum.add(tree(squares_of_groups::<T, V, C>(run, clip)));
        groups = more;
    }
    sum = sum.add(tree(squares_of_groups::<T, V, C>(groups, clip)));
    for vector in few {
        sum = clip.add_square(sum, V::read(vector));
    }
    if tail.is_empty() { sum } else { clip.add_square(sum, V::read_head(tail)) }
}

/// The squares of a run of groups, summed in four sums.
#[inline(always)]
fn squares_of_groups<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(
    groups: &[[[T; LANES]; SUMS]],
    clip: C,
) -> [V; SUMS] {
    let mut sums = [V::zero(); SUMS];
    for group in groups {
        for k in 0..SUMS {
            sums[k] = clip.add_square(sums[k], V::read(&group[k]));
        }
    }
    sums
}
