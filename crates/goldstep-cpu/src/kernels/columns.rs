//! Statistics of a short, wide matrix that is read by panels of columns.
//!
//! The roles of rows and columns are exchanged. Inside a panel that holds all rows
//!
//! ```text
//! C_j  = Σ_i g_ij²                              first sub-pass, from memory
//! c_j  = β₂ c_j + (1 − β₂)(C_j / m + ε₁)
//! S_i += Σ_j g_ij²,  V_i += Σ_j g_ij² / c_j     second sub-pass, from the cache
//! ```
//!
//! and after the last panel `r_i` follows from `S_i`, and `Σu² = mean(r)·Σ_i V_i / r_i`.
//!
//! The first sub-pass keeps the sums of a strip of columns in registers, the second those of a row
//! of the panel: the sums of a row pass through memory once in a panel.

use super::{CHAIN, Clip, Extent, Line, Moment, Range, add_to, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};
use crate::tile::Tile;

/// Vectors of a row that are summed at a time.
const STRIP: usize = 4;
/// Vectors of a strip of columns, 1 KiB of each row in f32: as many bytes of a row as possible one
/// after the other, since they come from memory.
const COLUMNS: usize = 16;
/// Elements of a panel, so that they stay in a first-level cache.
const PANEL_ELEMENTS: usize = 8 * 1024;
/// Vectors of a panel at most. One sum of a row takes a quarter of them in one chain: longer ones
/// cost digits, since after a first gradient of few rows all `g²/c` are about equal.
const LONGEST_PANEL: usize = 64;

/// Rows whose sums pass on in a second level. Of more rows a chunk has at most 64 panels.
const FEW: usize = 8;

/// Vectors of a panel: a function of the shape alone.
fn vectors_per_panel(rows: usize) -> usize {
    let vectors = PANEL_ELEMENTS / LANES / rows.max(1);
    vectors.clamp(STRIP, LONGEST_PANEL) / STRIP * STRIP
}

/// Updates the column factor of a tile of whole columns and adds to the row sums `S` and `V`.
pub(crate) struct ColumnStatistics<'a, T: CpuElement, C> {
    pub(crate) gradient: Tile<'a, T>,
    /// `m`: with those that have no gradient, rows of the matrix.
    pub(crate) count: T::Real,
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
        let Self { gradient, clip, moment, column_factor, row_sums, weighted_sums, .. } = self;
        let count = V::splat(self.count);
        let mut factors = Factors { moment, count, range: Range::new() };
        let mut inverse = [Line([T::Real::ZERO; LANES]); LONGEST_PANEL];
        let columns = vectors_per_panel(gradient.rows()) * LANES;
        let mut rest = gradient;
        // The fewer the rows, the more panels.
        for column_factor in column_factor.chunks_mut(columns * CHAIN) {
            let mut own = [(V::zero(), V::zero()); FEW];
            for column_factor in column_factor.chunks_mut(columns) {
                let (panel, after) = rest.split_columns(columns);
                rest = after;
                factors.of_panel::<T, C>(panel, clip, column_factor, &mut inverse);
                for i in 0..panel.rows() {
                    let (s, v) = row_of_panel::<T, V, C>(panel.row(i), clip, &inverse, rest.row(i));
                    if let Some(own) = own.get_mut(i) {
                        *own = (own.0.add(s), own.1.add(v));
                    } else {
                        add_to(s, &mut row_sums[i]);
                        add_to(v, &mut weighted_sums[i]);
                    }
                }
            }
            for (i, (s, v)) in own.into_iter().enumerate().take(gradient.rows()) {
                add_to(s, &mut row_sums[i]);
                add_to(v, &mut weighted_sums[i]);
            }
        }
        factors.range.extent()
    }
}

/// The column factors as they are updated.
struct Factors<V: Lanes> {
    moment: Moment<V::Real>,
    /// `m`.
    count: V,
    range: Range<V>,
}

impl<V: Lanes> Factors<V> {
    /// Updates the factors of a panel and writes `1 / c`.
    #[inline(always)]
    fn of_panel<T, C: Clip<V::Real>>(
        &mut self,
        panel: Tile<'_, T>,
        clip: C,
        column_factor: &mut [V::Real],
        inverse: &mut [Line<V::Real>],
    ) where
        V: Memory<T>,
    {
        let (vectors, tail) = column_factor.as_chunks_mut::<LANES>();
        let count = vectors.len();
        for (q, (strip, inverse)) in
            vectors.chunks_mut(COLUMNS).zip(inverse.chunks_mut(COLUMNS)).enumerate()
        {
            let at = q * COLUMNS;
            let mut totals = [V::zero(); COLUMNS];
            for start in (0..panel.rows()).step_by(CHAIN) {
                let mut sums = [V::zero(); COLUMNS];
                let rows = start..panel.rows().min(start + CHAIN);
                if strip.len() == COLUMNS {
                    for i in rows {
                        add_squares::<T, V, C, COLUMNS>(panel.row(i), at, clip, &mut sums);
                    }
                } else {
                    for i in rows {
                        for (k, sum) in sums.iter_mut().enumerate().take(strip.len()) {
                            let mut one = [*sum];
                            add_squares::<T, V, C, 1>(panel.row(i), at + k, clip, &mut one);
                            *sum = one[0];
                        }
                    }
                }
                if start == 0 {
                    totals = sums;
                    continue;
                }
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total = total.add(sum);
                }
            }
            for ((factor, inverse), sum) in strip.iter_mut().zip(inverse).zip(totals) {
                let new = self.moment.blend(V::load(factor), sum.div(self.count));
                new.store(factor);
                self.range.take_up(new);
                V::splat(V::Real::ONE).div(new).store(&mut inverse.0);
            }
        }
        if !tail.is_empty() {
            let mut total = V::zero();
            for start in (0..panel.rows()).step_by(CHAIN) {
                let mut sum = V::zero();
                for i in start..panel.rows().min(start + CHAIN) {
                    sum = clip.add_square(sum, V::read_head(&panel.row(i)[count * LANES..]));
                }
                total = total.add(sum);
            }
            let mut lanes = [V::Real::ONE; LANES];
            lanes[..tail.len()].copy_from_slice(tail);
            let new = self.moment.blend(V::load(&lanes), total.div(self.count));
            self.range.take_up_head(new, tail);
            V::splat(V::Real::ONE).div(new).store(&mut inverse[count].0);
        }
    }
}

/// Adds the squares of `K` vectors of a row, from vector `q` on.
#[inline(always)]
fn add_squares<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const K: usize>(
    row: &[T],
    q: usize,
    clip: C,
    sums: &mut [V; K],
) {
    let (vectors, _) = row[q * LANES..(q + K) * LANES].as_chunks::<LANES>();
    for k in 0..K {
        sums[k] = clip.add_square(sums[k], V::read(&vectors[k]));
    }
}

/// `Σg²` and `Σg²/c` of a row of a panel. What follows it in memory, `soon`, is the next panel's:
/// memory delivers it while this one computes.
#[inline(always)]
fn row_of_panel<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(
    row: &[T],
    clip: C,
    inverse: &[Line<V::Real>],
    soon: &[T],
) -> (V, V) {
    let (vectors, tail) = row.as_chunks::<LANES>();
    let (groups, few) = vectors.as_chunks::<STRIP>();
    let (inverse_groups, _) = inverse.as_chunks::<STRIP>();
    let (mut s, mut v) = ([V::zero(); STRIP], [V::zero(); STRIP]);
    for (at, (group, inverse)) in groups.iter().zip(inverse_groups).enumerate() {
        for k in 0..STRIP {
            if let Some(soon) = soon.get((at * STRIP + k) * LANES) {
                V::fetch(std::ptr::from_ref(soon));
            }
            let square = clip.square(V::read(&group[k]));
            s[k] = s[k].add(square);
            v[k] = v[k].plus_product(square, V::load(&inverse[k].0));
        }
    }
    let (mut s, mut v) = (tree(s), tree(v));
    let mut inverse = inverse[groups.len() * STRIP..].iter();
    for (vector, inverse) in few.iter().zip(inverse.by_ref()) {
        let square = clip.square(V::read(vector));
        s = s.add(square);
        v = v.plus_product(square, V::load(&inverse.0));
    }
    if let Some(inverse) = inverse.next()
        && !tail.is_empty()
    {
        let square = clip.square(V::read_head(tail));
        s = s.add(square);
        v = v.plus_product(square, V::load(&inverse.0));
    }
    (s, v)
}
