//! What `verify` prints about a program: the command that judges it again, and what was skipped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// A program in a folder whose name a shell would split.
fn program(directory: &Path, body: &str) -> PathBuf {
    let folder = directory.join("my programs");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("it's mine.sh");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The exit code, and what went to standard output.
fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(XTASK).arg("verify").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn line_with<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines().find(|line| line.contains(label)).unwrap_or_else(|| panic!("{label}: {text}"))
}

#[test]
fn the_command_of_a_program_s_block_gives_the_same_block() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = program(
        directory.path(),
        &format!("exec '{XTASK}' adapter serve mutant:schedule_one_step_ahead \"$@\""),
    );
    // Within the line the option's own marks keep the path together.
    let adapter = format!("\"{}\"", wrong.display());
    let report = directory.path().join("report");
    let (code, said) = verify(&[
        "--adapter",
        &adapter,
        "--adapter-timeout",
        "20",
        "--family",
        "schedules",
        "--report",
        report.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(1), "{said}");
    let command = line_with(&said, "reproduce").trim_start().strip_prefix("reproduce").unwrap();
    let command = command.trim_start();
    let quoted = adapter.replace('\'', r"'\''");
    assert!(
        command.starts_with(&format!(
            "cargo xtask verify --adapter '{quoted}' --adapter-timeout 20 --case schedules/"
        )),
        "{command}"
    );

    let script = format!("cargo() {{ shift; \"$XTASK\" \"$@\"; }}\n{command}");
    let output = Command::new("sh").args(["-c", &script]).env("XTASK", XTASK).output().unwrap();
    let again = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{again}");
    for label in ["first divergence", "expected", "actual", "as a unit test"] {
        assert_eq!(line_with(&again, label), line_with(&said, label));
    }

    let read = |name: &str| fs::read_to_string(report.join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(json["backends"][0]["causes"][0]["reproduce"], command);
    assert!(read("summary.md").contains(command));
    let escaped = command.replace('"', "&quot;");
    assert!(read("index.html").contains(&escaped), "{escaped}");
    assert!(read("junit.xml").contains("--adapter"));
    assert!(!read("summary.md").contains("--backend"));
}

/// What a program's end leaves behind: for people, for CI, and for programs by kind.
#[test]
fn a_crash_is_no_difference() {
    let directory = tempfile::tempdir().unwrap();
    let body = format!(
        "read -r start; echo \"$start\" | '{XTASK}' adapter serve reference\nread -r build; echo gone >&2; exit 3"
    );
    let adapter = format!("\"{}\"", program(directory.path(), &body).display());
    let report = directory.path().join("report");
    let report_name = report.to_str().unwrap();
    let case = "exclusion/exclusion-alternatives-f32";
    let case = ["--jobs", "1", "--case", case, "--report", report_name];
    let (code, said) = verify(&[&["--adapter", adapter.as_str()], &case[..]].concat());
    assert_eq!(code, Some(2), "{said}");
    let read = |name: &str| fs::read_to_string(report.join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("report.json")).unwrap();
    let failure = &json["backends"][0]["families"][0]["failures"][0];
    assert_eq!(failure["run"], "exclusion/exclusion-alternatives-f32");
    assert_eq!(failure["kind"], "crash");
    assert!(failure["message"].as_str().unwrap().contains("gone"), "{failure}");
    assert!(read("summary.md").contains("BROKEN"));
    assert!(read("junit.xml").contains("<error"));
    assert!(read("badge.svg").contains("no usable answer"));
}

#[test]
fn a_family_of_which_nothing_was_judged_is_no_pass() {
    let directory = tempfile::tempdir().unwrap();
    let body =
        format!("'{XTASK}' adapter serve reference | sed -u 's/\"sparse\":true/\"sparse\":false/'");
    let adapter = format!("\"{}\"", program(directory.path(), &body).display());
    let report = directory.path().join("report");
    let report_name = report.to_str().unwrap();
    let families = ["--family", "constraints,sparse", "--report", report_name];
    let (code, said) = verify(&[&["--adapter", adapter.as_str()], &families[..]].concat());
    // What was judged agrees; what was skipped is said.
    assert_eq!(code, Some(0), "{said}");
    assert!(line_with(&said, "nothing judged of").ends_with("sparse: needs sparse"), "{said}");
    assert!(!said.contains(" 0 of"), "{said}");

    let read = |name: &str| fs::read_to_string(report.join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("report.json")).unwrap();
    let backend = &json["backends"][0];
    assert_eq!(backend["families"][0]["standing"], "agrees");
    assert_eq!(backend["families"][1]["standing"], "skipped");
    assert_eq!(backend["families"][1]["chosen"], backend["skipped"]);
    assert_eq!(backend["families"][0]["chosen"], backend["judged"]);
    let junit = read("junit.xml");
    assert!(junit.contains("skipped=\"1\"") && junit.contains("needs sparse"), "{junit}");
    let summary = read("summary.md");
    let row = line_with(&summary, "| sparse |");
    assert!(row.contains("– ") && row.contains(" skipped") && !row.contains('✓'), "{row}");
    assert!(summary.contains("nothing judged of sparse: needs sparse"), "{summary}");
    let index = read("index.html");
    let cell = index.split("--sparse.html").nth(1).unwrap();
    assert!(cell.starts_with("\" title=\"skipped; what is skipped needs sparse\">– "), "{cell}");
    let badge = read("badge.svg");
    assert!(badge.contains("agrees in 1 of ") && !badge.contains("#1a7f37"), "{badge}");
    assert!(!badge.contains("agrees in 1 of 2 "), "families that nobody chose count: {badge}");

    // Nothing at all was judged: that is a failure of the set-up, and why it is one is said.
    let (code, said) = verify(&["--adapter", &adapter, "--family", "sparse"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(line_with(&said, "BROKEN").ends_with("every run was skipped: needs sparse"), "{said}");
    assert!(line_with(&said, "nothing judged of").ends_with("sparse: needs sparse"), "{said}");
}
