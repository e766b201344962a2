//! Runs the examples. Each checks its own outcome.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::PathBuf;
use std::process::Command;

/// `cargo test` builds the examples beside its tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(|deps| deps.parent()).unwrap();
    profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION)
}

fn run(name: &str) {
    let path = example(name);
    assert!(path.exists(), "run `cargo test -p goldstep`, which builds the examples as well");
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let output = Command::new(path).current_dir(repository).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !output.stdout.is_empty(), "{name}: {errors}");
}

macro_rules! examples {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_example_is_here_and_short() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                // Run where its feature is on.
                let known = name == "train_torch" || [$(stringify!($name)),*].contains(&name.as_str());
                assert!(known, "{name} is not run");
                let lines = std::fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines < 40, "{name} has {lines} lines");
            }
        }
    };
}

examples! {
    evaluate_with_ema,
    exclude_biases,
    resume,
    schedules,
    train_ndarray,
    verify_your_own,
}

/// The crate's README is a doctest, and the repository's shows the same code.
#[test]
fn both_readmes_show_the_same_code() {
    let read = |path| std::fs::read_to_string(path).unwrap();
    let of_crate = read(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let of_repository = read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));
    let code = of_crate.split("```").nth(1).unwrap();
    assert!(code.starts_with("rust") && of_repository.contains(code));
}

#[cfg(feature = "torch")]
#[test]
fn train_torch() {
    run("train_torch");
}
