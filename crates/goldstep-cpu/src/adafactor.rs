//! The optimizer: a list of parameters, their state, and where a step runs.
//!
//! ```text
//! plan                  tiles of each parameter, a function of its shape          plan.rs
//! scalars of the step   ρ, β₂, … once                                             scalars.rs
//! for each parameter    in parallel, large ones split, small ones grouped         execute.rs
//!     norm of g         only when one clips
//!     Σp²               carried from the last update, or one read of p
//!     statistics        one read of g: r, c, rms(u)                               matrix.rs
//!     update            one read of g, one of p, one write of p                   pass.rs
//! ```
//!
//! Where the operations of the algorithm are, by their labels in goldstep-reference:
// A1: `StepScalars::new`. A2: `Clipping`, applied where a kernel reads an element.
// A3: `Variable::densify`. A4: `Decayed`. A5–A7: `StepScalars::step_size`.
// A8–A11: `Moment::blend` in the kernels `rows`, `columns`, `full`, `factors`.
// A12, A13: `kernels::literal`, or taken together in `kernels::update`.
// A14, A15: `matrix::statistics`, `StepScalars::divisor`. A16: `kernels::update`.
// A17, A18: `Blend`. A19: `constrain`. A20: `Adafactor::step_trusting`.

use std::marker::PhantomData;

use goldstep_core::{
    AdafactorArguments, AdafactorState, Error, Gradient, GradientClipping, HostOptimizer,
    LearningRate, ParameterList, SecondMoment, StepReport, Values, VariableState,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::bound::{Extra, Stream};
use crate::execute::Context;
use crate::isa::Isa;
use crate::memory::AlignedBuffer;
use crate::plan::Plan;
use crate::real::{CpuElement, Real};
use crate::scalars::{Clipping, StepScalars};
use crate::scratch::Scratch;
use crate::variable::{Moments, Source, Variable, add};

/// Elements that one task takes from a list of small parameters.
const GROUP: usize = 64 * 1024;
/// What a parameter costs beside its elements, in elements.
const OVERHEAD: usize = 1024;
/// Elements of a whole list below which a step stays on the thread that called it.
const ALONE: usize = 128 * 1024;

/// Adafactor on the CPU.
///
/// Parameters stay in the caller's memory and every step borrows them. The result is the same to
/// the bit for every number of threads and every instruction set.
///
/// A plain [`step`](HostOptimizer::step) reads the parameters once more than the update needs,
/// because it cannot know whether somebody has changed them since the last one; a
/// [`ParameterStore`](crate::ParameterStore) can.
///
/// Parameters that overlap, and gradients of another type, do not compile:
///
/// ```compile_fail,E0499
/// # use goldstep_core::{Gradient, HostOptimizer};
/// # fn step(optimizer: &mut goldstep_cpu::Adafactor<f32>, gradients: &[Option<Gradient<'_, f32>>]) {
/// let mut buffer = [1.0_f32; 8];
/// let _ = optimizer.step(&mut [&mut buffer[..5], &mut buffer[3..]], gradients);
/// # }
/// ```
/// ```compile_fail,E0308
/// # use goldstep_core::{Gradient, HostOptimizer};
/// # fn step(optimizer: &mut goldstep_cpu::Adafactor<f32>, gradients: &[Option<Gradient<'_, f64>>]) {
/// let mut buffer = [1.0_f32; 8];
/// let _ = optimizer.step(&mut [&mut buffer], gradients);
/// # }
/// ```
///
/// `T` is f32, f64, [`half::bf16`] or [`half::f16`]. The halves compute in f32 and keep their
/// state in f32.
#[derive(Debug)]
pub struct Adafactor<T: CpuElement> {
    arguments: AdafactorArguments,
    parameters: ParameterList,
    variables: Vec<Variable<T>>,
    /// Cost of the parameters up to and including each.
    ends: Vec<usize>,
    iterations: u64,
    isa: Isa,
    threads: Threads,
    scratch: Scratch<T::Real>,
}

/// Where a step runs.
#[derive(Debug)]
enum Threads {
    /// On the thread that calls it.
    Caller,
    /// In the pool that the caller is in, else in rayon's global one.
    Ambient,
    /// In a pool of this optimizer.
    Own(ThreadPool),
}

/// Collects where an [`Adafactor`] runs; made by [`Adafactor::builder`].
#[derive(Debug)]
#[must_use]
pub struct AdafactorBuilder<'a, T> {
    arguments: &'a AdafactorArguments,
    parameters: &'a ParameterList,
    threads: Option<usize>,
    isa: Option<Isa>,
    element: PhantomData<T>,
}

impl<T: CpuElement> AdafactorBuilder<'_, T> {
    /// The number of threads. Default: those of the rayon pool that calls a step, so that a pool
    /// of the caller's own is respected.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The instruction set. Default: [`Isa::detect`].
    pub const fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Plans the optimizer and allocates its state; no parameter is read.
    ///
    /// # Errors
    /// Zero threads, threads that cannot be started, an unknown name in `GOLDSTEP_ISA`.
    pub fn build(self) -> Result<Adafactor<T>, Error> {
        let variables: Vec<_> = self.parameters.iter().map(Variable::new).collect();
        let cost = |end: &mut usize, variable: &Variable<T>| {
            *end = end.saturating_add(variable.plan.elements()).saturating_add(OVERHEAD);
            Some(*end)
        };
        let ends: Vec<_> = variables.iter().scan(0, cost).collect();
        let alone = ends.last().is_none_or(|&end| end < ALONE);
        let (threads, count) = match self.threads {
            Some(0) => {
                let (name, rule) = ("threads", "at least 1");
                return Err(Error::Argument { name, rule, value: "0".to_owned() });
            }
            _ if alone => (Threads::Caller, 1),
            None => (Threads::Ambient, rayon::current_num_threads()),
            Some(1) => (Threads::Caller, 1),
            Some(count) => {
                let pool = ThreadPoolBuilder::new().num_threads(count).build();
                let failed = |error: rayon::ThreadPoolBuildError| Error::Backend {
                    what: format!("starting {count} threads"),
                    message: error.to_string(),
                };
                (Threads::Own(pool.map_err(failed)?), count)
            }
        };
        let isa = match self.isa {
            Some(isa) => isa,
            None => Isa::detect()?,
        };
        let plans = || variables.iter().map(|variable| variable.plan);
        let lines = plans().map(|plan| plan.scratch_lines()).max().unwrap_or(0);
        let tasks = plans().map(|plan| plan.tasks()).max().unwrap_or(1);
        // A task holds one array, its pass another, and each level of its tree a finished half.
        let slots = count.saturating_mul(tasks.ilog2() as usize + 3).min(tasks + 2 * count);
        Ok(Adafactor {
            arguments: self.arguments.clone(),
            parameters: self.parameters.clone(),
            ends,
            variables,
            iterations: 0,
            isa,
            threads,
            scratch: Scratch::new(slots, lines),
        })
    }
}

impl<T: CpuElement> Adafactor<T> {
    /// A builder for a parameter list, with all threads and the best instruction set.
    ///
    /// # Example
    /// ```
    /// use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
    /// use goldstep_cpu::Adafactor;
    ///
    /// let arguments = AdafactorArguments::builder().learning_rate(0.01).build()?;
    /// let list = ParameterList::new(vec![Parameter::new("kernel", &[2, 3])?])?;
    /// let mut optimizer = Adafactor::<f32>::builder(&arguments, &list).threads(2).build()?;
    /// let mut kernel = [1.0_f32; 6];
    /// let gradient = [0.5_f32; 6];
    /// optimizer.step(&mut [&mut kernel], &[Some(Gradient::Dense(&gradient))])?;
    /// assert!(kernel.iter().all(|&x| x < 1.0));
    /// # Ok::<(), goldstep_core::Error>(())
    /// ```
    pub const fn builder<'a>(
        arguments: &'a AdafactorArguments,
        parameters: &'a ParameterList,
    ) -> AdafactorBuilder<'a, T> {
        AdafactorBuilder { arguments, parameters, threads: None, isa: None, element: PhantomData }
    }

    /// The instruction set in use.
    #[must_use]
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes of the second moments: `4·(rows + columns)` for an f32 matrix, `4·elements` for a
    /// vector. Averages are not included.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.variables.iter().map(Variable::state_bytes).sum()
    }

    /// Bytes of scratch memory that is kept between steps.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.bytes()
    }

    /// Forgets `Σp²` of a parameter, because somebody may have changed it.
    pub(crate) fn forget(&mut self, index: usize) {
        if let Some(variable) = self.variables.get_mut(index) {
            variable.square_sum = None;
        }
    }

    /// Forgets `Σp²` of every parameter.
    pub(crate) fn forget_all(&mut self) {
        self.variables.iter_mut().for_each(|variable| variable.square_sum = None);
    }

    /// A step that trusts every `Σp²` that has not been forgotten.
    pub(crate) fn step_trusting<P: AsMut<[T]> + Send>(
        &mut self,
        parameters: &mut [P],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<StepReport, Error> {
        let lengths = parameters.iter_mut().map(|parameter| parameter.as_mut().len());
        self.parameters.check_step(lengths, gradients)?;
        if self.arguments.use_ema() {
            for (variable, parameter) in self.variables.iter_mut().zip(parameters.iter_mut()) {
                variable.start_average(parameter.as_mut());
            }
        }
        let learning_rate = self.arguments.learning_rate().at(self.iterations);
        let scalars = StepScalars::new(&self.arguments, learning_rate, self.iterations);
        self.run(parameters, gradients, |context, list| {
            let global = global_clipping(context, &scalars, list.variables, gradients);
            let step =
                |variable: &mut Variable<T>, elements: &mut [T], gradient: &Gradient<'_, T>| {
                    step_one(context, &scalars, global, variable, elements, gradient);
                    0.0
                };
            list.each(context, &step)
        });
        self.iterations += 1;
        Ok(StepReport { learning_rate, iterations: self.iterations })
    }

    /// Sets every parameter to its average.
    pub(crate) fn finalize<P: AsMut<[T]>>(&mut self, parameters: &mut [P]) -> Result<(), Error> {
        let lengths = parameters.iter_mut().map(|parameter| parameter.as_mut().len());
        self.parameters.check_parameters(lengths)?;
        if !self.arguments.use_ema() {
            return Ok(());
        }
        if self.variables.iter().any(|variable| variable.average.is_none()) {
            return Err(Error::NotBuilt { what: "finalize_variable_values" });
        }
        for (variable, parameter) in self.variables.iter_mut().zip(parameters) {
            variable.square_sum = None;
            let averages = variable.average.iter().flat_map(|average| average.iter());
            for (element, &average) in parameter.as_mut().iter_mut().zip(averages) {
                *element = T::from_real(average);
            }
        }
        Ok(())
    }

    /// [`ParameterStore::stream`](crate::ParameterStore::stream).
    pub(crate) fn stream<P: AsMut<[T]> + Send>(
        &mut self,
        parameters: &mut [P],
        gradients: &[Option<Gradient<'_, T>>],
        extra: Extra,
    ) -> Result<f64, Error> {
        let lengths = parameters.iter_mut().map(|parameter| parameter.as_mut().len());
        self.parameters.check_step(lengths, gradients)?;
        // The compiler must not know that these change nothing.
        let (rate, keep) = std::hint::black_box((0.0, 1.0));
        let stream = Stream { rate, keep, extra };
        let total = self.run(parameters, gradients, |context, list| {
            let one =
                |variable: &mut Variable<T>, elements: &mut [T], gradient: &Gradient<'_, T>| {
                    match gradient {
                        Gradient::Dense(values) => {
                            T::stream(variable, context, &stream, elements, values)
                        }
                        Gradient::Sparse { .. } => 0.0,
                    }
                };
            list.each(context, &one)
        });
        let total = total.unwrap_or_default();
        if !total.is_finite() {
            // Zero times such a gradient is NaN, and the parameters have changed.
            self.forget_all();
        }
        Ok(total)
    }

    /// Runs checked work where it belongs.
    fn run<P: AsMut<[T]> + Send, O: Send>(
        &mut self,
        parameters: &mut [P],
        gradients: &[Option<Gradient<'_, T>>],
        work: impl FnOnce(&Context<'_, T::Real>, List<'_, P, T>) -> O + Send,
    ) -> O {
        let Self { variables, ends, isa, threads, scratch, .. } = self;
        let parallel = match threads {
            Threads::Caller => false,
            Threads::Ambient => rayon::current_num_threads() > 1,
            Threads::Own(_) => true,
        };
        let context = Context { isa: *isa, parallel, scratch };
        let list = List { variables, parameters, gradients, ends, before: 0 };
        match threads {
            Threads::Own(pool) if parallel => pool.install(|| work(&context, list)),
            _ if parallel => rayon::scope(|_| work(&context, list)),
            _ => work(&context, list),
        }
    }
}

/// Clipping by the global norm, if that is what clips.
///
/// The norms of the tensors are folded in the order of the list.
fn global_clipping<T: CpuElement>(
    context: &Context<'_, T::Real>,
    scalars: &StepScalars<T::Real>,
    variables: &mut [Variable<T>],
    gradients: &[Option<Gradient<'_, T>>],
) -> Option<Clipping<T::Real>> {
    let GradientClipping::GlobalNorm(norm) = scalars.clipping else { return None };
    for (variable, gradient) in variables.iter_mut().zip(gradients) {
        if let Some(gradient) = gradient {
            variable.gradient_squares = T::square_sum(context, values_of(gradient));
        }
    }
    let present = variables.iter().zip(gradients).filter(|(_, gradient)| gradient.is_some());
    Some(Clipping::by_global_norm(norm, present.map(|(variable, _)| variable.gradient_squares)))
}

/// The values of a gradient, dense or not.
const fn values_of<'a, T>(gradient: &Gradient<'a, T>) -> &'a [T] {
    match gradient {
        Gradient::Dense(values) | Gradient::Sparse { values, .. } => values,
    }
}

/// The step of one parameter, on one or more threads.
fn step_one<T: CpuElement>(
    context: &Context<'_, T::Real>,
    scalars: &StepScalars<T::Real>,
    global: Option<Clipping<T::Real>>,
    variable: &mut Variable<T>,
    elements: &mut [T],
    gradient: &Gradient<'_, T>,
) {
    let clipping = match (global, scalars.clipping) {
        (Some(clipping), _) => clipping,
        (None, GradientClipping::Norm(norm)) => {
            Clipping::by_norm(norm, T::square_sum(context, values_of(gradient)))
        }
        (None, GradientClipping::Value(bound)) => {
            Clipping::Bound(goldstep_core::Element::round_from(bound))
        }
        (None, _) => Clipping::Off,
    };
    match gradient {
        Gradient::Dense(values) => {
            T::step(variable, context, scalars, clipping, elements, Source::Given(values));
        }
        Gradient::Sparse { indices, values } => {
            variable.densify(clipping, (indices, values));
            T::step(variable, context, scalars, Clipping::Off, elements, Source::Densified);
        }
    }
}

/// A run of a parameter list with all that belongs to it.
struct List<'a, P, T: CpuElement> {
    variables: &'a mut [Variable<T>],
    parameters: &'a mut [P],
    gradients: &'a [Option<Gradient<'a, T>>],
    /// Costs up to and including each parameter, counted from the beginning of the whole list.
    ends: &'a [usize],
    /// Cost of the parameters before this run.
    before: usize,
}

impl<T: CpuElement, P: AsMut<[T]> + Send> List<'_, P, T> {
    /// Calls `step` for each parameter that has a gradient, and adds what it returns, in an order
    /// of the list. Large parameters and groups of small ones become tasks; halves have about the
    /// same cost. Nothing if there was no gradient.
    fn each<R: Real>(
        self,
        context: &Context<'_, R>,
        step: &(impl Fn(&mut Variable<T>, &mut [T], &Gradient<'_, T>) -> f64 + Sync),
    ) -> Option<f64> {
        let cost = self.ends.last().map_or(0, |end| end - self.before);
        if self.variables.len() <= 1 || cost <= GROUP || !context.parallel {
            let Self { variables, parameters, gradients, .. } = self;
            let all = variables.iter_mut().zip(parameters).zip(gradients);
            let results = all.filter_map(|((variable, parameter), gradient)| {
                Some(step(variable, parameter.as_mut(), gradient.as_ref()?))
            });
            return results.reduce(add);
        }
        let half = self.before + cost / 2;
        let at = self.ends.partition_point(|&end| end <= half).clamp(1, self.ends.len() - 1);
        let (variables, more_variables) = self.variables.split_at_mut(at);
        let (parameters, more_parameters) = self.parameters.split_at_mut(at);
        let (gradients, more_gradients) = self.gradients.split_at(at);
        let (ends, more_ends) = self.ends.split_at(at);
        let before = self.before;
        let left = List { variables, parameters, gradients, ends, before };
        let right = List {
            variables: more_variables,
            parameters: more_parameters,
            gradients: more_gradients,
            ends: more_ends,
            before: ends.last().copied().unwrap_or(before),
        };
        let join = context.join(|| left.each(context, step), || right.each(context, step));
        match join {
            (Some(left), Some(right)) => Some(left + right),
            (left, right) => left.or(right),
        }
    }
}

impl<T: CpuElement> HostOptimizer<T> for Adafactor<T> {
    fn build(arguments: &AdafactorArguments, parameters: &ParameterList) -> Result<Self, Error> {
        Self::builder(arguments, parameters).build()
    }

    fn step(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<StepReport, Error> {
        self.forget_all();
        self.step_trusting(parameters, gradients)
    }

    fn finalize_variable_values(&mut self, parameters: &mut [&mut [T]]) -> Result<(), Error> {
        self.finalize(parameters)
    }

    fn arguments(&self) -> &AdafactorArguments {
        &self.arguments
    }

    fn parameters(&self) -> &ParameterList {
        &self.parameters
    }

    fn iterations(&self) -> u64 {
        self.iterations
    }

    fn set_learning_rate(&mut self, learning_rate: LearningRate) -> Result<(), Error> {
        self.arguments.assign_learning_rate(learning_rate)
    }

    fn state(&self) -> AdafactorState {
        let variables = self.variables.iter().map(|variable| VariableState {
            second_moment: match &variable.moments {
                Moments::Full(second_moment) => {
                    SecondMoment::Full(Values::from_slice(second_moment))
                }
                Moments::Factored { row_factor, column_factor } => SecondMoment::Factored {
                    row_factor: Values::from_slice(row_factor),
                    column_factor: Values::from_slice(column_factor),
                },
            },
            average: variable.average.as_deref().map(Values::from_slice),
        });
        AdafactorState { iterations: self.iterations, variables: variables.collect() }
    }

    fn load_state(&mut self, state: &AdafactorState) -> Result<(), Error> {
        state.check(&self.parameters, self.arguments.use_ema())?;
        for (variable, state) in self.variables.iter_mut().zip(&state.variables) {
            match (&mut variable.moments, &state.second_moment) {
                (Moments::Full(target), SecondMoment::Full(values)) => {
                    target.copy_from_slice(&values.to_vec());
                    variable.started = has_value(target);
                }
                (
                    Moments::Factored { row_factor: row_target, column_factor: column_target },
                    SecondMoment::Factored { row_factor, column_factor },
                ) => {
                    row_target.copy_from_slice(&row_factor.to_vec());
                    column_target.copy_from_slice(&column_factor.to_vec());
                    variable.started = has_value(row_target) || has_value(column_target);
                }
                // `check` has compared the layouts.
                _ => {}
            }
            let average = state.average.as_ref();
            variable.average = average.map(|values| AlignedBuffer::from_slice(&values.to_vec()));
        }
        self.iterations = state.iterations;
        Ok(())
    }

    fn second_moment(&self, index: usize) -> Vec<T> {
        self.variables.get(index).map_or_else(Vec::new, Variable::second_moment)
    }
}

/// Whether any value is not zero; NaN is not.
fn has_value<R: Real>(values: &[R]) -> bool {
    values.iter().any(|&value| value != R::ZERO)
}

impl Plan {
    /// The largest number of tasks of one tree.
    fn tasks(&self) -> usize {
        match *self {
            Self::Full { elements, cut } => elements.div_ceil(cut.chunk).max(1),
            Self::Factored { batches, rows, columns, group, cut, .. } => {
                let length = match cut.axis {
                    crate::plan::Axis::Rows => rows,
                    crate::plan::Axis::Columns => columns,
                };
                batches.div_ceil(group).max(1) * length.div_ceil(cut.chunk).max(1)
            }
        }
    }
}
