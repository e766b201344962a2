//! The reference against every golden trace: one test per family and per case that stands alone.

use std::path::Path;
use std::process::ExitCode;

use goldstep_conformance::libtest::{NamedTest, tests};
use goldstep_reference::conformance::subject;
use libtest_mimic::{Arguments, Failed, Trial, run};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    match tests(&directory, subject()) {
        Ok(tests) => {
            let trial =
                |(name, test): NamedTest| Trial::test(name, || test().map_err(Failed::from));
            run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
