//! What differs first between a run as it is kept and as tf.keras gives it now.

use goldstep_conformance::agreement::{
    Circumstances, Compared, Mode, Quantity, Role, allowance, largest_error,
};
use goldstep_conformance::golden::{Expectation, Expected, Step, Tensor, Trial};
use goldstep_conformance::{GradientValues, Variable};
use goldstep_core::DType;
use serde_json::Value;

/// Names under which a case may hold further expectations.
const OTHER_EXPECTATIONS: [&str; 1] = ["keras-2.12.1"];

/// What differs first between a run as it is kept and as it was recorded now.
pub(super) fn first_difference(
    own: &Trial<'_>,
    recorded: &Trial<'_>,
    bits: bool,
) -> Option<String> {
    let same_inputs = own.dtype == recorded.dtype
        && own.arguments == recorded.arguments
        && own.exclude_from_weight_decay == recorded.exclude_from_weight_decay
        && same(own.variables, recorded.variables, same_variable)
        && same(own.steps, recorded.steps, same_step);
    if !same_inputs {
        return Some("other inputs under the same id".to_owned());
    }
    let schedule = own.arguments.get("learning_rate").is_some_and(Value::is_object)
        || own.steps.iter().any(|step| step.learning_rate.as_ref().is_some_and(Value::is_object));
    let judge = Judge { dtype: own.dtype, bits, schedule };
    judge.expectation(own.expectation, recorded.expectation).or_else(|| {
        OTHER_EXPECTATIONS.iter().find_map(|name| {
            let difference =
                judge.expectation(own.expectation_for(name), recorded.expectation_for(name))?;
            Some(format!("in {name}, {difference}"))
        })
    })
}

fn same<T>(own: &[T], recorded: &[T], equal: fn(&T, &T) -> bool) -> bool {
    own.len() == recorded.len() && own.iter().zip(recorded).all(|(own, other)| equal(own, other))
}

fn same_variable(own: &Variable, recorded: &Variable) -> bool {
    own.name == recorded.name
        && own.shape == recorded.shape
        && own.constraint == recorded.constraint
        && same(&own.initial, &recorded.initial, same_value)
}

fn same_step(own: &Step, recorded: &Step) -> bool {
    own.learning_rate == recorded.learning_rate
        && same(&own.gradients, &recorded.gradients, |own, recorded| match (own, recorded) {
            (Some(own), Some(recorded)) => same_gradient(own, recorded),
            (own, recorded) => own.is_none() && recorded.is_none(),
        })
}

fn same_gradient(own: &GradientValues, recorded: &GradientValues) -> bool {
    use GradientValues::{Dense, Sparse};
    match (own, recorded) {
        (Dense(own), Dense(recorded)) => same(own, recorded, same_value),
        (
            Sparse { indices, values },
            Sparse { indices: recorded_indices, values: recorded_values },
        ) => indices == recorded_indices && same(values, recorded_values, same_value),
        _ => false,
    }
}

/// The same bits, or NaN both.
fn same_value(own: &f64, recorded: &f64) -> bool {
    own.to_bits() == recorded.to_bits() || own.is_nan() && recorded.is_nan()
}

/// Compares bits, or within the rules for two implementations that start alike.
#[derive(Debug, Clone, Copy)]
struct Judge {
    dtype: DType,
    bits: bool,
    schedule: bool,
}

impl Judge {
    fn expectation(self, own: &Expectation, recorded: &Expectation) -> Option<String> {
        if own.error != recorded.error {
            return Some(format!("error {:?}, now {:?}", own.error, recorded.error));
        }
        if own.steps.len() != recorded.steps.len() {
            return Some(format!("{} steps, now {}", own.steps.len(), recorded.steps.len()));
        }
        let mut scales = Vec::new();
        let mut last = 1;
        for (index, pair) in own.steps.iter().zip(&recorded.steps).enumerate() {
            let step = index as u64 + 1;
            match pair {
                (None, None) => {}
                (Some(own), Some(recorded)) => {
                    last = step;
                    if let Some(difference) = self.step(step, own, recorded, &mut scales) {
                        return Some(format!("step {step}, {difference}"));
                    }
                }
                _ => return Some(format!("step {step} recorded in one of the two only")),
            }
        }
        match (&own.finalized, &recorded.finalized) {
            (None, None) => None,
            (Some(own), Some(recorded)) => {
                own.iter().zip(recorded).enumerate().find_map(|(index, (own, recorded))| {
                    let scale = scales.get(index).copied().unwrap_or(0.0);
                    self.tensor(Quantity::Finalized, last, index, own, recorded, scale)
                })
            }
            _ => Some("finalized in one of the two only".to_owned()),
        }
    }

    fn step(
        self,
        step: u64,
        own: &Expected,
        recorded: &Expected,
        scales: &mut Vec<f64>,
    ) -> Option<String> {
        if own.iterations != recorded.iterations {
            return Some(format!("iterations {}, now {}", own.iterations, recorded.iterations));
        }
        scales.resize(own.variables.len(), 0.0);
        let averages = own.ema.iter().enumerate();
        let averages = averages.filter_map(|(index, tensor)| Some((index, tensor.as_ref()?)));
        for (index, tensor) in own.variables.iter().enumerate().chain(averages) {
            let finite = tensor.iter().map(|value| value.abs()).filter(|value| value.is_finite());
            scales[index] = finite.fold(scales[index], f64::max);
        }
        let rate = (Tensor::from([own.learning_rate]), Tensor::from([recorded.learning_rate]));
        let lists = [
            (Quantity::R, optional(&own.r), optional(&recorded.r)),
            (Quantity::C, optional(&own.c), optional(&recorded.c)),
            (Quantity::V, optional(&own.v), optional(&recorded.v)),
            (Quantity::Variable, present(&own.variables), present(&recorded.variables)),
            (Quantity::Ema, optional(&own.ema), optional(&recorded.ema)),
        ];
        self.tensor(Quantity::LearningRate, step, 0, &rate.0, &rate.1, 0.0).or_else(|| {
            lists.iter().find_map(|(quantity, own, recorded)| {
                let pairs = own.iter().zip(recorded).zip(&*scales).enumerate();
                pairs.into_iter().find_map(|(index, ((own, recorded), scale))| {
                    match (own, recorded) {
                        (None, None) => None,
                        (Some(own), Some(recorded)) => {
                            self.tensor(*quantity, step, index, own, recorded, *scale)
                        }
                        _ => Some(format!("{} of variable {index} appeared", quantity.name())),
                    }
                })
            })
        })
    }

    fn tensor(
        self,
        quantity: Quantity,
        step: u64,
        index: usize,
        own: &Tensor,
        recorded: &Tensor,
        scale: f64,
    ) -> Option<String> {
        if own.len() != recorded.len() {
            return Some(format!("{} of variable {index} has another size", quantity.name()));
        }
        let element = if self.bits {
            own.iter().zip(recorded.iter()).position(|(own, other)| !same_value(own, other))?
        } else {
            let circumstances = Circumstances {
                mode: Mode::Free,
                role: Role::Other,
                step,
                schedule: self.schedule,
            };
            let allowed = allowance(quantity, circumstances);
            let compared = Compared { expected: own, actual: recorded, anchors: [None; 3], scale };
            let largest = largest_error(allowed, self.dtype, &compared);
            if largest.error <= allowed.figure() {
                return None;
            }
            largest.element
        };
        let place = match quantity {
            Quantity::LearningRate => String::new(),
            _ => format!(" of variable {index}, element {element}"),
        };
        let (own, recorded) = (own[element], recorded[element]);
        Some(format!("{}{place}: {own:?}, now {recorded:?}", quantity.name()))
    }
}

fn optional(tensors: &[Option<Tensor>]) -> Vec<Option<&Tensor>> {
    tensors.iter().map(Option::as_ref).collect()
}

fn present(tensors: &[Tensor]) -> Vec<Option<&Tensor>> {
    tensors.iter().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CASE: &str = r#"{"format":"goldstep-case/1","id":"one","family":"own","comment":"",
        "flags":[],"dtype":"float32","arguments":{"learning_rate":0.5},
        "variables":[{"name":"x","shape":[2],"initial":[1,2],"constraint":null}],
        "steps":[{"gradients":[[1,1]],"expected":{"variables":[[0.5,1.5]],"r":[null],"c":[null],
        "v":[[1,1]],"ema":null,"iterations":1,"learning_rate":0.5}}]}"#;

    fn difference(from: &str, to: &str, bits: bool) -> Option<String> {
        use goldstep_conformance::golden::Case;
        let read = |text: &str| Case::from_json(Path::new("case.json"), text).unwrap();
        let (own, recorded) = (read(CASE), read(&CASE.replacen(from, to, 1)));
        assert_ne!(own, recorded);
        first_difference(&own.trial("own"), &recorded.trial("own"), bits)
    }

    #[test]
    fn bits_agree_with_the_same_wheel_only() {
        let next = ("[0.5,1.5]", "[0.5,1.5000001]");
        assert_eq!(
            difference(next.0, next.1, true).unwrap(),
            "step 1, var of variable 0, element 1: 1.5, now 1.5000001192092896"
        );
        assert_eq!(difference(next.0, next.1, false), None);
        let far = difference(next.0, "[0.5,1.51]", false).unwrap();
        assert!(far.starts_with("step 1, var of variable 0, element 1"), "{far}");
    }

    #[test]
    fn nan_among_the_inputs_is_no_difference() {
        use goldstep_conformance::golden::Case;
        let nan = CASE.replacen("[[1,1]],\"exp", "[[\"NaN\",1]],\"exp", 1);
        let read = |text: &str| Case::from_json(Path::new("case.json"), text).unwrap();
        let (own, recorded) = (read(&nan), read(&nan));
        assert_ne!(own, recorded);
        assert_eq!(first_difference(&own.trial("own"), &recorded.trial("own"), true), None);
    }

    #[test]
    fn everything_is_compared() {
        for (from, to, says) in [
            ("\"initial\":[1,2]", "\"initial\":[1,3]", "other inputs under the same id"),
            ("\"iterations\":1", "\"iterations\":2", "step 1, iterations 1, now 2"),
            ("\"learning_rate\":0.5}}", "\"learning_rate\":0.25}}", "step 1, lr: 0.5, now 0.25"),
            ("\"v\":[[1,1]]", "\"v\":[[1,2]]", "step 1, v of variable 0, element 1: 1.0, now 2.0"),
        ] {
            let said = difference(from, to, true).unwrap();
            assert!(said.contains(says), "{said}");
        }
    }
}
