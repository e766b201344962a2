//! Statistics of a factored parameter: factors, their range, and `Σu²`.
//!
//! ```text
//! for each matrix of the parameter:
//!     one read of g → r, c, and Σ_j W_j / c_j  (or, short and wide, Σ_i V_i / r_i)
//!     Σu² = mean(r) · that sum, if the range of r and c proves it
//!           else one more read of g, literally
//! ```
//!
//! In real arithmetic both are the same. In floating point Keras forms `r / mean(r)` and then `v`
//! in the parameter's type, where either can underflow to zero or overflow, and the update becomes
//! infinite or NaN; the algebra would stay finite. The proof takes the extremes of both factors.

use goldstep_core::{Element, SecondMomentUnderflow};

use crate::execute::{Context, Split, each_block, fold, fold_back};
use crate::kernels::columns::ColumnStatistics;
use crate::kernels::factors::{AddLines, FinishColumns, Form, Scales};
use crate::kernels::literal::{Factors, LiteralSquares};
use crate::kernels::rows::RowStatistics;
use crate::kernels::small::{Limits, SmallFinding};
use crate::kernels::{Extent, Line, Unclipped};
use crate::lanes::LANES;
use crate::plan::{Axis, Cut};
use crate::real::{CpuElement, Real};
use crate::scalars::{Clipping, StepScalars, UpdateScale};
use crate::scratch::Slot;
use crate::tile::Tile;

/// What the update needs to know of one matrix, or of a batch of small ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary<R> {
    /// `mean(r)` of one matrix.
    pub(crate) mean: R,
    /// Of a batch a bit for each sixteen that the other fields describe.
    pub(crate) sixteens: u64,
    /// Between which squares of `α / max(1, rms(u) / d)` the algebra agrees with the literal
    /// formula.
    least_square: f64,
    largest_square: f64,
}

impl<R: Real> Summary<R> {
    /// The summary of a matrix that has none yet: literal.
    pub(crate) const UNKNOWN: Self = Self::literal(R::ZERO);

    /// The summary of a matrix of which only `mean(r)` is known.
    pub(crate) const fn literal(mean: R) -> Self {
        Self { mean, sixteens: 0, least_square: f64::INFINITY, largest_square: 0.0 }
    }

    /// Leaves everything to the literal formula.
    pub(crate) const fn make_literal(&mut self) {
        *self = Self::literal(self.mean);
    }

    /// Room for intermediate results at both ends of the normal range.
    const MARGIN: f64 = 16.0;

    /// The ends of the range that intermediate results keep to.
    fn range() -> (f64, f64) {
        (R::MIN_POSITIVE.to_f64() * Self::MARGIN, R::MAX.to_f64() / Self::MARGIN)
    }

    /// `least_kept` is [`StepScalars::least_second_moment`].
    pub(crate) fn new(mean: R, row: Extent, column: Extent, least_kept: f64) -> Self {
        let (low, high) = Self::range();
        let divisor = mean.to_f64();
        let (least_share, largest_share) = (row.least / divisor, row.largest / divisor);
        let (least, largest) = (least_share * column.least, largest_share * column.largest);
        // A comparison with NaN is false, and a NaN among the factors shows in their sum.
        let inside = |value: f64| value > low && value < high;
        let in_range = [row.least, row.largest, row.sum, divisor, least_share, largest_share]
            .into_iter()
            .chain([column.least, column.largest, column.sum, least, largest])
            .all(inside)
            // 1 / r is a factor of the inner loop.
            && inside(1.0 / row.largest)
            && inside(1.0 / row.least)
            && inside(1.0 / column.least)
            && inside(1.0 / column.largest);
        let is_kept = [least, column.least / divisor, least_share, 1.0 / divisor]
            .into_iter()
            .all(|quotient| quotient > least_kept);
        if in_range && is_kept {
            // The scales with which `scale²`, `scale²·mean(r)`, `s_i²` and `(s_i·t_j)²` stay in the
            // normal range, for the smallest and the largest of each.
            Self {
                mean,
                sixteens: 0,
                least_square: low * (1.0 / divisor).max(largest_share).max(largest).max(1.0),
                largest_square: high * (1.0 / divisor).min(least_share).min(least).min(1.0),
            }
        } else {
            Self::literal(mean)
        }
    }

    /// What has to hold for each of some small matrices, so that [`of_batch`](Self::of_batch)
    /// describes it. The same conditions as for one.
    pub(crate) fn limits(least_kept: f64) -> Limits<R> {
        let (low, high) = Self::range();
        let (low, high) = (low.max(least_kept), high.min(1.0 / low));
        Limits {
            low: R::round_from(low),
            high: R::round_from(high),
            inverse_low: R::round_from(1.0 / low),
        }
    }

    /// The summary of a batch of small matrices: `scale²`, `s_i²` and `(s_i·t_j)²` of those within
    /// the limits stay in the normal range.
    pub(crate) fn of_batch(finding: SmallFinding) -> Self {
        let (low, high) = Self::range();
        Self {
            mean: R::ZERO,
            sixteens: finding.regular,
            least_square: low * finding.highest,
            largest_square: high * finding.lowest,
        }
    }

    /// Whether the algebra agrees with the literal formula for some scale.
    pub(crate) const fn is_ever_regular(&self) -> bool {
        self.least_square < self.largest_square
    }

    /// The scale if the algebra agrees with the literal formula: if all intermediate results stay
    /// in the normal range, or are exactly zero.
    pub(crate) fn regular_scale(&self, scale: UpdateScale<R>) -> Option<f64> {
        let quotient = scale.quotient?;
        let square = quotient * quotient;
        let is_regular = self.is_ever_regular()
            && square < self.largest_square
            && (square > self.least_square || quotient.to_bits() == 0);
        is_regular.then_some(quotient)
    }
}

/// Statistics of one matrix: updates its factors and returns its summary and `Σu²`.
pub(crate) fn statistics<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    clipping: Clipping<T::Real>,
    scalars: &StepScalars<T::Real>,
    gradient: Tile<'_, T>,
    (row_factor, column_factor): (&mut [T::Real], &mut [T::Real]),
) -> (Summary<T::Real>, f64) {
    let task = Task { context, cut, rows: gradient.rows(), clipping, scalars, gradient };
    let finding = task.run(row_factor, column_factor);
    if let Some(found) = finding.regular(gradient.rows(), scalars.least_second_moment()) {
        return found;
    }
    let region = Region { gradient, row_factor, column_factor };
    let mean = finding.mean(gradient.rows());
    let squares = literal_squares(context, cut, clipping, scalars.underflow, mean, region);
    (Summary::literal(mean), squares)
}

/// A matrix of which these are all rows that have a gradient.
pub(crate) struct SomeRows<'a, T> {
    pub(crate) gradient: Tile<'a, T>,
    /// Rows of the matrix.
    pub(crate) of: usize,
}

/// Statistics of such a matrix: updates the factors of these rows, and those of all columns. The
/// extent of its row factors is found by who knows the other rows.
pub(crate) fn statistics_of_rows<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    scalars: &StepScalars<T::Real>,
    SomeRows { gradient, of }: SomeRows<'_, T>,
    (row_factor, column_factor): (&mut [T::Real], &mut [T::Real]),
) -> Finding {
    let task = Task { context, cut, rows: of, clipping: scalars.unclipped(), scalars, gradient };
    task.run(row_factor, column_factor)
}

/// What one read of a gradient finds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) row: Extent,
    pub(crate) column: Extent,
    /// `Σ_j W_j / c_j`, or `Σ_i V_i / r_i`.
    pub(crate) quotients: f64,
}

impl Finding {
    /// `mean(r)`.
    fn mean<R: Real>(&self, rows: usize) -> R {
        #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
        let rows = R::round_from(rows as f64);
        (R::round_from(self.row.sum) / rows).flush()
    }

    /// The summary and `Σu²`, if the algebra agrees with the literal formula.
    pub(crate) fn regular<R: Real>(
        &self,
        rows: usize,
        least_kept: f64,
    ) -> Option<(Summary<R>, f64)> {
        let mean: R = self.mean(rows);
        let summary = Summary::new(mean, self.row, self.column, least_kept);
        let squares = mean.to_f64() * self.quotients;
        (summary.is_ever_regular() && squares.is_finite()).then_some((summary, squares))
    }
}

struct Task<'a, T: CpuElement> {
    context: &'a Context<'a, T::Real>,
    cut: Cut,
    /// Rows of the matrix, with or without a gradient.
    rows: usize,
    clipping: Clipping<T::Real>,
    scalars: &'a StepScalars<T::Real>,
    gradient: Tile<'a, T>,
}

impl<'a, T: CpuElement> Task<'a, T> {
    fn run(&self, row_factor: &mut [T::Real], column_factor: &mut [T::Real]) -> Finding {
        match self.cut.axis {
            Axis::Rows => self.by_rows(row_factor, column_factor),
            Axis::Columns => self.by_columns(row_factor, column_factor),
        }
    }

    fn by_rows(&self, row_factor: &mut [T::Real], column_factor: &mut [T::Real]) -> Finding {
        let context = self.context;
        let vectors = column_factor.len().div_ceil(LANES);
        let share = Share { gradient: self.gradient, factor: row_factor };
        let (sums, row) = fold(
            context,
            (Axis::Rows, self.cut.chunk),
            share,
            &|share| {
                let mut sums = context.slot();
                clear(&mut sums[..2 * vectors]);
                let extent = self.row_statistics(share, &mut sums[..2 * vectors]);
                (sums, extent)
            },
            &|left, right| merge(context, 2 * vectors, left, right),
        );
        let (column_sums, weighted_sums) = sums[..2 * vectors].split_at(vectors);
        let (column, quotients) = context.isa.run(FinishColumns {
            column_sums,
            weighted_sums,
            rows: self.rows(),
            moment: self.scalars.moment,
            column_factor,
        });
        Finding { row, column, quotients }
    }

    #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
    fn rows(&self) -> T::Real {
        T::Real::round_from(self.rows as f64)
    }

    fn by_columns(&self, row_factor: &mut [T::Real], column_factor: &mut [T::Real]) -> Finding {
        let context = self.context;
        let rows = row_factor.len();
        let share = Share { gradient: self.gradient, factor: column_factor };
        let (sums, column) = fold(
            context,
            (Axis::Columns, self.cut.chunk),
            share,
            &|share| {
                let mut sums = context.slot();
                clear(&mut sums[..2 * rows]);
                let extent = self.column_statistics(share, &mut sums[..2 * rows]);
                (sums, extent)
            },
            &|left, right| merge(context, 2 * rows, left, right),
        );
        let (row_sums, weighted_sums) = sums[..2 * rows].split_at(rows);
        let (row, quotients) = self.finish_rows(row_factor, row_sums, weighted_sums);
        Finding { row, column, quotients }
    }

    /// `r` of a short matrix from its row sums, and `Σ_i V_i / r_i`.
    fn finish_rows(
        &self,
        row_factor: &mut [T::Real],
        row_sums: &[Line<T::Real>],
        weighted_sums: &[Line<T::Real>],
    ) -> (Extent, f64) {
        let moment = self.scalars.moment;
        let total = |line: &Line<T::Real>| line.0.iter().fold(0.0, |sum, x| sum + x.to_f64());
        #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
        let columns = T::Real::round_from(self.gradient.columns() as f64);
        let mut extent = Extent::EMPTY;
        let mut quotients = 0.0;
        for ((r, sum), weighted) in row_factor.iter_mut().zip(row_sums).zip(weighted_sums) {
            let mean = T::Real::round_from(total(sum)) / columns;
            *r = moment.blend_one(*r, mean);
            let value = r.to_f64();
            extent = extent.join(Extent { least: value, largest: value, sum: value });
            quotients += total(weighted) / value;
        }
        (extent, quotients)
    }

    fn row_statistics(&self, share: Share<'_, T>, sums: &mut [Line<T::Real>]) -> Extent {
        let (column_sums, weighted_sums) = sums.split_at_mut(sums.len() / 2);
        let Share { gradient, factor: row_factor } = share;
        let moment = self.scalars.moment;
        macro_rules! run {
            ($clip:expr) => {
                self.context.isa.run(RowStatistics {
                    gradient,
                    far: self.context.far,
                    clip: $clip,
                    moment,
                    row_factor,
                    column_sums,
                    weighted_sums,
                })
            };
        }
        match self.clipping.of_kernels() {
            None => run!(Unclipped),
            Some(clip) => run!(clip),
        }
    }

    fn column_statistics(&self, share: Share<'_, T>, sums: &mut [Line<T::Real>]) -> Extent {
        let (row_sums, weighted_sums) = sums.split_at_mut(sums.len() / 2);
        let Share { gradient, factor: column_factor } = share;
        let moment = self.scalars.moment;
        macro_rules! run {
            ($clip:expr) => {
                self.context.isa.run(ColumnStatistics {
                    gradient,
                    count: self.rows(),
                    clip: $clip,
                    moment,
                    column_factor,
                    row_sums,
                    weighted_sums,
                })
            };
        }
        match self.clipping.of_kernels() {
            None => run!(Unclipped),
            Some(clip) => run!(clip),
        }
    }
}

/// A part of a gradient and the part of a factor that belongs to it.
struct Share<'a, T: CpuElement> {
    gradient: Tile<'a, T>,
    factor: &'a mut [T::Real],
}

impl<T: CpuElement> Split for Share<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.gradient.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (gradient, other) = self.gradient.split(axis, at);
        let (factor, rest) = self.factor.split_at_mut(at);
        (Self { gradient, factor }, Self { gradient: other, factor: rest })
    }
}

fn clear<R: Real>(lines: &mut [Line<R>]) {
    lines.fill(Line([R::ZERO; LANES]));
}

fn merge<'a, R: Real>(
    context: &Context<'a, R>,
    lines: usize,
    (mut left, left_extent): (Slot<'a, R>, Extent),
    (right, right_extent): (Slot<'a, R>, Extent),
) -> (Slot<'a, R>, Extent) {
    context.isa.run(AddLines { target: &mut left[..lines], source: &right[..lines] });
    (left, left_extent.join(right_extent))
}

/// A part of a matrix that is only read.
#[derive(Clone, Copy)]
pub(crate) struct Region<'a, T: CpuElement> {
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) row_factor: &'a [T::Real],
    pub(crate) column_factor: &'a [T::Real],
}

impl<T: CpuElement> Split for Region<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.gradient.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (gradient, other) = self.gradient.split(axis, at);
        let (rows, columns) = match axis {
            Axis::Rows => (at, self.column_factor.len()),
            Axis::Columns => (self.row_factor.len(), at),
        };
        let first = Self {
            gradient,
            row_factor: &self.row_factor[..rows],
            column_factor: &self.column_factor[..columns],
        };
        let second = match axis {
            Axis::Rows => Self { gradient: other, row_factor: &self.row_factor[rows..], ..self },
            Axis::Columns => {
                Self { gradient: other, column_factor: &self.column_factor[columns..], ..self }
            }
        };
        (first, second)
    }
}

/// How the two factors enter a pass over a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forms<R> {
    /// As shares of the update: `s_i = √(scale²·mean / r_i)`, `t_j = √(1 / c_j)`. The root halves
    /// the rounding of the quotient.
    Update {
        /// `mean(r)`.
        mean: R,
        /// `α / max(1, rms(u) / d)`.
        scale: f64,
    },
    /// As they are.
    Literal,
}

impl<R: Real> Forms<R> {
    /// Writes the form of row factors.
    fn rows(&self, context: &Context<'_, R>, factor: &[R], target: &mut [Line<R>]) {
        let form = match *self {
            Self::Update { mean, scale } => {
                Form::InverseRoot { square: R::round_from(scale * scale * mean.to_f64()) }
            }
            Self::Literal => Form::Same,
        };
        context.isa.run(Scales { factor, form, target });
    }

    /// Writes the form of column factors.
    fn columns(&self, context: &Context<'_, R>, factor: &[R], target: &mut [Line<R>]) {
        let form = match *self {
            Self::Update { .. } => Form::InverseRoot { square: R::ONE },
            Self::Literal => Form::Same,
        };
        context.isa.run(Scales { factor, form, target });
    }
}

/// Runs `step(block, row lines, first row, column lines)` over all blocks of a matrix and adds its
/// results in the fixed order of the cut.
pub(crate) fn sum_over_blocks<R: Real, S: Split>(
    context: &Context<'_, R>,
    cut: Cut,
    forms: Forms<R>,
    (row_factor, column_factor): (&[R], &[R]),
    share: S,
    factors_of: &(impl Fn(&S) -> (&[R], &[R]) + Sync),
    step: &(impl Fn(S, &[Line<R>], usize, &[Line<R>]) -> f64 + Sync),
) -> f64 {
    let mut shared = context.slot();
    match cut.axis {
        Axis::Rows => forms.columns(context, column_factor, &mut shared),
        Axis::Columns => forms.rows(context, row_factor, &mut shared),
    }
    let shared = &*shared;
    let leaf = |share: S| {
        let mut own = context.slot();
        let mut total = 0.0;
        match cut.axis {
            Axis::Rows => {
                forms.rows(context, factors_of(&share).0, &mut own);
                let mut row = 0;
                each_block((Axis::Rows, cut.block), share, |block| {
                    let rows = block.length(Axis::Rows);
                    total += step(block, &own, row, shared);
                    row += rows;
                });
            }
            Axis::Columns => each_block((Axis::Columns, cut.block), share, |block| {
                forms.columns(context, factors_of(&block).1, &mut own);
                total += step(block, shared, 0, &own);
            }),
        }
        total
    };
    fold_back(context, (cut.axis, cut.chunk), share, &leaf, &|left, right| left + right)
}

/// `Σu²` by the literal formula.
pub(crate) fn literal_squares<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    clipping: Clipping<T::Real>,
    underflow: SecondMomentUnderflow,
    mean: T::Real,
    region: Region<'_, T>,
) -> f64 {
    sum_over_blocks(
        context,
        cut,
        Forms::Literal,
        (region.row_factor, region.column_factor),
        region,
        &|region| (region.row_factor, region.column_factor),
        &|region, row_factor, first_row, column_factor| {
            let gradient = region.gradient;
            let factors = Factors { row_factor, first_row, column_factor, mean };
            let clip = clipping.clipped();
            context.isa.run(LiteralSquares { gradient, clip, factors, underflow })
        },
    )
}

/// `mean(r)` of a matrix.
pub(crate) fn mean_of<R: Real>(row_factor: &[R]) -> R {
    #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
    let rows = R::round_from(row_factor.len() as f64);
    (R::round_from(sum_of(row_factor)) / rows).flush()
}

/// The sum, in halves: in one chain of 100,000 equal values 5,000 times epsilon were lost.
pub(crate) fn sum_of<R: Real>(values: &[R]) -> f64 {
    if values.len() <= 8 {
        return values.iter().fold(0.0, |sum, value| sum + value.to_f64());
    }
    let (left, right) = values.split_at(values.len() / 2);
    sum_of(left) + sum_of(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::kernels::Moment;
    use crate::kernels::small::SmallStatistics;

    /// A gradient of zeros gives factors of `ε₁`, far below those of its neighbours.
    #[test]
    fn a_dead_filter_leaves_its_neighbours_regular() {
        let (shape, mut gradient) = ((3, 3), [0.1_f32; 2 * LANES * 9]);
        gradient[..9].fill(0.0);
        for isa in Isa::available() {
            let (mut row_factor, mut column_factor) = ([0.0; 2 * LANES * 3], [0.0; 2 * LANES * 3]);
            let finding = isa.run(SmallStatistics {
                shape,
                gradient: &gradient,
                clip: Unclipped,
                moment: Moment { beta_2: 0.0, one_minus_beta_2: 1.0, epsilon_1: 1e-30 },
                row_factor: &mut row_factor,
                column_factor: &mut column_factor,
                limits: Summary::limits(1e-38),
            });
            assert_eq!(finding.regular, 0b11, "{}", isa.name());
            let scale = UpdateScale::<f32>::new(1e-5, 1.0);
            let summary = Summary::of_batch(finding);
            assert!(summary.regular_scale(scale).is_some(), "{}: {summary:?}", isa.name());
            assert_eq!(row_factor[0].to_bits(), 1e-30_f32.to_bits(), "{}", isa.name());
        }
    }
}
