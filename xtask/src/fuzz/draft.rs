//! A case before tf.keras has run it: drawn at random, made smaller, recorded.

use goldstep_conformance::{
    BuildRequest, Failure, GradientValues, Implementation, StateField, StepRequest, StepResponse,
    Variable,
};
use goldstep_core::{Constraint, DType};
use serde_json::{Map, Value, json};

/// Inputs of a case.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) dtype: DType,
    pub(super) arguments: Map<String, Value>,
    pub(super) exclude: Vec<String>,
    pub(super) variables: Vec<Variable>,
    pub(super) steps: Vec<Vec<Option<GradientValues>>>,
}

impl Draft {
    /// Whether it is of half precision.
    pub(super) const fn is_half(&self) -> bool {
        matches!(self.dtype, DType::Bfloat16 | DType::Float16)
    }

    /// Runs the case in `oracle`; the self-contained case with what came out.
    pub(super) fn record(
        &self,
        oracle: &mut dyn Implementation,
        id: &str,
        comment: &str,
    ) -> Result<Value, Failure> {
        let built = oracle.build(&BuildRequest {
            dtype: self.dtype,
            arguments: &self.arguments,
            exclude_from_weight_decay: &self.exclude,
            variables: &self.variables,
        });
        let mut steps = Vec::new();
        let mut error = None;
        match built {
            Ok(()) => {}
            Err(Failure::Error { kind, message, .. }) => {
                error = Some(json!({"stage": "construct", "type": kind, "message": message}));
            }
            Err(failure) => return Err(failure),
        }
        for (index, gradients) in self.steps.iter().enumerate() {
            let mut step = json!({"gradients": self.gradients(gradients)});
            if error.is_none() {
                let gradients: Vec<_> = gradients.iter().map(Option::as_ref).collect();
                let outcome = oracle.step(&StepRequest {
                    learning_rate: None,
                    gradients: &gradients,
                    states: &StateField::ALL,
                    intermediates: false,
                });
                match outcome {
                    Ok(response) => step["expected"] = self.expected(&response),
                    Err(Failure::Error { kind, message, .. }) => {
                        error = Some(json!({"stage": "step", "step": index, "type": kind,
                            "message": message}));
                    }
                    Err(failure) => return Err(failure),
                }
            }
            steps.push(step);
            if error.as_ref().is_some_and(|error| error["stage"] == "step") {
                break;
            }
        }
        let mut case = json!({
            "format": "goldstep-case/1", "id": id, "family": "fuzz", "comment": comment, "flags": [],
            "dtype": self.dtype.name(), "arguments": self.arguments,
            "exclude_from_weight_decay": self.exclude, "variables": self.variables(), "steps": steps,
        });
        match error {
            Some(error) => case["expected_error"] = error,
            None if self.arguments.get("use_ema") == Some(&json!(true)) => {
                let finalized = oracle.finalize()?;
                case["finalized"] =
                    finalized.iter().map(|values| self.tensor(values)).collect::<Vec<_>>().into();
            }
            None => {}
        }
        Ok(case)
    }

    fn variables(&self) -> Vec<Value> {
        let constraint = |constraint: &Option<Constraint>| match constraint {
            Some(Constraint::Clip { minimum, maximum }) => {
                json!({"type": "clip", "minimum": minimum, "maximum": maximum})
            }
            Some(_) => json!({"type": "non_negative"}),
            None => Value::Null,
        };
        let variable = |one: &Variable| {
            json!({"name": one.name, "shape": one.shape, "initial": self.tensor(&one.initial),
                "constraint": constraint(&one.constraint)})
        };
        self.variables.iter().map(variable).collect()
    }

    fn gradients(&self, gradients: &[Option<GradientValues>]) -> Vec<Value> {
        let gradient = |gradient: &Option<GradientValues>| match gradient {
            None => Value::Null,
            Some(GradientValues::Dense(values)) => self.tensor(values),
            Some(GradientValues::Sparse { indices, values }) => {
                json!({"indices": indices, "values": self.tensor(values)})
            }
        };
        gradients.iter().map(gradient).collect()
    }

    fn expected(&self, response: &StepResponse) -> Value {
        let optional = |list: &[Option<Vec<f64>>]| -> Vec<Value> {
            let one = |values: &Option<Vec<f64>>| match values {
                Some(values) => self.tensor(values),
                None => Value::Null,
            };
            list.iter().map(one).collect()
        };
        let averaged = response.ema.iter().any(Option::is_some);
        let variables: Vec<Value> =
            response.variables.iter().map(|values| self.tensor(values)).collect();
        json!({
            "variables": variables, "r": optional(&response.r), "c": optional(&response.c),
            "v": optional(&response.v),
            "ema": if averaged { optional(&response.ema).into() } else { Value::Null },
            "iterations": response.iterations,
            "learning_rate": number(DType::Float32, response.learning_rate),
        })
    }

    fn tensor(&self, values: &[f64]) -> Value {
        values.iter().map(|value| number(self.dtype, *value)).collect::<Vec<_>>().into()
    }

    /// Every case that is smaller by one thing, the largest savings first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut draft = self.clone();
            change(&mut draft);
            smaller.push(draft);
        };
        if self.steps.len() > 1 {
            with(&|draft| {
                draft.steps.pop();
            });
            with(&|draft| {
                draft.steps.remove(0);
            });
        }
        for index in 0..self.variables.len() {
            if self.variables.len() > 1 {
                with(&|draft| {
                    draft.variables.remove(index);
                    for step in &mut draft.steps {
                        step.remove(index);
                    }
                });
            }
        }
        for name in self.arguments.keys() {
            with(&|draft| {
                draft.arguments.shift_remove(name);
            });
        }
        if !self.exclude.is_empty() {
            with(&|draft| draft.exclude.clear());
        }
        for index in 0..self.variables.len() {
            if self.variables[index].constraint.is_some() {
                with(&|draft| draft.variables[index].constraint = None);
            }
        }
        for (index, variable) in self.variables.iter().enumerate() {
            let long = (0..variable.shape.len()).filter(|axis| variable.shape[*axis] > 1);
            smaller.extend(long.filter_map(|axis| self.without_last(index, axis)));
        }
        // A step without any gradient is another case.
        smaller.retain(|draft| draft.steps.iter().all(|step| step.iter().any(Option::is_some)));
        smaller
    }

    /// The case with one index less along an axis of a variable, if no gradient of it is sparse.
    fn without_last(&self, index: usize, axis: usize) -> Option<Self> {
        let mut draft = self.clone();
        let shape = draft.variables[index].shape.clone();
        let inner: usize = shape[axis + 1..].iter().product();
        let kept = |values: &[f64]| -> Vec<f64> {
            let row = shape[axis] * inner;
            let used = row - inner;
            let position = |(at, value): (usize, &f64)| (at % row < used).then_some(*value);
            values.iter().enumerate().filter_map(position).collect()
        };
        draft.variables[index].shape[axis] -= 1;
        draft.variables[index].initial = kept(&self.variables[index].initial);
        for step in &mut draft.steps {
            match &mut step[index] {
                Some(GradientValues::Dense(values)) => *values = kept(values),
                Some(GradientValues::Sparse { .. }) => return None,
                None => {}
            }
        }
        Some(draft)
    }
}

/// The shortest decimal that round-trips in the type.
fn number(dtype: DType, value: f64) -> Value {
    if !value.is_finite() {
        let name = match (value.is_nan(), value > 0.0) {
            (true, _) => "NaN",
            (_, true) => "Infinity",
            _ => "-Infinity",
        };
        return json!(name);
    }
    if dtype == DType::Float64 {
        return json!(value);
    }
    #[expect(clippy::cast_possible_truncation, reason = "exact: the value is one of the type")]
    let shortest = format!("{:?}", value as f32);
    shortest.parse::<f64>().map_or(Value::Null, |value| json!(value))
}
