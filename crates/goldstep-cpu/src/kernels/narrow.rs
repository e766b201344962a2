//! Matrices of few columns, whose rows do not fill vectors.

use super::rows::{Factors, InverseFactors, Sums};
use super::{Clip, Line, add_to, read_up_to, tree};
use crate::lanes::{LANES, Lanes, Memory, Routine};
use crate::tile::Tile;

/// Columns up to which a matrix is narrow.
pub(crate) const NARROW: usize = 64;
/// Elements by which memory is asked ahead. There is too much arithmetic on short rows for a
/// processor to look so far ahead of its own: 1,000,000 × 8 took 1.9 times the bound, and 1.4 so.
pub(super) const AHEAD: usize = 1024;
/// Rows whose sums are added in one chain, by sixteens.
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
    factors: Factors<V::Real>,
    sums: Sums<'_, V::Real>,
) {
    let n = gradient.columns();
    let whole = if matches!(n, 1 | 2 | 4 | 8) { row_factor.len() / LANES * LANES } else { 0 };
    let (first, rest) = gradient.split_rows(whole);
    let (first_factor, factor) = row_factor.split_at_mut(whole);
    let (c, w) = sums;
    match n {
        1 => packed::<T, V, C, 1>(first, clip, first_factor, factors, (&mut *c, &mut *w)),
        2 => packed::<T, V, C, 2>(first, clip, first_factor, factors, (&mut *c, &mut *w)),
        4 => packed::<T, V, C, 4>(first, clip, first_factor, factors, (&mut *c, &mut *w)),
        8 => packed::<T, V, C, 8>(first, clip, first_factor, factors, (&mut *c, &mut *w)),
        _ => {}
    }
    match n.div_ceil(LANES) {
        1 => padded::<T, V, C, 1>(rest, clip, factor, factors, (c, w)),
        2 => padded::<T, V, C, 2>(rest, clip, factor, factors, (c, w)),
        // Three vectors take the code of four: compiled once, and no slower.
        _ => padded::<T, V, C, 4>(rest, clip, factor, factors, (c, w)),
    }
}

/// Sixteens of rows of `N` columns, a power of two below sixteen: several rows fill a vector.
#[inline(always)]
fn packed<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const N: usize>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V::Real>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) {
    let share = V::splat(factors.share());
    let segments = row_factor.chunks_mut(SEGMENT).zip(gradient.elements().chunks(SEGMENT * N));
    for (row_factor, gradient) in segments {
        let (mut all_c, mut all_w) = ([V::zero(); SUMS], [V::zero(); SUMS]);
        let (sixteens, _) = row_factor.as_chunks_mut::<LANES>();
        let (vectors, _) = gradient.as_chunks::<LANES>();
        let (groups, _) = vectors.as_chunks::<N>();
        for (r, group) in sixteens.iter_mut().zip(groups) {
            let mut squares = [V::zero(); N];
            for k in 0..N {
                V::fetch(group[k].as_ptr().wrapping_add(AHEAD));
                squares[k] = clip.square(V::read(&group[k]));
            }
            // The number of columns is a power of two: the same bits as a division.
            let mean = sums_of_packed(&squares).mul(share);
            let inverse = factors.update_sixteen(r, mean);
            for k in 0..N {
                let inverse = inverse.permute(&ROWS_OF[N][k]);
                all_c[k % SUMS] = all_c[k % SUMS].add(squares[k]);
                all_w[k % SUMS] = all_w[k % SUMS].plus_product(squares[k], inverse);
            }
        }
        V::call(AddFolded { sums: &all_c, n: N, line: &mut column_sums[0] });
        V::call(AddFolded { sums: &all_w, n: N, line: &mut weighted_sums[0] });
    }
}

/// The sums of sixteen rows, which lie in `N` vectors.
#[inline(always)]
fn sums_of_packed<V: Lanes, const N: usize>(squares: &[V; N]) -> V {
    let mut sums = *squares;
    let mut count = N;
    for level in 0..N.ilog2() {
        count /= 2;
        for i in 0..count {
            let (a, b) = (sums[2 * i], sums[2 * i + 1]);
            sums[i] = if level < 2 { a.pair_sums(b) } else { a.four_sums(b) };
        }
    }
    if N == 1 { sums[0] } else { sums[0].permute(&SUM_OF_ROW[N]) }
}

/// For each `N`, in which lane [`sums_of_packed`] finds the sum of each row.
static SUM_OF_ROW: [[u32; LANES]; 9] = {
    let mut lanes = [[0; LANES]; 9];
    let mut at = 0;
    let mut row = 0;
    while at < LANES {
        // Vectors of two rows each: their first halves in one four, their second in the next.
        lanes[8][at] = row / 8 * 8 + row % 2 * 4 + row % 8 / 2;
        lanes[4][at] = row % 4 * 4 + row / 4;
        lanes[2][at] = row % 8 / 2 * 4 + row / 8 * 2 + row % 2;
        at += 1;
        row += 1;
    }
    lanes
};

/// Adds sums of `n` columns, which repeat along the lanes, to the first `n` lanes of a line.
struct AddFolded<'a, V: Lanes> {
    sums: &'a [V; SUMS],
    n: usize,
    line: &'a mut Line<V::Real>,
}

impl<V: Lanes> Routine<V> for AddFolded<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // In halves: one after the other, equal sums would round the same way 128 times.
        let (mut lanes, mut width) = (tree(*self.sums).to_array(), LANES);
        while width > self.n {
            width /= 2;
            for lane in 0..width {
                lanes[lane] = lanes[lane] + lanes[lane + width];
            }
        }
        for (column, &sum) in self.line.0.iter_mut().zip(&lanes[..self.n]) {
            *column = *column + sum;
        }
    }
}

/// `K` vectors of columns, of which the last may be empty or partly so: all column sums in
/// registers.
#[inline(always)]
fn padded<T, V: Lanes + Memory<T>, C: Clip<V::Real>, const K: usize>(
    gradient: Tile<'_, T>,
    clip: C,
    row_factor: &mut [V::Real],
    factors: Factors<V::Real>,
    (column_sums, weighted_sums): Sums<'_, V::Real>,
) {
    let n = gradient.columns();
    let segments = row_factor.chunks_mut(SEGMENT).zip(gradient.elements().chunks(SEGMENT * n));
    for (row_factor, gradient) in segments {
        let (mut all_c, mut all_w) = ([V::zero(); K], [V::zero(); K]);
        for (r, g) in row_factor.chunks_mut(LANES).zip(gradient.chunks(LANES * n)) {
            // Always sixteen, so that the compiler keeps all sums in registers.
            let mut sums = [V::zero(); LANES];
            for (i, sum) in sums.iter_mut().enumerate() {
                let row = g.get(i * n..(i + 1) * n).unwrap_or(&[]);
                for k in 0..K {
                    *sum = clip.add_square(*sum, vector_of::<T, V>(row, k));
                }
            }
            let inverse = V::call(InverseFactors { factors, row_factor: r, squares: &sums });
            // A sum of their own: in one chain of a segment equal squares cost 1.4e-6.
            let (mut c, mut w) = ([V::zero(); K], [V::zero(); K]);
            for (row, &inverse) in g.chunks_exact(n).zip(&inverse) {
                let inverse = V::splat(inverse);
                for k in 0..K {
                    let square = clip.square(vector_of::<T, V>(row, k));
                    c[k] = c[k].add(square);
                    w[k] = w[k].plus_product(square, inverse);
                }
            }
            for k in 0..K {
                all_c[k] = all_c[k].add(c[k]);
                all_w[k] = all_w[k].add(w[k]);
            }
        }
        for ((c, w), k) in column_sums.iter_mut().zip(weighted_sums.iter_mut()).zip(0..K) {
            add_to(all_c[k], c);
            add_to(all_w[k], w);
        }
    }
}

/// Vector `k` of a row, filled up with zeros.
#[inline(always)]
fn vector_of<T, V: Memory<T>>(row: &[T], k: usize) -> V {
    read_up_to::<T, V>(row.get(k * LANES..).unwrap_or(&[]))
}
