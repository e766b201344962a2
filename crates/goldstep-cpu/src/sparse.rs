//! A step with a gradient of some rows, which touches only those wherever it can.
//!
//! A row without a gradient has an update of zero: its elements stay, and its factor takes up a
//! zero. So the rows that have one are put together into a smaller parameter:
//!
//! ```text
//! gather      g of the touched rows, clipped, duplicates summed
//! statistics  r of these rows and all of c; r of the other rows: β₂ r + (1 − β₂) ε₁
//! update      p of these rows, put together and put back
//! ```
//!
//! From rank 3 on a row of the first axis is one or more whole matrices, whose factors the others
//! do not share.
//!
//! Everything is needed, and made dense, for decay, averages and constraints, for the second moment
//! of a vector, and where the literal formula may make something of nothing: `0 · (1 / √0)` is NaN.

use crate::execute::Context;
use crate::kernels::Extent;
use crate::kernels::factors::{ExtentOf, Rest};
use crate::matrix::{Region, SomeRows, literal_squares, statistics_of_rows};
use crate::pass::Pass;
use crate::plan::{BLOCK, Plan};
use crate::real::{CpuElement, Real};
use crate::scalars::{Clipping, StepScalars};
use crate::summary::{Summary, mean_of};
use crate::tile::Tile;
use crate::variable::matrices;

/// The rows of the first axis that a sparse gradient touches, and what belongs to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched<T: CpuElement> {
    /// Each row and its place in the gradient, in this order.
    places: Vec<(usize, usize)>,
    /// The rows, ascending, each once.
    rows: Vec<usize>,
    /// Elements of a row.
    row_elements: usize,
    gradient: Vec<T>,
    parameter: Vec<T>,
    row_factor: Vec<T::Real>,
    column_factor: Vec<T::Real>,
    /// The gradient of all rows, where it is needed.
    dense: Vec<T>,
}

impl<T: CpuElement> Touched<T> {
    /// Takes up a gradient as Keras does: clipped row by row, then duplicates summed.
    pub(crate) fn gather(
        &mut self,
        clipping: Clipping<T::Real>,
        (indices, values): (&[i64], &[T]),
        row_elements: usize,
    ) {
        let Self { places, rows, gradient, .. } = self;
        self.row_elements = row_elements;
        // Negative indices are dropped, as in Keras; none is beyond the last row.
        let row_of = |(place, &index): (usize, &i64)| Some((usize::try_from(index).ok()?, place));
        places.clear();
        places.extend(indices.iter().enumerate().filter_map(row_of));
        places.sort_unstable();
        rows.clear();
        gradient.clear();
        for duplicates in places.chunk_by(|left, right| left.0 == right.0) {
            rows.extend(duplicates.first().map(|&(row, _)| row));
            let start = gradient.len();
            gradient.resize(start + row_elements, T::default());
            for &(_, place) in duplicates {
                let values = &values[place * row_elements..][..row_elements];
                for (sum, value) in gradient[start..].iter_mut().zip(values) {
                    let clipped = clipping.of_one(value.to_real());
                    *sum = T::from_real(sum.to_real() + clipped);
                }
            }
        }
    }

    /// The rows of the first axis, ascending, each once.
    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The gradient of all rows.
    pub(crate) fn all(&mut self, elements: usize) -> &[T] {
        self.dense.clear();
        self.dense.resize(elements, T::default());
        copy_out(&self.rows, &self.gradient, &mut self.dense);
        &self.dense
    }

    /// The same, if it was made for this gradient.
    pub(crate) fn dense(&self) -> &[T] {
        &self.dense
    }

    /// Whether few enough of a parameter's elements are touched that the copies pay.
    pub(crate) const fn are_few(&self, elements: usize) -> bool {
        self.gradient.len() <= elements / 2
    }

    /// The plan of a parameter of these rows alone, cut as the whole one is.
    fn plan(&self, whole: Plan) -> Plan {
        match whole {
            Plan::Factored { batches: 1, columns, group, small, cut, .. } => {
                let rows = self.gradient.len() / columns;
                Plan::Factored { batches: 1, rows, columns, group, small, cut }
            }
            Plan::Factored { rows, columns, group, small, cut, .. } => {
                let batches = self.gradient.len() / (rows * columns);
                Plan::Factored { batches, rows, columns, group, small, cut }
            }
            full @ Plan::Full { .. } => full,
        }
    }

    /// Statistics of the touched rows, and what the factors of the others take up. Returns `Σu²`;
    /// nothing where that of the others may not be zero.
    pub(crate) fn statistics(
        &mut self,
        context: &Context<'_, T::Real>,
        whole: Plan,
        scalars: &StepScalars<T::Real>,
        (row_factor, column_factor): (&mut [T::Real], &mut [T::Real]),
        summaries: &mut [Summary<T::Real>],
    ) -> Option<f64> {
        let Plan::Factored { batches, rows, columns, cut, .. } = whole else { return None };
        let plan = self.plan(whole);
        let Self { rows: touched, gradient, row_elements, .. } = self;
        // Values of a factor for each row of the first axis.
        let per_row = |factor: &[T::Real]| factor.len() * *row_elements / whole.elements();
        let rest = |factor| context.isa.run(Rest { factor, moment: scalars.moment });
        let (own_rows, own_columns) = (&mut self.row_factor, &mut self.column_factor);
        copy_in(touched, per_row(row_factor), row_factor, own_rows);
        rest(row_factor);
        if batches == 1 {
            let some = SomeRows { gradient: Tile::new(gradient, columns), of: rows };
            let factors = (&mut own_rows[..], column_factor);
            let mut finding = statistics_of_rows(context, cut, scalars, some, factors);
            copy_out(touched, own_rows, row_factor);
            finding.row = extent_of(context, row_factor);
            let (summary, squares) = finding.regular(rows, scalars.least_second_moment())?;
            summaries.fill(summary);
            return Some(squares);
        }
        copy_in(touched, per_row(column_factor), column_factor, own_columns);
        rest(column_factor);
        let mut all = row_factor.chunks(rows).zip(column_factor.chunks(columns));
        let are_regular = all.all(|(row_factor, column_factor)| {
            let extent = |factor| context.isa.run(ExtentOf { factor });
            let (row, column) = (extent(row_factor), extent(column_factor));
            let least_kept = scalars.least_second_moment();
            Summary::new(mean_of(row_factor), row, column, least_kept).is_ever_regular()
        });
        let factors = (&mut own_rows[..], &mut own_columns[..]);
        let summaries = &mut summaries[..plan.summaries()];
        let unclipped = scalars.unclipped();
        let squares = matrices(context, &plan, scalars, unclipped, gradient, factors, summaries);
        copy_out(touched, own_rows, row_factor);
        copy_out(touched, own_columns, column_factor);
        // A NaN of a touched matrix becomes the scale of all of them.
        (are_regular && squares.is_finite()).then_some(squares)
    }

    /// Updates the touched rows after [`statistics`](Self::statistics).
    pub(crate) fn update(
        &mut self,
        pass: &Pass<'_, T::Real>,
        whole: Plan,
        parameter: &mut [T],
        column_factor: &[T::Real],
        summaries: &[Summary<T::Real>],
    ) {
        if self.gradient.is_empty() {
            return;
        }
        let plan = self.plan(whole);
        let is_matrix = matches!(whole, Plan::Factored { batches: 1, .. });
        copy_in(&self.rows, self.row_elements, parameter, &mut self.parameter);
        let column_factor = if is_matrix { column_factor } else { &self.column_factor };
        let factors = (&self.row_factor[..], column_factor);
        pass.matrices(&plan, &mut self.parameter, &self.gradient, None, factors, summaries);
        copy_out(&self.rows, &self.parameter, parameter);
    }
}

/// `Σu²` by the literal formula, after the factors have been updated.
pub(crate) fn literal_statistics<T: CpuElement>(
    context: &Context<'_, T::Real>,
    plan: Plan,
    scalars: &StepScalars<T::Real>,
    gradient: &[T],
    (row_factor, column_factor): (&[T::Real], &[T::Real]),
    summaries: &mut [Summary<T::Real>],
) -> f64 {
    let Plan::Factored { rows, columns, cut, .. } = plan else { return f64::NAN };
    summaries.fill(Summary::UNKNOWN);
    let factors = row_factor.chunks(rows).zip(column_factor.chunks(columns));
    let all = gradient.chunks(rows * columns).zip(factors).enumerate();
    let of_one = |(b, (gradient, (row_factor, column_factor))): (usize, (&[T], _))| {
        let mean = mean_of(row_factor);
        if plan.matrices_per_summary() == 1 {
            summaries[b] = Summary::literal(mean);
        }
        let region = Region { gradient: Tile::new(gradient, columns), row_factor, column_factor };
        literal_squares(context, cut, scalars.unclipped(), scalars.underflow, mean, region, &mut [])
    };
    all.map(of_one).fold(0.0, |total, squares| total + squares)
}

/// The extent of a factor, its sum in halves: equal values in one long chain round the same way.
fn extent_of<R: Real>(context: &Context<'_, R>, factor: &[R]) -> Extent {
    if factor.len() <= BLOCK {
        return context.isa.run(ExtentOf { factor });
    }
    let (left, right) = factor.split_at(factor.len() / 2);
    extent_of(context, left).join(extent_of(context, right))
}

/// Puts some rows of `per_row` values together.
fn copy_in<V: Copy>(rows: &[usize], per_row: usize, from: &[V], into: &mut Vec<V>) {
    into.clear();
    rows.iter().for_each(|row| into.extend_from_slice(&from[row * per_row..][..per_row]));
}

/// Puts them back.
fn copy_out<V: Copy>(rows: &[usize], from: &[V], into: &mut [V]) {
    let per_row = from.len() / rows.len().max(1);
    for (k, row) in rows.iter().enumerate() {
        into[row * per_row..][..per_row].copy_from_slice(&from[k * per_row..][..per_row]);
    }
}
