//! The instruction set that the environment forces.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and print")]

use std::ffi::OsStr;
use std::process::Command;

use goldstep_core::{AdafactorArguments, HostOptimizer, Parameter, ParameterList};
use goldstep_cpu::{Adafactor, Isa};

fn build() -> Result<Adafactor<f32>, goldstep_core::Error> {
    let list = ParameterList::new(vec![Parameter::new("w", &[4]).unwrap()]).unwrap();
    Adafactor::build(&AdafactorArguments::default(), &list)
}

/// Says which one an optimizer has, for [`the_environment_forces_one`].
#[test]
fn an_optimizer_has_the_detected_one() {
    match (build(), Isa::detect()) {
        (Ok(optimizer), Ok(isa)) => {
            assert_eq!(optimizer.isa(), isa);
            println!("isa: {}", isa.name());
        }
        (Err(error), Err(_)) => println!("isa: {error}"),
        (built, detected) => unreachable!("{built:?} and {detected:?}"),
    }
}

/// What the test above prints in a process of its own.
fn with(value: &OsStr) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "an_optimizer_has_the_detected_one", "--nocapture"]);
    let output = command.env("GOLDSTEP_ISA", value).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_environment_forces_one() {
    for isa in Isa::available() {
        let said = with(isa.name().as_ref());
        assert!(said.contains(&format!("isa: {}\n", isa.name())), "{said}");
    }
    assert!(with("".as_ref()).contains(&format!("isa: {}\n", Isa::best().name())));
    let rule =
        "GOLDSTEP_ISA must be an instruction set of this processor: portable, avx2 or avx512";
    assert!(with("sse9".as_ref()).contains(&format!("isa: {rule}, got sse9")));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        assert!(with(OsStr::from_bytes(b"\xff\xfe")).contains(rule));
    }
}
