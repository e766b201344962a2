//! One parameter: its state, and its step.

use goldstep_core::{Constraint, Element, Layout, Parameter};

use crate::execute::{Context, Split, each_block, fold};
use crate::kernels::elements::IsFlushed;
use crate::kernels::full::FullStatistics;
use crate::kernels::small::{BATCH, SmallFinding, SmallStatistics};
use crate::kernels::{Line, Unclipped};
use crate::lanes::LANES;
use crate::matrix::statistics;
use crate::memory::AlignedBuffer;
use crate::pass::{Part, Pass};
use crate::plan::{Axis, Cut, Plan, SPLIT};
use crate::real::{CpuElement, Real};
use crate::scalars::{Clipping, StepScalars, UpdateScale};
use crate::sparse::{Touched, literal_statistics};
use crate::squares::CarriedSum;
use crate::summary::{Summary, sum_of};
use crate::tile::{Tile, TileMut};

/// The running mean of the squared gradient.
#[derive(Debug, Clone)]
pub(crate) enum Moments<R: Real> {
    /// One value per element.
    Full(AlignedBuffer<R>),
    /// One value per row and one per column of each matrix.
    Factored { row_factor: AlignedBuffer<R>, column_factor: AlignedBuffer<R> },
}

/// What is kept for one parameter.
#[derive(Debug, Clone)]
pub struct Variable<T: CpuElement> {
    pub(crate) plan: Plan,
    pub(crate) moments: Moments<T::Real>,
    pub(crate) average: Option<AlignedBuffer<T::Real>>,
    /// Whether a gradient was ever seen; before, the second moment is zero.
    pub(crate) started: bool,
    /// `Σp²` as of the end of the last step, if nothing has changed the parameter since.
    pub(crate) square_sum: CarriedSum<T::Real>,
    /// `Σg²` of this step, for clipping by the global norm.
    pub(crate) gradient_squares: f64,
    /// A sparse gradient; empty until there is one.
    touched: Touched<T>,
    summaries: Vec<Summary<T::Real>>,
    /// Elements per index of the first axis.
    row_elements: usize,
    decays: bool,
    constraint: Option<Constraint>,
}

impl<T: CpuElement> Variable<T> {
    pub(crate) fn new(parameter: &Parameter) -> Self {
        let plan = Plan::new(parameter.layout());
        let moments = match parameter.layout() {
            Layout::Full { elements } => Moments::Full(AlignedBuffer::zeros(elements)),
            Layout::Factored { batches, rows, columns } => {
                let row_factor = AlignedBuffer::zeros(batches * rows);
                let column_factor = AlignedBuffer::zeros(batches * columns);
                Moments::Factored { row_factor, column_factor }
            }
        };
        Self {
            plan,
            moments,
            average: None,
            started: false,
            square_sum: CarriedSum::new(),
            gradient_squares: 0.0,
            touched: Touched::default(),
            summaries: vec![Summary::UNKNOWN; plan.summaries()],
            row_elements: parameter.row_elements(),
            decays: parameter.decays(),
            constraint: parameter.constraint(),
        }
    }

    /// One step with a gradient of the parameter's shape, or with the rows that were [`touch`](Self::touch)ed.
    pub(crate) fn step(
        &mut self,
        context: &Context<'_, T::Real>,
        scalars: &StepScalars<T::Real>,
        clipping: Clipping<T::Real>,
        parameter: &mut [T],
        gradient: Source<'_, T>,
    ) {
        self.started = true;
        let elements = self.plan.elements();
        if elements == 0 {
            self.moments.of_nothing();
            return;
        }
        let serial = context.serial();
        let context = if elements < SPLIT { &serial } else { context };
        let by_runs = matches!(gradient, Source::Touched);
        let square_sum = self.square_sum.get(context, &self.plan, parameter, by_runs);
        let decay = scalars.decay.filter(|_| self.decays);
        let step_size = scalars.step_size(square_sum, parameter, decay);
        let needs_all = decay.is_some()
            || scalars.ema.is_some()
            || self.constraint.is_some()
            // Zero times this is not zero.
            || step_size.is_nan()
            || step_size.abs() > T::Real::MAX.to_f64();
        let (lines, scratch) = match self.plan.update_lines() {
            0 => (self.plan.lines_of_one_task(), context.scratch),
            lines => (lines, context.updates),
        };
        let mut slot = (lines > 0).then(|| scratch.slot());
        let own = slot.as_deref_mut().map_or(&mut [][..], |slot| &mut slot[..lines]);
        let (update_squares, reach) =
            self.statistics(context, scalars, clipping, gradient, needs_all, own);
        let gradient = gradient.values(&self.touched);
        let mut scale = UpdateScale::new(step_size, scalars.divisor(update_squares, elements));
        if update_squares.to_bits() == 0 && !self.summaries.is_empty() {
            // No square of the gradient is in the normal range.
            let is_finite = scale.quotient.is_some();
            if is_finite && reach == Reach::All && is_flushed(context, gradient) {
                // All of it counts as zero, and so does any finite multiple.
                scale = UpdateScale::new(0.0, 1.0);
            } else {
                // Only the literal formula makes zeros of what is below it.
                self.summaries.iter_mut().for_each(Summary::make_literal);
            }
        }
        let update = Pass {
            context,
            clipping,
            decay,
            scale,
            underflow: scalars.underflow,
            ema: scalars.ema,
            constraint: self.constraint,
        };
        let average = self.average.as_deref_mut();
        let square_sum = match (&self.moments, self.plan) {
            (Moments::Full(second_moment), Plan::Full { cut, .. }) => {
                update.full(cut, parameter, gradient, average, (second_moment, own))
            }
            (Moments::Factored { column_factor, .. }, plan) if reach == Reach::Touched => {
                self.touched.update(&update, plan, parameter, column_factor, &self.summaries);
                self.square_sum.touch(&plan, self.touched.rows());
                return;
            }
            (
                Moments::Factored { row_factor, column_factor },
                Plan::Factored { batches: 1, columns, cut, .. },
            ) => {
                let part = Part {
                    parameter: TileMut::new(parameter, columns),
                    gradient: Tile::new(gradient, columns),
                    average: average.map(|average| TileMut::new(average, columns)),
                    row_factor,
                    column_factor,
                };
                update.matrix(cut, part, &self.summaries[0], own)
            }
            (Moments::Factored { row_factor, column_factor }, plan) => {
                let factors = (&**row_factor, &**column_factor);
                update.matrices(&plan, parameter, gradient, average, factors, &self.summaries)
            }
            _ => return,
        };
        let overwritten = scalars.ema.is_some_and(|ema| ema.overwrite);
        if overwritten || self.constraint.is_some() {
            self.square_sum.forget();
        } else {
            self.square_sum.carry(square_sum);
        }
    }

    /// Updates the second moment and returns `Σu²`, and how far the update reaches.
    fn statistics(
        &mut self,
        context: &Context<'_, T::Real>,
        scalars: &StepScalars<T::Real>,
        clipping: Clipping<T::Real>,
        gradient: Source<'_, T>,
        needs_all: bool,
        own: &mut [Line<T::Real>],
    ) -> (f64, Reach) {
        let (plan, elements) = (self.plan, self.plan.elements());
        let Self { moments, touched, summaries, .. } = self;
        let squares = match (moments, plan) {
            (Moments::Full(second_moment), Plan::Full { cut, .. }) => {
                let gradient = gradient.all(touched, elements);
                let moments = (&mut second_moment[..], own);
                full_statistics(context, cut, scalars, clipping, gradient, moments)
            }
            (
                Moments::Factored { row_factor, column_factor },
                Plan::Factored { batches, columns, cut, .. },
            ) => {
                let factors = (&mut row_factor[..], &mut column_factor[..]);
                if let Source::Touched = gradient
                    && !needs_all
                    && touched.are_few(elements)
                {
                    let found = touched.statistics(context, plan, scalars, factors, summaries);
                    if let Some(squares) = found {
                        return (squares, Reach::Touched);
                    }
                    let (factors, gradient) =
                        ((&row_factor[..], &column_factor[..]), touched.all(elements));
                    literal_statistics(context, plan, scalars, gradient, factors, summaries)
                } else {
                    let gradient = gradient.all(touched, elements);
                    if batches > 1 {
                        matrices(context, &plan, scalars, clipping, gradient, factors, summaries)
                    } else {
                        let matrix = Tile::new(gradient, columns);
                        let (summary, squares) =
                            statistics(context, cut, clipping, scalars, matrix, factors, own);
                        summaries.fill(summary);
                        squares
                    }
                }
            }
            // A plan and its moments are made together.
            _ => f64::NAN,
        };
        (squares, Reach::All)
    }

    /// Takes up a sparse gradient for [`step`](Self::step).
    pub(crate) fn touch(&mut self, clipping: Clipping<T::Real>, gradient: (&[i64], &[T])) {
        self.touched.gather(clipping, gradient, self.row_elements);
    }

    /// Starts the average at the parameter's value, unless there is one.
    pub(crate) fn start_average(&mut self, parameter: &[T]) {
        if self.average.is_none() {
            let mut average = AlignedBuffer::zeros(parameter.len());
            for (average, element) in average.iter_mut().zip(parameter) {
                *average = element.to_real();
            }
            self.average = Some(average);
        }
    }

    /// Bytes of the second moment.
    pub(crate) fn state_bytes(&self) -> usize {
        let values = match &self.moments {
            Moments::Full(second_moment) => second_moment.len(),
            Moments::Factored { row_factor, column_factor } => {
                row_factor.len() + column_factor.len()
            }
        };
        values * size_of::<T::Real>()
    }

    /// The full second moment, rebuilt: `flush(flush(r / mean(r)) ⊗ c)`, rounded once where nothing
    /// leaves the normal range.
    pub(crate) fn second_moment(&self) -> Vec<T> {
        if !self.started {
            return vec![T::from_real(T::Real::ZERO); self.plan.elements()];
        }
        match (&self.moments, self.plan) {
            (
                Moments::Factored { row_factor, column_factor },
                Plan::Factored { rows, columns, .. },
            ) if self.plan.elements() > 0 => {
                let mut values = Vec::with_capacity(self.plan.elements());
                let matrices = row_factor.chunks(rows).zip(column_factor.chunks(columns));
                for (r, c) in matrices {
                    let sum = sum_of(r);
                    #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
                    let count = rows as f64;
                    let mean = (T::Real::round_from(sum) / T::Real::round_from(count)).flush();
                    for &r in r {
                        let share = (r / mean).flush();
                        let exact_share = r.to_f64() / (sum / count);
                        values.extend(c.iter().map(|&c| {
                            let literal = (share * c).flush();
                            let is_normal = share.is_normal() && literal.is_normal();
                            let exact = T::Real::round_from(exact_share * c.to_f64());
                            T::from_real(if is_normal { exact } else { literal })
                        }));
                    }
                }
                values
            }
            (Moments::Full(second_moment), _) => {
                second_moment.iter().map(|&v| T::from_real(v)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Whether all of a gradient counts as zero: a frozen layer's, or that of an expert without tokens.
fn is_flushed<T: CpuElement>(context: &Context<'_, T::Real>, gradient: &[T]) -> bool {
    let leaf = |part: Tile<'_, T>| context.isa.run(IsFlushed { elements: part.elements() });
    let whole = Tile::new(gradient, gradient.len());
    fold(context, (Axis::Columns, SPLIT), whole, &leaf, &|left, right| left && right)
}

/// Where the gradient of a step is.
#[derive(Clone, Copy)]
pub enum Source<'a, T> {
    Given(&'a [T]),
    /// In [`Variable::touch`]ed rows.
    Touched,
}

impl<'a, T: CpuElement> Source<'a, T> {
    /// The gradient of all rows; made now if it is sparse.
    fn all<'s>(self, touched: &'s mut Touched<T>, elements: usize) -> &'s [T]
    where
        'a: 's,
    {
        match self {
            Self::Given(values) => values,
            Self::Touched => touched.all(elements),
        }
    }

    /// The same, made before.
    fn values<'s>(self, touched: &'s Touched<T>) -> &'s [T]
    where
        'a: 's,
    {
        match self {
            Self::Given(values) => values,
            Self::Touched => touched.dense(),
        }
    }
}

/// Which rows an update changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    All,
    Touched,
}

impl<R: Real> Moments<R> {
    /// The moments of a parameter without elements: means over an empty axis are NaN, as in Keras.
    fn of_nothing(&mut self) {
        if let Self::Factored { row_factor, column_factor } = self {
            row_factor.fill(R::round_from(f64::NAN));
            column_factor.fill(R::round_from(f64::NAN));
        }
    }
}

/// The sum, left first.
pub(crate) fn add(left: f64, right: f64) -> f64 {
    left + right
}

/// A run of elements and their second moments.
pub(crate) struct FullShare<'a, T: CpuElement> {
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) second_moment: TileMut<'a, T::Real>,
}

impl<T: CpuElement> Split for FullShare<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.gradient.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (gradient, other) = self.gradient.split(axis, at);
        let (second_moment, rest) = self.second_moment.split(axis, at);
        (Self { gradient, second_moment }, Self { gradient: other, second_moment: rest })
    }
}

/// Updates full second moments, and `updates` if they are to be kept, and returns `Σu²`.
fn full_statistics<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    scalars: &StepScalars<T::Real>,
    clipping: Clipping<T::Real>,
    gradient: &[T],
    (second_moment, updates): (&mut [T::Real], &mut [Line<T::Real>]),
) -> f64 {
    let (moment, underflow) = (scalars.moment, scalars.underflow);
    let run = |gradient: &[T], second_moment: &mut [_], updates: &mut [_]| {
        macro_rules! run {
            ($clip:expr) => {
                context.isa.run(FullStatistics {
                    gradient,
                    clip: $clip,
                    moment,
                    underflow,
                    second_moment,
                    updates,
                })
            };
        }
        match clipping.of_kernels() {
            None => run!(Unclipped),
            Some(clip) => run!(clip),
        }
    };
    if !updates.is_empty() {
        return run(gradient, second_moment, updates);
    }
    let leaf = |share| {
        let mut total = 0.0;
        each_block((cut.axis, cut.block), share, |mut block: FullShare<'_, T>| {
            total += run(block.gradient.row(0), block.second_moment.row(0), &mut []);
        });
        total
    };
    let length = gradient.len();
    let share = FullShare {
        gradient: Tile::new(gradient, length),
        second_moment: TileMut::new(second_moment, length),
    };
    fold(context, (cut.axis, cut.chunk), share, &leaf, &add)
}

/// Matrices of a parameter with their factors.
struct MatricesShare<'a, T: CpuElement> {
    gradient: Tile<'a, T>,
    row_factor: TileMut<'a, T::Real>,
    column_factor: TileMut<'a, T::Real>,
    summaries: &'a mut [Summary<T::Real>],
    matrices_per_summary: usize,
}

impl<T: CpuElement> Split for MatricesShare<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.gradient.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (gradient, gradient_rest) = self.gradient.split(axis, at);
        let (row_factor, row_rest) = self.row_factor.split(axis, at);
        let (column_factor, column_rest) = self.column_factor.split(axis, at);
        let (summaries, summaries_rest) =
            self.summaries.split_at_mut(at / self.matrices_per_summary);
        let rest = Self {
            gradient: gradient_rest,
            row_factor: row_rest,
            column_factor: column_rest,
            summaries: summaries_rest,
            ..self
        };
        (Self { gradient, row_factor, column_factor, summaries, ..self }, rest)
    }
}

/// Updates the factors of all matrices and returns `Σu²`.
pub(crate) fn matrices<T: CpuElement>(
    context: &Context<'_, T::Real>,
    plan: &Plan,
    scalars: &StepScalars<T::Real>,
    clipping: Clipping<T::Real>,
    gradient: &[T],
    (row_factor, column_factor): (&mut [T::Real], &mut [T::Real]),
    summaries: &mut [Summary<T::Real>],
) -> f64 {
    let Plan::Factored { rows, columns, group, small, cut, .. } = *plan else { return f64::NAN };
    let share = MatricesShare::<T> {
        gradient: Tile::new(gradient, rows * columns),
        row_factor: TileMut::new(row_factor, rows),
        column_factor: TileMut::new(column_factor, columns),
        summaries,
        matrices_per_summary: plan.matrices_per_summary(),
    };
    let leaf = |mut share: MatricesShare<'_, T>| {
        let mut total = 0.0;
        if small {
            let task = (context, scalars, clipping, (rows, columns));
            for index in 0..share.summaries.len() {
                total += batch(task, cut, &mut share, index);
            }
            return total;
        }
        for b in 0..share.gradient.rows() {
            let (summary, squares) = share.one(context, cut, clipping, scalars, b, columns);
            share.summaries[b] = summary;
            total += squares;
        }
        total
    };
    fold(context, (Axis::Rows, group), share, &leaf, &add)
}

/// Statistics of batch `index` of small matrices.
fn batch<T: CpuElement>(
    task: SmallTask<'_, '_, T::Real>,
    cut: Cut,
    share: &mut MatricesShare<'_, T>,
    index: usize,
) -> f64 {
    let start = index * BATCH * LANES;
    let end = share.gradient.rows().min(start + BATCH * LANES);
    let finding = small_statistics(task, share, start, (end - start) / LANES);
    share.summaries[index] = Summary::of_batch(finding);
    let mut total = finding.update_squares;
    for (at, first) in (start..end).step_by(LANES).enumerate() {
        if finding.regular >> at & 1 == 0 {
            let (context, scalars, clipping, (_, columns)) = task;
            for b in first..end.min(first + LANES) {
                total += share.one(context, cut, clipping, scalars, b, columns).1;
            }
        }
    }
    total
}

impl<T: CpuElement> MatricesShare<'_, T> {
    /// Statistics of matrix `b`.
    fn one(
        &mut self,
        context: &Context<'_, T::Real>,
        cut: Cut,
        clipping: Clipping<T::Real>,
        scalars: &StepScalars<T::Real>,
        b: usize,
        columns: usize,
    ) -> (Summary<T::Real>, f64) {
        let matrix = Tile::new(self.gradient.row(b), columns);
        let factors = (self.row_factor.row(b), self.column_factor.row(b));
        statistics(context, cut, clipping, scalars, matrix, factors, &mut [])
    }
}

/// What is the same for all small matrices of a parameter, with their rows and columns.
type SmallTask<'a, 's, R> = (&'a Context<'s, R>, &'a StepScalars<R>, Clipping<R>, (usize, usize));

/// Statistics of some sixteens of small matrices, from matrix `start` on.
fn small_statistics<T: CpuElement>(
    (context, scalars, clipping, (rows, columns)): SmallTask<'_, '_, T::Real>,
    share: &mut MatricesShare<'_, T>,
    start: usize,
    sixteens: usize,
) -> SmallFinding {
    let size = rows * columns;
    let end = start + sixteens * LANES;
    let gradient = &share.gradient.elements()[start * size..end * size];
    let row_factor = &mut share.row_factor.elements()[start * rows..end * rows];
    let column_factor = &mut share.column_factor.elements()[start * columns..end * columns];
    macro_rules! run {
        ($clip:expr) => {
            context.isa.run(SmallStatistics {
                shape: (rows, columns),
                gradient,
                clip: $clip,
                moment: scalars.moment,
                row_factor,
                column_factor,
                limits: Summary::limits(scalars.least_second_moment()),
            })
        };
    }
    match clipping.of_kernels() {
        None => run!(Unclipped),
        Some(clip) => run!(clip),
    }
}
