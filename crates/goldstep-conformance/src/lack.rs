//! What a run needs of an implementation.

use serde_json::Value;

use crate::arguments::{SCHEDULES, lacking, schedule_class};
use crate::golden::Trial;
use crate::implementation::{Capabilities, GradientValues};

impl Capabilities {
    /// What a run needs that is not here; `None` if it can be tried.
    #[must_use]
    pub fn lack(&self, trial: &Trial<'_>) -> Option<String> {
        let can = self;
        if !can.dtypes.contains(&trial.dtype) {
            return Some(format!("dtype {}", trial.dtype));
        }
        if let Some(argument) = lacking(&trial.arguments, &can.arguments) {
            return Some(format!("argument {argument}"));
        }
        let rates = trial.steps.iter().filter_map(|step| step.learning_rate.as_ref());
        let rates = rates.chain(trial.arguments.get("learning_rate"));
        let unknown = |class: &&str| !can.schedules.iter().any(|own| own == class);
        if let Some(class) = rates.filter_map(schedule_class).find(unknown) {
            // A class that Keras lacks too is a mistake that has to be seen.
            if SCHEDULES.contains(&class) {
                return Some(format!("schedule {class}"));
            }
        }
        let is_sparse =
            |one: &Option<GradientValues>| matches!(one, Some(GradientValues::Sparse { .. }));
        let needs = [
            (
                can.sparse,
                "sparse",
                trial.steps.iter().any(|step| step.gradients.iter().any(is_sparse)),
            ),
            (can.ema, "ema", trial.arguments.get("use_ema") == Some(&Value::Bool(true))),
            (
                can.constraints,
                "constraints",
                trial.variables.iter().any(|one| one.constraint.is_some()),
            ),
            (can.exclude, "exclude", !trial.exclude_from_weight_decay.is_empty()),
            (
                can.set_learning_rate,
                "set_learning_rate",
                trial.steps.iter().any(|step| step.learning_rate.is_some()),
            ),
            (can.finalize, "finalize", trial.expectation_for(&can.expectation).finalized.is_some()),
        ];
        let lacks = needs.into_iter().find(|(can, _, needed)| *needed && !can);
        lacks.map(|(_, capability, _)| capability.to_owned())
    }
}
