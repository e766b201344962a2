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
//! The first sub-pass waits for memory, the second for arithmetic. Where two blocks and the column
//! sums fit into a first-level cache, the first of one block and the second of the block before
//! run in one loop: 0.139 ns per parameter instead of 0.150 for a step of 1024². Where they do not
//! fit, the stores delay the stream: 0.415 instead of 0.329 at 2048².

use super::narrow::{NARROW, narrow};
use super::{CHAIN, Clip, Extent, Line, Moment, Range, add_to, square, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory, Routine, sums_of_rows};
use crate::real::{CpuElement, Real};
use crate::tile::Tile;
use goldstep_core::Element;

/// Independent sums of a row. Eight were no faster with AVX-512, and spill with AVX2.
const SUMS: usize = 4;
/// Columns up to which a block has sixteen rows.
const SHORT: usize = 128;
/// Columns up to which two blocks of four rows and the column sums stay in a first-level cache.
const BESIDE: usize = 1024;
/// Columns up to which eight rows stay in a second-level cache.
const LONG: usize = 16 * 1024;

/// Rows of a block: a function of the shape alone.
fn rows_per_block(columns: usize) -> usize {
    if columns <= SHORT {
        LANES
    } else if columns <= BESIDE {
        4
    } else if columns <= LONG {
        8
    } else {
        1
    }
}

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
        let count = V::splat(T::Real::round_from(gradient.columns() as f64));
        let factors = Factors { moment, count };
        let sums = (&mut *column_sums, &mut *weighted_sums);
        let columns = gradient.columns();
        if columns <= NARROW {
            narrow::<T, V, C>(gradient, clip, row_factor, factors, sums);
        } else {
            match rows_per_block(columns) {
                16 => blocks::<T, V, C, 16, false>(gradient, clip, row_factor, factors, sums),
                4 => blocks::<T, V, C, 4, true>(gradient, clip, row_factor, factors, sums),
                8 => blocks::<T, V, C, 8, false>(gradient, clip, row_factor, factors, sums),
                _ => blocks::<T, V, C, 1, false>(gradient, clip, row_factor, factors, sums),
            }
        }
        let mut range = Range::<V>::new();
        let (vectors, tail) = row_factor.as_chunks_mut::<LANES>();
        for vector in vectors {
            range.take_up(V::load(vector));
        }
        if !tail.is_empty() {
            let mut lanes = [T::Real::ZERO; LANES];
            lanes[..tail.len()].copy_from_slice(tail);
            range.take_up_head(V::load(&lanes), tail);
        }
        range.extent()
    }
}

/// How row factors are updated.
#[derive(Clone, Copy)]
pub(super) struct Factors<V: Lanes> {
    moment: Moment<V::Real>,
    /// `n`.
    count: V,
}

impl<V: Lanes> Factors<V> {
    /// Updates at most sixteen row factors from the row sums `S` and returns `1 / r`.
    #[inline(always)]
    pub(super) fn update(&self, r: &mut [V::Real], sums: V) -> [V::Real; LANES] {
        if let Some(r) = r.first_chunk_mut::<LANES>() {
            return self.update_sixteen(r, sums).to_array();
        }
        let mean = sums.div(self.count);
        let mut inverse = [V::Real::ZERO; LANES];
        for ((r, mean), inverse) in r.iter_mut().zip(mean.to_array()).zip(&mut inverse) {
            *r = self.moment.blend_one(*r, mean);
            *inverse = V::Real::ONE / *r;
        }
        inverse
    }

    /// The same for sixteen.
    #[inline(always)]
    pub(super) fn update_sixteen(&self, r: &mut [V::Real; LANES], sums: V) -> V {
        let new = self.moment.blend(V::load(r), sums.div(self.count));
        new.store(r);
        V::splat(V::Real::ONE).div(new)
    }
}

/// Column sums and weighted column sums.
pub(super) type Sums<'a, R> = (&'a mut [Line<R>], &'a mut [Line<R>]);

/// [`Factors::update`] for the squares of `R` rows, a power of two.
pub(super) struct InverseFactors<'a, V: Lanes, const R: usize> {
    pub(super) factors: Factors<V>,
    pub(super) row_factor: &'a mut [V::Real],
    /// The squares of each row, summed into sixteen lanes.
    pub(super) squares: &'a [V; R],
}

impl<V: Lanes, const R: usize> Routine<V> for InverseFactors<'_, V, R> {
    type Output = [V::Real; LANES];

    #[inline(always)]
    fn run(self) -> [V::Real; LANES] {
        self.factors.update(self.row_factor, sums_of_rows(self.squares))
    }
}

/// Two sub-passes over blocks of `R` rows, which overlap if `BESIDE`.
#[inline(always)]
fn blocks<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const R: usize, const BESIDE: bool>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) {
    let mut before: Option<Block<'_, T, V, R>> = None;
    let mut rest = gradient;
    let mut chunks = row_factor.chunks_exact_mut(R);
    for row_factor in chunks.by_ref() {
        let (rows, after) = rest.split_rows(R);
        rest = after;
        let squares = match &before {
            Some(before) if BESIDE => {
                before.beside::<C>(rows, clip, (&mut *column_sums, &mut *weighted_sums))
            }
            _ => V::call(SquaresOfRows::<_, _, R> { rows, clip }),
        };
        let factors = InverseFactors { factors, row_factor, squares: &squares };
        // Inside the loop where a call would hold up the stream.
        let inverse = if BESIDE { factors.run() } else { V::call(factors) };
        let block = Block::new(rows, &inverse);
        if BESIDE {
            before = Some(block);
        } else {
            block.add_all(clip, (&mut *column_sums, &mut *weighted_sums));
        }
    }
    if let Some(before) = &before {
        before.add_all(clip, (&mut *column_sums, &mut *weighted_sums));
    }
    for row_factor in chunks.into_remainder().chunks_mut(1) {
        let (row, after) = rest.split_rows(1);
        rest = after;
        let squares = V::call(SquaresOfRows::<_, _, 1> { rows: row, clip });
        let inverse = V::call(InverseFactors { factors, row_factor, squares: &squares });
        let block = Block::<'_, T, V, 1>::new(row, &inverse);
        block.add_all(clip, (&mut *column_sums, &mut *weighted_sums));
    }
}

/// A block of rows whose factors are known.
struct Block<'a, T, V, const R: usize> {
    /// The whole vectors of each row.
    rows: [&'a [[T; LANES]]; R],
    /// What is left of each row.
    tails: [&'a [T]; R],
    /// `1 / r`.
    inverse: [V; R],
}

impl<'a, T, V: Lanes + Memory<T>, const R: usize> Block<'a, T, V, R> {
    #[inline(always)]
    fn new(tile: Tile<'a, T>, inverse: &[V::Real; LANES]) -> Self {
        let mut block = Self { rows: [&[]; R], tails: [&[]; R], inverse: [V::zero(); R] };
        for (i, &inverse) in inverse.iter().enumerate().take(R) {
            (block.rows[i], block.tails[i]) = tile.row(i).as_chunks::<LANES>();
            block.inverse[i] = V::splat(inverse);
        }
        block
    }

    /// Vectors of columns that are taken beside each row of the next block.
    #[inline(always)]
    fn share(&self) -> usize {
        self.rows[0].len() / R
    }

    /// The squares of the rows of the next block, and beside each the columns of a share of this
    /// one: the loads of the one pass while the other computes.
    #[inline(always)]
    fn beside<C: Clip<V::Real>>(
        &self,
        next: Tile<'_, T>,
        clip: C,
        (column_sums, weighted_sums): Sums<'_, V::Real>,
    ) -> [V; R] {
        let share = self.share();
        let mut squares = [V::zero(); R];
        for (i, squares) in squares.iter_mut().enumerate() {
            let columns = &mut column_sums[i * share..(i + 1) * share];
            let weighted = &mut weighted_sums[i * share..(i + 1) * share];
            let mut rows = self.rows;
            for row in &mut rows {
                *row = &row[i * share..(i + 1) * share];
            }
            let (vectors, _) = next.row(i).as_chunks::<LANES>();
            let (groups, _) = vectors.as_chunks::<R>();
            let groups = &groups[..share];
            let mut start = 0;
            while start < share {
                let end = share.min(start + (CHAIN * SUMS).div_ceil(R));
                let mut sums = [V::zero(); SUMS];
                for q in start..end {
                    for k in 0..R {
                        let square = square(V::read(&groups[q][k]), clip);
                        sums[k % SUMS] = sums[k % SUMS].add(square);
                    }
                    add_column(&rows, &self.inverse, q, clip, (&mut columns[q], &mut weighted[q]));
                }
                *squares = squares.add(tree(sums));
                start = end;
            }
        }
        let taken = share * R;
        let (_, rest) = next.split_columns(taken * LANES);
        if rest.columns() > 0 {
            let of_rest = V::call(SquaresOfRows::<_, _, R> { rows: rest, clip });
            for (squares, of_rest) in squares.iter_mut().zip(of_rest) {
                *squares = squares.add(of_rest);
            }
            V::call(AddColumns { block: self, clip, first: taken, column_sums, weighted_sums });
        }
        squares
    }

    /// Adds all columns to their sums.
    #[inline(always)]
    fn add_all<C: Clip<V::Real>>(&self, clip: C, (column_sums, weighted_sums): Sums<'_, V::Real>) {
        V::call(AddColumns { block: self, clip, first: 0, column_sums, weighted_sums });
    }
}

/// Adds a block's columns to their sums, from vector `first` on.
struct AddColumns<'a, T, V: Lanes, C, const R: usize> {
    block: &'a Block<'a, T, V, R>,
    clip: C,
    first: usize,
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
        let Self { block, clip, first, column_sums, weighted_sums } = self;
        let Block { rows, tails, inverse } = block;
        let vectors = rows[0].len();
        for q in first..vectors {
            let sums = (&mut column_sums[q], &mut weighted_sums[q]);
            add_column(rows, inverse, q, clip, sums);
        }
        if tails[0].is_empty() {
            return;
        }
        let (mut c, mut w) = (V::zero(), V::zero());
        for (tail, &inverse) in tails.iter().zip(inverse) {
            let square = square(V::read_head(tail), clip);
            c = c.add(square);
            w = w.add(square.mul(inverse));
        }
        add_to(c, &mut column_sums[vectors]);
        add_to(w, &mut weighted_sums[vectors]);
    }
}

/// Adds vector `q` of all rows to the sums of its columns.
#[inline(always)]
fn add_column<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const R: usize>(
    rows: &[&[[T; LANES]]; R],
    inverse: &[V; R],
    q: usize,
    clip: C,
    (column_sum, weighted_sum): (&mut Line<V::Real>, &mut Line<V::Real>),
) {
    let (mut c, mut w) = (V::zero(), V::zero());
    for k in 0..R {
        let square = square(V::read(&rows[k][q]), clip);
        c = c.add(square);
        w = w.add(square.mul(inverse[k]));
    }
    add_to(c, column_sum);
    add_to(w, weighted_sum);
}

/// The squares of each of `R` rows, summed into sixteen lanes.
struct SquaresOfRows<'a, T, C, const R: usize> {
    rows: Tile<'a, T>,
    clip: C,
}

impl<T, V, C, const R: usize> Routine<V> for SquaresOfRows<'_, T, C, R>
where
    V: Lanes + Memory<T>,
    C: Clip<V::Real>,
{
    type Output = [V; R];

    #[inline(always)]
    fn run(self) -> [V; R] {
        let mut squares = [V::zero(); R];
        for (i, squares) in squares.iter_mut().enumerate() {
            *squares = squares_of_row(self.rows.row(i), self.clip);
        }
        squares
    }
}

/// The squares of a row, summed into sixteen lanes.
#[inline(always)]
fn squares_of_row<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(row: &[T], clip: C) -> V {
    let (vectors, tail) = row.as_chunks::<LANES>();
    let (groups, few) = vectors.as_chunks::<SUMS>();
    let mut sum = V::zero();
    for groups in groups.chunks(CHAIN) {
        let mut sums = [V::zero(); SUMS];
        for group in groups {
            for k in 0..SUMS {
                sums[k] = sums[k].add(square(V::read(&group[k]), clip));
            }
        }
        sum = sum.add(tree(sums));
    }
    for vector in few {
        sum = sum.add(square(V::read(vector), clip));
    }
    if tail.is_empty() { sum } else { sum.add(square(V::read_head(tail), clip)) }
}
