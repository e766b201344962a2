//! Many small matrices, as the last two axes of a convolution may be: batches of sixteens, of which
//! each lane holds one.
//!
//! A 3 × 3 matrix of its own would spend its time in calls: 330 ns for nine elements. Elements are
//! permuted so that a vector holds the same element of sixteen matrices.

use super::narrow::AHEAD;
use super::transpose::{LONGEST, from_lanes, repeated, spread, to_lanes};
use super::{Clip, Decay, Moment, read_up_to};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory, Routine};
use crate::real::{CpuElement, Real};
use goldstep_core::Element;

/// Whether a matrix is small.
pub(crate) const fn is_small(rows: usize, columns: usize) -> bool {
    rows > 0 && columns > 0 && rows <= LONGEST && columns <= LONGEST
}

/// Sixteens at most that a kernel is called for, a bit each of a u64: a call for each took a fifth
/// of the time of 3 × 3 matrices.
pub(crate) const BATCH: usize = 64;

/// Vector `j` of row `k` of sixteen matrices, as they follow each other in memory.
type Vectors<V, const N: usize> = [[V; N]; N];

/// What has to hold so that the algebra agrees with the literal formula.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<R> {
    /// All factors, shares and second moments are above this
    pub(crate) low: R,
    /// and below this.
    pub(crate) high: R,
    /// `1 / low`: column factors times this are above the mean of the row factors, so that no
    /// `g² / r` that counts is below the normal range.
    pub(crate) inverse_low: R,
}

/// Statistics of a batch of matrices. The factors of sixteen change only if the limits hold.
pub(crate) struct SmallStatistics<'a, T: CpuElement, C> {
    /// Rows and columns.
    pub(crate) shape: (usize, usize),
    pub(crate) gradient: &'a [T],
    pub(crate) clip: C,
    pub(crate) moment: Moment<T::Real>,
    pub(crate) row_factor: &'a mut [T::Real],
    pub(crate) column_factor: &'a mut [T::Real],
    pub(crate) limits: Limits<T::Real>,
}

/// What is found of those sixteens of a batch that are within the limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallFinding {
    /// A bit for each of them.
    pub(crate) regular: u64,
    /// Bounds of all factors, shares and second moments, and of one.
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// `Σu²`.
    pub(crate) update_squares: f64,
}

impl<T: CpuElement, C: Clip<T::Real>> Kernel for SmallStatistics<'_, T, C> {
    type Element = T;
    type Output = SmallFinding;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> SmallFinding {
        match self.shape {
            (3, 3) => self.of_shape::<V, UNROLLED>(3, 3),
            (rows, columns) if rows.max(columns) <= FEW => self.of_shape::<V, FEW>(rows, columns),
            (rows, columns) => self.of_shape::<V, LONGEST>(rows, columns),
        }
    }
}

/// Rows and columns of the usual convolution, whose kernels are unrolled and keep to registers.
const UNROLLED: usize = 3;

/// Rows and columns of matrices for which room for [`LONGEST`] would cost more than they do.
const FEW: usize = 4;

/// Runs a part of a kernel for matrices of at most `N` rows and columns.
#[inline(always)]
fn run<V: Lanes, P: Routine<V>, const N: usize>(part: P) -> P::Output {
    if N == UNROLLED { part.run() } else { V::call(part) }
}

impl<T: CpuElement, C: Clip<T::Real>> SmallStatistics<'_, T, C> {
    #[inline(always)]
    fn of_shape<V: Lanes<Real = T::Real> + Memory<T>, const N: usize>(
        self,
        rows: usize,
        columns: usize,
    ) -> SmallFinding {
        let Self { clip, moment, limits, .. } = self;
        let one = V::splat(T::Real::ONE);
        let mut all = Finding { lowest: one, highest: one, update_squares: V::zero() };
        let mut regular = 0;
        let mut squares = [[V::zero(); N]; N];
        let (vectors, _) = self.gradient.as_chunks::<LANES>();
        let sixteens = vectors.chunks_exact(rows * columns).enumerate();
        let factors = self.row_factor.chunks_exact_mut(rows * LANES);
        let factors = factors.zip(self.column_factor.chunks_exact_mut(columns * LANES));
        for ((at, vectors), (row_factor, column_factor)) in sixteens.zip(factors) {
            for k in 0..rows {
                for j in 0..columns {
                    let vector = &vectors[k * columns + j];
                    V::fetch(vector.as_ptr().wrapping_add(AHEAD));
                    squares[k][j] = clip.square(V::read(vector));
                }
            }
            let (shape, squares, all) = ((rows, columns), &squares, &mut all);
            let part = Sixteen { shape, squares, moment, limits, row_factor, column_factor, all };
            regular |= u64::from(run::<V, _, N>(part)) << at;
        }
        SmallFinding {
            regular,
            lowest: all.lowest.least().to_f64(),
            highest: all.highest.largest().to_f64(),
            update_squares: all.update_squares.total(),
        }
    }
}

/// A [`SmallFinding`] in lanes.
struct Finding<V> {
    lowest: V,
    highest: V,
    update_squares: V,
}

/// Sixteen matrices of a batch, of at most `N` rows and columns.
struct Sixteen<'a, V: Lanes, const N: usize> {
    shape: (usize, usize),
    squares: &'a Vectors<V, N>,
    moment: Moment<V::Real>,
    limits: Limits<V::Real>,
    row_factor: &'a mut [V::Real],
    column_factor: &'a mut [V::Real],
    all: &'a mut Finding<V>,
}

impl<V: Lanes, const N: usize> Routine<V> for Sixteen<'_, V, N> {
    /// Whether they are within the limits; then the finding takes them up.
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { shape: (rows, columns), squares, moment, limits, .. } = self;
        let Self { row_factor, column_factor, all, .. } = self;
        let zero = V::zero();
        // `β·old + (1 − β)·ε₁ + Σ·(1 − β)/n`, as few operations after the sum as possible. What falls
        // below the normal range need not become zero, since that is not within the limits.
        let kept = V::splat(moment.beta_2);
        let constant = V::splat(moment.one_minus_beta_2 * moment.epsilon_1);
        let of_rows = V::splat(moment.one_minus_beta_2 / count(rows));
        let of_columns = V::splat(moment.one_minus_beta_2 / count(columns));

        // First with a row of a matrix in each lane, in the order of the row factors in memory.
        let (mut r, mut by_row) = (read::<V, N>(row_factor), [[zero; N]; N]);
        for k in 0..rows {
            by_row[k] = to_lanes(&squares[k], columns);
            let old = constant.plus_product(kept, r[k]);
            r[k] = old.plus_product(sum(&by_row[k], columns), of_columns);
        }
        // Then with a matrix.
        let of_matrix = to_lanes(&r, rows);
        let mean = mean(&of_matrix, rows);
        let (mut inverse, mut least_row) = ([zero; N], of_matrix[0]);
        for i in 0..rows {
            inverse[i] = V::splat(V::Real::ONE).div(of_matrix[i]);
            least_row = of_matrix[i].lesser(least_row);
        }
        let mut c = to_lanes(&read::<V, N>(column_factor), columns);
        let (mut least, mut largest, mut quotients) = (V::splat(V::Real::MAX), zero, zero);
        for j in 0..columns {
            let mut vectors = [zero; N];
            for k in 0..rows {
                vectors[k] = by_row[k][j];
            }
            let column = to_lanes(&vectors, rows);
            let old = constant.plus_product(kept, c[j]);
            c[j] = old.plus_product(sum(&column, rows), of_rows);
            let mut weighted = column[0].mul(inverse[0]);
            for i in 1..rows {
                weighted = weighted.plus_product(column[i], inverse[i]);
            }
            quotients = quotients.add(weighted.div(c[j]));
            (least, largest) = (c[j].lesser(least), c[j].greater(largest));
        }

        // The mean of a row factor is not below its least value, so that the least share is at most
        // one and the least second moment at most the least column factor. Nor is any share, or any
        // row factor over the mean, above the number of rows.
        let least_share = least_row.div(mean);
        let lowest = least_share.mul(least).lesser(least_share).lesser(least_row);
        let highest = largest.greater(mean).mul(V::splat(count(rows)));
        let update_squares = quotients.mul(mean);
        // A NaN, which comparisons of extremes may miss, shows in the sum, and what is below the
        // limit can be added up over a batch.
        let is_regular = V::splat(limits.low).is_below(lowest)
            && mean.is_below(least.mul(V::splat(limits.inverse_low)))
            && highest.greater(update_squares).is_below(V::splat(limits.high));
        if is_regular {
            write(&r, row_factor);
            write(&from_lanes(&c, columns), column_factor);
            all.lowest = lowest.lesser(all.lowest);
            all.highest = highest.greater(all.highest);
            all.update_squares = all.update_squares.add(update_squares);
        }
        is_regular
    }
}

/// `p −= g·s_i·t_j` of a batch of matrices whose range has been proved.
pub(crate) struct SmallUpdate<'a, T: CpuElement, C, D> {
    /// Rows and columns.
    pub(crate) shape: (usize, usize),
    pub(crate) parameter: &'a mut [T],
    pub(crate) gradient: &'a [T],
    pub(crate) clip: C,
    pub(crate) decay: D,
    pub(crate) row_factor: &'a [T::Real],
    pub(crate) column_factor: &'a [T::Real],
    /// `(α / max(1, rms(u) / d))²`.
    pub(crate) square: T::Real,
}

impl<T: CpuElement, C: Clip<T::Real>, D: Decay<T::Real>> Kernel for SmallUpdate<'_, T, C, D> {
    type Element = T;
    /// As [`SmallSquareSum`].
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        match self.shape {
            (3, 3) => self.of_shape::<V, UNROLLED>(3, 3),
            (rows, columns) if rows.max(columns) <= FEW => self.of_shape::<V, FEW>(rows, columns),
            (rows, columns) => self.of_shape::<V, LONGEST>(rows, columns),
        }
    }
}

impl<T: CpuElement, C: Clip<T::Real>, D: Decay<T::Real>> SmallUpdate<'_, T, C, D> {
    #[inline(always)]
    fn of_shape<V: Lanes<Real = T::Real> + Memory<T>, const N: usize>(
        self,
        rows: usize,
        columns: usize,
    ) -> f64 {
        let Self { clip, decay, square, .. } = self;
        let mut scales = [[V::zero(); N]; N];
        let mut total = V::zero();
        let (p, _) = self.parameter.as_chunks_mut::<LANES>();
        let (g, _) = self.gradient.as_chunks::<LANES>();
        let size = rows * columns;
        let sixteens = p.chunks_exact_mut(size).zip(g.chunks_exact(size));
        let factors = self.row_factor.chunks_exact(rows * LANES);
        let factors = factors.zip(self.column_factor.chunks_exact(columns * LANES));
        for ((p, g), (row_factor, column_factor)) in sixteens.zip(factors) {
            let (shape, scales) = ((rows, columns), &mut scales);
            let part = Scales { shape, row_factor, column_factor, square, scales: &mut *scales };
            run::<V, _, N>(part);
            let mut of_sixteen = V::zero();
            for k in 0..rows {
                let mut of_row = V::zero();
                for j in 0..columns {
                    let (p, g) = (&mut p[k * columns + j], &g[k * columns + j]);
                    V::fetch(p.as_ptr().wrapping_add(AHEAD));
                    V::fetch(g.as_ptr().wrapping_add(AHEAD));
                    let (old, g) = (decay.apply(V::read(p)), clip.apply(V::read(g)));
                    let new = old.minus_product(g, scales[k][j]).write(p);
                    of_row = of_row.plus_product(new, new);
                }
                of_sixteen = of_sixteen.add(of_row);
            }
            total = total.add(of_sixteen);
        }
        total.total()
    }
}

/// `Σp²` of a batch of matrices, the last sixteen of which may be fewer.
pub(crate) struct SmallSquareSum<'a, T: CpuElement> {
    /// Rows and columns.
    pub(crate) shape: (usize, usize),
    pub(crate) parameter: &'a [T],
}

impl<T: CpuElement> Kernel for SmallSquareSum<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let (rows, columns) = self.shape;
        let mut total = V::zero();
        for sixteen in self.parameter.chunks(rows * columns * LANES) {
            let mut of_sixteen = V::zero();
            for row in sixteen.chunks(columns * LANES) {
                let mut of_row = V::zero();
                for vector in row.chunks(LANES) {
                    let p = read_up_to::<T, V>(vector);
                    of_row = of_row.plus_product(p, p);
                }
                of_sixteen = of_sixteen.add(of_row);
            }
            total = total.add(of_sixteen);
        }
        total.total()
    }
}

/// What each element of sixteen matrices is multiplied with: `s_i·t_j`.
struct Scales<'a, V: Lanes, const N: usize> {
    shape: (usize, usize),
    row_factor: &'a [V::Real],
    column_factor: &'a [V::Real],
    square: V::Real,
    scales: &'a mut Vectors<V, N>,
}

impl<V: Lanes, const N: usize> Routine<V> for Scales<'_, V, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { shape: (rows, columns), scales, .. } = self;
        let (square, one) = (V::splat(self.square), V::splat(V::Real::ONE));
        let (mut s, mut t) = (read::<V, N>(self.row_factor), read::<V, N>(self.column_factor));
        let mean = mean(&to_lanes(&s, rows), rows);
        for (k, share) in s[..rows].iter_mut().enumerate() {
            let mean = mean.permute(repeated(rows, k));
            // The quotient first: it is in the normal range where the mean alone is not.
            *share = mean.div(*share).mul(square).sqrt();
        }
        for share in &mut t[..columns] {
            *share = one.div(*share).sqrt();
        }
        for (k, scales) in scales[..rows].iter_mut().enumerate() {
            for (j, scale) in scales[..columns].iter_mut().enumerate() {
                let of_row = s[k].permute(repeated(columns, j));
                *scale = of_row.mul(spread(&t, (rows, columns), k * columns + j));
            }
        }
    }
}

/// The sum of the first `n` vectors.
#[inline(always)]
fn sum<V: Lanes, const N: usize>(vectors: &[V; N], n: usize) -> V {
    let mut sum = vectors[0];
    for vector in &vectors[1..n] {
        sum = sum.add(*vector);
    }
    sum
}

#[expect(clippy::cast_precision_loss, reason = "at most 8")]
fn count<R: Real>(length: usize) -> R {
    R::round_from(length as f64)
}

/// The mean of the first `n` vectors. Not by a division, of which there are too many here already.
#[inline(always)]
fn mean<V: Lanes, const N: usize>(vectors: &[V; N], n: usize) -> V {
    sum(vectors, n).mul(V::splat(V::Real::ONE / count(n)))
}

/// The factors of sixteen matrices, in the order of memory.
#[inline(always)]
fn read<V: Lanes, const N: usize>(factors: &[V::Real]) -> [V; N] {
    let mut vectors = [V::zero(); N];
    for (vector, factors) in vectors.iter_mut().zip(factors.as_chunks::<LANES>().0) {
        V::fetch(factors.as_ptr().wrapping_add(AHEAD));
        *vector = V::load(factors);
    }
    vectors
}

#[inline(always)]
fn write<V: Lanes, const N: usize>(vectors: &[V; N], factors: &mut [V::Real]) {
    for (vector, factors) in vectors.iter().zip(factors.as_chunks_mut::<LANES>().0) {
        vector.store(factors);
    }
}
