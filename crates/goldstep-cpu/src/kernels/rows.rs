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
//! The first sub-pass waits for memory, the second for arithmetic: the second of a block and the first
//! of the next are one loop. Between them stands a chain: sums of lanes, new factors, a division. Beside
//! each vector of columns the loop goes through
//!
//! - two vectors of each row of the next block where rows are short, so that the chain lies beneath
//!   the second half of the columns: 256² took 0.95 of the time of two loops, 128² 0.92. Three such
//!   blocks fit into a first-level cache beside the column sums, and the loop asks as far ahead;
//! - one vector where they are longer: of two, 1024² took 1.05 of the time.

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
            n if n <= SHORT => {
                let row_factor = &mut *row_factor;
                clip.by_kind::<V>(Blocks::<_, _, 2> { gradient, row_factor, factors, sums });
            }
            n if n <= LONG => {
                let row_factor = &mut *row_factor;
                clip.by_kind::<V>(Blocks::<_, _, 1> { gradient, row_factor, factors, sums });
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

/// Blocks of rows, `PER` vectors of each row of one beside a vector of the columns of the one before:
/// two of short rows, for which what follows is asked for as well, one of longer ones.
///
/// A branch for each vector would cost more than the one loop saves: 1024² took 1.2 of the time with
/// `clipvalue`.
struct Blocks<'a, T, R, const PER: usize> {
    gradient: Tile<'a, T>,
    row_factor: &'a mut [R],
    factors: Factors<R>,
    sums: Sums<'a, R>,
}

impl<T, V: Lanes + Memory<T>, const PER: usize> ForClip<V> for Blocks<'_, T, V::Real, PER> {
    #[inline(always)]
    fn run<C: Clip<V::Real>>(self, clip: C) {
        let Self { gradient, row_factor, factors, sums: (column_sums, weighted_sums) } = self;
        let (blocks, few) = row_factor.as_chunks_mut::<ROWS>();
        let mut rest = gradient;
        if let Some((first, others)) = blocks.split_first_mut() {
            let (rows, after) = rest.split_rows(ROWS);
            rest = after;
            let squares = RowSquares::<T, V, C, ROWS>::new(rows, clip).of_all();
            let mut block = Block::new(rows, &squares, first, factors);
            for row_factor in others {
                let (rows, after) = rest.split_rows(ROWS);
                rest = after;
                let sums = (&mut *column_sums, &mut *weighted_sums);
                block = block.then::<C, PER>(clip, sums, rows, row_factor, factors);
            }
            let (column_sums, weighted_sums) = (&mut *column_sums, &mut *weighted_sums);
            V::call(AddColumns { block, clip, column_sums, weighted_sums });
        }
        single_rows::<T, V, C>(rest, clip, few, factors, (column_sums, weighted_sums));
    }
}

/// Asks for as many vectors as a block has rows, two blocks of the longest short rows further on.
#[inline(always)]
fn ask<T, V: Lanes, const R: usize>(band: &Band<'_, T, R>, q: usize) {
    for k in 0..R {
        V::fetch_near(band.ahead(2 * R * SHORT + (q * R + k) * LANES));
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
        let (sums, share) = (sums_of_rows(squares).to_array(), factors.share());
        let mut inverse = [V::zero(); R];
        for i in 0..R {
            let new = factors.moment.blend_one(row_factor[i], sums[i] * share);
            row_factor[i] = new;
            inverse[i] = V::splat(V::Real::ONE / new);
        }
        Self { rows, inverse }
    }

    /// Adds all columns to their sums.
    #[inline(always)]
    fn add_columns<C: Clip<V::Real>>(
        self,
        clip: C,
        (column_sums, weighted_sums): Sums<'_, V::Real>,
    ) {
        let band = self.rows.band::<R>();
        let whole = band.vectors();
        let (columns, last_column) = column_sums.split_at_mut(whole);
        let (weighted, last_weighted) = weighted_sums.split_at_mut(whole);
        for q in 0..whole {
            self.add_vector(clip, &band, q, &mut columns[q], &mut weighted[q]);
        }
        self.add_tail(clip, whole, last_column, last_weighted);
    }

    /// The same, and beside it makes the block of the rows that follow.
    #[inline(always)]
    fn then<C: Clip<V::Real>, const PER: usize>(
        self,
        clip: C,
        (column_sums, weighted_sums): Sums<'_, V::Real>,
        rows: Tile<'a, T>,
        row_factor: &mut [V::Real; R],
        factors: Factors<V::Real>,
    ) -> Self {
        let mut squares = RowSquares::<T, V, C, R>::new(rows, clip);
        let band = self.rows.band::<R>();
        let whole = band.vectors();
        let (columns, last_column) = column_sums.split_at_mut(whole);
        let (weighted, last_weighted) = weighted_sums.split_at_mut(whole);
        // Of both, so that the compiler checks once.
        let groups = (whole / PER).min(squares.groups(PER));
        let mut start = 0;
        while start < groups {
            let end = groups.min(start + CHAIN / PER);
            for q in start..end {
                if PER > 1 {
                    ask::<T, V, R>(&band, q);
                }
                squares.add_group::<PER>(q);
                self.add_vector(clip, &band, q, &mut columns[q], &mut weighted[q]);
            }
            squares.end_chain();
            start = end;
        }
        let next = Self::new(rows, &squares.rest(PER * groups), row_factor, factors);
        for q in groups..whole {
            if PER > 1 {
                ask::<T, V, R>(&band, q);
            }
            self.add_vector(clip, &band, q, &mut columns[q], &mut weighted[q]);
        }
        self.add_tail(clip, whole, last_column, last_weighted);
        next
    }

    /// Adds vector `q` of the columns.
    #[inline(always)]
    fn add_vector<C: Clip<V::Real>>(
        &self,
        clip: C,
        band: &Band<'_, T, R>,
        q: usize,
        column: &mut Line<V::Real>,
        weighted: &mut Line<V::Real>,
    ) {
        let (mut c, mut w) = (V::zero(), V::zero());
        for (k, &inverse) in self.inverse.iter().enumerate() {
            let square = clip.square(V::read(band.vector(k, q)));
            c = c.add(square);
            w = w.plus_product(square, inverse);
        }
        add_to(c, column);
        add_to(w, weighted);
    }

    /// Adds the columns from vector `whole` on, which do not fill one.
    #[inline(always)]
    fn add_tail<C: Clip<V::Real>>(
        &self,
        clip: C,
        whole: usize,
        columns: &mut [Line<V::Real>],
        weighted: &mut [Line<V::Real>],
    ) {
        let ([column, ..], [weighted, ..]) = (columns, weighted) else { return };
        let (mut c, mut w) = (V::zero(), V::zero());
        for (k, &inverse) in self.inverse.iter().enumerate() {
            let square = clip.square(V::read_head(&self.rows.row(k)[whole * LANES..]));
            c = c.add(square);
            w = w.plus_product(square, inverse);
        }
        add_to(c, column);
        add_to(w, weighted);
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

    /// Whole groups of `per` vectors in a row.
    #[inline(always)]
    fn groups(&self, per: usize) -> usize {
        self.band.vectors() / per
    }

    /// Those of all.
    #[inline(always)]
    fn of_all(mut self) -> [V; R] {
        let whole = self.band.vectors();
        let mut start = 0;
        while start < whole {
            let end = whole.min(start + CHAIN);
            for q in start..end {
                self.add_group::<1>(q);
            }
            self.end_chain();
            start = end;
        }
        self.rest(whole)
    }

    /// Adds group `q` of `N` vectors of each row.
    #[inline(always)]
    fn add_group<const N: usize>(&mut self, q: usize) {
        for k in 0..R {
            for vector in self.band.group::<N>(k, q) {
                self.sums[k] = self.clip.add_square(self.sums[k], V::read(vector));
            }
        }
    }

    /// After [`CHAIN`] vectors or the last.
    #[inline(always)]
    fn end_chain(&mut self) {
        for (total, sum) in self.totals.iter_mut().zip(&mut self.sums) {
            *total = total.add(*sum);
            *sum = V::zero();
        }
    }

    /// Adds what lies from vector `q` on, at most one and the tail, and returns the sums.
    #[inline(always)]
    fn rest(&self, q: usize) -> [V; R] {
        let mut totals = self.totals;
        for (k, total) in totals.iter_mut().enumerate() {
            let mut rest = &self.rows.row(k)[q * LANES..];
            if let Some((vector, tail)) = rest.split_first_chunk() {
                *total = self.clip.add_square(*total, V::read(vector));
                rest = tail;
            }
            if !rest.is_empty() {
                *total = self.clip.add_square(*total, V::read_head(rest));
            }
        }
        totals
    }
}

/// [`Block::add_columns`] as a function of its own.
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
        block.add_columns(clip, (column_sums, weighted_sums));
    }
}

/// The squares of a row, summed into sixteen lanes.
#[inline(always)]
fn squares_of_row<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(row: &[T], clip: C) -> V {
    let (vectors, tail) = row.as_chunks::<LANES>();
    let (mut groups, few) = vectors.as_chunks::<SUMS>();
    let (mut sum, mut total) = (V::zero(), V::zero());
    let mut runs = 0;
    while groups.len() > CHAIN {
        let (run, more) = groups.split_at(CHAIN);
        sum = sum.add(tree(squares_of_groups::<T, V, C>(run, clip)));
        groups = more;
        runs += 1;
        if runs == CHAIN {
            total = total.add(sum);
            (sum, runs) = (V::zero(), 0);
        }
    }
    sum = total.add(sum).add(tree(squares_of_groups::<T, V, C>(groups, clip)));
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
