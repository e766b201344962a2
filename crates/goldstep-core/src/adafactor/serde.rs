//! The arguments as the map that is Keras's configuration, in any serde format that describes
//! itself and has a null, as JSON does and TOML does not: absent is not null where Keras's default is
//! another.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::AdafactorArguments;

impl Serialize for AdafactorArguments {
    /// # Errors
    /// A schedule of the user's own, and what the format fails at.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_keras_config().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AdafactorArguments {
    /// # Errors
    /// As [`AdafactorArguments::from_keras_config`], and what the format fails at.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Map::<String, Value>::deserialize(deserializer)?;
        Self::from_keras_config(&config).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use crate::{AdafactorArguments, Schedule};

    #[test]
    fn arguments_come_back() {
        let schedule = Schedule::exponential_decay(0.1, 10.0, 0.5, true);
        let builder = AdafactorArguments::builder().learning_rate(schedule).clipnorm(1.0);
        let arguments = builder.build().unwrap();
        let text = serde_json::to_string(&arguments).unwrap();
        assert_eq!(serde_json::from_str::<AdafactorArguments>(&text).unwrap(), arguments);
    }

    #[test]
    fn the_rules_hold_here_too() {
        let error = serde_json::from_str::<AdafactorArguments>(r#"{"clipnorm": -1}"#).unwrap_err();
        assert_eq!(error.to_string(), "clipnorm must be finite and at least 0, got -1");
    }
}
