//! Statistics of a short, wide matrix that is read by strips of columns.
//!
//! The roles of rows and columns are exchanged. Inside a strip that holds all rows
//!
//! ```text
//! C_j  = Σ_i g_ij²                              first sub-pass, from memory
//! c_j  = β₂ c_j + (1 − β₂)(C_j / m + ε₁)
//! S_i += Σ_j g_ij²,  V_i += Σ_j g_ij² / c_j     second sub-pass, from the cache
//! ```
//!
//! and after the last strip `r_i` follows from `S_i`, and `Σu² = mean(r)·Σ_i V_i / r_i`.

use super::{Clip, Extent, Line, Moment, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};
use crate::tile::Tile;
use goldstep_core::Element;

/// CpuElement of a strip: 256 bytes of each row in f32.
const STRIP: usize = 4;

/// Updates the column factor of a tile of whole columns and adds to the row sums `S` and `V`.
pub(crate) struct ColumnStatistics<'a, T: CpuElement, C> {
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) clip: C,
    pub(crate) moment: Moment<T::Real>,
    pub(crate) column_factor: &'a mut [T::Real],
    /// `S_i` in sixteen parts, one line per row; added to.
    pub(crate) row_sums: &'a mut [Line<T::Real>],
    /// `V_i` in sixteen parts, one line per row; added to.
    pub(crate) weighted_sums: &'a mut [Line<T::Real>],
}

impl<T: CpuElement, C: Clip<T::Real>> Kernel for ColumnStatistics<'_, T, C> {
    type Element = T;
    type Output = Extent;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> Extent {
        let Self { gradient, clip, moment, column_factor, row_sums, weighted_sums } = self;
        #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
        let count = V::splat(T::Real::round_from(gradient.rows() as f64));
        let one = V::splat(T::Real::ONE);
        let mut range = (V::splat(T::Real::MAX), V::zero());
        let mut extent = Extent::EMPTY;
        let mut factors = column_factor.chunks_exact_mut(STRIP * LANES);
        let mut rest = gradient;
        for factors in factors.by_ref() {
            let (strip, after) = rest.split_columns(STRIP * LANES);
            rest = after;
            let mut sums = [V::zero(); STRIP];
            for i in 0..strip.rows() {
                let (vectors, _) = strip.row(i).as_chunks::<LANES>();
                for k in 0..STRIP {
                    let g = clip.apply(V::read(&vectors[k]));
                    sums[k] = sums[k].add(g.mul(g));
                }
            }
            let mut inverse = [V::zero(); STRIP];
            let (factors, _) = factors.as_chunks_mut::<LANES>();
            for k in 0..STRIP {
                let new = moment.blend(V::load(&factors[k]), sums[k].div(count));
                new.store(&mut factors[k]);
                inverse[k] = one.div(new);
                range = (new.lesser(range.0), new.greater(range.1));
                sums[k] = new;
            }
            extent.sum += tree(sums).total();
            for i in 0..strip.rows() {
                let (vectors, _) = strip.row(i).as_chunks::<LANES>();
                let (mut s, mut v) = ([V::zero(); STRIP], [V::zero(); STRIP]);
                for k in 0..STRIP {
                    let g = clip.apply(V::read(&vectors[k]));
                    s[k] = g.mul(g);
                    v[k] = s[k].mul(inverse[k]);
                }
                let (row, weighted) = (&mut row_sums[i].0, &mut weighted_sums[i].0);
                V::load(row).add(tree(s)).store(row);
                V::load(weighted).add(tree(v)).store(weighted);
            }
        }
        for lane in 0..LANES {
            extent.least = extent.least.min(range.0.to_array()[lane].to_f64());
            extent.largest = extent.largest.max(range.1.to_array()[lane].to_f64());
        }
        let tail = Tail { strip: rest, clip, moment };
        extent.join(tail.run::<V>(factors.into_remainder(), row_sums, weighted_sums))
    }
}

/// The last columns, fewer than a strip: vector by vector.
struct Tail<'a, T: CpuElement, C> {
    strip: Tile<'a, T>,
    clip: C,
    moment: Moment<T::Real>,
}

impl<T: CpuElement, C: Clip<T::Real>> Tail<'_, T, C> {
    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(
        self,
        column_factor: &mut [T::Real],
        row_sums: &mut [Line<T::Real>],
        weighted_sums: &mut [Line<T::Real>],
    ) -> Extent {
        let Self { strip, clip, moment } = self;
        #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
        let count = V::splat(T::Real::round_from(strip.rows() as f64));
        let mut extent = Extent::EMPTY;
        let mut rest = strip;
        for factors in column_factor.chunks_mut(LANES) {
            let (vector, after) = rest.split_columns(LANES);
            rest = after;
            let mut sum = V::zero();
            for i in 0..vector.rows() {
                let g = clip.apply(read_up_to::<T, V>(vector.row(i)));
                sum = sum.add(g.mul(g));
            }
            let mut lanes = [T::Real::ONE; LANES];
            lanes[..factors.len()].copy_from_slice(factors);
            let new = moment.blend(V::load(&lanes), sum.div(count));
            new.store(&mut lanes);
            factors.copy_from_slice(&lanes[..factors.len()]);
            for &factor in factors.iter() {
                let factor = factor.to_f64();
                let one = Extent { least: factor, largest: factor, sum: factor };
                extent = extent.join(one);
            }
            let inverse = V::splat(T::Real::ONE).div(new);
            for i in 0..vector.rows() {
                let g = clip.apply(read_up_to::<T, V>(vector.row(i)));
                let square = g.mul(g);
                let (row, weighted) = (&mut row_sums[i].0, &mut weighted_sums[i].0);
                V::load(row).add(square).store(row);
                V::load(weighted).add(square.mul(inverse)).store(weighted);
            }
        }
        extent
    }
}

/// Sixteen elements, or fewer and zeros.
#[inline(always)]
pub(super) fn read_up_to<T, V: Memory<T>>(source: &[T]) -> V {
    match source.first_chunk::<LANES>() {
        Some(vector) => V::read(vector),
        None => V::read_head(source),
    }
}
