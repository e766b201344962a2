//! Halves computed in float32: what that changes, and whether a difference is no more than that.

use goldstep_core::DType;

use crate::agreement::Role;
use crate::explain::gives_the_same;
use crate::golden::Trial;
use crate::implementation::{
    BuildRequest, Capabilities, Description, Failure, Implementation, StateField, StateRequest,
    StepRequest, StepResponse,
};
use crate::judge::{Focus, Judge, Outcome};
use crate::known::Known;
use crate::observed::Observations;

/// An implementation whose arithmetic and state for bfloat16 and float16 are those of its float32:
/// variables are rounded to the half after each step, and nothing else is.
///
/// tf.keras rounds every operation and every argument instead. Its squares of float16 below 0.008
/// are subnormal and keep a few bits, so that the scale of a small parameter is off by percents; a
/// clip value is off by up to half an eps, which a sum of rows that nearly cancel enlarges.
pub struct Wide {
    inner: Box<dyn Implementation>,
    dtype: DType,
}

impl Wide {
    /// The same implementation, with halves in its float32.
    #[must_use]
    pub fn new(inner: Box<dyn Implementation>) -> Self {
        Self { inner, dtype: DType::Float32 }
    }

    fn round(&self, variables: &mut [Vec<f64>]) {
        for value in variables.iter_mut().flatten() {
            *value = self.dtype.round(*value);
        }
    }
}

impl Implementation for Wide {
    fn describe(&self) -> &Description {
        self.inner.describe()
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.dtype = request.dtype;
        let dtype = if is_half(self.dtype) { DType::Float32 } else { self.dtype };
        self.inner.build(&BuildRequest { dtype, ..*request })
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        self.inner.set_state(request)
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        if !is_half(self.dtype) {
            return self.inner.step(request);
        }
        let mut response =
            self.inner.step(&StepRequest { states: &StateField::ALL, ..*request })?;
        self.round(&mut response.variables);
        let variables: Vec<&[f64]> = response.variables.iter().map(Vec::as_slice).collect();
        self.inner.set_state(&StateRequest {
            iterations: response.iterations,
            variables: &variables,
            r: &lent(&response.r),
            c: &lent(&response.c),
            v: &lent(&response.v),
            ema: &lent(&response.ema),
        })?;
        Ok(response)
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        let mut variables = self.inner.finalize()?;
        self.round(&mut variables);
        Ok(variables)
    }
}

/// Whether a subject differs from tf.keras in a run because it computes halves in float32: `wide`
/// differs from tf.keras as well, and gives what the subject gives, each step from tf.keras's
/// state and from the start to the end.
pub(crate) fn is_wide(
    wide: &mut dyn Implementation,
    subject: &mut dyn Implementation,
    capabilities: &Capabilities,
    trial: &Trial<'_>,
) -> bool {
    if !is_half(trial.dtype) {
        return false;
    }
    let can = Capabilities {
        states: capabilities.states.clone(),
        expectation: capabilities.expectation.clone(),
        ..wide.describe().capabilities.clone()
    };
    let focus = Focus::default();
    let judge = Judge::new(Role::Other, &can, &focus);
    let outcome = judge.judge(wide, trial, 0, &Known::none(), &mut Observations::default());
    matches!(outcome, Outcome::Differs(_)) && gives_the_same(wide, subject, capabilities, trial)
}

fn lent(field: &[Option<Vec<f64>>]) -> Vec<Option<&[f64]>> {
    field.iter().map(Option::as_deref).collect()
}

const fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::Bfloat16 | DType::Float16)
}
