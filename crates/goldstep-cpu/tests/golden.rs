//! The CPU backend against every golden trace, for each instruction set and number of threads.

use std::path::Path;
use std::process::ExitCode;

use goldstep_conformance::libtest::{NamedTest, tests};
use goldstep_cpu::Isa;
use goldstep_cpu::conformance::{Settings, subject};
use libtest_mimic::{Arguments, Failed, Trial, run};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    // The bits do not depend on the settings, which tests/bits.rs shows on large parameters; here
    // each instruction set and each number of threads occurs.
    let best = [1, 2, 3, 7].map(|threads| (threads, Isa::best()));
    let others = Isa::available().into_iter().rev().skip(1).map(|isa| (1, isa));
    let mut trials = Vec::new();
    for (threads, isa) in best.into_iter().chain(others) {
        let subject = subject(Settings { threads: Some(threads), isa: Some(isa) });
        let prefix = subject.name.clone();
        match tests(&directory, subject) {
            Ok(tests) => trials.extend(tests.into_iter().map(|(name, test): NamedTest| {
                Trial::test(format!("{prefix}/{name}"), || test().map_err(Failed::from))
            })),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    run(&arguments, trials).exit_code()
}
