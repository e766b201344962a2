//! What a person reads when an implementation is wrong: ten mistakes as backends, and their blocks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::LazyLock;

use goldstep_conformance::agreement::Role;
use goldstep_conformance::explain::{Field, Suspect, detail, explain};
use goldstep_conformance::golden::{Golden, Traces};
use goldstep_conformance::report::failures;
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, Finding, Focus, Implementation, Selection,
    StateField, StateRequest, StepRequest, StepResponse, Subject, run,
};
use goldstep_mutants::{Mistake, Mutant};

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    Golden::load(&directory).unwrap()
});

/// Whole families, so that what failing runs have in common is said; of the large grid a family of
/// its own would take too long here.
fn blocks(mistake: Mistake, families: &[&str]) -> String {
    let make = move || Ok(Box::new(Mutant::new(mistake)) as Box<_>);
    blocks_of(&Subject::new("backend", Role::Other, make), families)
}

fn blocks_of(subject: &Subject, families: &[&str]) -> String {
    let families: Vec<String> = families.iter().map(|family| (*family).to_owned()).collect();
    let selection = Selection::new(&GOLDEN, &families, &[], Focus::default()).unwrap();
    let report = run(&GOLDEN, &selection, subject, 2, &|_| {}).unwrap();
    let oracle = goldstep_reference::conformance::subject();
    let suspects: Vec<Suspect> = Mistake::wrong()
        .map(|mistake| Suspect {
            id: mistake.id().to_owned(),
            what: mistake.what().to_owned(),
            make: Box::new(move || Ok(Box::new(Mutant::new(mistake)))),
        })
        .collect();
    failures(&report, &explain(&GOLDEN, &report, subject, Some(&oracle), &suspects))
}

macro_rules! snapshots {
    ($($name:ident: $mistake:ident in $($family:literal),+;)*) => {
        $(
            #[test]
            fn $name() {
                insta::assert_snapshot!(blocks(Mistake::$mistake, &[$($family),+]));
            }
        )*
    };
}

snapshots! {
    weight_decay: RmsBeforeDecay in "grid-f64";
    average: EmaMomentumSwapped in "ema";
    factoring: UnitAxesSqueezed in "grid-f64", "shapes";
    gradient_clipping: ClipvalueUpperOnly in "grid-f64", "arguments";
    update_clipping: UpdateAlwaysDivided in "grid-f16";
    learning_rate: ScheduleOneStepAhead in "schedules";
    counting: MissingNotCounted in "missing";
    sparse_rows: SparseLastWins in "sparse";
    constraint: ConstraintBeforeEma in "constraints";
    refusal: AllMissingAccepted in "errors", "missing";
    float64: Epsilon2NotThroughFloat32 in "grid-f64";
    finalize: FinalizeIgnored in "ema";
}

/// A mistake in an optimizer that has nothing but a learning rate, in float64.
struct Beginner(Mutant, Description);

impl Implementation for Beginner {
    fn describe(&self) -> &Description {
        &self.1
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        let mut arguments = request.arguments.clone();
        arguments.retain(|name, _| self.1.capabilities.arguments.contains(name));
        self.0.build(&BuildRequest { arguments: &arguments, ..*request })
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        self.0.set_state(request)
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        self.0.step(request)
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        self.0.finalize()
    }
}

#[test]
fn the_mistake_of_a_beginner_is_named() {
    let make = || -> Result<Box<dyn Implementation>, Failure> {
        let mut can = Capabilities::minimal("goldstep");
        can.states = vec![StateField::R, StateField::C, StateField::V];
        let description = Description::new("beginner", "1", "Rust", "here", can);
        Ok(Box::new(Beginner(Mutant::new(Mistake::NormalisedPerTensor), description)))
    };
    let subject = Subject::new("beginner", Role::Other, make);
    let text = blocks_of(&subject, &["values"]);
    assert!(text.contains("looks like         normalised_per_tensor"), "{text}");
}

/// Forced and, without a way to set its state, free: what is shown is what was judged.
#[test]
fn errors_are_shown_as_they_were_judged() {
    for set_state in [true, false] {
        let make = move || -> Result<Box<dyn Implementation>, Failure> {
            let can = Capabilities { set_state, ..Capabilities::everything() };
            let description = Description::new("one", "1", "Rust", "here", can);
            Ok(Box::new(Beginner(Mutant::new(Mistake::Epsilon2Added), description)))
        };
        let subject = Subject::new("one", Role::Other, make);
        let families = ["arguments", "ema", "values"].map(str::to_owned);
        let selection = Selection::new(&GOLDEN, &families, &[], Focus::default()).unwrap();
        let report = run(&GOLDEN, &selection, &subject, 1, &|_| {}).unwrap();
        let mut implementation = (subject.make)().unwrap();
        let mut compared = 0;
        for family in &report.families {
            for (position, divergence) in &family.differ {
                let Finding::Value(difference) = &divergence.finding else { continue };
                let (Some(step), Some(variable)) = (divergence.step, difference.variable) else {
                    continue;
                };
                let trial = GOLDEN.families()[family.family].trial(*position);
                let place = (divergence.mode, step, variable);
                let one = implementation.as_mut();
                let shown = detail(one, None, &trial, Role::Other, place).unwrap();
                let of = |field: &&Field| field.quantity == difference.quantity;
                let field = shown.fields.iter().find(of).unwrap();
                assert_eq!(field.errors[difference.element].to_bits(), difference.error.to_bits());
                assert_eq!(field.allowance, difference.allowance);
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared}");
    }
}

#[test]
fn families_of_the_snapshots_exist() {
    for family in ["grid-f64", "ema", "shapes", "arguments", "grid-f16", "schedules", "errors"] {
        assert!(GOLDEN.families().iter().any(|one| one.id == family), "{family}");
    }
    let grids = GOLDEN.families().iter().filter(|one| matches!(one.traces, Traces::Grid(_)));
    assert!(grids.count() >= 4);
}
