//! Keras's configurations: JSON of the wrong type, of unknown names, of unusable schedules.

use goldstep_core::{AdafactorArguments, Error, LearningRate, Schedule};
use serde_json::Value;

use crate::Bad;

fn arguments(config: &str) -> Result<(), Error> {
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    let config = config.as_object().cloned().unwrap_or_default();
    AdafactorArguments::from_keras_config(&config).map(drop)
}

fn schedule(class_name: &str, config: &str) -> Result<(), Error> {
    arguments(&format!(
        r#"{{"learning_rate": {{"class_name": "{class_name}", "config": {config}}}}}"#
    ))
}

fn assign(value: f64) -> Result<(), Error> {
    LearningRate::from(0.5).assign(value.into())
}

/// Arguments as JSON.
pub(crate) const CONFIGURATIONS: &[Bad] = &[
    Bad {
        name: "learning-rate-null",
        attempt: || arguments(r#"{"learning_rate": null}"#),
        message: "learning_rate must be a number, got null",
        keras_type: "ValueError",
    },
    Bad {
        name: "learning-rate-text",
        attempt: || arguments(r#"{"learning_rate": "x"}"#),
        message: "learning_rate must be a number, got \"x\"",
        keras_type: "TypeError",
    },
    Bad {
        name: "learning-rate-list",
        attempt: || arguments(r#"{"learning_rate": [0.1]}"#),
        message: "learning_rate must be a number, got [0.1]",
        keras_type: "TypeError",
    },
    Bad {
        name: "unknown-argument",
        attempt: || arguments(r#"{"foo": 1}"#),
        message: "foo is not an argument of Adafactor",
        keras_type: "TypeError",
    },
    Bad {
        name: "deprecated-argument",
        attempt: || arguments(r#"{"decay": 0.1}"#),
        message: "decay is not supported any more, use a learning rate schedule or transform gradients",
        keras_type: "ValueError",
    },
    Bad {
        name: "clipnorm-text",
        attempt: || arguments(r#"{"clipnorm": "a"}"#),
        message: "clipnorm must be a number, got \"a\"",
        keras_type: "TypeError",
    },
    Bad {
        name: "use-ema-number",
        attempt: || arguments(r#"{"use_ema": 1}"#),
        message: "use_ema must be true or false, got 1",
        keras_type: "TypeError",
    },
    Bad {
        name: "name-number",
        attempt: || arguments(r#"{"name": 1}"#),
        message: "name must be a string, got 1",
        keras_type: "TypeError",
    },
    Bad {
        name: "overwrite-frequency-fraction",
        attempt: || arguments(r#"{"use_ema": true, "ema_overwrite_frequency": 1.5}"#),
        message: "ema_overwrite_frequency must be a whole number of at least 0 or null, got 1.5",
        keras_type: "ValueError",
    },
    Bad {
        name: "overwrite-frequency-negative",
        attempt: || arguments(r#"{"use_ema": true, "ema_overwrite_frequency": -1}"#),
        message: "ema_overwrite_frequency must be a whole number of at least 0 or null, got -1",
        keras_type: "ValueError",
    },
    Bad {
        name: "overwrite-frequency-text",
        attempt: || arguments(r#"{"use_ema": true, "ema_overwrite_frequency": "2"}"#),
        message: "ema_overwrite_frequency must be a whole number of at least 0 or null, got \"2\"",
        keras_type: "ValueError",
    },
    Bad {
        name: "momentum-null",
        attempt: || arguments(r#"{"use_ema": true, "ema_momentum": null}"#),
        message: "ema_momentum must be a number, got null",
        keras_type: "TypeError",
    },
    Bad {
        name: "momentum-out-of-range",
        attempt: || arguments(r#"{"use_ema": true, "ema_momentum": 2}"#),
        message: "ema_momentum must be in [0, 1], got 2",
        keras_type: "ValueError",
    },
    Bad {
        name: "epsilon-not-a-number",
        attempt: || arguments(r#"{"epsilon_2": "NaN"}"#),
        message: "epsilon_2 must be at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "both-norms",
        attempt: || arguments(r#"{"clipnorm": 1, "global_clipnorm": 1}"#),
        message: "at most one of clipnorm and global_clipnorm may be set, got 1 and 1",
        keras_type: "ValueError",
    },
];

/// Schedules as JSON and in Rust, and rates that are assigned.
pub(crate) const SCHEDULES: &[Bad] = &[
    Bad {
        name: "unknown-class",
        attempt: || schedule("Warmup", "{}"),
        message: "learning_rate must be one of the six keras schedules, got class_name Warmup",
        keras_type: "ValueError",
    },
    Bad {
        name: "missing-field",
        attempt: || schedule("CosineDecay", r#"{"decay_steps": 3}"#),
        message: "CosineDecay must have the field initial_learning_rate, got none",
        keras_type: "TypeError",
    },
    Bad {
        name: "unknown-field",
        attempt: || {
            schedule(
                "CosineDecay",
                r#"{"initial_learning_rate": 1, "decay_steps": 3, "warmup_steps": 2}"#,
            )
        },
        message: "CosineDecay must have known fields only, got warmup_steps",
        keras_type: "TypeError",
    },
    Bad {
        name: "a-warm-up",
        attempt: || {
            schedule(
                "CosineDecay",
                r#"{"initial_learning_rate": 1, "decay_steps": 3, "warmup_target": 0.5}"#,
            )
        },
        message: "CosineDecay must have known fields only, got warmup_target",
        keras_type: "TypeError",
    },
    Bad {
        name: "unknown-field-null",
        attempt: || {
            schedule(
                "CosineDecay",
                r#"{"initial_learning_rate": 1, "decay_steps": 3, "warmup": null}"#,
            )
        },
        message: "CosineDecay must have known fields only, got warmup",
        keras_type: "TypeError",
    },
    Bad {
        name: "boundaries-no-list",
        attempt: || schedule("PiecewiseConstantDecay", r#"{"boundaries": 3, "values": [1]}"#),
        message: "boundaries must be a list of numbers, got 3",
        keras_type: "TypeError",
    },
    Bad {
        name: "values-too-few",
        attempt: || schedule("PiecewiseConstantDecay", r#"{"boundaries": [1], "values": [1]}"#),
        message: "PiecewiseConstantDecay values must be one more than boundaries, of which there is at least one, got 1 boundaries and 1 values",
        keras_type: "ValueError",
    },
    Bad {
        name: "no-boundary",
        attempt: || schedule("PiecewiseConstantDecay", r#"{"boundaries": [], "values": [1]}"#),
        message: "PiecewiseConstantDecay values must be one more than boundaries, of which there is at least one, got 0 boundaries and 1 values",
        keras_type: "ValueError",
    },
    Bad {
        name: "field-nan",
        attempt: || {
            schedule(
                "InverseTimeDecay",
                r#"{"initial_learning_rate": "NaN", "decay_steps": 3, "decay_rate": 1}"#,
            )
        },
        message: "InverseTimeDecay fields must be numbers, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "staircase-number",
        attempt: || {
            schedule(
                "ExponentialDecay",
                r#"{"initial_learning_rate": 1, "decay_steps": 3, "decay_rate": 1, "staircase": 2}"#,
            )
        },
        message: "staircase must be true or false, got 2",
        keras_type: "TypeError",
    },
    Bad {
        name: "steps-text",
        attempt: || {
            schedule("PolynomialDecay", r#"{"initial_learning_rate": 1, "decay_steps": "many"}"#)
        },
        message: "decay_steps must be a number, got \"many\"",
        keras_type: "TypeError",
    },
    Bad {
        name: "rust-field-nan",
        attempt: || Schedule::exponential_decay(f64::NAN, 1.0, 1.0, false).validate(),
        message: "ExponentialDecay fields must be numbers, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "assigned-nan",
        attempt: || assign(f64::NAN),
        message: "learning_rate must be finite and at least 0, got NaN",
        keras_type: "ValueError",
    },
    Bad {
        name: "assigned-infinite",
        attempt: || assign(f64::INFINITY),
        message: "learning_rate must be finite and at least 0, got inf",
        keras_type: "ValueError",
    },
    Bad {
        name: "assigned-negative",
        attempt: || assign(-0.1),
        message: "learning_rate must be finite and at least 0, got -0.1",
        keras_type: "ValueError",
    },
    Bad {
        name: "number-onto-schedule",
        attempt: || {
            LearningRate::from(Schedule::exponential_decay(0.1, 10.0, 0.5, false))
                .assign(0.5.into())
        },
        message: "learning_rate must be a schedule once a schedule is in place, got 0.5",
        keras_type: "TypeError",
    },
];
