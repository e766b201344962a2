//! The CPU backend as a subject of the judge.

use goldstep_conformance::agreement::{Quantity, Role};
use goldstep_conformance::{
    Builds, Capabilities, Description, InProcess, KnownDifference, Plain, Subject,
};
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
    .with_known_differences(known_differences())
}

/// Where float16 overflows, underflows or freezes in Keras, and f32 arithmetic does not.
fn known_differences() -> Vec<KnownDifference> {
    use Quantity::{C, R, V, Variable};
    let values = [
        ("values-gradient-huge-f16", &[R, C, V, Variable][..], OVERFLOW),
        ("values-gradient-largest-f16", &[R, C, V, Variable], OVERFLOW),
        ("values-gradients-huge-f16", &[R, C, V, Variable], OVERFLOW),
        ("values-gradients-largest-f16", &[R, C, V, Variable], OVERFLOW),
        ("values-gradients-subnormal-f16", &[V, Variable], UNDERFLOW),
        ("values-gradients-tiny-f16", &[V, Variable], UNDERFLOW),
        ("values-zero-all-f16", &[V, Variable], UNDERFLOW),
        ("values-zero-column-f16", &[Variable], UNDERFLOW),
        ("values-zero-element-f16", &[Variable], UNDERFLOW),
        ("values-zero-row-and-column-f16", &[Variable], UNDERFLOW),
        ("values-zero-row-f16", &[Variable], UNDERFLOW),
    ];
    let values = values.map(|(case, quantities, reason)| ("values", case, quantities, reason));
    let counter = ("long", "long-2100-counter-f16", &[R, C, V][..], FROZEN);
    let entries = values.into_iter().chain([counter]);
    let of = |(family, case, quantities, reason): (&str, &str, &[Quantity], &str)| {
        let entry = |&quantity: &Quantity| KnownDifference {
            family: family.to_owned(),
            case: Some(case.to_owned()),
            quantity,
            reason: reason.to_owned(),
        };
        quantities.iter().map(entry).collect::<Vec<_>>()
    };
    entries.flat_map(of).collect()
}

const OVERFLOW: &str = "squares of float16 gradients overflow in Keras, not in float32";
const UNDERFLOW: &str = "epsilon_1 is 0 in float16, so that a zero gradient is NaN in Keras";
const FROZEN: &str = "float16 cannot count above 2048, so that beta_2 stands still in Keras";

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
