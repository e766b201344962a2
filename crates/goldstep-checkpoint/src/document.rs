//! The JSON text in a checkpoint's metadata.

use std::collections::BTreeMap;

use goldstep_core::{AdafactorArguments, Constraint, DType, LearningRate, Parameter, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::CheckpointError;

pub(crate) const FORMAT: &str = "goldstep-checkpoint/1";
const OPTIMIZER: &str = "adafactor";
/// Keys of the metadata.
pub(crate) const KEY: &str = "goldstep";
pub(crate) const CHECKSUM_KEY: &str = "goldstep_crc32";
/// Stands for a schedule that no file can hold.
const CUSTOM: &str = "Custom";

/// Everything of a checkpoint but its tensors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    format: String,
    optimizer: String,
    pub(crate) iterations: u64,
    arguments: Map<String, Value>,
    pub(crate) parameters: Vec<ParameterDocument>,
    pub(crate) crc32: BTreeMap<String, String>,
}

/// One parameter.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParameterDocument {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    weight_decay: bool,
    constraint: Option<ConstraintDocument>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ConstraintDocument {
    NonNegative,
    Clip {
        #[serde(with = "number")]
        minimum: f64,
        #[serde(with = "number")]
        maximum: f64,
    },
}

/// Numbers, the non-finite ones as strings.
mod number {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Other(String),
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            value if value.is_finite() => serializer.serialize_f64(*value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value if *value > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Number::deserialize(deserializer)? {
            Number::Finite(value) => Ok(value),
            Number::Other(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(D::Error::custom("a number must be a number, NaN or an infinity")),
            },
        }
    }
}

impl Document {
    pub(crate) fn new(
        iterations: u64,
        arguments: &AdafactorArguments,
        parameters: Vec<ParameterDocument>,
        crc32: BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        let arguments = match arguments.learning_rate() {
            LearningRate::Schedule(Schedule::Custom(_)) => {
                let mut serializable = arguments.clone();
                // Any schedule may follow a schedule; it is replaced by the name at once.
                let stand_in = Schedule::exponential_decay(1.0, 1.0, 1.0, false);
                serializable.assign_learning_rate(stand_in.into())?;
                let mut config = serializable.to_keras_config()?;
                let name = json!({"class_name": CUSTOM, "config": {}});
                config.insert("learning_rate".to_owned(), name);
                config
            }
            _ => arguments.to_keras_config()?,
        };
        let (format, optimizer) = (FORMAT.to_owned(), OPTIMIZER.to_owned());
        Ok(Self { format, optimizer, iterations, arguments, parameters, crc32 })
    }

    /// Parses the metadata of a file, its version first.
    pub(crate) fn read(metadata: &BTreeMap<String, String>) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Version {
            format: String,
        }

        let Some(text) = metadata.get(KEY) else {
            let got = "a safetensors file without the metadata entry goldstep".to_owned();
            return Err(CheckpointError::Foreign { got });
        };
        let json = |error: serde_json::Error| {
            CheckpointError::header("metadata goldstep", "follow its format", error.to_string())
        };
        let Version { format } = serde_json::from_str(text).map_err(json)?;
        if format != FORMAT {
            return Err(CheckpointError::Version { supported: FORMAT, got: format });
        }
        let (sum, recorded) =
            (checksum_text(crc32fast::hash(text.as_bytes())), metadata.get(CHECKSUM_KEY));
        if recorded != Some(&sum) {
            let recorded = recorded.map_or("none", String::as_str);
            let rule = format!("have the CRC-32 {sum} of the metadata");
            return Err(CheckpointError::header("metadata goldstep_crc32", rule, recorded));
        }
        let document: Self = serde_json::from_str(text).map_err(json)?;
        if document.optimizer != OPTIMIZER {
            return Err(CheckpointError::header("optimizer", "be adafactor", document.optimizer));
        }
        Ok(document)
    }

    /// The arguments, and whether their learning rate is missing.
    pub(crate) fn arguments(&self) -> Result<(AdafactorArguments, bool), CheckpointError> {
        let class_name =
            self.arguments.get("learning_rate").and_then(|rate| rate.get("class_name"));
        let custom = class_name.and_then(Value::as_str) == Some(CUSTOM);
        let arguments = if custom {
            let mut others = self.arguments.clone();
            others.shift_remove("learning_rate");
            AdafactorArguments::from_keras_config(&others)?
        } else {
            AdafactorArguments::from_keras_config(&self.arguments)?
        };
        Ok((arguments, custom))
    }
}

impl ParameterDocument {
    pub(crate) fn new(parameter: &Parameter, dtype: DType) -> Result<Self, CheckpointError> {
        let constraint = match parameter.constraint() {
            None => None,
            Some(Constraint::NonNegative) => Some(ConstraintDocument::NonNegative),
            Some(Constraint::Clip { minimum, maximum }) => {
                Some(ConstraintDocument::Clip { minimum, maximum })
            }
            Some(other) => {
                return Err(CheckpointError::header(
                    "constraint",
                    "have a form in this version",
                    format!("{other:?}"),
                ));
            }
        };
        Ok(Self {
            name: parameter.name().to_owned(),
            shape: parameter.shape().to_vec(),
            dtype: dtype.name().to_owned(),
            weight_decay: parameter.decays(),
            constraint,
        })
    }

    pub(crate) fn parameter(&self) -> Result<(Parameter, DType), CheckpointError> {
        let mut parameter = Parameter::new(&self.name, &self.shape)?;
        if !self.weight_decay {
            parameter = parameter.without_weight_decay();
        }
        if let Some(constraint) = &self.constraint {
            parameter = parameter.with_constraint(match *constraint {
                ConstraintDocument::NonNegative => Constraint::NonNegative,
                ConstraintDocument::Clip { minimum, maximum } => {
                    Constraint::Clip { minimum, maximum }
                }
            });
        }
        let dtype = DType::from_name(&self.dtype);
        let unknown = || CheckpointError::dtype(&self.name, &DType::ALL, &self.dtype);
        Ok((parameter, dtype.ok_or_else(unknown)?))
    }
}

/// A checksum as eight hexadecimal digits.
pub(crate) fn checksum_text(sum: u32) -> String {
    format!("{sum:08x}")
}
