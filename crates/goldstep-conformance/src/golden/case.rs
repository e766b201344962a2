//! The self-contained case, `goldstep-case/1`.

use std::collections::{BTreeMap, HashSet};

use goldstep_core::{Constraint, DType};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::error::{GoldenError, Place, shortened};
use super::numbers::{Budget, Number, RawGradient, RawTensor, Tensor, elements, round};
use crate::implementation::{GradientValues, Variable};

/// The format's name and version.
pub const CASE_FORMAT: &str = "goldstep-case/1";

/// Inputs of one run and what it has to give.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name, unique in a directory.
    pub id: String,
    /// The group that it belongs to.
    pub family: Option<String>,
    /// What it is for.
    pub comment: Option<String>,
    /// Classes of mistakes that it is there to catch.
    pub flags: Vec<String>,
    /// Where it comes from.
    pub source: Option<Map<String, Value>>,
    /// The element type of variables, gradients and states.
    pub dtype: DType,
    /// The constructor's arguments by name; absent means Keras's default.
    pub arguments: Map<String, Value>,
    /// Regular expressions over variable names.
    pub exclude_from_weight_decay: Vec<String>,
    /// The variables.
    pub variables: Vec<Variable>,
    /// The steps.
    pub steps: Vec<Step>,
    /// What the project expects.
    pub expectation: Expectation,
    /// What is expected of implementations that are known to differ, by name.
    pub expected_in: BTreeMap<String, Expectation>,
}

/// The inputs of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// A rate to assign before the step: a number or a Keras schedule.
    pub learning_rate: Option<Value>,
    /// One gradient per variable, or none.
    pub gradients: Vec<Option<GradientValues>>,
}

/// What a run has to give.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expectation {
    /// One entry per step; `None` where nothing is compared.
    pub steps: Vec<Option<Expected>>,
    /// The variables after `finalize_variable_values` at the end.
    pub finalized: Option<Vec<Tensor>>,
    /// The error that ends the run.
    pub error: Option<ExpectedError>,
}

/// What a step leaves behind. Lists are by variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Steps done, this one included.
    pub iterations: u64,
    /// The float32 learning rate that the step used, uncapped.
    pub learning_rate: f64,
    /// Values of the variables.
    pub variables: Vec<Tensor>,
    /// Row factors; `None` below rank 2.
    pub r: Vec<Option<Tensor>>,
    /// Column factors; `None` below rank 2.
    pub c: Vec<Option<Tensor>>,
    /// Full second moments.
    pub v: Vec<Option<Tensor>>,
    /// Averages; `None` without `use_ema`.
    pub ema: Vec<Option<Tensor>>,
}

/// The error that ends a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedError {
    /// The 0-based step; `None` for the constructor.
    pub step: Option<usize>,
    /// Keras's class name.
    pub kind: String,
    /// Keras's message.
    pub message: String,
}

impl ExpectedError {
    /// `construct` or `step`.
    #[must_use]
    pub const fn stage(&self) -> &'static str {
        if self.step.is_some() { "step" } else { "construct" }
    }
}

/// A case as it stands in its file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCase {
    #[serde(rename = "format")]
    _format: String,
    id: String,
    family: Option<String>,
    comment: Option<String>,
    flags: Option<Vec<String>>,
    source: Option<Map<String, Value>>,
    dtype: String,
    arguments: Map<String, Value>,
    exclude_from_weight_decay: Option<Vec<String>>,
    variables: Vec<RawVariable>,
    steps: Vec<RawStep>,
    finalized: Option<Vec<RawTensor>>,
    expected_error: Option<RawError>,
    expected_in: Option<BTreeMap<String, RawExpectation>>,
}

/// A variable as it stands in a case or in the inputs of a grid.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVariable {
    name: String,
    shape: Vec<usize>,
    initial: RawTensor,
    constraint: Option<RawConstraint>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum RawConstraint {
    NonNegative {},
    Clip { minimum: Number, maximum: Number },
}

/// A step as it stands in a case or in the inputs of a grid.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStep {
    learning_rate: Option<Value>,
    gradients: Vec<Option<RawGradient>>,
    pub(super) expected: Option<RawExpected>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExpected {
    iterations: u64,
    learning_rate: Number,
    variables: Vec<RawTensor>,
    r: Vec<Option<RawTensor>>,
    c: Vec<Option<RawTensor>>,
    v: Vec<Option<RawTensor>>,
    ema: Option<Vec<Option<RawTensor>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpectation {
    steps: Option<Vec<Option<RawNamedStep>>>,
    finalized: Option<Vec<RawTensor>>,
    expected_error: Option<RawError>,
}

/// What a named expectation has for a step: a record alone, or where a step of the case has it.
#[derive(Debug)]
struct RawNamedStep(Option<RawExpected>);

impl<'de> Deserialize<'de> for RawNamedStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Step {
            expected: Option<RawExpected>,
        }
        // Not an untagged enum, which says of a damaged record only that neither form fits.
        let value = Value::deserialize(deserializer)?;
        let record = match value.get("expected") {
            Some(_) => Step::deserialize(value).map(|step| step.expected),
            None => RawExpected::deserialize(value).map(Some),
        };
        record.map(Self).map_err(D::Error::custom)
    }
}

/// An expected error as it stands in a case or in the index of a grid.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawError {
    stage: String,
    step: Option<usize>,
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

impl RawCase {
    /// Checks everything that a case can contradict itself in.
    pub(super) fn into_case(self, place: Place<'_>, budget: &Budget) -> Result<Case, GoldenError> {
        let dtype = dtype(place, &self.dtype)?;
        let needs_averages = self.arguments.get("use_ema") == Some(&Value::Bool(true));
        let context = Context { place, dtype, budget, needs_averages };
        let variables = context.variables(self.variables)?;
        let mut steps = Vec::new();
        let mut expected = Vec::new();
        let error = self.expected_error.map(|error| error.into_error(place, self.steps.len()));
        let error = error.transpose()?;
        for (index, mut step) in self.steps.into_iter().enumerate() {
            let record = step.expected.take();
            expected.push(record.map(|record| context.expected(record, &variables)).transpose()?);
            // The gradients of a step that must fail may be what is wrong with it.
            let fails = error.as_ref().is_some_and(|error| error.step == Some(index));
            steps.push(context.step(step, &variables, !fails)?);
        }
        let expectation = Expectation {
            steps: expected,
            finalized: context.finalized(self.finalized, &variables)?,
            error,
        };
        context.check_end("case", &expectation)?;
        let mut expected_in = BTreeMap::new();
        for (name, raw) in self.expected_in.unwrap_or_default() {
            let expectation = context.alternative(&name, raw, &variables, steps.len())?;
            expected_in.insert(name, expectation);
        }
        if self.id.is_empty() {
            return Err(place.content("id", "be a name", "an empty text"));
        }
        Ok(Case {
            id: self.id,
            family: self.family,
            comment: self.comment,
            flags: self.flags.unwrap_or_default(),
            source: self.source,
            dtype,
            arguments: self.arguments,
            exclude_from_weight_decay: self.exclude_from_weight_decay.unwrap_or_default(),
            variables,
            steps,
            expectation,
            expected_in,
        })
    }
}

impl RawError {
    pub(super) fn into_error(
        self,
        place: Place<'_>,
        steps: usize,
    ) -> Result<ExpectedError, GoldenError> {
        let step = match (self.stage.as_str(), self.step) {
            ("construct", None) => None,
            ("step", Some(step)) if step < steps => Some(step),
            (stage, step) => {
                let rule = format!("be construct, or step with a step below {steps}");
                let got = format!("{} with {step:?}", shortened(stage));
                return Err(place.content("stage of expected_error", rule, got));
            }
        };
        Ok(ExpectedError { step, kind: self.kind, message: self.message })
    }
}

/// The element type of that name.
pub(super) fn dtype(place: Place<'_>, name: &str) -> Result<DType, GoldenError> {
    let rule = "be float64, float32, bfloat16 or float16";
    DType::from_name(name).ok_or_else(|| place.content("dtype", rule, shortened(name)))
}

/// What every part of a record needs to be checked.
pub(super) struct Context<'a> {
    pub(super) place: Place<'a>,
    pub(super) dtype: DType,
    pub(super) budget: &'a Budget,
    /// Whether a record must have an average of every variable.
    pub(super) needs_averages: bool,
}

impl Context<'_> {
    pub(super) fn variables(&self, raw: Vec<RawVariable>) -> Result<Vec<Variable>, GoldenError> {
        let mut variables: Vec<Variable> = Vec::new();
        let mut names = HashSet::new();
        for variable in raw {
            let name = variable.name;
            if !names.insert(name.clone()) {
                let twice = format!("{} twice", shortened(&name));
                return Err(self.place.content("variables", "have unique names", twice));
            }
            let elements = elements(self.place, &name, &variable.shape)?;
            let initial = self.values(variable.initial, elements, || format!("initial of {name}"));
            let constraint = variable.constraint.map(|constraint| match constraint {
                RawConstraint::NonNegative {} => Constraint::NonNegative,
                RawConstraint::Clip { minimum, maximum } => {
                    Constraint::Clip { minimum: minimum.0, maximum: maximum.0 }
                }
            });
            let initial = initial?;
            variables.push(Variable { name, shape: variable.shape, initial, constraint });
        }
        Ok(variables)
    }

    /// A step's inputs; `check` says whether gradients must fit their variables.
    pub(super) fn step(
        &self,
        raw: RawStep,
        variables: &[Variable],
        check: bool,
    ) -> Result<Step, GoldenError> {
        self.count("gradients", raw.gradients.len(), variables.len())?;
        let gradient = |(gradient, variable): (Option<RawGradient>, &Variable)| {
            gradient.map(|gradient| self.gradient(gradient, variable, check)).transpose()
        };
        let gradients = raw.gradients.into_iter().zip(variables).map(gradient);
        Ok(Step {
            learning_rate: raw.learning_rate,
            gradients: gradients.collect::<Result<_, _>>()?,
        })
    }

    fn gradient(
        &self,
        raw: RawGradient,
        variable: &Variable,
        check: bool,
    ) -> Result<GradientValues, GoldenError> {
        let what = || format!("gradient of {}", variable.name);
        let length = |tensor: &RawTensor, elements: usize| match tensor {
            RawTensor::Flat(values) if !check => values.len(),
            _ => elements,
        };
        match raw {
            RawGradient::Dense(tensor) => {
                let elements = length(&tensor, variable.initial.len());
                self.values(tensor, elements, what).map(GradientValues::Dense)
            }
            RawGradient::Sparse { indices, values } => {
                let row: usize = variable.shape.iter().skip(1).product();
                let Some(elements) = indices.len().checked_mul(row) else {
                    let got = format!("{} rows of {row}", indices.len());
                    return Err(self.place.content(what(), "fit the address space", got));
                };
                let elements = length(&values, elements);
                let values = self.values(values, elements, what)?;
                Ok(GradientValues::Sparse { indices, values })
            }
        }
    }

    pub(super) fn expected(
        &self,
        raw: RawExpected,
        variables: &[Variable],
    ) -> Result<Expected, GoldenError> {
        let mut learning_rate = [raw.learning_rate.0];
        round(self.place, DType::Float32, &mut learning_rate, || "learning_rate".to_owned())?;
        let ema = raw.ema.unwrap_or_else(|| variables.iter().map(|_| None).collect());
        Ok(Expected {
            iterations: raw.iterations,
            learning_rate: learning_rate[0],
            variables: self.tensors("variables", raw.variables, variables)?,
            r: self.fields("r", raw.r, variables, row_factor_elements)?,
            c: self.fields("c", raw.c, variables, column_factor_elements)?,
            v: self.fields("v", raw.v, variables, |shape| Some(shape.iter().product()))?,
            ema: self.averages(ema, variables)?,
        })
    }

    fn fields(
        &self,
        field: &str,
        raw: Vec<Option<RawTensor>>,
        variables: &[Variable],
        elements: impl Fn(&[usize]) -> Option<usize>,
    ) -> Result<Vec<Option<Tensor>>, GoldenError> {
        self.count(field, raw.len(), variables.len())?;
        let tensor = |(raw, variable): (Option<RawTensor>, &Variable)| {
            let what = || format!("{field} of {}", variable.name);
            match (raw, elements(&variable.shape)) {
                (None, None) => Ok(None),
                (Some(raw), Some(elements)) => {
                    self.values(raw, elements, what).map(|values| Some(values.into()))
                }
                (None, Some(_)) => Err(self.place.content(what(), "be a tensor", "null")),
                (Some(_), None) => {
                    Err(self.place.content(what(), "be null below rank 2", "a tensor"))
                }
            }
        };
        raw.into_iter().zip(variables).map(tensor).collect()
    }

    fn averages(
        &self,
        raw: Vec<Option<RawTensor>>,
        variables: &[Variable],
    ) -> Result<Vec<Option<Tensor>>, GoldenError> {
        self.count("ema", raw.len(), variables.len())?;
        let tensor = |(raw, variable): (Option<RawTensor>, &Variable)| {
            let what = || format!("ema of {}", variable.name);
            if self.needs_averages && raw.is_none() {
                return Err(self.place.content(what(), "be a tensor with use_ema", "null"));
            }
            let values = raw.map(|raw| self.values(raw, variable.initial.len(), what));
            Ok(values.transpose()?.map(Tensor::from))
        };
        raw.into_iter().zip(variables).map(tensor).collect()
    }

    fn tensors(
        &self,
        field: &str,
        raw: Vec<RawTensor>,
        variables: &[Variable],
    ) -> Result<Vec<Tensor>, GoldenError> {
        self.count(field, raw.len(), variables.len())?;
        let tensor = |(raw, variable): (RawTensor, &Variable)| {
            let what = || format!("{field} of {}", variable.name);
            self.values(raw, variable.initial.len(), what).map(Tensor::from)
        };
        raw.into_iter().zip(variables).map(tensor).collect()
    }

    fn finalized(
        &self,
        raw: Option<Vec<RawTensor>>,
        variables: &[Variable],
    ) -> Result<Option<Vec<Tensor>>, GoldenError> {
        raw.map(|raw| self.tensors("finalized", raw, variables)).transpose()
    }

    fn alternative(
        &self,
        name: &str,
        raw: RawExpectation,
        variables: &[Variable],
        steps: usize,
    ) -> Result<Expectation, GoldenError> {
        let mut records = raw.steps.unwrap_or_default();
        // A list may end where nothing more is expected.
        if records.len() > steps {
            let rule = format!("have at most {steps} entries");
            let got = records.len().to_string();
            return Err(self.place.content("steps of expected_in", rule, got));
        }
        records.resize_with(steps, || None);
        let expected = records
            .into_iter()
            .map(|step| step.and_then(|step| step.0))
            .map(|record| record.map(|record| self.expected(record, variables)).transpose());
        let expectation = Expectation {
            steps: expected.collect::<Result<_, _>>()?,
            finalized: self.finalized(raw.finalized, variables)?,
            error: raw
                .expected_error
                .map(|error| error.into_error(self.place, steps))
                .transpose()?,
        };
        self.check_end(&format!("expected_in {name}"), &expectation)?;
        Ok(expectation)
    }

    /// An error ends a case: nothing is expected from its step on.
    fn check_end(&self, what: &str, expectation: &Expectation) -> Result<(), GoldenError> {
        let Some(error) = &expectation.error else { return Ok(()) };
        let from = error.step.unwrap_or(0);
        let later = expectation.steps.iter().skip(from).any(Option::is_some);
        if later || expectation.finalized.is_some() {
            let rule = format!("expect nothing after its error at step index {from}");
            return Err(self.place.content(what, rule, "expectations after it"));
        }
        Ok(())
    }

    fn values(
        &self,
        raw: RawTensor,
        elements: usize,
        what: impl Fn() -> String,
    ) -> Result<Vec<f64>, GoldenError> {
        raw.into_values(self.place, self.dtype, elements, self.budget, what)
    }

    fn count(&self, what: &str, got: usize, expected: usize) -> Result<(), GoldenError> {
        if got == expected {
            return Ok(());
        }
        let rule = format!("have {expected} entries");
        Err(self.place.content(what, rule, got.to_string()))
    }
}

/// Elements of the row factor, from rank 2: all axes but the last.
pub(super) fn row_factor_elements(shape: &[usize]) -> Option<usize> {
    match shape {
        [rows @ .., _] if !rows.is_empty() => Some(rows.iter().product()),
        _ => None,
    }
}

/// Elements of the column factor, from rank 2: all axes but the second-to-last.
pub(super) fn column_factor_elements(shape: &[usize]) -> Option<usize> {
    match shape {
        [leading @ .., _, columns] => Some(leading.iter().product::<usize>() * columns),
        _ => None,
    }
}
