//! Configurations written by tf.keras 2.12.1 and 2.15.1, and back.
//!
//! `keras_configs.jsonl` holds what `get_config()` gave there for a constant rate and each of the six
//! schedules, and what `tf.keras.optimizers.serialize` gave, one a line.

use goldstep_core::{AdafactorArguments, LearningRate, SecondMomentUnderflow};
use serde_json::{Map, Value, json};

fn recorded() -> impl Iterator<Item = Map<String, Value>> {
    let lines = include_str!("keras_configs.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).expect("a recorded line is an object"))
}

/// Numbers as float64, so that 3 and 3.0 are equal, and only what 2.12 writes.
fn normalized(value: &Value) -> Value {
    const LATER: [&str; 4] = ["module", "registered_name", "warmup_target", "warmup_steps"];
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.iter().map(normalized).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !LATER.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), normalized(value))).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn recorded_configurations_come_back_as_they_were() {
    let mut schedules = 0;
    for config in recorded() {
        let arguments = AdafactorArguments::from_keras_config(&config).unwrap();
        schedules += usize::from(matches!(arguments.learning_rate(), LearningRate::Schedule(_)));
        let inner = config.get("config").and_then(Value::as_object).unwrap_or(&config);
        let again = Value::Object(arguments.to_keras_config().unwrap());
        assert_eq!(normalized(&again), normalized(&Value::Object(inner.clone())));
        let order = |config: &Map<String, Value>| config.keys().cloned().collect::<Vec<_>>();
        assert_eq!(order(again.as_object().unwrap()), order(inner));
    }
    assert_eq!(schedules, 12);
}

#[test]
fn non_finite_arguments_survive() {
    let builder =
        AdafactorArguments::builder().epsilon_1(f64::INFINITY).weight_decay(f64::INFINITY);
    let builder = builder.clip_threshold(f64::INFINITY).beta_2_decay(f64::NEG_INFINITY);
    let arguments = builder.ema_momentum(f64::NEG_INFINITY).build().unwrap();
    let config = arguments.to_keras_config().unwrap();
    let text = serde_json::to_string(&config).unwrap();
    let read: Map<String, Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(AdafactorArguments::from_keras_config(&read), Ok(arguments));
}

#[test]
fn the_choice_that_keras_lacks_is_written_only_when_it_was_made() {
    let default = AdafactorArguments::default().to_keras_config().unwrap();
    assert!(!default.contains_key("second_moment_underflow"));
    let builder = AdafactorArguments::builder();
    let finite = builder.second_moment_underflow(SecondMomentUnderflow::Finite).build().unwrap();
    let mut config = finite.to_keras_config().unwrap();
    assert_eq!(AdafactorArguments::from_keras_config(&config), Ok(finite));
    config.insert("second_moment_underflow".to_owned(), json!("match_keras"));
    let matching = AdafactorArguments::default();
    assert_eq!(AdafactorArguments::from_keras_config(&config), Ok(matching));
    // Keras 3 writes it, as null.
    config.insert("loss_scale_factor".to_owned(), Value::Null);
    assert!(AdafactorArguments::from_keras_config(&config).is_ok());
}

#[test]
fn wrappers_are_checked() {
    for (wrapper, message) in [
        (json!({"class_name": "Adam", "config": {}}), "class_name must be Adafactor, got \"Adam\""),
        (
            json!({"class_name": "Adafactor", "config": {"class_name": "Adafactor", "config": {}}}),
            "class_name is not an argument of Adafactor",
        ),
        (
            json!({"class_name": "Adafactor", "config": {}, "foo": 1}),
            "foo is not an argument of Adafactor",
        ),
        (
            json!({"second_moment_underflow": "zero"}),
            "second_moment_underflow must be match_keras or finite, got \"zero\"",
        ),
        (json!({"loss_scale_factor": 2.0}), "loss_scale_factor is not an argument of Adafactor"),
    ] {
        let error =
            AdafactorArguments::from_keras_config(wrapper.as_object().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
