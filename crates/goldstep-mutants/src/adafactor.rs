//! The step, and the mistakes that are made in it.

use goldstep_conformance::{GradientValues, StepIntermediates};
use goldstep_core::{AdafactorArguments, Constraint, LearningRate, Parameter, ParameterList};

use crate::Mistake;
use crate::arithmetic::Arithmetic;
use crate::clipping::{Rows, by_norm, clip};
use crate::layout::Factoring;
use crate::scalars::{Scalars, learning_rate, whole};

/// The length of a block, where a mistake confuses it with the tensor.
const BLOCK: usize = 4096;
/// The length of a vector register, where a mistake drops what does not fill one.
const LANES: usize = 16;

/// An optimizer with its variables.
#[derive(Debug)]
pub(crate) struct Adafactor {
    pub(crate) a: Arithmetic,
    pub(crate) arguments: AdafactorArguments,
    pub(crate) parameters: ParameterList,
    pub(crate) learning_rate: LearningRate,
    pub(crate) iterations: u64,
    pub(crate) variables: Vec<Vec<f64>>,
    pub(crate) slots: Vec<Slot>,
}

/// The state of one variable.
#[derive(Debug)]
pub(crate) struct Slot {
    /// What is factored; `None`: a full second moment.
    pub(crate) factoring: Option<Factoring>,
    /// What Keras factors.
    pub(crate) keras: Option<Factoring>,
    pub(crate) r: Vec<f64>,
    pub(crate) c: Vec<f64>,
    pub(crate) v: Vec<f64>,
    pub(crate) average: Option<Vec<f64>>,
    pub(crate) updated: bool,
    previous_rms: Option<f64>,
    initial_rms: Option<f64>,
    /// Means of this step's `g²` per leading index.
    gradient_means: Vec<f64>,
}

/// One value per run of elements.
struct Runs {
    length: usize,
    values: Vec<f64>,
}

impl Runs {
    fn at(&self, element: usize) -> f64 {
        self.values[element / self.length]
    }
}

impl Adafactor {
    /// One step over checked gradients: the learning rate used, and what was computed on the way.
    pub(crate) fn step(
        &mut self,
        gradients: &[Option<GradientValues>],
    ) -> (f32, Vec<Option<StepIntermediates>>) {
        let (a, m) = (self.a, self.a.mistake);
        self.start_averages();
        let lr = learning_rate(&self.learning_rate, self.iterations, m);
        let s = Scalars::new(&self.arguments, &self.learning_rate, lr, self.iterations, a);
        let before = self.variables.clone();

        let read = |(parameter, gradient): (&Parameter, &Option<GradientValues>)| match gradient {
            Some(gradient) => Some(Rows::read(gradient, parameter, a)),
            None if m == Mistake::MissingIsZero => {
                Some(Rows { indices: None, values: vec![0.0; parameter.elements()] })
            }
            None => None,
        };
        let mut clipped: Vec<_> = self.parameters.iter().zip(gradients).map(read).collect();
        clip(&mut clipped, &self.arguments, &s.keras, a);

        let mut intermediates = Vec::new();
        for (index, gradient) in clipped.iter().enumerate() {
            intermediates.push(gradient.as_ref().map(|rows| self.update(index, rows, &s)));
            if gradient.is_none() && m == Mistake::DecayWithoutGradient {
                self.decay(index, s.keras.learning_rate, &s);
            }
        }
        let present: Vec<bool> = clipped.iter().map(Option::is_some).collect();
        if m == Mistake::ConstraintBeforeEma {
            self.constrain(&present);
        }
        if self.arguments.use_ema() {
            self.average(&present, &before, &s);
        }
        if m != Mistake::ConstraintBeforeEma {
            self.constrain(&present);
        }
        self.iterations += match m {
            Mistake::MissingNotCounted if gradients.iter().any(Option::is_none) => 0,
            Mistake::CountedPerVariable => gradients.len() as u64,
            _ => 1,
        };
        (lr, intermediates)
    }

    fn update(&mut self, index: usize, rows: &Rows, s: &Scalars) -> StepIntermediates {
        let (a, m) = (self.a, self.a.mistake);
        if m == Mistake::ConstraintBeforeUpdate {
            let x = self.variables[index].iter();
            let bound = |x: &f64| constrained(*x, self.parameters[index].constraint(), a);
            self.variables[index] = x.map(bound).collect();
        }
        let mut g = rows.densify(&self.parameters[index], a);
        let undecayed: Vec<f64> = self.variables[index].iter().map(|x| a.round(*x)).collect();
        if let (Mistake::DecayOnGradient, Some(decay)) = (m, s.keras.weight_decay) {
            for (g, x) in g.iter_mut().zip(&undecayed) {
                *g = a.round(*g + a.times(*x, decay));
            }
        }
        let rate = match m {
            Mistake::DecayTimesAlpha => a.times(a.max(s.keras.epsilon_2, a.rms(&undecayed)), s.rho),
            Mistake::DecayTimesCappedRate => s.rho,
            Mistake::DecayNotTimesRate => 1.0,
            _ => s.keras.learning_rate,
        };
        if !matches!(m, Mistake::DecayAfterUpdate | Mistake::DecayOnGradient) {
            self.decay(index, rate, s);
        }
        let x: Vec<f64> = self.variables[index].iter().map(|x| a.round(*x)).collect();
        let (parameter_rms, alpha) = self.step_size(index, &x, &undecayed, s);

        let parameter = &self.parameters[index];
        let slot = &mut self.slots[index];
        let v = slot.accumulate(&g, s, a);
        let mut u: Vec<f64> = g.iter().zip(&v).map(|(g, v)| direction(*g, *v, s, a)).collect();
        if let (Mistake::ClipnormOnUpdate, goldstep_core::GradientClipping::Norm(norm)) =
            (m, s.keras.clipping)
        {
            by_norm(&mut u, norm, a);
        }
        let (update_rms, divisor) = clip_update(&g, &u, slot.slice_elements(), s, a);
        let length = x.len();
        let target = &mut self.variables[index];
        for (i, target) in target.iter_mut().enumerate() {
            let dropped =
                m == Mistake::TailDropped && length > LANES && i >= length / LANES * LANES;
            let lazy = m == Mistake::SparseRowsUntouched && !rows.touches(parameter, i);
            if lazy {
                *target = undecayed[i];
            } else if !dropped {
                let clipped = match m {
                    Mistake::UpdateClippedByElement => {
                        a.max(a.min(u[i], s.keras.clip_threshold), -s.keras.clip_threshold)
                    }
                    Mistake::StepDividedFirst => u[i],
                    _ => a.round(u[i] / divisor.at(i)),
                };
                let alpha = match m {
                    Mistake::StepDividedFirst => a.round(alpha.at(i) / divisor.at(i)),
                    Mistake::SignFlipped => -alpha.at(i),
                    _ => alpha.at(i),
                };
                *target = a.store(a.round(x[i] + a.times(-alpha, clipped)));
            }
        }
        if m == Mistake::DecayAfterUpdate {
            self.decay(index, rate, s);
        }
        StepIntermediates {
            clipped_gradient: Some(g),
            parameter_rms: Some(parameter_rms),
            alpha: alpha.values.first().copied(),
            update: Some(u),
            update_rms: Some(update_rms),
        }
    }

    /// `x -= x · weight_decay · rate`, where it applies.
    fn decay(&mut self, index: usize, rate: f64, s: &Scalars) {
        let (a, m) = (self.a, self.a.mistake);
        let parameter = &self.parameters[index];
        let excluded = m == Mistake::DecayOfMatricesOnly && parameter.shape().len() < 2;
        let Some(decay) = s.keras.weight_decay else { return };
        if !parameter.decays() || excluded || m == Mistake::DecayIgnored {
            return;
        }
        for _ in 0..if m == Mistake::DecayTwice { 2 } else { 1 } {
            for x in &mut self.variables[index] {
                let value = a.round(*x);
                let share = match m {
                    Mistake::DecayFactorFirst => a.times(value, a.times(decay, rate)),
                    Mistake::DecayAdded => -a.times(a.times(value, decay), rate),
                    _ => a.times(a.times(value, decay), rate),
                };
                *x = a.round(value - share);
            }
        }
    }

    /// `rms(x)` and α.
    fn step_size(
        &mut self,
        index: usize,
        x: &[f64],
        undecayed: &[f64],
        s: &Scalars,
    ) -> (f64, Runs) {
        let a = self.a;
        let slot = &mut self.slots[index];
        let magnitudes = || x.iter().map(|x| x.abs());
        let rms = match a.mistake {
            Mistake::RmsBeforeDecay => a.rms(undecayed),
            Mistake::ScaleIsNorm => a.norm(x),
            Mistake::ScaleIsMeanMagnitude => a.mean(magnitudes(), x.len()),
            Mistake::ScaleIsLargest => magnitudes().fold(0.0, f64::max),
            Mistake::ScaleOfPreviousStep => {
                let now = a.rms(x);
                slot.previous_rms.replace(now).unwrap_or(now)
            }
            Mistake::ScaleOfInitial => *slot.initial_rms.get_or_insert_with(|| a.rms(x)),
            _ => a.rms(x),
        };
        let epsilon_2 = s.keras.epsilon_2;
        let scaled = |rms: f64| match a.mistake {
            Mistake::ScaleOff => 1.0,
            Mistake::Epsilon2Added => a.round(rms + epsilon_2),
            Mistake::Epsilon2UnderRoot => a.round(a.max(a.times(rms, rms), epsilon_2).sqrt()),
            _ => a.max(epsilon_2, rms),
        };
        let values = match (a.mistake, slot.slice_elements()) {
            (Mistake::ScalePerSlice, length) if length > 0 => {
                let values = x.chunks(length).map(|x| a.times(scaled(a.rms(x)), s.rho)).collect();
                return (rms, Runs { length, values });
            }
            _ => vec![a.times(scaled(rms), s.rho)],
        };
        (rms, Runs { length: x.len().max(1), values })
    }

    fn start_averages(&mut self) {
        if !self.arguments.use_ema() {
            return;
        }
        for (slot, values) in self.slots.iter_mut().zip(&self.variables) {
            slot.average.get_or_insert_with(|| match self.a.mistake {
                Mistake::EmaStartsAtZero => vec![0.0; values.len()],
                _ => values.iter().map(|value| self.a.round(*value)).collect(),
            });
        }
    }

    /// Averages, and what overwrites variables with them.
    fn average(&mut self, present: &[bool], before: &[Vec<f64>], s: &Scalars) {
        let m = self.a.mistake;
        let all = 0..self.variables.len();
        let seen: Vec<usize> = match m {
            Mistake::EmaWithoutGradient => all.collect(),
            _ => all.filter(|index| present[*index]).collect(),
        };
        for (position, index) in seen.into_iter().enumerate() {
            let owner = if m == Mistake::EmaPairedByPosition { position } else { index };
            let Some(mut average) = self.slots[owner].average.take() else { continue };
            if average.len() == self.variables[index].len() {
                self.blend(&mut average, index, &before[index], s);
            }
            self.slots[owner].average = Some(average);
        }
    }

    fn blend(&mut self, average: &mut Vec<f64>, index: usize, before: &[f64], s: &Scalars) {
        let (a, m) = (self.a, self.a.mistake);
        let x = &mut self.variables[index];
        let overwrite_first = s.overwrite && m == Mistake::EmaOverwriteBeforeAverage;
        if overwrite_first {
            x.clone_from(average);
        }
        if m == Mistake::EmaStartsAfterFirstStep && self.iterations == 0 {
            average.clone_from(x);
        }
        let seen = if m == Mistake::EmaBeforeUpdate { before } else { x.as_slice() };
        for (average, x) in average.iter_mut().zip(seen) {
            *average = match m {
                Mistake::EmaShortcuts if s.momentum <= 0.0 => a.store(*x),
                Mistake::EmaShortcuts if s.one_minus_momentum <= 0.0 => *average,
                _ => a.store(a.blend(s.momentum, *average, s.one_minus_momentum, *x)),
            };
        }
        if s.overwrite && !overwrite_first {
            x.clone_from(average);
            match m {
                Mistake::EmaBiasCorrected => {
                    let correction = a.round(1.0 - a.round(s.momentum.powf(whole(s.keras.step))));
                    x.iter_mut().for_each(|x| *x = a.store(a.round(*x / correction)));
                }
                Mistake::EmaRestartsAfterOverwrite => average.fill(0.0),
                _ => {}
            }
        }
    }

    fn constrain(&mut self, present: &[bool]) {
        let (a, m) = (self.a, self.a.mistake);
        if matches!(m, Mistake::ConstraintIgnored | Mistake::ConstraintBeforeUpdate) {
            return;
        }
        for (index, parameter) in self.parameters.iter().enumerate() {
            if present[index] || m == Mistake::ConstraintWithoutGradient {
                for x in &mut self.variables[index] {
                    *x = constrained(*x, parameter.constraint(), a);
                }
            }
        }
    }
}

/// `u = g · rsqrt(v)`.
fn direction(g: f64, v: f64, s: &Scalars, a: Arithmetic) -> f64 {
    let epsilon_1 = s.keras.epsilon_1;
    match a.mistake {
        Mistake::DividesByRoot => a.round(g / a.round(v.sqrt())),
        Mistake::Epsilon1OutsideSquare => a.round(g / a.round(a.round(v.sqrt()) + epsilon_1)),
        Mistake::Epsilon1OnSecondMoment => a.times(g, a.rsqrt(a.round(v + epsilon_1))),
        _ => a.times(g, a.rsqrt(v)),
    }
}

/// `rms(u)` and what `u` is divided by.
fn clip_update(g: &[f64], u: &[f64], slice: usize, s: &Scalars, a: Arithmetic) -> (f64, Runs) {
    let d = s.keras.clip_threshold;
    let divisor = |rms: f64| match a.mistake {
        Mistake::UpdateNotClipped | Mistake::UpdateClippedByElement => 1.0,
        Mistake::UpdateAlwaysDivided => a.round(rms / d),
        Mistake::UpdateDividedByLarger => a.max(d, rms),
        Mistake::UpdateTimesThreshold => a.max(1.0, a.times(rms, d)),
        _ => a.max(1.0, a.round(rms / d)),
    };
    let rms = match a.mistake {
        Mistake::UpdateRmsIsNorm => a.norm(u),
        Mistake::UpdateRmsOfGradient => a.rms(g),
        _ => a.rms(u),
    };
    let length = match a.mistake {
        Mistake::UpdateRmsPerSlice if slice > 0 => slice,
        Mistake::UpdateRmsPerBlock => BLOCK,
        _ => return (rms, Runs { length: u.len().max(1), values: vec![divisor(rms)] }),
    };
    let values = u.chunks(length).map(|u| divisor(a.rms(u))).collect();
    (rms, Runs { length, values })
}

fn constrained(x: f64, constraint: Option<Constraint>, a: Arithmetic) -> f64 {
    match constraint {
        Some(Constraint::NonNegative) if a.mistake == Mistake::ConstraintMakesNanZero => x.max(0.0),
        Some(Constraint::NonNegative) => a.times(x, f64::from(u8::from(x >= 0.0))),
        Some(Constraint::Clip { minimum, maximum }) => {
            let above = match a.mistake {
                Mistake::ConstraintMinimumOnly => x,
                _ => a.min(x, a.round(maximum)),
            };
            a.max(above, a.round(minimum))
        }
        _ => x,
    }
}

impl Slot {
    pub(crate) fn new(parameter: &Parameter, mistake: Mistake) -> Self {
        let factoring = Factoring::of(parameter, mistake);
        let (rows, columns) =
            factoring.as_ref().map_or((0, 0), |f| (f.batches * f.rows, f.batches * f.columns));
        Self {
            factoring,
            keras: Factoring::keras(parameter),
            r: vec![0.0; rows],
            c: vec![0.0; columns],
            v: vec![0.0; parameter.elements()],
            average: None,
            updated: false,
            previous_rms: None,
            initial_rms: None,
            gradient_means: Vec::new(),
        }
    }

    /// Elements per leading index; 0 below rank 2.
    fn slice_elements(&self) -> usize {
        self.keras.as_ref().map_or(0, |keras| keras.rows * keras.columns)
    }

    /// Takes `g` into the second moment and returns what the update divides by.
    fn accumulate(&mut self, g: &[f64], s: &Scalars, a: Arithmetic) -> Vec<f64> {
        let m = a.mistake;
        let epsilon_1 = s.keras.epsilon_1;
        let square = |g: &f64| match m {
            Mistake::Epsilon1OutsideSquare | Mistake::Epsilon1OnSecondMoment => a.times(*g, *g),
            Mistake::Epsilon1Floor => a.max(a.times(*g, *g), epsilon_1),
            Mistake::EpsilonAfterMean if self.factoring.is_some() => a.times(*g, *g),
            _ => a.round(a.times(*g, *g) + epsilon_1),
        };
        let g2: Vec<f64> = g.iter().map(square).collect();
        let late = (m == Mistake::FactorsLate && self.updated).then(|| self.second_moment(a));
        let (beta_2, rest) = (s.keras.beta_2, s.keras.one_minus_beta_2);
        let blend = |old: f64, new: f64, forget: bool| {
            a.store(match m {
                _ if forget => new,
                Mistake::GainMissing => a.round(a.times(beta_2, old) + new),
                _ => a.blend(beta_2, old, rest, new),
            })
        };
        let finish = |mean: f64| match m {
            Mistake::EpsilonAfterMean => a.round(mean + epsilon_1),
            _ => mean,
        };
        match &self.factoring {
            None => {
                for (v, g2) in self.v.iter_mut().zip(&g2) {
                    *v = blend(*v, *g2, m == Mistake::SecondMomentForgets);
                }
            }
            Some(f) => {
                self.gradient_means.clear();
                let forget = m == Mistake::FactorsForget;
                for b in 0..f.batches {
                    for i in 0..f.rows {
                        let mean = row_mean(f.row(b, i).map(|at| g2[at]), f.columns, a);
                        let r = &mut self.r[b * f.rows + i];
                        *r = blend(*r, finish(mean), forget);
                    }
                    for j in 0..f.columns {
                        let dropped = usize::from(m == Mistake::LastRowDropped && f.rows > 1);
                        let values = f.column(b, j).take(f.rows - dropped).map(|at| g2[at]);
                        let values: Vec<f64> = values.collect();
                        let mean = row_mean(values.into_iter(), f.rows, a);
                        let c = &mut self.c[b * f.columns + j];
                        *c = blend(*c, finish(mean), forget || m == Mistake::ColumnFactorForgets);
                    }
                    let slice = f.rows * f.columns;
                    let all = f.positions[b * slice..(b + 1) * slice].iter().map(|at| g2[*at]);
                    if m == Mistake::NormalisedByGradient {
                        self.gradient_means.push(a.mean(all, slice));
                    }
                }
            }
        }
        self.updated = true;
        if m == Mistake::SecondMomentAveraged && self.factoring.is_some() {
            let old = self.v.clone();
            let new = self.rebuilt(a).into_iter();
            self.v = old.iter().zip(new).map(|(old, new)| blend(*old, new, false)).collect();
        }
        late.unwrap_or_else(|| self.second_moment(a))
    }

    /// The second moment in the variable's shape; zeros before the first gradient.
    pub(crate) fn second_moment(&self, a: Arithmetic) -> Vec<f64> {
        if !self.updated {
            return vec![0.0; self.v.len()];
        }
        if self.factoring.is_none() || a.mistake == Mistake::SecondMomentAveraged {
            return self.v.clone();
        }
        self.rebuilt(a)
    }

    fn rebuilt(&self, a: Arithmetic) -> Vec<f64> {
        let Some(f) = &self.factoring else { return self.v.clone() };
        let mut v = vec![0.0; self.v.len()];
        for b in 0..f.batches {
            let r = &self.r[b * f.rows..(b + 1) * f.rows];
            let c = &self.c[b * f.columns..(b + 1) * f.columns];
            let mean = match a.mistake {
                Mistake::NotNormalised => 1.0,
                Mistake::NormalisedBySum => a.sum(r.iter().copied()),
                Mistake::NormalisedPerTensor => a.mean(self.r.iter().copied(), self.r.len()),
                Mistake::ColumnNormalised => a.mean(c.iter().copied(), f.columns),
                Mistake::NormalisedByGradient if b < self.gradient_means.len() => {
                    self.gradient_means[b]
                }
                _ => a.mean(r.iter().copied(), f.rows),
            };
            for (i, r) in r.iter().enumerate() {
                for (c, at) in c.iter().zip(f.row(b, i)) {
                    v[at] = match a.mistake {
                        Mistake::NotNormalised => a.times(*r, *c),
                        Mistake::ColumnNormalised => a.times(*r, a.round(*c / mean)),
                        Mistake::NormalisedByBoth => {
                            a.times(a.round(*r / mean), a.round(*c / mean))
                        }
                        _ => a.times(a.round(*r / mean), *c),
                    };
                }
            }
        }
        v
    }

    /// `r` and `c` as Keras would have them, where this implementation has them.
    pub(crate) fn factors(&self, a: Arithmetic) -> Option<(Vec<f64>, Vec<f64>)> {
        let keras = self.keras.as_ref()?;
        if self.factoring.is_some() {
            return Some((self.r.clone(), self.c.clone()));
        }
        let (mut r, mut c) = (Vec::new(), Vec::new());
        for b in 0..keras.batches {
            for i in 0..keras.rows {
                r.push(a.mean(keras.row(b, i).map(|at| self.v[at]), keras.columns));
            }
            for j in 0..keras.columns {
                c.push(a.mean(keras.column(b, j).map(|at| self.v[at]), keras.rows));
            }
        }
        Some((r, c))
    }
}

fn row_mean(values: impl DoubleEndedIterator<Item = f64>, count: usize, a: Arithmetic) -> f64 {
    match a.mistake {
        Mistake::FactorsAreSums => a.sum(values),
        _ => a.mean(values, count),
    }
}
