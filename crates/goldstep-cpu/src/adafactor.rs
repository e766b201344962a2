//! The optimizer: a list of parameters, their state, and where a step runs.
//!
//! ```text
//! plan                  tiles of each parameter, a function of its shape          plan.rs
//! scalars of the step   ρ, β₂, … once                                             scalars.rs
//! for each parameter    in parallel, large ones split, small ones grouped         list.rs
//!     norm of g         only when one clips
//!     Σp²               carried from the last update, or one read of p
//!     statistics        one read of g: r, c, rms(u)                               matrix.rs
//!     update            one read of g, one of p, one write of p                   pass.rs
//! ```
//!
//! Where the operations of the algorithm are, by their labels in goldstep-reference:
// A1: `StepScalars::new`. A2: `Clipping`, applied where a kernel reads an element.
// A3: `Touched::gather`. A4: `Decayed`. A5–A7: `StepScalars::step_size`.
// A8–A11: `Moment::blend` in the kernels `rows`, `columns`, `full`, `factors`; `small` has its own.
// A12, A13: `kernels::literal`, or taken together in `kernels::update`.
// A14, A15: `matrix::statistics`, `StepScalars::divisor`. A16: `kernels::update`.
// A17, A18: `Blend`. A19: `constrain`. A20: `Adafactor::step_trusting`.

use goldstep_core::{
    AdafactorArguments, AdafactorState, Error, Gradient, GradientClipping, HostOptimizer,
    LearningRate, ParameterList, SecondMoment, StepReport, Values, VariableState,
};

use crate::bound::{Extra, Stream};
use crate::builder::{AdafactorBuilder, Threads};
use crate::execute::Context;
use crate::isa::Isa;
use crate::list::List;
use crate::memory::AlignedBuffer;
use crate::plan::LARGE;
use crate::real::{CpuElement, Real};
use crate::scalars::{Clipping, StepScalars};
use crate::scratch::Scratch;
use crate::variable::{Moments, Source, Variable};
use crate::views::Copies;

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
///
/// A clone continues on its own from the same state, in the same thread pool.
#[derive(Debug, Clone)]
pub struct Adafactor<T: CpuElement> {
    pub(crate) arguments: AdafactorArguments,
    pub(crate) parameters: ParameterList,
    pub(crate) variables: Vec<Variable<T>>,
    /// Cost of the parameters up to and including each.
    pub(crate) ends: Vec<usize>,
    pub(crate) iterations: u64,
    pub(crate) isa: Isa,
    pub(crate) threads: Threads,
    pub(crate) scratch: Scratch<T::Real>,
    pub(crate) updates: Scratch<T::Real>,
    pub(crate) copies: Copies<T>,
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
        AdafactorBuilder::new(arguments, parameters)
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

    /// Bytes of scratch memory that is kept between steps for the threads. What a sparse gradient needs
    /// is not included: its rows, or all of its parameter where a step reads all of that.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.bytes() + self.updates.bytes()
    }

    /// Forgets `Σp²` of a parameter, because somebody may have changed it.
    pub(crate) fn forget(&mut self, index: usize) {
        if let Some(variable) = self.variables.get_mut(index) {
            variable.square_sum.forget();
        }
    }

    /// Forgets `Σp²` of every parameter.
    pub(crate) fn forget_all(&mut self) {
        self.variables.iter_mut().for_each(|variable| variable.square_sum.forget());
    }

    /// A step that trusts every `Σp²` that has not been forgotten.
    pub(crate) fn step_trusting<P: AsMut<[T]> + Send>(
        &mut self,
        parameters: &mut [P],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<StepReport, Error> {
        let lengths = parameters.iter_mut().map(|parameter| parameter.as_mut().len());
        self.parameters.check_step(lengths, gradients)?;
        // Before anything is changed: a schedule may be the caller's own, and panic.
        let learning_rate = self.arguments.learning_rate().at(self.iterations);
        if self.arguments.use_ema() {
            for (variable, parameter) in self.variables.iter_mut().zip(parameters.iter_mut()) {
                variable.start_average(parameter.as_mut());
            }
        }
        let scalars = StepScalars::new(&self.arguments, learning_rate, self.iterations);
        self.run(parameters, gradients, |context, mut list| {
            let global = global_clipping(context, &scalars, list.reborrow());
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
            variable.square_sum.forget();
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
        let Self { variables, ends, isa, threads, scratch, updates, .. } = self;
        let parallel = match threads {
            Threads::Caller => false,
            Threads::Ambient => rayon::current_num_threads() > 1,
            Threads::Own(_) => true,
        };
        let far = ends.last().is_some_and(|&end| end >= LARGE);
        let context = Context { isa: *isa, parallel, scratch, updates, far };
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
fn global_clipping<T: CpuElement, P: AsMut<[T]> + Send>(
    context: &Context<'_, T::Real>,
    scalars: &StepScalars<T::Real>,
    mut list: List<'_, P, T>,
) -> Option<Clipping<T::Real>> {
    let GradientClipping::GlobalNorm(norm) = scalars.clipping else { return None };
    let squares = |variable: &mut Variable<T>, _: &mut [T], gradient: &Gradient<'_, T>| {
        variable.gradient_squares = T::square_sum(context, values_of(gradient));
        0.0
    };
    list.reborrow().each(context, &squares);
    let present = list.variables.iter().zip(list.gradients);
    let present = present.filter(|(_, gradient)| gradient.is_some());
    Some(scalars.clip_by_global_norm(norm, present.map(|(variable, _)| variable.gradient_squares)))
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
            scalars.clip_by_norm(norm, T::square_sum(context, values_of(gradient)))
        }
        (None, GradientClipping::Value(bound)) => scalars.clip_by_value(bound),
        (None, _) => scalars.unclipped(),
    };
    match gradient {
        Gradient::Dense(values) => {
            T::step(variable, context, scalars, clipping, elements, Source::Given(values));
        }
        Gradient::Sparse { indices, values } => {
            variable.touch(clipping, (indices, values));
            let clipping = scalars.unclipped();
            T::step(variable, context, scalars, clipping, elements, Source::Touched);
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
