//! One step against the golden one, in causal order.

use goldstep_core::DType;

use super::around::Around;
use super::likeness::{Likeness, Suspected};
use super::replay::Run;
use super::{Check, End, Finding, ValueDifference};
use crate::agreement::{
    Allowance, Circumstances, Compared, Error, Mode, Quantity, allowance, errors, largest_error,
    same,
};
use crate::golden::Expected;
use crate::implementation::{StateField, StepResponse};

/// The tensors that are compared, in causal order.
pub(crate) const TENSORS: [Quantity; 5] =
    [Quantity::R, Quantity::C, Quantity::V, Quantity::Variable, Quantity::Ema];

/// One step to compare.
pub(super) struct Step<'a> {
    /// Its 0-based number.
    pub(super) index: usize,
    pub(super) expected: &'a Expected,
    /// The golden state before it; `None` for the first step, and where there is none.
    pub(super) before: Option<&'a Expected>,
    pub(super) response: &'a StepResponse,
    /// The implementation's own answer before, in free-running mode.
    pub(super) previous: Option<&'a StepResponse>,
}

impl Run<'_, '_> {
    /// Compares one step in causal order.
    pub(super) fn compare(&mut self, step: &Step<'_>) -> Result<(), End> {
        self.scales.take_up(self.trial, step.expected);
        if self.judge.focus.step.is_some_and(|only| only != step.index + 1) {
            return Ok(());
        }
        self.compare_numbers(step)?;
        for quantity in TENSORS {
            for variable in 0..self.trial.variables.len() {
                self.compare_tensor(step, quantity, variable)?;
            }
        }
        Ok(())
    }

    /// Compares what belongs to the step and to no variable.
    fn compare_numbers(&mut self, step: &Step<'_>) -> Result<(), End> {
        let (expected, response) = (step.expected, step.response);
        #[expect(clippy::cast_precision_loss, reason = "counts of steps are far below 2^53")]
        let iterations = [expected.iterations as f64, response.iterations as f64];
        // The rate is a float32 whatever the variables are, and as in a tensor a decimal stands for
        // the nearest one: who answers with the 0.9 it was built with is right.
        let rate = DType::Float32.round(response.learning_rate);
        let rates = [expected.learning_rate, rate];
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
            let (error, check) =
                self.check(quantity, step.index, None, allowance, dtype, &compared);
            if !check.agrees() && !self.is_known(quantity) {
                return Err(self.differs(step, None, &compared, error, check));
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
        let (error, check) =
            self.check(quantity, index, Some(variable), allowance, dtype, &compared);
        if !check.agrees() && !self.is_known(quantity) {
            return Err(self.differs(step, Some(variable), &compared, error, check));
        }
        if let Some(own) = self.untouched(step, quantity, variable) {
            let compared = Compared { expected: own, ..compared };
            let exact = Allowance::Exact;
            let (error, check) =
                self.check(quantity, index, Some(variable), exact, dtype, &compared);
            if !check.agrees() && !self.is_known(quantity) {
                return Err(self.differs(step, Some(variable), &compared, error, check));
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
            return Err(self.diverges(Some(step.index + 1), finding));
        };
        let anchors = self.around(step).anchors(quantity, variable);
        let scale = self.scales.of(variable);
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
        let before = self.around(step).before(quantity, variable)?;
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

    /// The golden states around the step.
    fn around<'s>(&self, step: &Step<'s>) -> Around<'s>
    where
        Self: 's,
    {
        let Step { index, expected, before, .. } = *step;
        Around { trial: self.trial, index, expected, before }
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
        error: Error,
        check: Check,
    ) -> End {
        let mut checks = vec![check];
        if let Some(variable) = variable {
            for other in TENSORS.into_iter().filter(|other| *other != check.quantity) {
                if let Ok(Some((allowance, compared))) = self.tensors(step, other, variable) {
                    let error = largest_error(allowance, self.trial.dtype, &compared).error;
                    checks.push(Check { quantity: other, error, allowance });
                }
            }
        }
        checks.sort_by_key(|check| check.quantity);
        let before =
            variable.and_then(|variable| self.around(step).before(check.quantity, variable));
        let dtype = if variable.is_some() { self.trial.dtype } else { DType::Float32 };
        let decays = check.quantity == Quantity::Variable;
        let decay = if decays { self.around(step).decay() } else { 1.0 };
        let place = Place { variable, before, dtype, decay };
        let difference = place.difference(compared, error, check, checks);
        self.diverges(Some(step.index + 1), Finding::Value(difference))
    }

    /// Compares a variable as `finalize_variable_values` leaves it; `last` is the golden state
    /// before it.
    pub(super) fn compare_finalized(
        &mut self,
        variable: usize,
        expected: &[f64],
        actual: Option<&[f64]>,
        last: Option<&Expected>,
    ) -> Result<(), End> {
        let name = &self.trial.variables[variable].name;
        if self.judge.focus.variable.as_ref().is_some_and(|only| only != name) {
            return Ok(());
        }
        let quantity = Quantity::Finalized;
        let got = actual.map(<[f64]>::len);
        let Some(actual) = actual.filter(|actual| actual.len() == expected.len()) else {
            let finding = Finding::Shape { quantity, variable, expected: expected.len(), got };
            return Err(self.diverges(None, finding));
        };
        let at_last = |quantity| last.and_then(|last| golden(last, quantity, variable));
        let compared = Compared {
            expected,
            actual,
            anchors: [at_last(Quantity::Variable), at_last(Quantity::Ema), None],
            // The steps before may not have been compared.
            scale: magnitude(self.scales.of(variable), expected),
        };
        let index = self.trial.steps.len().saturating_sub(1);
        let allowance = self.allowance(quantity, index);
        let (error, check) =
            self.check(quantity, index, Some(variable), allowance, self.trial.dtype, &compared);
        if !check.agrees() && !self.is_known(quantity) {
            let before = compared.anchors[0];
            let dtype = self.trial.dtype;
            let place = Place { variable: Some(variable), before, dtype, decay: 1.0 };
            let difference = place.difference(&compared, error, check, vec![check]);
            return Err(self.diverges(None, Finding::Value(difference)));
        }
        Ok(())
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

/// Where a value differs.
struct Place<'a> {
    variable: Option<usize>,
    before: Option<&'a [f64]>,
    dtype: DType,
    /// What weight decay alone makes of an element.
    decay: f64,
}

impl Place<'_> {
    fn difference(
        &self,
        compared: &Compared<'_>,
        Error { element, error }: Error,
        check: Check,
        checks: Vec<Check>,
    ) -> ValueDifference {
        let Check { quantity, allowance, .. } = check;
        let errors = errors(allowance, self.dtype, compared).enumerate();
        let wrong = errors.filter(|(_, error)| *error > allowance.figure());
        let wrong: Vec<usize> = wrong.map(|(at, _)| at).collect();
        // Second moments keep a share of what they were, and are not moved from there.
        let moved = !matches!(quantity, Quantity::R | Quantity::C | Quantity::V);
        let suspected = Suspected {
            dtype: self.dtype,
            allowance,
            wrong: &wrong,
            before: self.before.filter(|_| moved),
            decay: self.decay,
        };
        ValueDifference {
            quantity,
            variable: self.variable,
            element,
            before: self.before.map(|before| before[element]),
            expected: compared.expected[element],
            actual: compared.actual[element],
            error,
            allowance,
            checks,
            likeness: Likeness::of(&suspected, compared),
            wrong,
        }
    }
}

/// The golden tensor of a quantity, where there is one.
pub(crate) fn golden(expected: &Expected, quantity: Quantity, variable: usize) -> Option<&[f64]> {
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

/// The implementation's tensor of a quantity, where it showed one.
pub(crate) fn answered(
    response: &StepResponse,
    quantity: Quantity,
    variable: usize,
) -> Option<&[f64]> {
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
pub(crate) fn magnitude(least: f64, values: &[f64]) -> f64 {
    let finite = values.iter().map(|value| value.abs()).filter(|value| value.is_finite());
    finite.fold(least, f64::max)
}
