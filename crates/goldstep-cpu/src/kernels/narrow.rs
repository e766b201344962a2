//! Matrices of few columns, whose rows do not fill vectors.

use super::rows::{Factors, Sums};
use super::{Clip, add_to, read_up_to, square, tree};
use crate::lanes::{LANES, Lanes, Memory, sums_of_rows};
use crate::tile::Tile;

/// Columns up to which a matrix is narrow.
pub(super) const NARROW: usize = 64;
/// Rows whose sums are added in one chain of sixteens.
const SEGMENT: usize = 512;
/// Independent sums of columns.
const SUMS: usize = 4;

/// Where the lanes of sixteen rows of `n` elements, which lie in `n` vectors, belong: for each `n`
/// up to sixteen and each vector the rows, and the columns.
pub(super) static ROWS_OF: Places = places(true);
pub(super) static COLUMNS_OF: Places = places(false);

type Places = [[[u32; LANES]; LANES]; LANES + 1];

#[expect(clippy::cast_possible_truncation, reason = "indices below 16")]
const fn places(rows: bool) -> Places {
    let mut places = [[[0; LANES]; LANES]; LANES + 1];
    let mut n = 1;
    while n <= LANES {
        let mut at = 0;
        while at < n * LANES {
            places[n][at / LANES][at % LANES] = if rows { at / n } else { at % n } as u32;
            at += 1;
        }
        n += 1;
    }
    places
}

/// Statistics of a narrow matrix.
#[inline(always)]
pub(super) fn narrow<T, V: Lanes + Memory<T>, C: Clip<V::Real>>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V>,
    sums: Sums<'_, V::Real>,
) {
    match (gradient.columns(), gradient.columns().div_ceil(LANES)) {
        (1, _) => packed::<T, V, C, 1>(gradient, clip, row_factor, factors, sums),
        (2, _) => packed::<T, V, C, 2>(gradient, clip, row_factor, factors, sums),
        (4, _) => packed::<T, V, C, 4>(gradient, clip, row_factor, factors, sums),
        (8, _) => packed::<T, V, C, 8>(gradient, clip, row_factor, factors, sums),
        (_, 1) => padded::<T, V, C, 1>(gradient, clip, row_factor, factors, sums),
        (_, 2) => padded::<T, V, C, 2>(gradient, clip, row_factor, factors, sums),
        (_, 3) => padded::<T, V, C, 3>(gradient, clip, row_factor, factors, sums),
        _ => padded::<T, V, C, 4>(gradient, clip, row_factor, factors, sums),
    }
}

/// `N` columns, a power of two below sixteen: several rows fill a vector.
#[inline(always)]
fn packed<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const N: usize>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) {
    let segments = row_factor.chunks_mut(SEGMENT).zip(gradient.elements().chunks(SEGMENT * N));
    for (row_factor, gradient) in segments {
        let (mut all_c, mut all_w) = ([V::zero(); SUMS], [V::zero(); SUMS]);
        let (sixteens, rest) = row_factor.as_chunks_mut::<LANES>();
        let (vectors, _) = gradient.as_chunks::<LANES>();
        let (groups, _) = vectors.as_chunks::<N>();
        for (r, group) in sixteens.iter_mut().zip(groups) {
            let mut squares = [V::zero(); N];
            for k in 0..N {
                squares[k] = square(V::read(&group[k]), clip);
            }
            let mut sums = squares;
            let mut count = N;
            while count > 1 {
                count /= 2;
                for i in 0..count {
                    sums[i] = sums[2 * i].pair_sums(sums[2 * i + 1]);
                }
            }
            let inverse = factors.update_sixteen(r, sums[0]);
            for k in 0..N {
                let inverse = inverse.merge(inverse, &ROWS_OF[N][k]);
                all_c[k % SUMS] = all_c[k % SUMS].add(squares[k]);
                all_w[k % SUMS] = all_w[k % SUMS].add(squares[k].mul(inverse));
            }
        }
        let (c, w) = (tree(all_c).to_array(), tree(all_w).to_array());
        for lane in 0..LANES {
            let (sum, weighted) =
                (&mut column_sums[0].0[lane % N], &mut weighted_sums[0].0[lane % N]);
            *sum = *sum + c[lane];
            *weighted = *weighted + w[lane];
        }
        if !rest.is_empty() {
            let g = &gradient[sixteens.len() * LANES * N..];
            let (c, w) = sixteen::<T, V, C, 1, false>(g, N, clip, rest, factors);
            add_to(c[0], &mut column_sums[0]);
            add_to(w[0], &mut weighted_sums[0]);
        }
    }
}

/// `K` vectors of columns, of which the last may be partly empty: all column sums in registers.
#[inline(always)]
fn padded<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const K: usize>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) {
    let n = gradient.columns();
    let segments = row_factor.chunks_mut(SEGMENT).zip(gradient.elements().chunks(SEGMENT * n));
    for (row_factor, gradient) in segments {
        let (mut all_c, mut all_w) = ([V::zero(); K], [V::zero(); K]);
        for (r, g) in row_factor.chunks_mut(LANES).zip(gradient.chunks(LANES * n)) {
            // A constant number of rows lets the compiler keep them all in registers.
            let (c, w) = match r.len() {
                LANES => sixteen::<T, V, C, K, true>(g, n, clip, r, factors),
                _ => sixteen::<T, V, C, K, false>(g, n, clip, r, factors),
            };
            for k in 0..K {
                all_c[k] = all_c[k].add(c[k]);
                all_w[k] = all_w[k].add(w[k]);
            }
        }
        for k in 0..K {
            add_to(all_c[k], &mut column_sums[k]);
            add_to(all_w[k], &mut weighted_sums[k]);
        }
    }
}

/// At most sixteen rows of `K` vectors: updates their factors and returns their column sums.
#[inline(always)]
fn sixteen<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const K: usize, const ALL: bool>(
    g: &[T],
    n: usize,
    clip: C,
    r: &mut [V::Real],
    factors: Factors<V>,
) -> ([V; K], [V; K]) {
    let rows = if ALL { LANES } else { r.len() };
    let mut sums = [V::zero(); LANES];
    for i in 0..rows {
        let row = &g[i * n..(i + 1) * n];
        for k in 0..K {
            sums[i] = sums[i].add(square(vector_of::<T, V>(row, k), clip));
        }
    }
    let inverse = factors.update(r, sums_of_rows::<V, LANES>(&sums));
    let (mut c, mut w) = ([V::zero(); K], [V::zero(); K]);
    for i in 0..rows {
        let row = &g[i * n..(i + 1) * n];
        let inverse = V::splat(inverse[i]);
        for k in 0..K {
            let square = square(vector_of::<T, V>(row, k), clip);
            c[k] = c[k].add(square);
            w[k] = w[k].add(square.mul(inverse));
        }
    }
    (c, w)
}

/// Vector `k` of a row, filled up with zeros.
#[inline(always)]
fn vector_of<T, V: Memory<T>>(row: &[T], k: usize) -> V {
    read_up_to::<T, V>(&row[k * LANES..])
}
