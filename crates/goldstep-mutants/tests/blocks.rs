//! What a person reads when an implementation is wrong: ten mistakes as backends, and their blocks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::LazyLock;

use goldstep_conformance::agreement::Role;
use goldstep_conformance::explain::{Suspect, explain};
use goldstep_conformance::golden::{Golden, Traces};
use goldstep_conformance::report::failures;
use goldstep_conformance::{Focus, Selection, Subject, run};
use goldstep_mutants::{Mistake, Mutant};

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    Golden::load(&directory).unwrap()
});

/// Whole families, so that what failing runs have in common is said; of the large grid a family of
/// its own would take too long here.
fn blocks(mistake: Mistake, families: &[&str]) -> String {
    let make = move || Ok(Box::new(Mutant::new(mistake)) as Box<_>);
    let subject = Subject::new("backend", Role::Other, make);
    let families: Vec<String> = families.iter().map(|family| (*family).to_owned()).collect();
    let selection = Selection::new(&GOLDEN, &families, &[], Focus::default()).unwrap();
    let report = run(&GOLDEN, &selection, &subject, 2, &|_| {}).unwrap();
    let oracle = goldstep_reference::conformance::subject();
    let suspects: Vec<Suspect> = Mistake::wrong()
        .map(|mistake| Suspect {
            id: mistake.id().to_owned(),
            what: mistake.what().to_owned(),
            make: Box::new(move || Ok(Box::new(Mutant::new(mistake)))),
        })
        .collect();
    failures(&report, &explain(&GOLDEN, &report, &subject, Some(&oracle), &suspects))
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

#[test]
fn families_of_the_snapshots_exist() {
    for family in ["grid-f64", "ema", "shapes", "arguments", "grid-f16", "schedules", "errors"] {
        assert!(GOLDEN.families().iter().any(|one| one.id == family), "{family}");
    }
    let grids = GOLDEN.families().iter().filter(|one| matches!(one.traces, Traces::Grid(_)));
    assert!(grids.count() >= 4);
}
