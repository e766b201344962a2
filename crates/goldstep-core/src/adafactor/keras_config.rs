//! Keras's `get_config()` to arguments and back.

use serde_json::{Map, Value, json};

use crate::{AdafactorArguments, Error, LearningRate, Schedule, SecondMomentUnderflow};

impl AdafactorArguments {
    /// Arguments from the JSON of Keras's `get_config()` or of a constructor call: absent means
    /// Keras's default. Non-finite numbers are the strings `NaN`, `Infinity`, `-Infinity`.
    ///
    /// `lr` and `is_legacy_optimizer` are accepted and ignored, as in Keras. So is what later
    /// versions add where it says nothing (`null`), and the object of
    /// `tf.keras.optimizers.serialize` around a configuration. `second_moment_underflow`, which
    /// Keras does not have, is `match_keras` or `finite`.
    ///
    /// # Errors
    /// An argument that does not exist, one of the wrong JSON type, an unknown schedule or a
    /// schedule with a missing field, and everything that
    /// [`build`](crate::AdafactorArgumentsBuilder::build) refuses.
    pub fn from_keras_config(config: &Map<String, Value>) -> Result<Self, Error> {
        if let Some(inner) = serialized(config)? {
            return Self::from_keras_config(inner);
        }
        let mut builder = Self::builder();
        let arguments = &mut builder.arguments;
        for (name, value) in config {
            match name.as_str() {
                "learning_rate" => arguments.learning_rate = learning_rate(value)?,
                "beta_2_decay" => arguments.beta_2_decay = required("beta_2_decay", value)?,
                "epsilon_1" => arguments.epsilon_1 = required("epsilon_1", value)?,
                "epsilon_2" => arguments.epsilon_2 = required("epsilon_2", value)?,
                "clip_threshold" => arguments.clip_threshold = required("clip_threshold", value)?,
                "relative_step" => arguments.relative_step = flag(name, value)?,
                "weight_decay" => arguments.weight_decay = optional(name, value)?,
                "clipnorm" => arguments.clipnorm = optional(name, value)?,
                "clipvalue" => arguments.clipvalue = optional(name, value)?,
                "global_clipnorm" => arguments.global_clipnorm = optional(name, value)?,
                "use_ema" => arguments.use_ema = flag(name, value)?,
                // Looked at below, since Keras looks at them only with use_ema.
                "ema_momentum" | "ema_overwrite_frequency" => {}
                "jit_compile" => arguments.jit_compile = flag(name, value)?,
                "name" => {
                    let text = value.as_str();
                    text.ok_or_else(|| wrong_type(name, "a string", value))?
                        .clone_into(&mut arguments.name);
                }
                "second_moment_underflow" => arguments.second_moment_underflow = underflow(value)?,
                "lr" | "is_legacy_optimizer" => {}
                // Keras 3 writes these.
                "loss_scale_factor" | "gradient_accumulation_steps" if value.is_null() => {}
                "decay" | "gradient_aggregator" | "gradient_transformers" => {
                    return Err(Error::DeprecatedArgument { name: name.clone() });
                }
                _ => return Err(Error::UnknownArgument { name: name.clone() }),
            }
        }
        if arguments.use_ema {
            if let Some(value) = config.get("ema_momentum") {
                arguments.ema_momentum = number("ema_momentum", value)?;
            }
            arguments.ema_overwrite_frequency = overwrite_frequency(config)?;
        } else {
            // Kept where they make sense, so that a configuration comes back as it was.
            if let Some(Ok(momentum)) =
                config.get("ema_momentum").map(|v| number("ema_momentum", v))
            {
                arguments.ema_momentum = momentum;
            }
            arguments.ema_overwrite_frequency = overwrite_frequency(config).unwrap_or(None);
        }
        builder.build()
    }

    /// The object that Keras's `get_config()` gives for these arguments, in its order. Non-finite
    /// numbers are strings, as JSON has none.
    ///
    /// [`SecondMomentUnderflow::Finite`] comes last as `second_moment_underflow`, an argument that
    /// Keras refuses: it has nothing that gives these results.
    ///
    /// # Errors
    /// A schedule of the user's own, which has no Keras class.
    pub fn to_keras_config(&self) -> Result<Map<String, Value>, Error> {
        let learning_rate = match self.learning_rate() {
            LearningRate::Constant(value) => float(*value),
            LearningRate::Schedule(schedule) => schedule.to_keras_config()?,
        };
        let entries = [
            ("name", json!(self.name())),
            ("weight_decay", optional_float(self.weight_decay())),
            ("clipnorm", optional_float(self.clipnorm())),
            ("global_clipnorm", optional_float(self.global_clipnorm())),
            ("clipvalue", optional_float(self.clipvalue())),
            ("use_ema", json!(self.use_ema())),
            ("ema_momentum", float(self.ema_momentum())),
            ("ema_overwrite_frequency", json!(self.ema_overwrite_frequency())),
            ("jit_compile", json!(self.jit_compile())),
            ("is_legacy_optimizer", json!(false)),
            ("learning_rate", learning_rate),
            ("beta_2_decay", float(self.beta_2_decay())),
            ("epsilon_1", float(self.epsilon_1())),
            ("epsilon_2", float(self.epsilon_2())),
            ("clip_threshold", float(self.clip_threshold())),
            ("relative_step", json!(self.relative_step())),
        ];
        let underflow = match self.second_moment_underflow() {
            SecondMomentUnderflow::MatchKeras => None,
            SecondMomentUnderflow::Finite => Some(("second_moment_underflow", json!("finite"))),
        };
        let entries = entries.into_iter().chain(underflow);
        Ok(entries.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl LearningRate {
    /// A number, or a schedule as Keras serialises it.
    ///
    /// # Errors
    /// Neither of them, an unknown schedule, a schedule with a missing or unknown field.
    pub fn from_keras_config(value: &Value) -> Result<Self, Error> {
        learning_rate(value)
    }
}

impl Schedule {
    /// A schedule from Keras's `{"class_name": …, "config": {…}}`.
    ///
    /// # Errors
    /// A class that is not one of the six, a field that is missing, unknown or of the wrong type.
    pub fn from_keras_config(value: &Value) -> Result<Self, Error> {
        let class_name = value
            .get("class_name")
            .and_then(Value::as_str)
            .ok_or_else(|| wrong_type("learning_rate", "an object with a class_name", value))?;
        let Some(config) = value.get("config").and_then(Value::as_object) else {
            return Err(wrong_type("learning_rate", "a schedule with a config object", value));
        };
        let unknown = || Error::UnknownSchedule { class_name: class_name.to_owned() };
        let fields = Fields { config, class_name: known_class(class_name).ok_or_else(unknown)? };
        fields.to_schedule()
    }

    /// Keras's `{"class_name": …, "config": {…}}`.
    ///
    /// # Errors
    /// A schedule of the user's own.
    pub fn to_keras_config(&self) -> Result<Value, Error> {
        let config = match self {
            Self::ExponentialDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            }
            | Self::InverseTimeDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            } => json!({
                "initial_learning_rate": float(*initial_learning_rate),
                "decay_steps": float(*decay_steps), "decay_rate": float(*decay_rate),
                "staircase": staircase, "name": null,
            }),
            Self::PiecewiseConstantDecay { boundaries, values } => {
                json!({"boundaries": floats(boundaries), "values": floats(values), "name": null})
            }
            Self::PolynomialDecay {
                initial_learning_rate,
                decay_steps,
                end_learning_rate,
                power,
                cycle,
            } => json!({
                "initial_learning_rate": float(*initial_learning_rate),
                "decay_steps": float(*decay_steps),
                "end_learning_rate": float(*end_learning_rate), "power": float(*power),
                "cycle": cycle, "name": null,
            }),
            Self::CosineDecay { initial_learning_rate, decay_steps, alpha } => json!({
                "initial_learning_rate": float(*initial_learning_rate),
                "decay_steps": float(*decay_steps), "alpha": float(*alpha), "name": null,
            }),
            Self::CosineDecayRestarts {
                initial_learning_rate,
                first_decay_steps,
                t_mul,
                m_mul,
                alpha,
            } => json!({
                "initial_learning_rate": float(*initial_learning_rate),
                "first_decay_steps": float(*first_decay_steps), "t_mul": float(*t_mul),
                "m_mul": float(*m_mul), "alpha": float(*alpha), "name": null,
            }),
            Self::Custom(_) => {
                return Err(Error::UnknownSchedule { class_name: "Custom".to_owned() });
            }
        };
        Ok(json!({"class_name": self.class_name(), "config": config}))
    }
}

/// The fields of a serialised schedule.
struct Fields<'a> {
    config: &'a Map<String, Value>,
    class_name: &'static str,
}

impl Fields<'_> {
    fn to_schedule(&self) -> Result<Schedule, Error> {
        let initial = "initial_learning_rate";
        let schedule = match self.class_name {
            "ExponentialDecay" => Schedule::ExponentialDecay {
                initial_learning_rate: self.number(initial)?,
                decay_steps: self.number("decay_steps")?,
                decay_rate: self.number("decay_rate")?,
                staircase: self.flag_or_false("staircase")?,
            },
            "InverseTimeDecay" => Schedule::InverseTimeDecay {
                initial_learning_rate: self.number(initial)?,
                decay_steps: self.number("decay_steps")?,
                decay_rate: self.number("decay_rate")?,
                staircase: self.flag_or_false("staircase")?,
            },
            "PiecewiseConstantDecay" => Schedule::PiecewiseConstantDecay {
                boundaries: self.numbers("boundaries")?,
                values: self.numbers("values")?,
            },
            "PolynomialDecay" => Schedule::PolynomialDecay {
                initial_learning_rate: self.number(initial)?,
                decay_steps: self.number("decay_steps")?,
                end_learning_rate: self.number_or("end_learning_rate", 0.0001)?,
                power: self.number_or("power", 1.0)?,
                cycle: self.flag_or_false("cycle")?,
            },
            "CosineDecay" => Schedule::CosineDecay {
                initial_learning_rate: self.number(initial)?,
                decay_steps: self.number("decay_steps")?,
                alpha: self.number_or("alpha", 0.0)?,
            },
            _ => Schedule::CosineDecayRestarts {
                initial_learning_rate: self.number(initial)?,
                first_decay_steps: self.number("first_decay_steps")?,
                t_mul: self.number_or("t_mul", 2.0)?,
                m_mul: self.number_or("m_mul", 1.0)?,
                alpha: self.number_or("alpha", 0.0)?,
            },
        };
        self.check_names(&schedule)?;
        schedule.validate()?;
        Ok(schedule)
    }

    /// Refuses fields that the schedule does not serialise itself.
    fn check_names(&self, schedule: &Schedule) -> Result<(), Error> {
        let own = schedule.to_keras_config()?;
        // 2.15 writes the warm-up that 2.12 does not have even where there is none.
        let unused = |name: &str| {
            let value = self.config.get(name).unwrap_or(&Value::Null);
            matches!(schedule, Schedule::CosineDecay { .. })
                && ((name == "warmup_target" && value.is_null())
                    || (name == "warmup_steps" && value.as_u64() == Some(0)))
        };
        let known =
            |name: &&String| own["config"].get(name.as_str()).is_some() || unused(name.as_str());
        match self.config.keys().find(|name| !known(name)) {
            Some(name) => Err(self.error("must have known fields only", name)),
            None => Ok(()),
        }
    }

    fn error(&self, rule: &str, value: &str) -> Error {
        Error::ScheduleField {
            class_name: self.class_name,
            rule: rule.to_owned(),
            value: value.to_owned(),
        }
    }

    fn number(&self, name: &'static str) -> Result<f64, Error> {
        match self.config.get(name) {
            Some(value) => number(name, value),
            None => Err(self.error(&format!("must have the field {name}"), "none")),
        }
    }

    fn number_or(&self, name: &'static str, default: f64) -> Result<f64, Error> {
        self.config.get(name).map_or(Ok(default), |value| number(name, value))
    }

    fn flag_or_false(&self, name: &str) -> Result<bool, Error> {
        self.config.get(name).map_or(Ok(false), |value| flag(name, value))
    }

    fn numbers(&self, name: &'static str) -> Result<Vec<f64>, Error> {
        match self.config.get(name) {
            Some(Value::Array(values)) => values.iter().map(|value| number(name, value)).collect(),
            Some(value) => Err(wrong_type(name, "a list of numbers", value)),
            None => Err(self.error(&format!("must have the field {name}"), "none")),
        }
    }
}

fn known_class(class_name: &str) -> Option<&'static str> {
    const CLASSES: [&str; 6] = [
        "ExponentialDecay",
        "InverseTimeDecay",
        "PiecewiseConstantDecay",
        "PolynomialDecay",
        "CosineDecay",
        "CosineDecayRestarts",
    ];
    CLASSES.into_iter().find(|class| *class == class_name)
}

fn learning_rate(value: &Value) -> Result<LearningRate, Error> {
    match value {
        Value::Object(_) => Schedule::from_keras_config(value).map(LearningRate::Schedule),
        Value::Null => Err(none("learning_rate")),
        _ => number("learning_rate", value).map(LearningRate::Constant),
    }
}

/// The configuration inside the object that `tf.keras.optimizers.serialize` makes around it.
fn serialized(config: &Map<String, Value>) -> Result<Option<&Map<String, Value>>, Error> {
    const KEYS: [&str; 4] = ["class_name", "config", "module", "registered_name"];
    let (Some(class_name), Some(Value::Object(inner))) =
        (config.get("class_name"), config.get("config"))
    else {
        return Ok(None);
    };
    if let Some(name) = config.keys().find(|name| !KEYS.contains(&name.as_str())) {
        return Err(Error::UnknownArgument { name: name.clone() });
    }
    match class_name.as_str() {
        Some("Adafactor" | "Custom>Adafactor") => {}
        _ => return Err(wrong_type("class_name", "Adafactor", class_name)),
    }
    match inner.get("class_name") {
        // One layer only, so that no input can recurse deeply.
        Some(_) => Err(Error::UnknownArgument { name: "class_name".to_owned() }),
        None => Ok(Some(inner)),
    }
}

fn underflow(value: &Value) -> Result<SecondMomentUnderflow, Error> {
    match value.as_str() {
        Some("match_keras") => Ok(SecondMomentUnderflow::MatchKeras),
        Some("finite") => Ok(SecondMomentUnderflow::Finite),
        _ => Err(wrong_type("second_moment_underflow", "match_keras or finite", value)),
    }
}

fn overwrite_frequency(config: &Map<String, Value>) -> Result<Option<u64>, Error> {
    match config.get("ema_overwrite_frequency") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| Error::Argument {
            name: "ema_overwrite_frequency",
            rule: "a whole number of at least 0 or null",
            value: shortened(value),
        }),
    }
}

fn required(name: &'static str, value: &Value) -> Result<f64, Error> {
    if value.is_null() { Err(none(name)) } else { number(name, value) }
}

fn optional(name: &str, value: &Value) -> Result<Option<f64>, Error> {
    if value.is_null() { Ok(None) } else { number(name, value).map(Some) }
}

fn number(name: &str, value: &Value) -> Result<f64, Error> {
    let number = match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    };
    number.ok_or_else(|| wrong_type(name, "a number", value))
}

fn flag(name: &str, value: &Value) -> Result<bool, Error> {
    value.as_bool().ok_or_else(|| wrong_type(name, "true or false", value))
}

/// A number as JSON, the non-finite ones as strings.
fn float(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("NaN")
    } else {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

fn optional_float(value: Option<f64>) -> Value {
    value.map_or(Value::Null, float)
}

fn floats(values: &[f64]) -> Vec<Value> {
    values.iter().copied().map(float).collect()
}

fn none(name: &'static str) -> Error {
    Error::Argument { name, rule: "a number", value: "null".to_owned() }
}

fn wrong_type(name: &str, rule: &'static str, value: &Value) -> Error {
    Error::ArgumentType { name: name.to_owned(), rule, value: shortened(value) }
}

/// The value as JSON, cut to a length that fits a message.
fn shortened(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: &Value) -> Result<AdafactorArguments, Error> {
        AdafactorArguments::from_keras_config(config.as_object().unwrap())
    }

    #[test]
    fn configurations_round_trip() {
        let exponential = json!({"class_name": "ExponentialDecay", "config": {
            "initial_learning_rate": 0.5, "decay_steps": 3.0, "decay_rate": 0.9}});
        for learning_rate in [json!(0.25), exponential] {
            let arguments = parse(&json!({
                "learning_rate": learning_rate, "weight_decay": 0.004, "use_ema": true,
                "ema_overwrite_frequency": 3, "clipvalue": 0.5, "name": "a"}))
            .unwrap();
            let config = arguments.to_keras_config().unwrap();
            assert_eq!(AdafactorArguments::from_keras_config(&config), Ok(arguments));
        }
        assert_eq!(parse(&json!({})), Ok(AdafactorArguments::default()));
    }

    #[test]
    fn every_schedule_round_trips() {
        let head = json!({"initial_learning_rate": 0.5, "decay_steps": 3.0});
        let with = |extra: Value| {
            let mut fields = head.as_object().unwrap().clone();
            fields.extend(extra.as_object().unwrap().clone());
            Value::Object(fields)
        };
        let restarts = json!({"initial_learning_rate": 0.5, "first_decay_steps": 3.0});
        for (class_name, config) in [
            ("ExponentialDecay", with(json!({"decay_rate": 0.9, "staircase": true}))),
            ("InverseTimeDecay", with(json!({"decay_rate": 0.9}))),
            ("PiecewiseConstantDecay", json!({"boundaries": [1.0], "values": [0.5, 0.1]})),
            ("PolynomialDecay", with(json!({"power": 2.0, "cycle": true}))),
            ("CosineDecay", with(json!({"alpha": 0.25}))),
            ("CosineDecayRestarts", restarts),
        ] {
            let value = json!({"class_name": class_name, "config": config});
            let schedule = Schedule::from_keras_config(&value).unwrap();
            let again = Schedule::from_keras_config(&schedule.to_keras_config().unwrap());
            assert_eq!(again, Ok(schedule));
        }
    }

    #[test]
    fn averaging_arguments_are_ignored_without_ema() {
        let config = json!({"ema_overwrite_frequency": -1, "ema_momentum": "x"});
        assert_eq!(parse(&config), Ok(AdafactorArguments::default()));
    }
}
