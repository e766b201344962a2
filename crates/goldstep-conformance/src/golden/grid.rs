//! The packed grid of arguments: one list of inputs, many combinations.

use std::collections::{BTreeMap, HashMap};

use goldstep_core::DType;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::case::{
    Context, Expectation, Expected, ExpectedError, RawError, RawStep, RawVariable, Step,
    column_factor_elements, dtype, row_factor_elements,
};
use super::error::{GoldenError, Place, shortened};
use super::file::{GoldenFile, JsonLine, hexadecimal};
use super::numbers::{Budget, Flat, Number, Tensor, elements, push_bytes, round};
use crate::implementation::Variable;

/// The format's name and version.
pub const TRACE_FORMAT: &str = "goldstep-trace/1";

/// Every combination of arguments over the same inputs.
#[derive(Debug, Clone)]
pub struct Grid {
    pub(super) dtype: DType,
    pub(super) axes: Vec<Axis>,
    pub(super) variables: Vec<Variable>,
    pub(super) steps: Vec<Step>,
    /// Combination numbers, ascending; `None`: all of them.
    combinations: Option<Vec<usize>>,
    /// By position: an index into `expectations`.
    classes: Vec<u32>,
    /// The trajectories, then the errors.
    expectations: Vec<Expectation>,
    trajectories: usize,
    pub(super) counts: BTreeMap<&'static str, usize>,
}

/// One argument and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Keras's name of the argument.
    pub argument: String,
    /// The values, in the order of the digits.
    pub values: Vec<Value>,
}

impl Grid {
    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The arguments and their values; the first axis is the slowest digit.
    #[must_use]
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The variables that all combinations share.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The steps that all combinations share.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The number of combinations that the family holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether the family holds no combination.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The number of distinct trajectories.
    #[must_use]
    pub const fn trajectories(&self) -> usize {
        self.trajectories
    }

    /// The number of the combination at a position.
    #[must_use]
    pub fn number(&self, position: usize) -> usize {
        self.combinations.as_ref().map_or(position, |numbers| numbers[position])
    }

    /// The position of the combination of that number, if the family holds it.
    #[must_use]
    pub fn position(&self, number: usize) -> Option<usize> {
        match &self.combinations {
            Some(numbers) => numbers.binary_search(&number).ok(),
            None => (number < self.len()).then_some(number),
        }
    }

    /// The digits of a combination number, one per axis.
    #[must_use]
    pub fn digits(&self, number: usize) -> Vec<usize> {
        let mut rest = number;
        let mut digits: Vec<usize> = Vec::with_capacity(self.axes.len());
        for axis in self.axes.iter().rev() {
            digits.push(rest % axis.values.len());
            rest /= axis.values.len();
        }
        digits.reverse();
        digits
    }

    /// The constructor's arguments of a combination number.
    #[must_use]
    pub fn arguments(&self, number: usize) -> Map<String, Value> {
        let pairs = self.axes.iter().zip(self.digits(number));
        pairs.map(|(axis, digit)| (axis.argument.clone(), axis.values[digit].clone())).collect()
    }

    /// The trajectory of the combination at a position, or its error: a number that combinations
    /// with the same expectation share.
    #[must_use]
    pub fn trajectory(&self, position: usize) -> usize {
        self.classes[position] as usize
    }

    /// What the combination at a position has to give.
    #[must_use]
    pub fn expectation(&self, position: usize) -> &Expectation {
        &self.expectations[self.classes[position] as usize]
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInputs {
    #[serde(rename = "format")]
    _format: String,
    family: String,
    dtype: String,
    axes: Vec<(String, Vec<Value>)>,
    variables: Vec<RawVariable>,
    steps: Vec<RawStep>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIndex {
    #[serde(rename = "format")]
    _format: String,
    family: String,
    radices: Vec<usize>,
    combinations: Option<Vec<usize>>,
    errors: Vec<RawError>,
    classes: Vec<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClass {
    class: usize,
    iterations: Vec<u64>,
    learning_rate: Vec<Number>,
    states: String,
    variables: Vec<String>,
    ema: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStates {
    id: String,
    r: Vec<Option<String>>,
    c: Vec<Option<String>>,
    v: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    id: String,
    shape: Vec<usize>,
    values: Vec<Flat>,
    sha256: String,
}

/// The files of a grid, found by their names.
pub(super) struct GridFiles<'a> {
    pub(super) inputs: &'a GoldenFile,
    pub(super) index: &'a GoldenFile,
    pub(super) classes: &'a GoldenFile,
    pub(super) states: &'a GoldenFile,
    pub(super) series: Vec<&'a GoldenFile>,
}

type SeriesMap<'a> = HashMap<String, (Vec<Tensor>, usize, Place<'a>)>;
type StatesMap = HashMap<String, RawStates>;

impl GridFiles<'_> {
    /// Reads the grid and proves the sum of every series.
    pub(super) fn load(&self, family: &str, budget: &Budget) -> Result<Grid, GoldenError> {
        let place = self.inputs.whole().place();
        let raw: RawInputs =
            self.inputs.whole().versioned(TRACE_FORMAT, "goldstep-trace/1 (inputs)")?;
        same_family(place, &raw.family, family)?;
        let dtype = dtype(place, &raw.dtype)?;
        // For the inputs, which have no records.
        let context = Context { place, dtype, budget, needs_averages: false };
        let variables = context.variables(raw.variables)?;
        let mut steps = Vec::new();
        for step in raw.steps {
            if step.expected.is_some() {
                return Err(place.content("steps", "hold inputs only", "expected"));
            }
            steps.push(context.step(step, &variables, true)?);
        }
        let axes: Vec<Axis> =
            raw.axes.into_iter().map(|(argument, values)| Axis { argument, values }).collect();

        let at = self.index.whole().place();
        let index: RawIndex =
            self.index.whole().versioned(TRACE_FORMAT, "goldstep-trace/1 (index)")?;
        same_family(at, &index.family, family)?;
        let product = check_radices(at, &axes, &index.radices)?;
        check_combinations(at, index.combinations.as_deref(), product, index.classes.len())?;

        let series = self.series(dtype, steps.len())?;
        let states = self.states_by_id()?;
        let shapes = Shapes { variables: &variables, steps: steps.len() };
        let mut expectations = self.trajectories(&shapes, &series, &states)?;
        let trajectories = expectations.len();
        let refusals = index.errors.into_iter().map(|error| error.into_error(at, steps.len()));
        let refusals = refusals.collect::<Result<Vec<ExpectedError>, _>>()?;
        let errors = refusals.len();
        expectations.extend(refusals.into_iter().map(|error| Expectation {
            steps: vec![None; steps.len()],
            finalized: None,
            error: Some(error),
        }));

        let classes = resolve(at, &index.classes, trajectories, errors)?;
        let refused = index.classes.iter().filter(|class| **class < 0).count();
        let counts = BTreeMap::from([
            ("combinations", classes.len()),
            ("errors", refused),
            ("trajectories", trajectories),
            ("states", states.len()),
            ("series", series.len()),
            ("steps", steps.len()),
        ]);
        let combinations = index.combinations;
        Ok(Grid {
            dtype,
            axes,
            variables,
            steps,
            combinations,
            classes,
            expectations,
            trajectories,
            counts,
        })
    }

    fn series(&self, dtype: DType, steps: usize) -> Result<SeriesMap<'_>, GoldenError> {
        let lines: Vec<JsonLine<'_>> =
            self.series.iter().map(|file| file.lines()).collect::<Result<Vec<_>, _>>()?.concat();
        let parsed: Vec<(String, Vec<Tensor>, usize, Place<'_>)> = lines
            .par_iter()
            .map(|line| one_series(line, dtype, steps))
            .collect::<Result<_, GoldenError>>()?;
        let mut series = SeriesMap::with_capacity(parsed.len());
        for (id, values, elements, place) in parsed {
            if series.insert(id.clone(), (values, elements, place)).is_some() {
                return Err(place.content("id", "be unique", format!("{id} twice")));
            }
        }
        Ok(series)
    }

    fn states_by_id(&self) -> Result<StatesMap, GoldenError> {
        let mut states = StatesMap::new();
        for line in self.states.lines()? {
            let record: RawStates = line.parse("goldstep-trace/1 (states)")?;
            let id = record.id.clone();
            if states.insert(id.clone(), record).is_some() {
                return Err(line.place().content("id", "be unique", format!("{id} twice")));
            }
        }
        Ok(states)
    }

    fn trajectories(
        &self,
        shapes: &Shapes<'_>,
        series: &SeriesMap<'_>,
        states: &StatesMap,
    ) -> Result<Vec<Expectation>, GoldenError> {
        let one = |(number, line): (usize, &JsonLine<'_>)| {
            let class: RawClass = line.parse("goldstep-trace/1 (classes)")?;
            let place = line.place();
            if class.class != number {
                let rule = format!("be {number}, the classes in order");
                return Err(place.content("class", rule, class.class.to_string()));
            }
            let Some(factors) = states.get(&class.states) else {
                return Err(place.content("states", "exist", shortened(&class.states)));
            };
            shapes.expectation(place, &class, factors, series)
        };
        let lines = self.classes.lines()?;
        lines.par_iter().enumerate().map(one).collect()
    }
}

fn one_series<'a>(
    line: &JsonLine<'a>,
    dtype: DType,
    steps: usize,
) -> Result<(String, Vec<Tensor>, usize, Place<'a>), GoldenError> {
    let raw: RawSeries = line.parse("goldstep-trace/1 (series)")?;
    let place = line.place();
    let id = raw.id;
    let elements = elements(place, &id, &raw.shape)?;
    if raw.values.len() != steps {
        let rule = format!("hold {steps} steps");
        return Err(place.content(format!("series {id}"), rule, raw.values.len().to_string()));
    }
    let mut tensors = Vec::with_capacity(steps);
    let mut bytes = Vec::new();
    for Flat(mut values) in raw.values {
        if values.len() != elements {
            let rule = format!("have {elements} elements a step");
            return Err(place.content(format!("series {id}"), rule, values.len().to_string()));
        }
        round(place, dtype, &mut values, || format!("series {id}"))?;
        push_bytes(dtype, &values, &mut bytes);
        tensors.push(Tensor::from(values));
    }
    let sum = hexadecimal(&Sha256::digest(&bytes));
    if sum != raw.sha256 {
        return Err(GoldenError::Sum {
            path: place.path.to_owned(),
            place: format!(":{}: values of series {id}", place.line),
            expected: shortened(&raw.sha256),
            got: sum,
        });
    }
    Ok((id, tensors, elements, place))
}

/// What the series of a class have to fit.
struct Shapes<'a> {
    variables: &'a [Variable],
    steps: usize,
}

impl Shapes<'_> {
    fn expectation(
        &self,
        place: Place<'_>,
        class: &RawClass,
        factors: &RawStates,
        series: &SeriesMap<'_>,
    ) -> Result<Expectation, GoldenError> {
        let full = |shape: &[usize]| Some(shape.iter().product());
        let named = |ids: &[String]| ids.iter().cloned().map(Some).collect::<Vec<_>>();
        let find =
            |field: &str, ids: &[Option<String>], elements: fn(&[usize]) -> Option<usize>| {
                self.field(place, field, ids, series, elements)
            };
        let variables = find("variables", &named(&class.variables), full)?;
        let r = find("r", &factors.r, row_factor_elements)?;
        let c = find("c", &factors.c, column_factor_elements)?;
        let v = find("v", &named(&factors.v), full)?;
        let ema = class.ema.as_deref().map(|ids| find("ema", &named(ids), full)).transpose()?;
        for (field, length) in
            [("iterations", class.iterations.len()), ("learning_rate", class.learning_rate.len())]
        {
            if length != self.steps {
                let rule = format!("have {} entries", self.steps);
                return Err(place.content(field, rule, length.to_string()));
            }
        }
        let mut rates: Vec<f64> = class.learning_rate.iter().map(|rate| rate.0).collect();
        round(place, DType::Float32, &mut rates, || "learning_rate".to_owned())?;
        let at = |field: &[Option<&Vec<Tensor>>], step: usize| -> Vec<Option<Tensor>> {
            field.iter().map(|tensors| tensors.map(|tensors| tensors[step].clone())).collect()
        };
        let expected = |step: usize| Expected {
            iterations: class.iterations[step],
            learning_rate: rates[step],
            variables: variables.iter().flatten().map(|tensors| tensors[step].clone()).collect(),
            r: at(&r, step),
            c: at(&c, step),
            v: at(&v, step),
            ema: ema.as_ref().map_or_else(|| vec![None; self.variables.len()], |ema| at(ema, step)),
        };
        let steps = (0..self.steps).map(|step| Some(expected(step))).collect();
        Ok(Expectation { steps, finalized: None, error: None })
    }

    fn field<'s>(
        &self,
        place: Place<'_>,
        field: &str,
        ids: &[Option<String>],
        series: &'s SeriesMap<'_>,
        elements: fn(&[usize]) -> Option<usize>,
    ) -> Result<Vec<Option<&'s Vec<Tensor>>>, GoldenError> {
        if ids.len() != self.variables.len() {
            let rule = format!("have {} entries", self.variables.len());
            return Err(place.content(field, rule, ids.len().to_string()));
        }
        let one = |(id, variable): (&Option<String>, &Variable)| {
            let what = || format!("{field} of {}", variable.name);
            match (id, elements(&variable.shape)) {
                (None, None) => Ok(None),
                (Some(id), Some(elements)) => match series.get(id) {
                    Some((tensors, length, _)) if *length == elements => Ok(Some(tensors)),
                    Some((_, length, _)) => {
                        let rule = format!("be a series of {elements} elements");
                        Err(place.content(what(), rule, length.to_string()))
                    }
                    None => Err(place.content(what(), "be a series that exists", shortened(id))),
                },
                (id, _) => {
                    let rule = "be a series from rank 2 and null below";
                    Err(place.content(what(), rule, shortened(&format!("{id:?}"))))
                }
            }
        };
        ids.iter().zip(self.variables).map(one).collect()
    }
}

/// The positions of the expectations that classes name: trajectories from 0 on, errors from −1 down.
fn resolve(
    at: Place<'_>,
    classes: &[i64],
    trajectories: usize,
    errors: usize,
) -> Result<Vec<u32>, GoldenError> {
    let mut used = vec![false; trajectories + errors];
    let one = |class: &i64| -> Result<u32, GoldenError> {
        let (position, most) = match usize::try_from(*class) {
            Ok(class) => (class, trajectories),
            Err(_) => {
                let error = usize::try_from(-1 - *class).unwrap_or(usize::MAX);
                (error.saturating_add(trajectories), trajectories + errors)
            }
        };
        if position >= most {
            let rule = format!("name one of {trajectories} trajectories or {errors} errors");
            return Err(at.content("classes", rule, class.to_string()));
        }
        used[position] = true;
        u32::try_from(position).map_err(|_| at.content("classes", "fit 32 bits", class.to_string()))
    };
    let positions = classes.iter().map(one).collect::<Result<Vec<u32>, _>>()?;
    match used.iter().position(|used| !used) {
        Some(unused) => {
            let got = format!("none for number {unused}");
            Err(at.content("classes", "use every trajectory and error", got))
        }
        None => Ok(positions),
    }
}

fn same_family(place: Place<'_>, got: &str, expected: &str) -> Result<(), GoldenError> {
    if got == expected {
        return Ok(());
    }
    Err(place.content("family", format!("be {expected}"), shortened(got)))
}

/// Checks the radices against the axes; returns their product.
fn check_radices(at: Place<'_>, axes: &[Axis], radices: &[usize]) -> Result<usize, GoldenError> {
    let lengths: Vec<usize> = axes.iter().map(|axis| axis.values.len()).collect();
    if lengths != radices {
        let rule = format!("be the lengths of the axes {lengths:?}");
        return Err(at.content("radices", rule, shortened(&format!("{radices:?}"))));
    }
    let product = lengths.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
    match product {
        Some(product) if product > 0 => Ok(product),
        _ => Err(at.content("radices", "have a product of 1 to 2^64", format!("{radices:?}"))),
    }
}

fn check_combinations(
    at: Place<'_>,
    numbers: Option<&[usize]>,
    product: usize,
    classes: usize,
) -> Result<(), GoldenError> {
    let expected = numbers.map_or(product, <[usize]>::len);
    if classes != expected {
        let rule = format!("have {expected} entries");
        return Err(at.content("classes", rule, classes.to_string()));
    }
    let numbers = numbers.unwrap_or_default();
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(at.content("combinations", "ascend", format!("{} after {}", pair[1], pair[0])));
    }
    match numbers.last() {
        Some(&last) if last >= product => {
            Err(at.content("combinations", format!("be below {product}"), last.to_string()))
        }
        _ => Ok(()),
    }
}
