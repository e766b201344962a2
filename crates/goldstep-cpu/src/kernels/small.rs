//! Many small matrices, as the last two axes of a convolution may be: batches of sixteens, of which
//! each lane holds one.
//!
//! A 3 × 3 matrix of its own would spend its time in calls: 330 ns for nine elements. Elements are
//! first put into an order in which a vector holds the same element of sixteen matrices.

use super::narrow::AHEAD;
use super::transpose::{LONGEST, from_lanes, to_lanes};
use super::{Clip, Decay, Line, Moment, square};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};

/// Whether a matrix is small.
pub(crate) const fn is_small(rows: usize, columns: usize) -> bool {
    rows > 0 && columns > 0 && rows <= LONGEST && columns <= LONGEST
}

/// Sixteens at most that a kernel is called for: a call for each took a fifth of the time of
/// 3 × 3 matrices.
pub(crate) const BATCH: usize = 8;

/// Lines of scratch for a batch.
pub(crate) const fn scratch_lines(rows: usize, columns: usize) -> usize {
    BATCH * rows * columns + 2 * rows + columns
}

/// The clipped squares of a batch of matrices, in the order of memory.
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
            V::fetch(vector.as_ptr().wrapping_add(AHEAD));
            square(V::read(vector), self.clip).store(&mut line.0);
        }
    }
}

/// What has to hold so that the algebra agrees with the literal formula.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<R> {
    /// All factors, shares and second moments are above this
    pub(crate) low: R,
    /// and below this.
    pub(crate) high: R,
}

/// Statistics of a batch of matrices. The factors of sixteen change only if the limits hold.
pub(crate) struct SmallStatistics<'a, R> {
    /// Rows and columns.
    pub(crate) shape: (usize, usize),
    pub(crate) moment: Moment<R>,
    pub(crate) row_factor: &'a mut [R],
    pub(crate) column_factor: &'a mut [R],
    pub(crate) limits: Limits<R>,
    /// Begins with the lines of [`SmallSquares`].
    pub(crate) scratch: &'a mut [Line<R>],
    /// What is found of each sixteen: nothing where the limits do not hold.
    pub(crate) ranges: &'a mut [Option<SmallRange>],
}

/// Smallest and largest factor, share and second moment of sixteen matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallRange {
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl<R: Real> Kernel for SmallStatistics<'_, R> {
    type Element = R;
    /// `Σu²` of those within the limits.
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) -> f64 {
        match self.shape {
            // Unrolled for the usual convolution: 7 % of its step.
            (3, 3) => self.of_shape::<V>(3, 3),
            (rows, columns) => self.of_shape::<V>(rows, columns),
        }
    }
}

impl<R: Real> SmallStatistics<'_, R> {
    #[inline(always)]
    fn of_shape<V: Lanes<Real = R> + Memory<R>>(self, rows: usize, columns: usize) -> f64 {
        let Self { moment, limits, .. } = self;
        let (squares, rest) = self.scratch.split_at_mut(self.ranges.len() * rows * columns);
        let mut sum = V::zero();
        let matrices = squares.chunks_exact_mut(rows * columns).zip(self.ranges);
        let factors = self.row_factor.chunks_exact_mut(rows * LANES);
        let factors = factors.zip(self.column_factor.chunks_exact_mut(columns * LANES));
        for ((squares, range), (row_factor, column_factor)) in matrices.zip(factors) {
            let task = Sixteen { shape: (rows, columns), moment, limits, squares };
            *range = task.statistics::<V>(row_factor, column_factor, rest, &mut sum);
        }
        sum.total()
    }
}

/// Sixteen matrices of a batch.
struct Sixteen<'a, R> {
    shape: (usize, usize),
    moment: Moment<R>,
    limits: Limits<R>,
    squares: &'a mut [Line<R>],
}

impl<R: Real> Sixteen<'_, R> {
    /// Their range, if they are within the limits; `Σu²` is then added to `sum`.
    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    fn statistics<V: Lanes<Real = R> + Memory<R>>(
        self,
        row_factor: &mut [R],
        column_factor: &mut [R],
        scratch: &mut [Line<R>],
        total: &mut V,
    ) -> Option<SmallRange> {
        let Self { shape: (rows, columns), moment, limits, squares } = self;
        let (r, rest) = scratch.split_at_mut(rows);
        let (inverse, rest) = rest.split_at_mut(rows);
        let c = &mut rest[..columns];
        matrices_to_lanes::<V>(squares, rows, columns);
        copy_all::<V>(row_factor, r);
        to_lanes::<V>(r, rows, 1);
        copy_all::<V>(column_factor, c);
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
        let update_squares = quotients.mul(mean);
        // A NaN, which comparisons of extremes may miss, shows in the sum.
        let is_regular = V::splat(limits.low).is_below(lowest)
            && highest.is_below(V::splat(limits.high))
            && update_squares.is_below(V::splat(R::MAX));
        if !is_regular {
            return None;
        }
        *total = total.add(update_squares);
        from_lanes::<V>(r, rows, 1);
        write_all(r, row_factor);
        from_lanes::<V>(c, columns, 1);
        write_all(c, column_factor);
        Some(SmallRange { lowest: lowest.least().to_f64(), highest: highest.largest().to_f64() })
    }
}

/// What each element of a batch of matrices, whose range has been proved, is multiplied with:
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
    fn of_shape<V: Lanes<Real = R> + Memory<R>>(self, rows: usize, columns: usize) {
        let sixteens = self.row_factor.len() / (rows * LANES);
        let (layout, rest) = self.scratch.split_at_mut(sixteens * rows * columns);
        let factors = self.row_factor.chunks_exact(rows * LANES);
        let factors = factors.zip(self.column_factor.chunks_exact(columns * LANES));
        for (layout, factors) in layout.chunks_exact_mut(rows * columns).zip(factors) {
            Self::of_sixteen::<V>((rows, columns), factors, self.square, layout, rest);
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    fn of_sixteen<V: Lanes<Real = R> + Memory<R>>(
        (rows, columns): (usize, usize),
        (row_factor, column_factor): (&[R], &[R]),
        square: R,
        layout: &mut [Line<R>],
        scratch: &mut [Line<R>],
    ) {
        let (s, rest) = scratch.split_at_mut(rows);
        let t = &mut rest[..columns];
        copy_all::<V>(row_factor, s);
        to_lanes::<V>(s, rows, 1);
        copy_all::<V>(column_factor, t);
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

/// `p −= g·s_i·t_j` of a batch of matrices.
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
            V::fetch(p.as_ptr().wrapping_add(AHEAD));
            V::fetch(g.as_ptr().wrapping_add(AHEAD));
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
fn copy_all<V: Lanes>(values: &[V::Real], lines: &mut [Line<V::Real>]) {
    for (line, values) in lines.iter_mut().zip(values.as_chunks::<LANES>().0) {
        V::fetch(values.as_ptr().wrapping_add(AHEAD));
        line.0 = *values;
    }
}

#[inline(always)]
fn write_all<R: Copy>(lines: &[Line<R>], values: &mut [R]) {
    for (line, values) in lines.iter().zip(values.as_chunks_mut::<LANES>().0) {
        *values = line.0;
    }
}
