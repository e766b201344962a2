//! What `cargo xtask repro` prints compiles, and a correct backend passes it.
//!
//! The files beside this one are such tests, chosen so that each thing that a run may have occurs.
//! They are compiled and run here; that they are what is printed today is a test too. After a
//! change, `cargo xtask repro FAMILY/ID --step STEPS > crates/goldstep-mutants/tests/repro/NAME.rs`
//! renews one.

use std::fs;
use std::path::Path;

use goldstep_conformance::explain::{Target, restricted, unit_test};
use goldstep_conformance::golden::Golden;

macro_rules! printed {
    ($($module:ident $path:literal: $case:literal, $steps:literal;)*) => {
        $(
            #[path = $path]
            mod $module;
        )*
        /// File, run, steps.
        const PRINTED: &[(&str, &str, usize)] = &[$(($path, $case, $steps)),*];
    };
}

printed! {
    assigned_rate "repro/assigned_rate.rs": "schedules/schedules-assigned-schedules-f32", 3;
    average "repro/average.rs": "constraints/constraints-with-ema-f32", 2;
    constructor "repro/constructor.rs": "errors/errors-ema-frequency-fraction-f32", 1;
    exclusion "repro/exclusion.rs": "exclusion/exclusion-with-schedule-and-ema-f64", 1;
    finalized "repro/finalized.rs": "ema/ema-every-3-momentum-0.5-bf16", 7;
    half "repro/half.rs": "values/values-gradient-nan-f16", 2;
    missing "repro/missing.rs": "missing/missing-with-global-clipnorm-f32", 2;
    numbers "repro/numbers.rs": "arguments/arguments-clips-zero-f32", 1;
    pattern "repro/pattern.rs": "errors/errors-bad-pattern-f32", 1;
    sparse "repro/sparse.rs": "sparse/sparse-with-clipvalue-f32", 2;
    step "repro/step.rs": "errors/errors-index-out-of-range-f32", 3;
}

#[test]
fn the_files_are_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = Golden::load(&root.join("../../golden/v1")).unwrap();
    let target =
        Target { module: "goldstep_reference".to_owned(), optimizer: "Adafactor".to_owned() };
    for (path, case, steps) in PRINTED {
        let trial = golden.families().iter().find_map(|family| {
            let id = case.strip_prefix(&family.id)?.strip_prefix('/')?;
            family.position(id).map(|position| family.trial(position))
        });
        let trial = trial.unwrap();
        let all: Vec<usize> = (0..trial.variables.len()).collect();
        let printed = unit_test(&restricted(&trial, &all, *steps), &target);
        let written = fs::read_to_string(root.join("tests").join(path)).unwrap();
        assert!(printed == written, "{path} is not what cargo xtask repro {case} prints");
    }
}
