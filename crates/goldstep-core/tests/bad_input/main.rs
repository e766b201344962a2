//! Arguments, configurations and lists that cannot be used: a named test for each, so that
//! `cargo test -p goldstep-core --test bad_input -- --list` counts them. Golden files are tried in
//! goldstep-conformance's `bad_goldens`, command lines in xtask's `bad_input`.

mod arguments;
mod configurations;
mod lists;

use std::collections::BTreeSet;
use std::process::ExitCode;

use goldstep_core::Error;
use libtest_mimic::{Arguments, Failed, Trial, run};

/// What is tried, how, and the whole answer: subject, rule and value.
struct Bad {
    name: &'static str,
    attempt: fn() -> Result<(), Error>,
    message: &'static str,
    /// The exception that Keras would raise.
    keras_type: &'static str,
}

impl Bad {
    fn test(&self) -> Result<(), Failed> {
        let answer = match (self.attempt)() {
            Ok(()) => return Err(format!("must be refused with: {}", self.message).into()),
            Err(error) => error,
        };
        let expected = (self.message, self.keras_type);
        let answered = (&*answer.to_string(), answer.keras_type());
        if answered == expected {
            Ok(())
        } else {
            Err(format!("answered {answered:?}, expected {expected:?}").into())
        }
    }
}

fn main() -> ExitCode {
    let groups = [
        ("arguments", arguments::ARGUMENTS),
        ("configurations", configurations::CONFIGURATIONS),
        ("schedules", configurations::SCHEDULES),
        ("lists", lists::LISTS),
        ("steps", lists::STEPS),
    ];
    let mut names = BTreeSet::new();
    let mut trials = Vec::new();
    for (group, bad) in
        groups.iter().flat_map(|(group, list)| list.iter().map(move |bad| (group, bad)))
    {
        let name = format!("{group}/{}", bad.name);
        assert!(names.insert(name.clone()), "{name} must be tried once, got it twice");
        trials.push(Trial::test(name, || bad.test()));
    }
    run(&Arguments::from_args(), trials).exit_code()
}
