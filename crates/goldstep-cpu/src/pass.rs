//! The second pass over a parameter: update, average, constraint, block by block.

use std::ops::Range;

use goldstep_core::{Constraint, SecondMomentUnderflow};

use crate::execute::{Context, Split, each_block, fold_back};
use crate::kernels::elements::{Blend, constrain};
use crate::kernels::full::FullUpdate;
use crate::kernels::literal::{Factors, LiteralUpdate};
use crate::kernels::small::{BATCH, SmallSquareSum, SmallUpdate};
use crate::kernels::update::Update;
use crate::kernels::{Decayed, Line, Unclipped, Undecayed};
use crate::lanes::LANES;
use crate::matrix::{Factored, Forms, sum_over_blocks};
use crate::plan::{Axis, Cut, Plan};
use crate::real::{CpuElement, Real};
use crate::scalars::{Clipping, Ema, UpdateScale};
use crate::summary::{Summary, mean_of};
use crate::tile::{Tile, TileMut};
use crate::variable::add;

/// The second pass over a parameter: update, average, constraint.
pub(crate) struct Pass<'a, R> {
    pub(crate) context: &'a Context<'a, R>,
    pub(crate) clipping: Clipping<R>,
    pub(crate) decay: Option<Decayed<R>>,
    pub(crate) scale: UpdateScale<R>,
    pub(crate) underflow: SecondMomentUnderflow,
    pub(crate) ema: Option<Ema<R>>,
    pub(crate) constraint: Option<Constraint>,
}

/// A part of a parameter, its gradient and its average.
pub(crate) struct Part<'a, T: CpuElement> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) average: Option<TileMut<'a, T::Real>>,
    pub(crate) row_factor: &'a [T::Real],
    /// Or, below rank 2, the second moment itself, or the updates that were kept in its place.
    pub(crate) column_factor: &'a [T::Real],
}

impl<T: CpuElement> Split for Part<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.gradient.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (gradient, gradient_rest) = self.gradient.split(axis, at);
        let (parameter, parameter_rest) = self.parameter.split(axis, at);
        let (average, average_rest) = match self.average {
            Some(average) => {
                let (average, rest) = average.split(axis, at);
                (Some(average), Some(rest))
            }
            None => (None, None),
        };
        let (rows, columns) = match axis {
            Axis::Rows => (at.min(self.row_factor.len()), 0),
            Axis::Columns => (0, at.min(self.column_factor.len())),
        };
        let (row_first, row_rest) = self.row_factor.split_at(rows);
        let (column_first, column_rest) = self.column_factor.split_at(columns);
        // Along the other axis both parts keep the whole factor.
        let whole = |first, all, cut| if cut { first } else { all };
        let by_rows = axis == Axis::Rows;
        let first = Self {
            parameter,
            gradient,
            average,
            row_factor: whole(row_first, self.row_factor, by_rows),
            column_factor: whole(column_first, self.column_factor, !by_rows),
        };
        let rest = Self {
            parameter: parameter_rest,
            gradient: gradient_rest,
            average: average_rest,
            row_factor: whole(row_rest, self.row_factor, by_rows),
            column_factor: whole(column_rest, self.column_factor, !by_rows),
        };
        (first, rest)
    }
}

impl<'a, T: CpuElement> Factored<'a, T::Real> for Part<'a, T> {
    fn factors(&self) -> (&'a [T::Real], &'a [T::Real]) {
        (self.row_factor, self.column_factor)
    }
}

/// Runs a kernel with the clip and the decay of a pass.
macro_rules! with_clip_and_decay {
    ($pass:expr, |$clip:ident, $decay:ident| $kernel:expr) => {
        match ($pass.clipping.of_kernels(), $pass.decay) {
            (None, None) => {
                let ($clip, $decay) = (Unclipped, Undecayed);
                $pass.context.isa.run($kernel)
            }
            (None, Some(decay)) => {
                let ($clip, $decay) = (Unclipped, decay);
                $pass.context.isa.run($kernel)
            }
            (Some(clip), None) => {
                let ($clip, $decay) = (clip, Undecayed);
                $pass.context.isa.run($kernel)
            }
            (Some(clip), Some(decay)) => {
                let ($clip, $decay) = (clip, decay);
                $pass.context.isa.run($kernel)
            }
        }
    };
}

impl<R: Real> Pass<'_, R> {
    /// Updates a parameter below rank 2, with updates that were kept or from its second moments, and
    /// returns its `Σp²`.
    pub(crate) fn full<T: CpuElement<Real = R>>(
        &self,
        cut: Cut,
        parameter: &mut [T],
        gradient: &[T],
        average: Option<&mut [R]>,
        (second_moment, updates): (&[R], &[Line<R>]),
    ) -> f64 {
        let length = gradient.len();
        let is_kept = !updates.is_empty();
        let part = Part {
            parameter: TileMut::new(parameter, length),
            gradient: Tile::new(gradient, length),
            average: average.map(|average| TileMut::new(average, length)),
            row_factor: &[],
            column_factor: if is_kept { &Line::flatten(updates)[..length] } else { second_moment },
        };
        let leaf = |part| {
            let mut total = 0.0;
            each_block((cut.axis, cut.block), part, |mut block: Part<'_, T>| {
                total += with_clip_and_decay!(self, |clip, decay| FullUpdate {
                    parameter: block.parameter.reborrow(),
                    gradient: block.gradient,
                    clip,
                    decay,
                    source: block.column_factor,
                    is_kept,
                    underflow: self.underflow,
                    divisor: self.scale.divisor,
                    step_size: self.scale.step_size,
                });
                self.after(block);
            });
            total
        };
        fold_back(self.context, (cut.axis, cut.chunk), part, &leaf, &add)
    }

    /// Updates a parameter from rank 2 and returns its `Σp²`.
    pub(crate) fn matrices<T: CpuElement<Real = R>>(
        &self,
        plan: &Plan,
        parameter: &mut [T],
        gradient: &[T],
        average: Option<&mut [R]>,
        (row_factor, column_factor): (&[R], &[R]),
        summaries: &[Summary<R>],
    ) -> f64 {
        let Plan::Factored { rows, columns, group, small, cut, .. } = *plan else {
            return f64::NAN;
        };
        let size = rows * columns;
        let all = Matrices {
            parameter: TileMut::new(parameter, size),
            gradient: Tile::new(gradient, size),
            average: average.map(|average| TileMut::new(average, size)),
            first: 0,
        };
        let factors = (row_factor, column_factor);
        let leaf = |mut share: Matrices<'_, T>| {
            let mut total = 0.0;
            if small {
                each_block((Axis::Rows, BATCH * LANES), share, |batch| {
                    total += self.small_batch((cut, (rows, columns), factors, summaries), batch);
                });
            } else {
                for b in 0..share.gradient.rows() {
                    let summary = &summaries[share.first + b];
                    total +=
                        self.matrix(cut, share.one(b, (rows, columns), factors), summary, &mut []);
                }
            }
            total
        };
        fold_back(self.context, (Axis::Rows, group), all, &leaf, &add)
    }

    /// Updates a batch of small matrices and returns its `Σp²`.
    fn small_batch<T: CpuElement<Real = R>>(
        &self,
        (cut, shape, factors, summaries): SmallTask<'_, R>,
        mut batch: Matrices<'_, T>,
    ) -> f64 {
        let matrices = batch.gradient.rows();
        let summary = &summaries[batch.first / (BATCH * LANES)];
        let scale = summary.regular_scale(self.scale);
        let mut start = 0;
        while start < matrices {
            let count = (summary.sixteens >> (start / LANES)).trailing_ones() as usize;
            if let Some(scale) = scale
                && count > 0
            {
                let end = start + count * LANES;
                let squares = self.small_update(&mut batch, start..end, shape, factors, scale);
                if end - start == matrices {
                    return squares;
                }
                start = end;
                continue;
            }
            let end = matrices.min(start + LANES);
            for b in start..end {
                let part = batch.one(b, shape, factors);
                let summary = Summary::literal(mean_of(part.row_factor));
                self.matrix(cut, part, &summary, &mut []);
            }
            start = end;
        }
        self.context.isa.run(SmallSquareSum { shape, parameter: batch.parameter.elements() })
    }

    /// Updates some sixteens of small matrices of a batch and returns their `Σp²`.
    fn small_update<T: CpuElement<Real = R>>(
        &self,
        batch: &mut Matrices<'_, T>,
        matrices: Range<usize>,
        (rows, columns): (usize, usize),
        (row_factor, column_factor): (&[R], &[R]),
        scale: f64,
    ) -> f64 {
        let size = rows * columns;
        let (first, last) = (batch.first + matrices.start, batch.first + matrices.end);
        let row_factor = &row_factor[first * rows..last * rows];
        let column_factor = &column_factor[first * columns..last * columns];
        let range = matrices.start * size..matrices.end * size;
        let parameter = &mut batch.parameter.elements()[range.clone()];
        let gradient = &batch.gradient.elements()[range.clone()];
        let squares = with_clip_and_decay!(self, |clip, decay| SmallUpdate {
            shape: (rows, columns),
            parameter: &mut *parameter,
            gradient,
            clip,
            decay,
            row_factor,
            column_factor,
            square: R::round_from(scale * scale),
        });
        let average = batch.average.as_mut().map(|average| &mut average.elements()[range]);
        self.after(Part {
            parameter: TileMut::new(parameter, size),
            gradient: Tile::new(gradient, size),
            average: average.map(|average| TileMut::new(average, size)),
            row_factor: &[],
            column_factor: &[],
        });
        squares
    }

    /// Updates a matrix and returns its `Σp²`. `own` are the lines of one task, or none.
    pub(crate) fn matrix<T: CpuElement<Real = R>>(
        &self,
        cut: Cut,
        part: Part<'_, T>,
        summary: &Summary<R>,
        own: &mut [Line<R>],
    ) -> f64 {
        let (scale, mean) = (summary.regular_scale(self.scale), summary.mean);
        let forms = match scale {
            Some(scale) => Forms::Update { mean, scale },
            None => Forms::Literal,
        };
        sum_over_blocks(
            self.context,
            cut,
            forms,
            part,
            &|mut block, rows, first_row, columns| {
                let total = if scale.is_some() {
                    self.update(&mut block, rows, first_row, columns)
                } else {
                    let factors =
                        Factors { row_factor: rows, first_row, column_factor: columns, mean };
                    self.literal_update(&mut block, factors)
                };
                self.after(block);
                total
            },
            own,
        )
    }

    fn update<T: CpuElement<Real = R>>(
        &self,
        block: &mut Part<'_, T>,
        row_scale: &[Line<R>],
        first_row: usize,
        column_scale: &[Line<R>],
    ) -> f64 {
        with_clip_and_decay!(self, |clip, decay| Update {
            parameter: block.parameter.reborrow(),
            gradient: block.gradient,
            far: self.context.far,
            clip,
            decay,
            row_scale,
            first_row,
            column_scale,
        })
    }

    fn literal_update<T: CpuElement<Real = R>>(
        &self,
        block: &mut Part<'_, T>,
        factors: Factors<'_, R>,
    ) -> f64 {
        self.context.isa.run(LiteralUpdate {
            parameter: block.parameter.reborrow(),
            gradient: block.gradient,
            clip: self.clipping.clipped(),
            decay: self.decay,
            factors,
            underflow: self.underflow,
            divisor: self.scale.divisor,
            step_size: self.scale.step_size,
        })
    }

    /// What follows the update of a block while it is in the cache: average, then constraint.
    fn after<T: CpuElement<Real = R>>(&self, block: Part<'_, T>) {
        let mut parameter = block.parameter;
        if let (Some(ema), Some(average)) = (self.ema, block.average) {
            self.context.isa.run(Blend {
                parameter: parameter.reborrow(),
                average,
                momentum: ema.momentum,
                one_minus_momentum: ema.one_minus_momentum,
                overwrite: ema.overwrite,
            });
        }
        if let Some(constraint) = self.constraint {
            for row in 0..parameter.rows() {
                constrain(parameter.row(row), constraint);
            }
        }
    }
}

/// Matrices of a parameter, from number `first` on.
struct Matrices<'a, T: CpuElement> {
    parameter: TileMut<'a, T>,
    gradient: Tile<'a, T>,
    average: Option<TileMut<'a, T::Real>>,
    first: usize,
}

/// Small matrices: their cut, rows and columns, and the factors and summaries of all of a parameter.
type SmallTask<'a, R> = (Cut, (usize, usize), (&'a [R], &'a [R]), &'a [Summary<R>]);

impl<T: CpuElement> Matrices<'_, T> {
    /// Matrix `b` of these.
    fn one<'s>(
        &'s mut self,
        b: usize,
        (rows, columns): (usize, usize),
        (row_factor, column_factor): (&'s [T::Real], &'s [T::Real]),
    ) -> Part<'s, T> {
        let index = self.first + b;
        Part {
            parameter: TileMut::new(self.parameter.row(b), columns),
            gradient: Tile::new(self.gradient.row(b), columns),
            average: self.average.as_mut().map(|average| TileMut::new(average.row(b), columns)),
            row_factor: &row_factor[index * rows..(index + 1) * rows],
            column_factor: &column_factor[index * columns..(index + 1) * columns],
        }
    }
}

impl<T: CpuElement> Split for Matrices<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.gradient.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (gradient, gradient_rest) = self.gradient.split(axis, at);
        let (parameter, parameter_rest) = self.parameter.split(axis, at);
        let (average, average_rest) = match self.average {
            Some(average) => {
                let (average, rest) = average.split(axis, at);
                (Some(average), Some(rest))
            }
            None => (None, None),
        };
        let rest = Self {
            parameter: parameter_rest,
            gradient: gradient_rest,
            average: average_rest,
            first: self.first + at,
        };
        (Self { parameter, gradient, average, first: self.first }, rest)
    }
}
