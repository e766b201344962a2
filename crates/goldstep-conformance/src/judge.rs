//! One run, forced and free, against what tf.keras did.

use goldstep_core::DType;
use serde_json::Value;

use crate::agreement::{
    Allowance, Circumstances, Compared, Error, Mode, Quantity, Role, allowance, largest_error, same,
};
use crate::arguments::announced_only;
use crate::golden::{Expectation, Expected, ExpectedError, Tensor, Trial};
use crate::implementation::{
    BuildRequest, Capabilities, Failure, Implementation, StateField, StateRequest, StepRequest,
    StepResponse,
};
use crate::known::Known;
use crate::observed::Observations;

/// What came of one run.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It agrees with tf.keras.
    Agrees,
    /// It differs exactly where the list of known differences says.
    KnownDifference,
    /// It differs.
    Differs(Box<Divergence>),
    /// The implementation does not do what the run needs; not passed.
    Skipped {
        /// What it lacks.
        reason: String,
    },
    /// There was no usable answer: a crash, a time-out, a protocol fault.
    Broken(Failure),
}

/// The first difference of a run, in causal order.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// How the step started.
    pub mode: Mode,
    /// The 1-based step; `None` for the constructor and for `finalize_variable_values`.
    pub step: Option<usize>,
    /// What differs.
    pub finding: Finding,
}

/// What differs.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A number.
    Value(ValueDifference),
    /// A tensor that is missing or has another number of elements.
    Shape {
        /// What is missing.
        quantity: Quantity,
        /// The variable's position.
        variable: usize,
        /// Elements that tf.keras has.
        expected: usize,
        /// Elements that came; `None` for none at all.
        got: Option<usize>,
    },
    /// tf.keras refuses, the implementation does not.
    Accepted {
        /// What tf.keras says.
        expected: ExpectedError,
    },
    /// The implementation refuses what tf.keras accepts, or refuses it otherwise.
    Refused {
        /// What tf.keras says, if it refuses as well.
        expected: Option<ExpectedError>,
        /// `construct` or `step`.
        stage: String,
        /// Keras's class name of the error.
        kind: String,
        /// The implementation's message.
        message: String,
    },
}

/// A number that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueDifference {
    /// What it is.
    pub quantity: Quantity,
    /// The variable's position; `None` for the step's own numbers.
    pub variable: Option<usize>,
    /// The position in the flat tensor.
    pub element: usize,
    /// The golden value before the step, where there is one.
    pub before: Option<f64>,
    /// The golden value.
    pub expected: f64,
    /// The implementation's value.
    pub actual: f64,
    /// How far it is off, in the allowance's unit.
    pub error: f64,
    /// How far it may be off.
    pub allowance: Allowance,
    /// Everything that was compared for that variable in that step, in causal order.
    pub checks: Vec<Check>,
}

/// One comparison of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// What was compared.
    pub quantity: Quantity,
    /// The largest error, in the allowance's unit.
    pub error: f64,
    /// What is allowed.
    pub allowance: Allowance,
}

impl Check {
    /// Whether the error is allowed.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.error <= self.allowance.figure()
    }
}

impl Divergence {
    /// What differs first.
    #[must_use]
    pub const fn quantity(&self) -> Quantity {
        match &self.finding {
            Finding::Value(difference) => difference.quantity,
            Finding::Shape { quantity, .. } => *quantity,
            Finding::Accepted { .. } | Finding::Refused { .. } => Quantity::Refusal,
        }
    }
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Focus {
    /// Only this variable.
    pub variable: Option<String>,
    /// Only this 1-based step.
    pub step: Option<usize>,
}

/// Judges runs of one implementation.
#[derive(Debug, Clone)]
pub struct Judge<'a> {
    role: Role,
    capabilities: &'a Capabilities,
    focus: &'a Focus,
    starts: Option<&'a Expectation>,
}

/// Why a run ended early.
enum End {
    Differs(Box<Divergence>),
    Skipped(String),
    Broken(Failure),
}

impl<'a> Judge<'a> {
    /// A judge of an implementation in that role with those capabilities.
    #[must_use]
    pub const fn new(role: Role, capabilities: &'a Capabilities, focus: &'a Focus) -> Self {
        Self { role, capabilities, focus, starts: None }
    }

    /// The same judge, whose forced steps start from these states and not from what is expected.
    #[must_use]
    pub(crate) const fn starting_from(self, starts: &'a Expectation) -> Self {
        Self { starts: Some(starts), ..self }
    }

    /// Judges one run in every mode that the implementation allows. What was observed is noted
    /// under `position`; `known` holds the differences that are known for this run.
    pub fn judge(
        &self,
        implementation: &mut dyn Implementation,
        trial: &Trial<'_>,
        position: usize,
        known: &Known<'_>,
        observations: &mut Observations,
    ) -> Outcome {
        self.judge_in(&Mode::ALL, implementation, trial, position, known, observations)
    }

    /// The same in `modes` alone; free where forcing is impossible.
    pub(crate) fn judge_in(
        &self,
        modes: &[Mode],
        implementation: &mut dyn Implementation,
        trial: &Trial<'_>,
        position: usize,
        known: &Known<'_>,
        observations: &mut Observations,
    ) -> Outcome {
        if let Some(reason) = self.capabilities.lack(trial) {
            return Outcome::Skipped { reason };
        }
        let expectation = trial.expectation_for(&self.capabilities.expectation);
        let mut any_known = false;
        let refused_at_once = expectation.error.as_ref().is_some_and(|one| one.step.is_none());
        let can_force = self.capabilities.set_state && !refused_at_once;
        for mode in if can_force { modes } else { &[Mode::Free] } {
            let mut run = Run {
                judge: self,
                trial,
                expectation,
                starts: self.starts.unwrap_or(expectation),
                mode: *mode,
                position,
                known,
                observations,
                any_known: false,
                schedule: is_schedule(trial.arguments.get("learning_rate")),
                scales: Vec::new(),
            };
            let end = run.run(implementation);
            any_known |= run.any_known;
            match end {
                Ok(()) => {}
                Err(End::Differs(divergence)) if known.covers(divergence.quantity()) => {
                    known.seen(divergence.quantity());
                    any_known = true;
                }
                Err(End::Differs(divergence)) => return Outcome::Differs(divergence),
                Err(End::Skipped(reason)) => return Outcome::Skipped { reason },
                Err(End::Broken(failure)) => return Outcome::Broken(failure),
            }
        }
        if any_known { Outcome::KnownDifference } else { Outcome::Agrees }
    }
}

/// One run in one mode.
struct Run<'a, 'o> {
    judge: &'a Judge<'a>,
    trial: &'a Trial<'a>,
    expectation: &'a Expectation,
    /// What forced steps start from.
    starts: &'a Expectation,
    mode: Mode,
    position: usize,
    known: &'a Known<'a>,
    observations: &'o mut Observations,
    any_known: bool,
    schedule: bool,
    /// The largest magnitude of each variable and its average so far.
    scales: Vec<f64>,
}

impl Run<'_, '_> {
    fn run(&mut self, implementation: &mut dyn Implementation) -> Result<(), End> {
        let trial = self.trial;
        let built = self.build(implementation);
        if self.refusal(None, built.err())? {
            return Ok(());
        }
        self.scales = trial.variables.iter().map(|one| magnitude(0.0, &one.initial)).collect();
        let mut assigned: Option<&Value> = None;
        let mut rate: Option<&Value> = None;
        let mut resumed = false;
        let mut previous: Option<StepResponse> = None;
        for index in 0..trial.steps.len() {
            let inputs = &trial.steps[index];
            if let Some(next) = &inputs.learning_rate {
                self.schedule = is_schedule(Some(next));
                rate = Some(next);
                assigned = rate;
            }
            let expected = self.expectation.steps[index].as_ref();
            let fails = self.expectation.error.as_ref().is_some_and(|one| one.step == Some(index));
            let before = index.checked_sub(1).map(|index| self.starts.steps[index].as_ref());
            if self.mode == Mode::Forced {
                let elsewhere = self.judge.focus.step.is_some_and(|only| only != index + 1);
                match before {
                    _ if elsewhere || (expected.is_none() && !fails) => continue,
                    // Without a golden state to start from this step is judged free-running only.
                    Some(None) => continue,
                    Some(Some(before)) => {
                        // A golden state is a checkpoint: the first one goes into an optimizer that
                        // has seen nothing, or what a restore leaves out would still be there.
                        if !std::mem::replace(&mut resumed, true) {
                            let rebuilt = self.build(implementation);
                            self.refusal(None, rebuilt.err())?;
                            assigned = rate;
                        }
                        self.force(implementation, before)?;
                    }
                    None => {}
                }
            }
            let gradients: Vec<_> = inputs.gradients.iter().map(Option::as_ref).collect();
            let states: &[StateField] =
                if expected.is_some() { &self.judge.capabilities.states } else { &[] };
            let response = implementation.step(&StepRequest {
                learning_rate: assigned.take(),
                gradients: &gradients,
                states,
                intermediates: false,
            });
            let (response, failure) = match response {
                Ok(response) => (Some(response), None),
                Err(failure) => (None, Some(failure)),
            };
            if self.refusal(Some(index), failure)? {
                return Ok(());
            }
            let Some(response) = response else { return Ok(()) };
            if let Some(expected) = expected {
                let (before, previous) = (before.flatten(), previous.as_ref());
                let compared = Step { index, expected, before, response: &response, previous };
                self.compare(&compared)?;
            }
            previous = (self.mode == Mode::Free && expected.is_some()).then_some(response);
        }
        self.finalize(implementation)
    }

    fn build(&self, implementation: &mut dyn Implementation) -> Result<(), Failure> {
        let trial = self.trial;
        implementation.build(&BuildRequest {
            dtype: trial.dtype,
            arguments: &announced_only(&trial.arguments, &self.judge.capabilities.arguments),
            exclude_from_weight_decay: trial.exclude_from_weight_decay,
            variables: trial.variables,
        })
    }

    /// Whether the run ends here as expected; an error if it ends and should not, or the reverse.
    fn refusal(&mut self, step: Option<usize>, failure: Option<Failure>) -> Result<bool, End> {
        let expected = self.expectation.error.as_ref();
        let divergence = |finding| {
            let step = step.map(|index| index + 1);
            Err(End::Differs(Box::new(Divergence { mode: self.mode, step, finding })))
        };
        match failure {
            None => match expected {
                Some(error) if error.step == step => {
                    divergence(Finding::Accepted { expected: error.clone() })
                }
                _ => Ok(false),
            },
            Some(Failure::Error { stage, kind, message }) => {
                // At the same stage, or earlier: a stricter constructor may see what Keras sees late.
                let agrees = expected.is_some_and(|error| {
                    error.kind == kind
                        && (error.step == step || step.is_none())
                        && (stage == error.stage() || stage == "construct")
                });
                if agrees {
                    self.observations.count(1);
                    return Ok(true);
                }
                let expected = expected.cloned();
                divergence(Finding::Refused { expected, stage, kind, message })
            }
            Some(Failure::Skip { reason }) => Err(End::Skipped(reason)),
            Some(failure) => Err(End::Broken(failure)),
        }
    }

    /// Starts the next step from the golden state.
    fn force(&self, implementation: &mut dyn Implementation, golden: &Expected) -> Result<(), End> {
        let variables: Vec<&[f64]> = golden.variables.iter().map(|one| &**one).collect();
        let forced = implementation.set_state(&StateRequest {
            iterations: golden.iterations,
            variables: &variables,
            r: &slices(&golden.r),
            c: &slices(&golden.c),
            v: &slices(&golden.v),
            ema: &slices(&golden.ema),
        });
        match forced {
            Ok(()) => Ok(()),
            Err(Failure::Error { stage, kind, message }) => {
                let step = usize::try_from(golden.iterations).ok();
                let finding = Finding::Refused { expected: None, stage, kind, message };
                Err(End::Differs(Box::new(Divergence { mode: self.mode, step, finding })))
            }
            Err(Failure::Skip { reason }) => Err(End::Skipped(reason)),
            Err(failure) => Err(End::Broken(failure)),
        }
    }

    /// By how much weight decay enlarges what a variable is off by, at least 1. Keras assigns
    /// `x − x·weight_decay·learning_rate`: where the product is above 2, at a huge rate, that
    /// multiplies the errors of all steps before, and the update may still bring the variable back.
    fn decay(&self, learning_rate: f64) -> f64 {
        let decay = self.trial.arguments.get("weight_decay").and_then(Value::as_f64);
        // Where some variables do not decay the bound stays what it is for those.
        let all = self.trial.exclude_from_weight_decay.is_empty();
        decay.filter(|_| all).map_or(1.0, |decay| (1.0 - decay * learning_rate).abs().max(1.0))
    }

    /// Compares one step in causal order.
    fn compare(&mut self, step: &Step<'_>) -> Result<(), End> {
        let (expected, response) = (step.expected, step.response);
        let decay = self.decay(expected.learning_rate);
        for index in 0..self.scales.len() {
            let mut scale = magnitude(self.scales[index] * decay, &expected.variables[index]);
            if let Some(ema) = &expected.ema[index] {
                scale = magnitude(scale, ema);
            }
            self.scales[index] = scale;
        }
        if self.judge.focus.step.is_some_and(|only| only != step.index + 1) {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of steps are far below 2^53")]
        let iterations = [expected.iterations as f64, response.iterations as f64];
        let rates = [expected.learning_rate, response.learning_rate];
        for (quantity, [expected, actual]) in
            [(Quantity::Iterations, iterations), (Quantity::LearningRate, rates)]
        {
            let compared = Compared {
                expected: &[expected],
                actual: &[actual],
                anchors: [None; 3],
                scale: 0.0,
            };
            let allowance = self.allowance(quantity, step.index);
            let dtype = DType::Float32;
            let check = self.check(quantity, step.index, None, allowance, dtype, &compared);
            if !check.1.agrees() && !self.is_known(quantity) {
                return Err(self.differs(step, None, &compared, check));
            }
        }
        for quantity in TENSORS {
            for variable in 0..self.trial.variables.len() {
                self.compare_tensor(step, quantity, variable)?;
            }
        }
        Ok(())
    }

    fn compare_tensor(
        &mut self,
        step: &Step<'_>,
        quantity: Quantity,
        variable: usize,
    ) -> Result<(), End> {
        let name = &self.trial.variables[variable].name;
        if self.judge.focus.variable.as_ref().is_some_and(|only| only != name) {
            return Ok(());
        }
        let Some((allowance, compared)) = self.tensors(step, quantity, variable)? else {
            return Ok(());
        };
        let (index, dtype) = (step.index, self.trial.dtype);
        let check = self.check(quantity, index, Some(variable), allowance, dtype, &compared);
        if !check.1.agrees() && !self.is_known(quantity) {
            return Err(self.differs(step, Some(variable), &compared, check));
        }
        if let Some(own) = self.untouched(step, quantity, variable) {
            let compared = Compared { expected: own, ..compared };
            let exact = Allowance::Exact;
            let check = self.check(quantity, index, Some(variable), exact, dtype, &compared);
            if !check.1.agrees() && !self.is_known(quantity) {
                return Err(self.differs(step, Some(variable), &compared, check));
            }
        }
        Ok(())
    }

    /// The tensors of a quantity, if the implementation shows it.
    fn tensors<'s>(
        &self,
        step: &Step<'s>,
        quantity: Quantity,
        variable: usize,
    ) -> Result<Option<(Allowance, Compared<'s>)>, End>
    where
        Self: 's,
    {
        let Some(expected) = golden(step.expected, quantity, variable) else { return Ok(None) };
        if !self.shows(quantity) {
            return Ok(None);
        }
        let actual = answered(step.response, quantity, variable);
        let got = actual.map(<[f64]>::len);
        let actual = actual.filter(|actual| actual.len() == expected.len());
        let Some(actual) = actual else {
            let finding = Finding::Shape { quantity, variable, expected: expected.len(), got };
            let step = Some(step.index + 1);
            return Err(End::Differs(Box::new(Divergence { mode: self.mode, step, finding })));
        };
        let anchors = match quantity {
            // A variable that its average has overwritten is an average, of which it sees nothing:
            // 0.5·(−1.58e-4) + 0.5·1.81e-4 = 1.1e-5 leaves one ulp of a term as 16 of the result.
            Quantity::Variable if self.overwrites(step) => [
                self.before(step, quantity, variable),
                self.before(step, Quantity::Ema, variable),
                None,
            ],
            Quantity::Variable => [self.before(step, quantity, variable), None, None],
            Quantity::Ema => [
                self.before(step, quantity, variable),
                self.before(step, Quantity::Variable, variable),
                golden(step.expected, Quantity::Variable, variable),
            ],
            _ => [None; 3],
        };
        let scale = self.scales[variable];
        let allowance = self.allowance(quantity, step.index);
        Ok(Some((allowance, Compared { expected, actual, anchors, scale })))
    }

    /// What a variable without a gradient has to keep exactly, as it was before the step.
    fn untouched<'s>(
        &self,
        step: &Step<'s>,
        quantity: Quantity,
        variable: usize,
    ) -> Option<&'s [f64]>
    where
        Self: 's,
    {
        if self.trial.steps[step.index].gradients[variable].is_some() {
            return None;
        }
        let expected = golden(step.expected, quantity, variable)?;
        let before = self.before(step, quantity, variable)?;
        if before.iter().zip(expected).any(|(before, expected)| !same(*before, *expected)) {
            // Keras changed it all the same, as 2.12.1 does with averages.
            return None;
        }
        match self.mode {
            // From rank 2 it is rebuilt from factors, and so rounded anew.
            Mode::Forced if quantity == Quantity::V && self.is_factored(variable) => None,
            Mode::Forced => Some(before),
            Mode::Free => match step.previous {
                Some(own) => answered(own, quantity, variable),
                None => (step.index == 0).then_some(before),
            },
        }
    }

    /// Whether the averages overwrite the variables at the end of the step.
    fn overwrites(&self, step: &Step<'_>) -> bool {
        let arguments = &self.trial.arguments;
        let frequency = arguments.get("ema_overwrite_frequency").and_then(Value::as_u64);
        arguments.get("use_ema") == Some(&Value::Bool(true))
            && frequency.is_some_and(|frequency| {
                frequency > 0 && step.expected.iterations.is_multiple_of(frequency)
            })
    }

    /// The golden tensor before the step.
    fn before<'s>(&self, step: &Step<'s>, quantity: Quantity, variable: usize) -> Option<&'s [f64]>
    where
        Self: 's,
    {
        match (quantity, step.before, step.index) {
            (_, Some(before), _) => golden(before, quantity, variable),
            // An average starts as the variable's initial value.
            (Quantity::Variable | Quantity::Ema, None, 0) => {
                Some(self.trial.variables[variable].initial.as_slice())
            }
            _ => None,
        }
    }

    fn finalize(&mut self, implementation: &mut dyn Implementation) -> Result<(), End> {
        let Some(finalized) = &self.expectation.finalized else { return Ok(()) };
        let last = self.starts.steps.last().and_then(Option::as_ref);
        if self.mode == Mode::Forced {
            let Some(last) = last else { return Ok(()) };
            self.force(implementation, last)?;
        }
        let variables = match implementation.finalize() {
            Ok(variables) => variables,
            Err(failure) => return self.refusal(None, Some(failure)).map(|_| ()),
        };
        let index = self.trial.steps.len().saturating_sub(1);
        for (variable, expected) in finalized.iter().enumerate() {
            let name = &self.trial.variables[variable].name;
            if self.judge.focus.variable.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let quantity = Quantity::Finalized;
            let divergence = |finding| {
                Err(End::Differs(Box::new(Divergence { mode: self.mode, step: None, finding })))
            };
            let got = variables.get(variable).map(Vec::len);
            let Some(actual) = variables.get(variable).filter(|one| one.len() == expected.len())
            else {
                let expected = expected.len();
                return divergence(Finding::Shape { quantity, variable, expected, got });
            };
            let at_last = |quantity| last.and_then(|last| golden(last, quantity, variable));
            let compared = Compared {
                expected,
                actual,
                anchors: [at_last(Quantity::Variable), at_last(Quantity::Ema), None],
                scale: self.scales[variable],
            };
            let allowance = self.allowance(quantity, index);
            let dtype = self.trial.dtype;
            let (error, check) =
                self.check(quantity, index, Some(variable), allowance, dtype, &compared);
            if !check.agrees() && !self.is_known(quantity) {
                return Err(End::Differs(Box::new(Divergence {
                    mode: self.mode,
                    step: None,
                    finding: Finding::Value(ValueDifference {
                        quantity,
                        variable: Some(variable),
                        element: error.element,
                        before: compared.anchors[0].map(|before| before[error.element]),
                        expected: expected[error.element],
                        actual: actual[error.element],
                        error: error.error,
                        allowance,
                        checks: vec![check],
                    }),
                })));
            }
        }
        Ok(())
    }

    fn check(
        &mut self,
        quantity: Quantity,
        step: usize,
        variable: Option<usize>,
        allowance: Allowance,
        dtype: DType,
        compared: &Compared<'_>,
    ) -> (Error, Check) {
        let error = largest_error(allowance, dtype, compared);
        let check = Check { quantity, error: error.error, allowance };
        self.observations.count(compared.expected.len());
        if check.agrees() || !self.known.covers(quantity) {
            let place = (self.position, step + 1, variable);
            self.observations.note(self.mode, dtype, check, place);
        }
        (error, check)
    }

    /// Whether a difference of this quantity is known; it is noted as seen.
    fn is_known(&mut self, quantity: Quantity) -> bool {
        let known = self.known.covers(quantity);
        if known {
            self.known.seen(quantity);
            self.any_known = true;
        }
        known
    }

    /// The divergence, with everything that was compared for that variable in that step.
    fn differs(
        &self,
        step: &Step<'_>,
        variable: Option<usize>,
        compared: &Compared<'_>,
        (error, check): (Error, Check),
    ) -> End {
        let Error { element, error } = error;
        let quantity = check.quantity;
        let mut checks = vec![check];
        for later in TENSORS.into_iter().filter(|_| variable.is_some()) {
            let variable = variable.unwrap_or_default();
            if later == quantity {
                continue;
            }
            if let Ok(Some((allowance, compared))) = self.tensors(step, later, variable) {
                let error = largest_error(allowance, self.trial.dtype, &compared).error;
                checks.push(Check { quantity: later, error, allowance });
            }
        }
        checks.sort_by_key(|check| check.quantity);
        let before = variable.and_then(|variable| self.before(step, quantity, variable));
        End::Differs(Box::new(Divergence {
            mode: self.mode,
            step: Some(step.index + 1),
            finding: Finding::Value(ValueDifference {
                quantity,
                variable,
                element,
                before: before.map(|before| before[element]),
                expected: compared.expected[element],
                actual: compared.actual[element],
                error,
                allowance: check.allowance,
                checks,
            }),
        }))
    }

    fn allowance(&self, quantity: Quantity, index: usize) -> Allowance {
        allowance(
            quantity,
            Circumstances {
                mode: self.mode,
                role: self.judge.role,
                step: index as u64 + 1,
                schedule: self.schedule,
            },
        )
    }

    fn is_factored(&self, variable: usize) -> bool {
        self.trial.variables[variable].shape.len() >= 2
    }

    fn shows(&self, quantity: Quantity) -> bool {
        let shown = |field| self.judge.capabilities.states.contains(&field);
        match quantity {
            Quantity::R => shown(StateField::R),
            Quantity::C => shown(StateField::C),
            Quantity::V => shown(StateField::V),
            Quantity::Ema => shown(StateField::Ema),
            _ => true,
        }
    }
}

/// The tensors that are compared, in causal order.
const TENSORS: [Quantity; 5] =
    [Quantity::R, Quantity::C, Quantity::V, Quantity::Variable, Quantity::Ema];

/// One step to compare.
struct Step<'a> {
    index: usize,
    expected: &'a Expected,
    before: Option<&'a Expected>,
    response: &'a StepResponse,
    /// The implementation's own answer before, in free-running mode.
    previous: Option<&'a StepResponse>,
}

pub(crate) fn slices(tensors: &[Option<Tensor>]) -> Vec<Option<&[f64]>> {
    tensors.iter().map(Option::as_deref).collect()
}

fn golden(expected: &Expected, quantity: Quantity, variable: usize) -> Option<&[f64]> {
    let field = match quantity {
        Quantity::Variable => return expected.variables.get(variable).map(|one| &**one),
        Quantity::R => &expected.r,
        Quantity::C => &expected.c,
        Quantity::V => &expected.v,
        Quantity::Ema => &expected.ema,
        _ => return None,
    };
    field.get(variable)?.as_deref()
}

fn answered(response: &StepResponse, quantity: Quantity, variable: usize) -> Option<&[f64]> {
    let field = match quantity {
        Quantity::Variable => return response.variables.get(variable).map(Vec::as_slice),
        Quantity::R => &response.r,
        Quantity::C => &response.c,
        Quantity::V => &response.v,
        Quantity::Ema => &response.ema,
        _ => return None,
    };
    field.get(variable)?.as_deref()
}

/// The largest finite magnitude of `values`, at least `least`.
fn magnitude(least: f64, values: &[f64]) -> f64 {
    let finite = values.iter().map(|value| value.abs()).filter(|value| value.is_finite());
    finite.fold(least, f64::max)
}

fn is_schedule(learning_rate: Option<&Value>) -> bool {
    learning_rate.is_some_and(Value::is_object)
}
