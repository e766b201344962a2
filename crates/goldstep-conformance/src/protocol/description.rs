//! The answer to `start`: who an implementation is and what it can do, as JSON.

use goldstep_core::DType;
use serde::{Deserialize, Serialize};

use crate::{Capabilities, Description, StateField};

/// The answer to `start`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StartAnswer {
    implementation: ImplementationFields,
    capabilities: CapabilityFields,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImplementationFields {
    name: String,
    version: String,
    language: String,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol's fields, fixed by its version")]
struct CapabilityFields {
    dtypes: Vec<String>,
    arguments: Vec<String>,
    schedules: Vec<String>,
    sparse: bool,
    ema: bool,
    constraints: bool,
    exclude: bool,
    set_learning_rate: bool,
    finalize: bool,
    states: Vec<String>,
    set_state: bool,
    intermediates: Vec<String>,
    base64: bool,
    expectation: String,
}

impl StartAnswer {
    pub(super) fn new(description: &Description, base64: bool) -> Self {
        let can = &description.capabilities;
        Self {
            implementation: ImplementationFields {
                name: description.name.clone(),
                version: description.version.clone(),
                language: description.language.clone(),
                source: description.source.clone(),
            },
            capabilities: CapabilityFields {
                dtypes: can.dtypes.iter().map(|dtype| dtype.name().to_owned()).collect(),
                arguments: can.arguments.clone(),
                schedules: can.schedules.clone(),
                sparse: can.sparse,
                ema: can.ema,
                constraints: can.constraints,
                exclude: can.exclude,
                set_learning_rate: can.set_learning_rate,
                finalize: can.finalize,
                states: can.states.iter().map(|state| state_name(*state).to_owned()).collect(),
                set_state: can.set_state,
                intermediates: can.intermediates.clone(),
                base64,
                expectation: can.expectation.clone(),
            },
        }
    }

    /// The description, and whether tensors may be base64.
    #[cfg_attr(
        not(any(unix, test)),
        expect(dead_code, reason = "only the harness's side reads answers")
    )]
    pub(super) fn into_description(self) -> Result<(Description, bool), String> {
        let Self { implementation: who, capabilities: can } = self;
        let dtype = |name: &String| {
            DType::from_name(name).ok_or_else(|| {
                format!("dtypes must be among float64, float32, bfloat16, float16, got {name:?}")
            })
        };
        let state = |name: &String| {
            StateField::ALL
                .into_iter()
                .find(|state| state_name(*state) == name)
                .ok_or_else(|| format!("states must be among r, c, v, ema, got {name:?}"))
        };
        let known = |name: &&String| super::INTERMEDIATES.contains(&name.as_str());
        if let Some(name) = can.intermediates.iter().find(|name| !known(name)) {
            let names = super::INTERMEDIATES.join(", ");
            return Err(format!("intermediates must be among {names}, got {name:?}"));
        }
        let capabilities = Capabilities {
            dtypes: can.dtypes.iter().map(dtype).collect::<Result<_, _>>()?,
            states: can.states.iter().map(state).collect::<Result<_, _>>()?,
            arguments: can.arguments,
            schedules: can.schedules,
            sparse: can.sparse,
            ema: can.ema,
            constraints: can.constraints,
            exclude: can.exclude,
            set_learning_rate: can.set_learning_rate,
            finalize: can.finalize,
            set_state: can.set_state,
            intermediates: can.intermediates,
            expectation: can.expectation,
        };
        let description = Description {
            name: who.name,
            version: who.version,
            language: who.language,
            source: who.source,
            capabilities,
        };
        Ok((description, can.base64))
    }
}

/// The name of a state in messages.
pub(super) const fn state_name(state: StateField) -> &'static str {
    match state {
        StateField::R => "r",
        StateField::C => "c",
        StateField::V => "v",
        StateField::Ema => "ema",
    }
}
