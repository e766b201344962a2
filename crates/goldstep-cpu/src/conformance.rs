//! The CPU backend as a subject of the judge.

use goldstep_conformance::agreement::{Quantity, Role};
use goldstep_conformance::{
    Builds, Capabilities, Description, InProcess, KnownDifference, Plain, Subject,
};
use goldstep_core::{
    AdafactorArguments, AdafactorState, Error, Gradient, HostOptimizer, LearningRate,
    ParameterList, StepReport,
};

use crate::{Adafactor, CpuElement, Isa, ParameterStore};

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
    let description = describe(&name);
    Subject::new(name, Role::Other, move || {
        Ok(Box::new(InProcess::new(settings, description.clone())))
    })
    .with_known_differences(known_differences())
}

/// The backend behind a [`ParameterStore`], which carries `Σp²` from step to step as long as the
/// judge leaves a variable as the last step left it.
#[must_use]
pub fn store_subject() -> Subject {
    let description = describe("cpu-store");
    Subject::new("cpu-store", Role::Other, move || {
        Ok(Box::new(InProcess::new(Stored, description.clone())))
    })
    .with_known_differences(known_differences())
}

fn describe(name: &str) -> Description {
    Description::new(
        name,
        env!("CARGO_PKG_VERSION"),
        "Rust",
        env!("CARGO_PKG_REPOSITORY"),
        Capabilities::everything(),
    )
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

/// Builds optimizers that hold their parameters.
struct Stored;

impl<T: CpuElement> Builds<T> for Stored {
    type Session = Plain<Held<T>>;

    fn build(
        &self,
        arguments: &AdafactorArguments,
        parameters: &ParameterList,
    ) -> Result<Self::Session, Error> {
        Held::build(arguments, parameters).map(Plain)
    }
}

/// A store that takes over what the judge has changed, and nothing else.
struct Held<T: CpuElement>(ParameterStore<'static, T>);

impl<T: CpuElement> Held<T> {
    /// Takes over what differs in any bit: a variable taken over is measured once more.
    fn take(&mut self, parameters: &[&mut [T]]) -> Result<(), Error> {
        self.parameters().check_parameters(parameters.iter().map(|values| values.len()))?;
        for (index, values) in parameters.iter().enumerate() {
            let bits = |x: &T| x.to_f64().to_bits();
            if !self.0.get(index).iter().map(bits).eq(values.iter().map(bits)) {
                self.0.modify(index).copy_from_slice(values);
            }
        }
        Ok(())
    }

    fn give(&self, parameters: &mut [&mut [T]]) {
        for (index, values) in parameters.iter_mut().enumerate() {
            values.copy_from_slice(self.0.get(index));
        }
    }
}

impl<T: CpuElement> HostOptimizer<T> for Held<T> {
    fn build(arguments: &AdafactorArguments, parameters: &ParameterList) -> Result<Self, Error> {
        ParameterStore::zeros(arguments, parameters).map(Self)
    }

    fn step(
        &mut self,
        parameters: &mut [&mut [T]],
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<StepReport, Error> {
        self.take(parameters)?;
        let report = self.0.step(gradients)?;
        self.give(parameters);
        Ok(report)
    }

    fn finalize_variable_values(&mut self, parameters: &mut [&mut [T]]) -> Result<(), Error> {
        self.take(parameters)?;
        self.0.finalize_variable_values()?;
        self.give(parameters);
        Ok(())
    }

    fn arguments(&self) -> &AdafactorArguments {
        self.0.optimizer().arguments()
    }

    fn parameters(&self) -> &ParameterList {
        self.0.optimizer().parameters()
    }

    fn iterations(&self) -> u64 {
        self.0.optimizer().iterations()
    }

    fn set_learning_rate(&mut self, learning_rate: LearningRate) -> Result<(), Error> {
        self.0.set_learning_rate(learning_rate)
    }

    fn state(&self) -> AdafactorState {
        self.0.optimizer().state()
    }

    fn load_state(&mut self, state: &AdafactorState) -> Result<(), Error> {
        self.0.load_state(state)
    }

    fn second_moment(&self, index: usize) -> Vec<T> {
        self.0.optimizer().second_moment(index)
    }
}
