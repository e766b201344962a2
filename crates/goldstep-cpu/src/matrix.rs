//! Statistics of a factored parameter: factors, their range, and `Σu²`.
//!
//! ```text
//! for each matrix of the parameter:
//!     one read of g → r, c, and Σ_j W_j / c_j  (or, short and wide, Σ_i V_i / r_i)
//!     Σu² = mean(r) · that sum, if the range of r and c proves it
//!           else one more read of g, literally
//! ```
//!
//! Both are the same in real arithmetic; [`crate::summary`] proves where they are in floating point.

use goldstep_core::{Element, SecondMomentUnderflow};

use crate::execute::{Context, Split, each_block, each_block_back, fold, fold_back};
use crate::kernels::columns::ColumnStatistics;
use crate::kernels::factors::{AddLines, FinishColumns, Form, Scales};
use crate::kernels::literal::{Factors, LiteralSquares};
use crate::kernels::rows::RowStatistics;
use crate::kernels::{Extent, Line, Unclipped};
use crate::lanes::LANES;
use crate::plan::{Axis, Cut};
use crate::real::{CpuElement, Real};
use crate::scalars::{Clipping, StepScalars};
use crate::scratch::Slot;
use crate::summary::{Finding, Summary};
use crate::tile::Tile;

/// Statistics of one matrix: updates its factors and returns its summary and `Σu²`. `own` are the
/// lines of one task, or none.
pub(crate) fn statistics<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    clipping: Clipping<T::Real>,
    scalars: &StepScalars<T::Real>,
    gradient: Tile<'_, T>,
    (row_factor, column_factor): (&mut [T::Real], &mut [T::Real]),
    own: &mut [Line<T::Real>],
) -> (Summary<T::Real>, f64) {
    let task = Task { context, cut, rows: gradient.rows(), clipping, scalars, gradient };
    let finding = task.run(row_factor, column_factor, own);
    if let Some(found) = finding.regular(gradient.rows(), scalars.least_second_moment()) {
        return found;
    }
    let region = Region { gradient, row_factor, column_factor };
    let mean = finding.mean(gradient.rows());
    let squares = literal_squares(context, cut, clipping, scalars.underflow, mean, region, own);
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
    task.run(row_factor, column_factor, &mut [])
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
    fn run(
        &self,
        row_factor: &mut [T::Real],
        column_factor: &mut [T::Real],
        own: &mut [Line<T::Real>],
    ) -> Finding {
        match self.cut.axis {
            Axis::Rows => self.by_rows(row_factor, column_factor, own),
            Axis::Columns => self.by_columns(row_factor, column_factor),
        }
    }

    fn by_rows(
        &self,
        row_factor: &mut [T::Real],
        column_factor: &mut [T::Real],
        own: &mut [Line<T::Real>],
    ) -> Finding {
        let context = self.context;
        let lines = 2 * column_factor.len().div_ceil(LANES);
        let share = Share { gradient: self.gradient, factor: row_factor };
        if let Some(sums) = own.get_mut(..lines) {
            clear(sums);
            let row = self.row_statistics(share, sums);
            return self.finish_columns(column_factor, sums, row);
        }
        let (sums, row) = fold(
            context,
            (Axis::Rows, self.cut.chunk),
            share,
            &|share| {
                let mut sums = context.slot();
                clear(&mut sums[..lines]);
                let extent = self.row_statistics(share, &mut sums[..lines]);
                (sums, extent)
            },
            &|left, right| merge(context, lines, left, right),
        );
        self.finish_columns(column_factor, &sums[..lines], row)
    }

    /// `c` from the column sums `C` and `W`.
    fn finish_columns(
        &self,
        column_factor: &mut [T::Real],
        sums: &[Line<T::Real>],
        row: Extent,
    ) -> Finding {
        let (column_sums, weighted_sums) = sums.split_at(sums.len() / 2);
        let (column, quotients) = self.context.isa.run(FinishColumns {
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

/// A part of a matrix with its factors.
pub(crate) trait Factored<'a, R>: Split {
    /// `r` and `c`.
    fn factors(&self) -> (&'a [R], &'a [R]);
}

impl<'a, T: CpuElement> Factored<'a, T::Real> for Region<'a, T> {
    fn factors(&self) -> (&'a [T::Real], &'a [T::Real]) {
        (self.row_factor, self.column_factor)
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
/// results in the fixed order of the cut. `own` are the lines of one task, or none.
pub(crate) fn sum_over_blocks<'a, R: Real, S: Factored<'a, R>>(
    context: &Context<'_, R>,
    cut: Cut,
    forms: Forms<R>,
    share: S,
    step: &(impl Fn(S, &[Line<R>], usize, &[Line<R>]) -> f64 + Sync),
    own: &mut [Line<R>],
) -> f64 {
    let (row_factor, column_factor) = share.factors();
    let rows = |share: S, columns: &[Line<R>], own: &mut [Line<R>]| {
        forms.rows(context, share.factors().0, own);
        let (mut total, mut row) = (0.0, share.length(Axis::Rows));
        each_block_back((Axis::Rows, cut.block), share, |block| {
            row -= block.length(Axis::Rows);
            total += step(block, own, row, columns);
        });
        total
    };
    if !own.is_empty() {
        let (columns, own) = own.split_at_mut(column_factor.len().div_ceil(LANES));
        forms.columns(context, column_factor, columns);
        return rows(share, columns, own);
    }
    let mut shared = context.slot();
    match cut.axis {
        Axis::Rows => forms.columns(context, column_factor, &mut shared),
        Axis::Columns => forms.rows(context, row_factor, &mut shared),
    }
    let shared = &*shared;
    let leaf = |share: S| {
        let mut own = context.slot();
        if cut.axis == Axis::Rows {
            return rows(share, shared, &mut own);
        }
        let mut total = 0.0;
        each_block((Axis::Columns, cut.block), share, |block| {
            forms.columns(context, block.factors().1, &mut own);
            total += step(block, shared, 0, &own);
        });
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
    own: &mut [Line<T::Real>],
) -> f64 {
    sum_over_blocks(
        context,
        cut,
        Forms::Literal,
        region,
        &|region, row_factor, first_row, column_factor| {
            let gradient = region.gradient;
            let factors = Factors { row_factor, first_row, column_factor, mean };
            let clip = clipping.clipped();
            context.isa.run(LiteralSquares { gradient, clip, factors, underflow })
        },
        own,
    )
}
