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
//! of two divisions, as long as a third of the work on four rows of 256 elements. So the first
//! sub-pass of the next block comes between, where the blocks fit into a first-level cache beside
//! the column sums.
//!
//! The second asks for rows that come next: where they come from a second-level cache, for all of
//! them; from further away, for two, into that cache. More stood in the way of what is worked on:
//! 4096² took 0.27 ns in place of 0.18 with four of four rows. Both sub-passes in one loop cost
//! more than they gained.

use super::narrow::{NARROW, narrow};
use super::{CHAIN, Clip, Extent, Line, Moment, Range, add_to, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory, Routine, sums_of_rows};
use crate::real::{CpuElement, Real};
use crate::tile::Tile;
use goldstep_core::Element;

/// Independent sums of a row. Eight were no faster with AVX-512, and spill with AVX2.
const SUMS: usize = 4;
/// Columns up to which three blocks of four rows and the column sums stay in a first-level cache.
const THREE: usize = 512;
/// Columns up to which two do.
const TWO: usize = 1024;
/// Columns up to which eight rows stay in a second-level cache.
const LONG: usize = 16 * 1024;

/// Updates the row factor of a tile of whole rows and adds to the column sums `C` and `W`.
pub(crate) struct RowStatistics<'a, T: CpuElement, C> {
    pub(crate) gradient: Tile<'a, T>,
    /// Whether it comes from beyond the caches.
    pub(crate) far: bool,
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
        let Self { gradient, far, clip, moment, row_factor, column_sums, weighted_sums } = self;
        #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
        let count = T::Real::round_from(gradient.columns() as f64);
        let factors = Factors { moment, count };
        let sums = (&mut *column_sums, &mut *weighted_sums);
        // Rows of a block: a function of the shape alone.
        match gradient.columns() {
            n if n <= NARROW => narrow::<T, V, C>(gradient, clip, row_factor, factors, sums),
            n if n <= TWO && far => {
                blocks::<T, V, C, 4, 1, 2>(gradient, clip, row_factor, factors, sums);
            }
            n if n <= THREE => {
                blocks::<T, V, C, 4, 2, 0>(gradient, clip, row_factor, factors, sums);
            }
            n if n <= TWO => blocks::<T, V, C, 4, 1, 0>(gradient, clip, row_factor, factors, sums),
            n if n <= LONG => blocks::<T, V, C, 8, 1, 2>(gradient, clip, row_factor, factors, sums),
            _ => blocks::<T, V, C, 1, 0, 0>(gradient, clip, row_factor, factors, sums),
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

/// Two sub-passes over blocks of `R` rows. The second asks for rows of the block `AHEAD` blocks on:
/// the first `FAR` from beyond the second-level cache, or all from there for 0. With two blocks, it
/// waits for the first sub-pass of the next one.
#[inline(always)]
fn blocks<T, V, C, const R: usize, const AHEAD: usize, const FAR: usize>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V::Real>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) where
    V: Lanes + Memory<T>,
    C: Clip<V::Real>,
{
    let (blocks, few) = row_factor.as_chunks_mut::<R>();
    let mut before: Option<Block<'_, T, V, R>> = None;
    let mut rest = gradient;
    for row_factor in blocks {
        let (rows, after) = rest.split_rows(R);
        rest = after;
        let squares = squares_of_rows::<T, V, C, R>(rows, clip);
        if let Some(before) = before.take() {
            before.add_columns::<C, AHEAD, FAR>(clip, (&mut *column_sums, &mut *weighted_sums));
        }
        let block = Block::new(rows, &squares, row_factor, factors);
        if AHEAD == 2 {
            before = Some(block);
        } else {
            block.add_columns::<C, AHEAD, FAR>(clip, (&mut *column_sums, &mut *weighted_sums));
        }
    }
    if let Some(block) = before {
        let (column_sums, weighted_sums) = (&mut *column_sums, &mut *weighted_sums);
        V::call(AddColumns { block, clip, column_sums, weighted_sums });
    }
    for row_factor in few.as_chunks_mut::<1>().0 {
        let (row, after) = rest.split_rows(1);
        rest = after;
        let squares = squares_of_rows::<T, V, C, 1>(row, clip);
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

    /// Adds all columns to their sums.
    #[inline(always)]
    fn add_columns<C: Clip<V::Real>, const AHEAD: usize, const FAR: usize>(
        self,
        clip: C,
        (column_sums, weighted_sums): Sums<'_, V::Real>,
    ) {
        let Self { rows, inverse } = self;
        let band = rows.band::<R>();
        let whole = band.vectors();
        let (columns, last_column) = column_sums.split_at_mut(whole);
        let (weighted, last_weighted) = weighted_sums.split_at_mut(whole);
        for q in 0..whole {
            let (mut c, mut w) = (V::zero(), V::zero());
            for (k, &inverse) in inverse.iter().enumerate() {
                if AHEAD > 0 && FAR == 0 {
                    V::fetch_near(band.ahead(AHEAD * R + k, q));
                } else if k < FAR {
                    V::fetch(band.ahead(AHEAD * R + k, q));
                }
                let square = clip.square(V::read(band.vector(k, q)));
                c = c.add(square);
                w = w.plus_product(square, inverse);
            }
            add_to(c, &mut columns[q]);
            add_to(w, &mut weighted[q]);
        }
        let ([last_column, ..], [last_weighted, ..]) = (last_column, last_weighted) else { return };
        let (mut c, mut w) = (V::zero(), V::zero());
        for (k, inverse) in inverse.into_iter().enumerate() {
            let square = clip.square(V::read_head(&rows.row(k)[whole * LANES..]));
            c = c.add(square);
            w = w.plus_product(square, inverse);
        }
        add_to(c, last_column);
        add_to(w, last_weighted);
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
        block.add_columns::<C, 0, 0>(clip, (column_sums, weighted_sums));
    }
}

/// The squares of each row, summed into sixteen lanes.
#[inline(always)]
fn squares_of_rows<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const R: usize>(
    rows: Tile<'_, T>,
    clip: C,
) -> [V; R] {
    let mut squares = [V::zero(); R];
    for (i, squares) in squares.iter_mut().enumerate() {
        *squares = squares_of_row(rows.row(i), clip);
    }
    squares
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
