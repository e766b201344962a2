//! The CPU backend as a subject of the judge.

use goldstep_conformance::agreement::Role;
use goldstep_conformance::{Builds, Capabilities, Description, InProcess, Plain, Subject};
use goldstep_core::{AdafactorArguments, Error, ParameterList};

use crate::{Adafactor, CpuElement, Isa};

/// Where a judged optimizer runs; what is absent is chosen as for any user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// The number of threads.
    pub threads: Option<usize>,
    /// The instruction set.
    pub isa: Option<Isa>,
}

/// The backend in process. Its name tells the settings: `cpu`, `cpu-3-threads-avx2`.
#[must_use]
pub fn subject(settings: Settings) -> Subject {
    let mut name = "cpu".to_owned();
    if let Some(threads) = settings.threads {
        name.push_str(&format!("-{threads}-threads"));
    }
    if let Some(isa) = settings.isa {
        name.push('-');
        name.push_str(isa.name());
    }
    let described = name.clone();
    Subject::new(name, Role::Other, move || {
        let description = Description {
            name: described.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            language: "Rust".to_owned(),
            source: env!("CARGO_PKG_REPOSITORY").to_owned(),
            capabilities: Capabilities::everything(),
        };
        Ok(Box::new(InProcess::new(settings, description)))
    })
}

impl<T: CpuElement> Builds<T> for Settings {
    type Session = Plain<Adafactor<T>>;

    fn build(
        &self,
        arguments: &AdafactorArguments,
        parameters: &ParameterList,
    ) -> Result<Self::Session, Error> {
        let mut builder = Adafactor::<T>::builder(arguments, parameters);
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        if let Some(isa) = self.isa {
            builder = builder.isa(isa);
        }
        builder.build().map(Plain)
    }
}
