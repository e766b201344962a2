//! Statistics of a matrix that is read row by row.
//!
//! For each block of a few rows, kept in the cache:
//!
//! ```text
//! S_i  = Σ_j g_ij²                              first sub-pass, from memory
//! r_i  = β₂ r_i + (1 − β₂)(S_i / n + ε₁)
//! C_j += Σ_i g_ij²,  W_j += Σ_i g_ij² / r_i     second sub-pass, from the cache
//! ```
//!
//! The first sub-pass streams one row at a time: several at once were slower from 2048². The
//! second keeps the sums of a strip of columns in registers over all rows of the block. `1 / r_i`
//! is a multiplication in the inner loop.

use super::{Clip, Extent, Line, Moment, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory, sums_of_sixteen};
use crate::real::{CpuElement, Real};
use crate::tile::Tile;
use goldstep_core::Element;

/// Independent sums of a row. Eight were no faster with AVX-512, and spill with AVX2.
const SUMS: usize = 4;

/// Elements between the two sub-passes, so that they stay in a first-level cache. The first pass
/// took 0.058, 0.063, 0.073 ns per parameter with 16, 8, 4 rows at 512²; 0.073, 0.063, 0.069 at
/// 1024²; 0.121, 0.118, 0.115 at 2048².
const BLOCK_ELEMENTS: usize = 8 * 1024;
/// Rows that share one pass over the column sums, even if they leave the first-level cache; below,
/// that pass costs too much (2048²: 0.132 ns with 2 rows).
const LEAST_ROWS: usize = 4;
/// Elements that stay in a second-level cache.
const LARGEST_BLOCK: usize = 128 * 1024;

/// Rows of a block: a function of the shape alone.
pub(crate) fn rows_per_block(columns: usize) -> usize {
    let columns = columns.max(1);
    let wanted = (BLOCK_ELEMENTS / columns).max(LEAST_ROWS);
    wanted.min(LARGEST_BLOCK / columns).clamp(1, LANES)
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
        let block = rows_per_block(gradient.columns());
        let one = V::splat(T::Real::ONE);
        let (mut least, mut largest, mut total) = (V::splat(T::Real::MAX), V::zero(), V::zero());
        let mut rest = gradient;
        for r in row_factor.chunks_mut(block) {
            let (rows, after) = rest.split_rows(block);
            rest = after;
            let mut sums = [V::zero(); LANES];
            for (i, sum) in sums.iter_mut().enumerate().take(rows.rows()) {
                *sum = row_of_squares::<T, V, C>(rows.row(i), clip);
            }
            let mean = sums_of_sixteen(&sums).div(count);
            let new = match r.first_chunk_mut::<LANES>() {
                Some(r) => {
                    let new = moment.blend(V::load(r), mean);
                    new.store(r);
                    total = total.add(new);
                    new
                }
                None => {
                    let mut lanes = [T::Real::ZERO; LANES];
                    lanes[..r.len()].copy_from_slice(r);
                    let new = moment.blend(V::load(&lanes), mean).to_array();
                    r.copy_from_slice(&new[..r.len()]);
                    lanes[..r.len()].copy_from_slice(r);
                    total = total.add(V::load(&lanes));
                    // The other lanes repeat a row, which changes no extreme.
                    lanes[r.len()..].fill(r[0]);
                    V::load(&lanes)
                }
            };
            (least, largest) = (new.lesser(least), new.greater(largest));
            let inverse = one.div(new).to_array();
            columns_of_block::<T, V, C>(
                rows,
                clip,
                &inverse[..r.len()],
                (&mut *column_sums, &mut *weighted_sums),
            );
        }
        Extent {
            least: least.to_array().into_iter().fold(f64::INFINITY, |x, y| x.min(y.to_f64())),
            largest: largest.to_array().into_iter().fold(0.0, |x, y| x.max(y.to_f64())),
            sum: total.total(),
        }
    }
}

/// The squares of a row, summed into sixteen lanes.
#[inline(always)]
fn row_of_squares<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(row: &[T], clip: C) -> V {
    let (vectors, tail) = row.as_chunks::<LANES>();
    let (groups, few) = vectors.as_chunks::<SUMS>();
    let mut sums = [V::zero(); SUMS];
    for group in groups {
        for k in 0..SUMS {
            sums[k] = sums[k].add(square(V::read(&group[k]), clip));
        }
    }
    let mut sum = tree(sums);
    for vector in few {
        sum = sum.add(square(V::read(vector), clip));
    }
    if tail.is_empty() { sum } else { sum.add(square(V::read_head(tail), clip)) }
}

// No closure: only a function can be made to lie inside the one that carries the instruction set.
#[inline(always)]
fn square<V: Lanes, C: Clip<V::Real>>(gradient: V, clip: C) -> V {
    let g = clip.apply(gradient);
    g.mul(g)
}

/// Column sums and weighted column sums.
type Sums<'a, R> = (&'a mut [Line<R>], &'a mut [Line<R>]);

#[inline(always)]
fn columns_of_block<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(
    rows: Tile<'_, T>,
    clip: C,
    inverse: &[V::Real],
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) {
    let full = rows.columns() / LANES;
    let mut q = 0;
    while q + V::STRIP <= full {
        let sums = (&mut *column_sums, &mut *weighted_sums);
        match V::STRIP {
            4 => strip::<T, V, C, 4>(rows, q, clip, inverse, sums),
            2 => strip::<T, V, C, 2>(rows, q, clip, inverse, sums),
            _ => strip::<T, V, C, 1>(rows, q, clip, inverse, sums),
        }
        q += V::STRIP;
    }
    while q < full {
        let sums = (&mut *column_sums, &mut *weighted_sums);
        strip::<T, V, C, 1>(rows, q, clip, inverse, sums);
        q += 1;
    }
    if !rows.columns().is_multiple_of(LANES) {
        let (mut c, mut w) = (V::zero(), V::zero());
        for (i, &inverse) in inverse.iter().enumerate() {
            let g = clip.apply(V::read_head(&rows.row(i)[q * LANES..]));
            let square = g.mul(g);
            c = c.add(square);
            w = w.add(square.mul(V::splat(inverse)));
        }
        add_to(c, &mut column_sums[q]);
        add_to(w, &mut weighted_sums[q]);
    }
}

/// The sums of `K` vectors of columns, beginning with vector `q`, over all rows of a block.
#[inline(always)]
fn strip<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const K: usize>(
    rows: Tile<'_, T>,
    q: usize,
    clip: C,
    inverse: &[V::Real],
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) {
    let (mut c, mut w) = ([V::zero(); K], [V::zero(); K]);
    for (i, &inverse) in inverse.iter().enumerate() {
        let (vectors, _) = rows.row(i)[q * LANES..(q + K) * LANES].as_chunks::<LANES>();
        let inverse = V::splat(inverse);
        for k in 0..K {
            let g = clip.apply(V::read(&vectors[k]));
            let square = g.mul(g);
            c[k] = c[k].add(square);
            w[k] = w[k].add(square.mul(inverse));
        }
    }
    for k in 0..K {
        add_to(c[k], &mut column_sums[q + k]);
        add_to(w[k], &mut weighted_sums[q + k]);
    }
}

#[inline(always)]
fn add_to<V: Lanes>(sum: V, line: &mut Line<V::Real>) {
    V::load(&line.0).add(sum).store(&mut line.0);
}
