//! Adafactor, scalar.

use goldstep_core::{
    AdafactorArguments, AdafactorScalars, AdafactorState, Constraint, Element, Error, Gradient,
    HostOptimizer, Intermediates, Layout, LearningRate, ObservableOptimizer, Parameter,
    ParameterList, SecondMoment, SecondMomentUnderflow, StepReport, Values, VariableState,
};

use crate::clipping::clip;
use crate::real::Real;

/// The scalar Adafactor for variables of type `T`; states and averages have the same type.
#[derive(Debug, Clone)]
pub struct Adafactor<T> {
    arguments: AdafactorArguments,
    parameters: ParameterList,
    iterations: u64,
    states: Vec<ParameterState<T>>,
}

/// The state of one parameter.
#[derive(Debug, Clone)]
struct ParameterState<T> {
    /// `r`, shape `[batches, rows]`; empty below rank 2.
    row_factor: Vec<Real<T>>,
    /// `c`, shape `[batches, columns]`; empty below rank 2.
    column_factor: Vec<Real<T>>,
    /// `v` below rank 2; from rank 2 it is rebuilt from `r` and `c`.
    second_moment: Vec<Real<T>>,
    /// Made by the first step, if averaging is on.
    average: Option<Vec<Real<T>>>,
    /// Whether the parameter has had a gradient: before that Keras shows zeros for `v`.
    updated: bool,
}

impl<T: Element> Adafactor<T> {
    /// The step. Its symbols are those of the paper (arXiv 1804.04235), its order that of Keras:
    ///
    /// | symbol | meaning | shape |
    /// |---|---|---|
    /// | `x`, `g` | parameter, gradient | `[batches, rows, columns]` |
    /// | `r`, `c` | means of `g² + ε₁` over columns, over rows | `[batches, rows]`, `[batches, columns]` |
    /// | `v` | second moment, `r/mean(r) ⊗ c` | as `x` |
    /// | `u`, `û` | update, clipped update | as `x` |
    /// | `ρ`, `α` | relative step size, step size | scalar |
    /// | `β₂` | decay of the means | scalar |
    ///
    /// The labels at the ends of lines name the operations; other backends cite them.
    fn apply(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
        mut observe: impl FnMut(Intermediates),
    ) -> Result<StepReport, Error> {
        self.parameters.check_step(parameters.iter().map(|values| values.len()), gradients)?;
        self.start_averages(parameters);

        let lr = self.arguments.learning_rate().at(self.iterations);
        let s = AdafactorScalars::of::<T>(&self.arguments, lr, self.iterations); //            A1
        let clipped = clip(gradients, s.clipping); //                                          A2
        let scalar = Real::<T>::round;
        let (beta_2, one_minus_beta_2) = (scalar(s.beta_2), scalar(s.one_minus_beta_2));

        for (index, gradient) in clipped.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let (parameter, state) = (&self.parameters[index], &mut self.states[index]);
            let g = gradient.densify(parameter.elements(), parameter.row_elements()); //       A3
            let mut x: Vec<_> = parameters[index].iter().map(|value| Real::read(*value)).collect();

            if let (true, Some(decay)) = (parameter.decays(), s.weight_decay) {
                for x in &mut x {
                    *x = *x - *x * scalar(decay) * scalar(s.learning_rate); //                 A4
                }
            }
            let parameter_rms = Real::rms(&x); //                                              A5
            let parameter_scale = scalar(s.epsilon_2).max(parameter_rms); //                   A6
            let alpha = parameter_scale * scalar(s.relative_step_size); //                     A7
            let g2: Vec<_> = g.iter().map(|g| g.square() + scalar(s.epsilon_1)).collect(); //  A8

            match parameter.layout() {
                Layout::Full { elements } => {
                    let v = &mut state.second_moment;
                    for i in 0..elements {
                        v[i] = beta_2 * v[i] + one_minus_beta_2 * g2[i]; //                    A9
                    }
                }
                Layout::Factored { batches, rows, columns } => {
                    let (r, c) = (&mut state.row_factor, &mut state.column_factor);
                    for b in 0..batches {
                        let at = |i: usize, j: usize| g2[(b * rows + i) * columns + j];
                        for i in 0..rows {
                            let mean = Real::mean((0..columns).map(|j| at(i, j)), columns);
                            let r = &mut r[b * rows + i];
                            *r = beta_2 * *r + one_minus_beta_2 * mean; //                     A10
                        }
                        for j in 0..columns {
                            let mean = Real::mean((0..rows).map(|i| at(i, j)), rows);
                            let c = &mut c[b * columns + j];
                            *c = beta_2 * *c + one_minus_beta_2 * mean; //                     A11
                        }
                    }
                }
            }
            state.updated = true;
            let v = state.second_moment(parameter); //                                         A12

            let mut u: Vec<_> = g.iter().zip(&v).map(|(g, v)| *g * v.rsqrt()).collect(); //    A13
            if self.arguments.second_moment_underflow() == SecondMomentUnderflow::Finite {
                state.replace_underflow(parameter, &g, &v, &mut u);
            }
            let update_rms = Real::rms(&u); //                                                 A14
            let divisor = scalar(1.0).max(update_rms / scalar(s.clip_threshold)); //           A15
            for (x, u) in x.iter_mut().zip(&u) {
                *x = *x + -alpha * (*u / divisor); //                                          A16
            }

            if let (Some(ema), Some(average)) = (s.ema, &mut state.average) {
                let (m, one_minus_m) = (scalar(ema.momentum), scalar(ema.one_minus_momentum));
                for (average, x) in average.iter_mut().zip(&mut x) {
                    *average = m * *average + one_minus_m * *x; //                             A17
                    if ema.overwrite {
                        *x = *average; //                                                      A18
                    }
                }
            }
            for (target, x) in parameters[index].iter_mut().zip(&x) {
                *target = constrained(*x, parameter.constraint()).write(); //                  A19
            }
            observe(Intermediates {
                parameter: index,
                clipped_gradient: to_f64(&g),
                parameter_rms: parameter_rms.to_f64(),
                step_size: alpha.to_f64(),
                update: to_f64(&u),
                update_rms: update_rms.to_f64(),
            });
        }
        self.iterations += 1; //                                                               A20
        Ok(StepReport { learning_rate: lr, iterations: self.iterations })
    }

    /// The first step starts every average at the value that its parameter has then.
    fn start_averages(&mut self, parameters: &[&mut [T]]) {
        if !self.arguments.use_ema() {
            return;
        }
        for (state, values) in self.states.iter_mut().zip(parameters) {
            state.average.get_or_insert_with(|| read(values));
        }
    }
}

impl<T: Element> ParameterState<T> {
    fn new(parameter: &Parameter) -> Self {
        let zeros = |length| vec![Real::default(); length];
        let (row_factor, column_factor, second_moment) = match parameter.layout() {
            Layout::Full { elements } => (zeros(0), zeros(0), zeros(elements)),
            Layout::Factored { batches, rows, columns } => {
                (zeros(batches * rows), zeros(batches * columns), zeros(0))
            }
        };
        Self { row_factor, column_factor, second_moment, average: None, updated: false }
    }

    /// `v`, from rank 2 as `r/mean(r) ⊗ c` for each leading index.
    fn second_moment(&self, parameter: &Parameter) -> Vec<Real<T>> {
        let Layout::Factored { batches, rows, columns } = parameter.layout() else {
            return self.second_moment.clone();
        };
        let mut v = Vec::with_capacity(parameter.elements());
        if !self.updated {
            v.resize(parameter.elements(), Real::default());
        }
        for b in 0..if self.updated { batches } else { 0 } {
            let r = &self.row_factor[b * rows..(b + 1) * rows];
            let c = &self.column_factor[b * columns..(b + 1) * columns];
            let mean = Real::mean(r.iter().copied(), rows);
            for r in r {
                v.extend(c.iter().map(|c| *r / mean * *c));
            }
        }
        v
    }

    /// Where `v` is 0, forms `u` from the factors; 0 where there is no factor to form it from.
    fn replace_underflow(
        &self,
        parameter: &Parameter,
        g: &[Real<T>],
        v: &[Real<T>],
        u: &mut [Real<T>],
    ) {
        let zero = Real::default();
        let Layout::Factored { batches, rows, columns } = parameter.layout() else {
            for (u, _) in u.iter_mut().zip(v).filter(|(_, v)| **v == zero) {
                *u = zero;
            }
            return;
        };
        for b in 0..batches {
            let r = &self.row_factor[b * rows..(b + 1) * rows];
            let c = &self.column_factor[b * columns..(b + 1) * columns];
            let mean = Real::mean(r.iter().copied(), rows);
            let root = mean.sqrt();
            for (i, r) in r.iter().enumerate() {
                for (j, c) in c.iter().enumerate() {
                    let at = (b * rows + i) * columns + j;
                    // Where all of r is 0 its mean is too, and `v` is no number.
                    if v[at] == zero || (*r == zero && mean == zero) {
                        let kept = *r != zero && *c != zero;
                        u[at] = if kept { g[at] * r.rsqrt() * (root * c.rsqrt()) } else { zero };
                    }
                }
            }
        }
    }
}

impl<T: Element> HostOptimizer<T> for Adafactor<T> {
    fn build(arguments: &AdafactorArguments, parameters: &ParameterList) -> Result<Self, Error> {
        Ok(Self {
            arguments: arguments.clone(),
            parameters: parameters.clone(),
            iterations: 0,
            states: parameters.iter().map(ParameterState::new).collect(),
        })
    }

    fn step(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<StepReport, Error> {
        self.apply(parameters, gradients, |_| {})
    }

    fn finalize_variable_values(&mut self, parameters: &mut [&mut [T]]) -> Result<(), Error> {
        self.parameters.check_parameters(parameters.iter().map(|values| values.len()))?;
        if !self.arguments.use_ema() {
            return Ok(());
        }
        if self.states.iter().any(|state| state.average.is_none()) {
            return Err(Error::NotBuilt { what: "finalize_variable_values" });
        }
        for (values, state) in parameters.iter_mut().zip(&self.states) {
            for (value, average) in values.iter_mut().zip(state.average.iter().flatten()) {
                *value = average.write();
            }
        }
        Ok(())
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
        let variable = |(parameter, state): (&Parameter, &ParameterState<T>)| VariableState {
            second_moment: match parameter.layout() {
                Layout::Full { .. } => SecondMoment::Full(store(&state.second_moment)),
                Layout::Factored { .. } => SecondMoment::Factored {
                    row_factor: store(&state.row_factor),
                    column_factor: store(&state.column_factor),
                },
            },
            average: state.average.as_deref().map(store),
        };
        let variables = self.parameters.iter().zip(&self.states).map(variable).collect();
        AdafactorState { iterations: self.iterations, variables }
    }

    fn load_state(&mut self, state: &AdafactorState) -> Result<(), Error> {
        state.check(&self.parameters, self.arguments.use_ema())?;
        for (own, loaded) in self.states.iter_mut().zip(&state.variables) {
            match &loaded.second_moment {
                SecondMoment::Full(values) => own.second_moment = load(values),
                SecondMoment::Factored { row_factor, column_factor } => {
                    own.row_factor = load(row_factor);
                    own.column_factor = load(column_factor);
                }
            }
            let factors = own.row_factor.iter().chain(&own.column_factor);
            own.updated = factors.into_iter().any(|factor| *factor != Real::default());
            own.average = loaded.average.as_ref().map(load);
        }
        self.iterations = state.iterations;
        Ok(())
    }

    fn second_moment(&self, index: usize) -> Vec<T> {
        let v = self.states[index].second_moment(&self.parameters[index]);
        v.into_iter().map(Real::write).collect()
    }
}

impl<T: Element> ObservableOptimizer<T> for Adafactor<T> {
    fn step_observed(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<(StepReport, Vec<Intermediates>), Error> {
        let mut observed = Vec::new();
        let report = self.apply(parameters, gradients, |record| observed.push(record))?;
        Ok((report, observed))
    }
}

fn constrained<T: Element>(x: Real<T>, constraint: Option<Constraint>) -> Real<T> {
    match constraint {
        // x · (x ≥ 0), so that NaN stays NaN, as tf.keras.constraints.NonNeg.
        Some(Constraint::NonNegative) => x * Real::round(f64::from(u8::from(x.to_f64() >= 0.0))),
        Some(Constraint::Clip { minimum, maximum }) => {
            x.min(Real::round(maximum)).max(Real::round(minimum))
        }
        _ => x,
    }
}

fn read<T: Element>(values: &[T]) -> Vec<Real<T>> {
    values.iter().map(|value| Real::read(*value)).collect()
}

fn load<T: Element>(values: &Values) -> Vec<Real<T>> {
    read(&values.to_vec())
}

fn store<T: Element>(values: &[Real<T>]) -> Values {
    Values::round_from(T::DTYPE, to_f64(values))
}

fn to_f64<T: Element>(values: &[Real<T>]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}
