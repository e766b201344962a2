//! The reference as a subject of the judge.

use goldstep_conformance::agreement::Role;
use goldstep_conformance::{Builds, Capabilities, Description, InProcess, Observed, Subject};
use goldstep_core::{AdafactorArguments, Element, Error, HostOptimizer, ParameterList};

use crate::Adafactor;

/// The reference in process, with the tolerances of an oracle.
#[must_use]
pub fn subject() -> Subject {
    Subject::new("reference", Role::Reference, || {
        let description = Description {
            name: "reference".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            language: "Rust".to_owned(),
            source: env!("CARGO_PKG_REPOSITORY").to_owned(),
            capabilities: Capabilities::everything(),
        };
        Ok(Box::new(InProcess::new(Reference, description)))
    })
}

struct Reference;

impl<T: Element> Builds<T> for Reference {
    type Session = Observed<Adafactor<T>>;

    fn build(
        &self,
        arguments: &AdafactorArguments,
        parameters: &ParameterList,
    ) -> Result<Self::Session, Error> {
        Adafactor::build(arguments, parameters).map(Observed)
    }
}
