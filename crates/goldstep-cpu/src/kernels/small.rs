//! Many small matrices, as the last two axes of a convolution may be: sixteen at a time, one in
//! each lane.
//!
//! A 3 × 3 matrix of its own would spend its time in calls: 330 ns for nine elements. Elements are
//! first put into an order in which a vector holds the same element of sixteen matrices.

use super::transpose::{LONGEST, from_lanes, to_lanes};
use super::{Clip, Decay, Line, Moment, square};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};

/// Whether a matrix is small.
pub(crate) const fn is_small(rows: usize, columns: usize) -> bool {
    rows > 0 && columns > 0 && rows <= LONGEST && columns <= LONGEST
}

/// Lines of scratch for sixteen matrices.
pub(crate) const fn scratch_lines(rows: usize, columns: usize) -> usize {
    rows * columns + 2 * rows + columns
}

/// The clipped squares of sixteen matrices, in the order of memory.
pub(crate) struct SmallSquares<'a, T: CpuElement, C> {
    pub(crate) gradient: &'a [T],
    pub(crate) clip: C,
    pub(crate) squares: &'a mut [Line<T::Real>],
}

impl<T: CpuElement, C: Clip<T::Real>> Kernel for SmallSquares<'_, T, C> {
    type Element = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) {
        let (vectors, _) = self.gradient.as_chunks::<LANES>();
        for (line, vector) in self.squares.iter_mut().zip(vectors) {
            square(V::read(vector), self.clip).store(&mut line.0);
        }
    }
}

/// What has to hold so that the algebra agrees with the literal formula.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All factors, shares and second moments are above this
    pub(crate) low: f64,
    /// and below this.
    pub(crate) high: f64,
}

/// Statistics of sixteen matrices. Their factors change only if the limits hold.
pub(crate) struct SmallStatistics<'a, R> {
    /// Rows and columns.
    pub(crate) shape: (usize, usize),
    pub(crate) moment: Moment<R>,
    pub(crate) row_factor: &'a mut [R],
    pub(crate) column_factor: &'a mut [R],
    pub(crate) limits: Limits,
    /// Begins with the lines of [`SmallSquares`].
    pub(crate) scratch: &'a mut [Line<R>],
}

/// Sums and extremes of sixteen matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallSums {
    /// `Σu²`.
    pub(crate) update_squares: f64,
    /// Smallest and largest factor, share and second moment.
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl<R: Real> Kernel for SmallStatistics<'_, R> {
    type Element = R;
    /// Nothing where the limits do not hold.
    type Output = Option<SmallSums>;

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) -> Option<SmallSums> {
        match self.shape {
            // Unrolled for the usual convolution: 7 % of its step.
            (3, 3) => self.of_shape::<V>(3, 3),
            (rows, columns) => self.of_shape::<V>(rows, columns),
        }
    }
}

impl<R: Real> SmallStatistics<'_, R> {
    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    fn of_shape<V: Lanes<Real = R> + Memory<R>>(
        self,
        rows: usize,
        columns: usize,
    ) -> Option<SmallSums> {
        let Self { moment, row_factor, column_factor, .. } = self;
        let (squares, rest) = self.scratch.split_at_mut(rows * columns);
        let (r, rest) = rest.split_at_mut(rows);
        let (inverse, rest) = rest.split_at_mut(rows);
        let c = &mut rest[..columns];
        matrices_to_lanes::<V>(squares, rows, columns);
        copy_all(row_factor, r);
        to_lanes::<V>(r, rows, 1);
        copy_all(column_factor, c);
        to_lanes::<V>(c, columns, 1);

        let one = V::splat(R::ONE);
        // Not a division, of which there are too many here already.
        let share = |length: usize| V::splat(R::ONE / R::round_from(length as f64));
        let (of_rows, of_columns) = (share(rows), share(columns));
        let (mut range, mut mean) = ((V::splat(R::MAX), V::zero()), V::zero());
        for i in 0..rows {
            let mut sum = V::zero();
            for line in &squares[i * columns..(i + 1) * columns] {
                sum = sum.add(V::load(&line.0));
            }
            let new = moment.blend(V::load(&r[i].0), sum.mul(of_columns));
            new.store(&mut r[i].0);
            one.div(new).store(&mut inverse[i].0);
            mean = mean.add(new);
            range = (new.lesser(range.0), new.greater(range.1));
        }
        let mean = mean.mul(of_rows);
        let shares = (range.0.div(mean), range.1.div(mean));
        let mut of_c = (V::splat(R::MAX), V::zero());
        let mut quotients = V::zero();
        for j in 0..columns {
            let (mut sum, mut weighted) = (V::zero(), V::zero());
            for i in 0..rows {
                let square = V::load(&squares[i * columns + j].0);
                sum = sum.add(square);
                weighted = weighted.add(square.mul(V::load(&inverse[i].0)));
            }
            let new = moment.blend(V::load(&c[j].0), sum.mul(of_rows));
            new.store(&mut c[j].0);
            quotients = quotients.add(weighted.div(new));
            of_c = (new.lesser(of_c.0), new.greater(of_c.1));
        }
        let second = (shares.0.mul(of_c.0), shares.1.mul(of_c.1));
        let lowest = second.0.lesser(of_c.0).lesser(shares.0).lesser(range.0);
        let highest = second.1.greater(of_c.1).greater(shares.1).greater(range.1);
        let sums = SmallSums {
            update_squares: quotients.mul(mean).total(),
            lowest: lowest.least().to_f64(),
            highest: highest.largest().to_f64(),
        };
        // A NaN, which comparisons of extremes may miss, shows in the sum.
        let Limits { low, high } = self.limits;
        if !(sums.update_squares.is_finite() && sums.lowest > low && sums.highest < high) {
            return None;
        }
        from_lanes::<V>(r, rows, 1);
        write_all(r, row_factor);
        from_lanes::<V>(c, columns, 1);
        write_all(c, column_factor);
        Some(sums)
    }
}

/// What each element of sixteen matrices, whose range has been proved, is multiplied with:
/// `s_i·t_j`, in the order of memory.
pub(crate) struct SmallScales<'a, R> {
    /// Rows and columns.
    pub(crate) shape: (usize, usize),
    pub(crate) row_factor: &'a [R],
    pub(crate) column_factor: &'a [R],
    /// `(α / max(1, rms(u) / d))²`.
    pub(crate) square: R,
    /// Begins with the result.
    pub(crate) scratch: &'a mut [Line<R>],
}

impl<R: Real> Kernel for SmallScales<'_, R> {
    type Element = R;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) {
        match self.shape {
            (3, 3) => self.of_shape::<V>(3, 3),
            (rows, columns) => self.of_shape::<V>(rows, columns),
        }
    }
}

impl<R: Real> SmallScales<'_, R> {
    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    fn of_shape<V: Lanes<Real = R> + Memory<R>>(self, rows: usize, columns: usize) {
        let Self { square, .. } = self;
        let (layout, rest) = self.scratch.split_at_mut(rows * columns);
        let (s, rest) = rest.split_at_mut(rows);
        let t = &mut rest[..columns];
        copy_all(self.row_factor, s);
        to_lanes::<V>(s, rows, 1);
        copy_all(self.column_factor, t);
        to_lanes::<V>(t, columns, 1);
        let mut mean = V::zero();
        for line in s.iter() {
            mean = mean.add(V::load(&line.0));
        }
        let mean = mean.mul(V::splat(R::ONE / R::round_from(rows as f64)));
        let square = V::splat(square).mul(mean);
        let one = V::splat(R::ONE);
        for line in t.iter_mut() {
            one.div(V::load(&line.0)).sqrt().store(&mut line.0);
        }
        for (i, line) in s.iter().enumerate() {
            let row = square.div(V::load(&line.0)).sqrt();
            for (j, column) in t.iter().enumerate() {
                row.mul(V::load(&column.0)).store(&mut layout[i * columns + j].0);
            }
        }
        matrices_from_lanes::<V>(layout, rows, columns);
    }
}

/// `p −= g·s_i·t_j` of sixteen matrices.
pub(crate) struct SmallUpdate<'a, T: CpuElement, C, D> {
    pub(crate) parameter: &'a mut [T],
    pub(crate) gradient: &'a [T],
    pub(crate) clip: C,
    pub(crate) decay: D,
    /// From [`SmallScales`].
    pub(crate) scales: &'a [Line<T::Real>],
}

impl<T: CpuElement, C: Clip<T::Real>, D: Decay<T::Real>> Kernel for SmallUpdate<'_, T, C, D> {
    type Element = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) {
        let Self { parameter, gradient, clip, decay, scales } = self;
        let (p, _) = parameter.as_chunks_mut::<LANES>();
        let (g, _) = gradient.as_chunks::<LANES>();
        for ((p, g), factor) in p.iter_mut().zip(g).zip(scales) {
            let u = clip.apply(V::read(g)).mul(V::load(&factor.0));
            decay.apply(V::read(p)).sub(u).write(p);
        }
    }
}

/// Puts element `(i, j)` of matrix `l` into lane `l` of line `i·columns + j`: first the elements of
/// each sixteen rows, then the rows of the sixteen matrices.
#[inline(always)]
fn matrices_to_lanes<V: Lanes>(lines: &mut [Line<V::Real>], rows: usize, columns: usize) {
    for lines in lines.chunks_mut(columns) {
        to_lanes::<V>(lines, columns, 1);
    }
    for j in 0..columns {
        to_lanes::<V>(&mut lines[j..], rows, columns);
    }
}

/// The reverse.
#[inline(always)]
fn matrices_from_lanes<V: Lanes>(lines: &mut [Line<V::Real>], rows: usize, columns: usize) {
    for j in 0..columns {
        from_lanes::<V>(&mut lines[j..], rows, columns);
    }
    for lines in lines.chunks_mut(columns) {
        from_lanes::<V>(lines, columns, 1);
    }
}

#[inline(always)]
fn copy_all<R: Copy>(values: &[R], lines: &mut [Line<R>]) {
    for (line, values) in lines.iter_mut().zip(values.as_chunks::<LANES>().0) {
        line.0 = *values;
    }
}

#[inline(always)]
fn write_all<R: Copy>(lines: &[Line<R>], values: &mut [R]) {
    for (line, values) in lines.iter().zip(values.as_chunks_mut::<LANES>().0) {
        *values = line.0;
    }
}
