//! What a person reads when an implementation is wrong: ten mistakes as backends, and their blocks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::LazyLock;

use goldstep_conformance::agreement::Role;
use goldstep_conformance::explain::{Suspect, explain};
use goldstep_conformance::golden::{Golden, Traces};
use goldstep_conformance::report::failures;
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, Focus, Implementation, Selection, StateField,
    StateRequest, StepRequest, StepResponse, Subject, run,
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
        arguments.retain(|name, _| name == "learning_rate");
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

#[test]
fn families_of_the_snapshots_exist() {
    for family in ["grid-f64", "ema", "shapes", "arguments", "grid-f16", "schedules", "errors"] {
        assert!(GOLDEN.families().iter().any(|one| one.id == family), "{family}");
    }
    let grids = GOLDEN.families().iter().filter(|one| matches!(one.traces, Traces::Grid(_)));
    assert!(grids.count() >= 4);
}
