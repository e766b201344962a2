//! Keras's names and defaults, for what a case needs of an implementation.

use std::borrow::Cow;
use std::sync::LazyLock;

use goldstep_core::AdafactorArguments;
use serde_json::{Map, Value};

/// The constructor's arguments, in the order of Keras's signature.
pub(crate) const ARGUMENTS: [&str; 15] = [
    "learning_rate",
    "beta_2_decay",
    "epsilon_1",
    "epsilon_2",
    "clip_threshold",
    "relative_step",
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "jit_compile",
    "name",
];

/// The classes of `tf.keras.optimizers.schedules`.
pub(crate) const SCHEDULES: [&str; 6] = [
    "ExponentialDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "InverseTimeDecay",
    "CosineDecay",
    "CosineDecayRestarts",
];

static DEFAULTS: LazyLock<Map<String, Value>> =
    LazyLock::new(|| AdafactorArguments::default().to_keras_config().unwrap_or_default());

/// Keras's default of an argument.
pub(crate) fn default(name: &str) -> Option<&'static Value> {
    DEFAULTS.get(name)
}

/// Whether an argument has Keras's default.
pub(crate) fn is_default(name: &str, value: &Value) -> bool {
    let default = default(name);
    match (default.and_then(Value::as_f64), value.as_f64()) {
        (Some(default), Some(value)) => default.to_bits() == value.to_bits(),
        _ => default == Some(value),
    }
}

/// The argument that a case sets to something else than Keras's default and that an implementation
/// does not have. An argument that Keras does not have either is a mistake that it has to see.
pub(crate) fn lacking<'a>(
    arguments: &'a Map<String, Value>,
    announced: &[String],
) -> Option<&'a str> {
    let lacks = |name: &str| is_known(name) && !announced.iter().any(|own| own == name);
    let needed = |(name, value): &(&String, &Value)| lacks(name) && !is_default(name, value);
    arguments.iter().find(needed).map(|(name, _)| name.as_str())
}

/// The arguments that an implementation has; defaults need not be told.
pub(crate) fn announced_only<'a>(
    arguments: &'a Map<String, Value>,
    announced: &[String],
) -> Cow<'a, Map<String, Value>> {
    let tells = |name: &str| !is_known(name) || announced.iter().any(|own| own == name);
    if arguments.keys().all(|name| tells(name)) {
        return Cow::Borrowed(arguments);
    }
    let told = arguments.iter().filter(|(name, _)| tells(name));
    Cow::Owned(told.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The class name, if a learning rate is a schedule.
pub(crate) fn schedule_class(learning_rate: &Value) -> Option<&str> {
    learning_rate.get("class_name").and_then(Value::as_str)
}

fn is_known(name: &str) -> bool {
    ARGUMENTS.contains(&name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_need_no_capability() {
        let arguments = json!({"clipnorm": null, "epsilon_2": 1e-3, "clip_threshold": 1,
            "jit_compile": true, "foo": 1});
        let arguments = arguments.as_object().unwrap();
        assert_eq!(lacking(arguments, &[]), None);
        let told = announced_only(arguments, &["epsilon_2".to_owned()]);
        assert_eq!(told.keys().collect::<Vec<_>>(), ["epsilon_2", "foo"]);
    }

    #[test]
    fn other_values_need_one() {
        let arguments = json!({"clipnorm": 0.5});
        let arguments = arguments.as_object().unwrap();
        assert_eq!(lacking(arguments, &["clipvalue".to_owned()]), Some("clipnorm"));
        assert_eq!(lacking(arguments, &["clipnorm".to_owned()]), None);
    }
}
