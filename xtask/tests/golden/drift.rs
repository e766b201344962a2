//! What `--check` answers when tf.keras says something else than the goldens.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::place::{Place, traces};

const CASES: &str = "exclusion/cases.jsonl";

/// Two copies of the goldens, one of them changed; what `--check` says about the other.
fn check(change: impl Fn(&Path)) -> (Option<i32>, String) {
    let place = Place::new();
    for name in ["v1", "now"] {
        traces(&place.path(name), "2001-01-01");
    }
    change(&place.path("now"));
    let before = fs::read(place.path("v1").join(CASES)).unwrap();
    let output = place.output("now", &["--check"]);
    assert_eq!(fs::read(place.path("v1").join(CASES)).unwrap(), before);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Rewrites the cases of a copy, with the sums that belong to them.
fn rewrite(directory: &Path, change: impl Fn(&mut Vec<Value>)) {
    let text = fs::read_to_string(directory.join(CASES)).unwrap();
    let mut cases = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    change(&mut cases);
    let text: String = cases.iter().map(|case| format!("{case}\n")).collect();
    fs::write(directory.join(CASES), &text).unwrap();
    let path = directory.join("manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let families = manifest["families"].as_array_mut().unwrap();
    let family = families.iter_mut().find(|family| family["id"] == "exclusion").unwrap();
    let steps = |case: &Value| case["steps"].as_array().unwrap().len();
    let steps: usize = cases.iter().map(steps).sum();
    let counts =
        [("cases", cases.len()), ("steps", steps), ("compared_steps", steps), ("errors", 0)];
    family["counts"] =
        counts.iter().map(|(name, count)| (name.to_string(), json!(count))).collect();
    let sum: String =
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    family["files"] = json!([{"path": CASES, "sha256": sum, "bytes": text.len()}]);
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn the_same_traces_agree() {
    let (code, said) = check(|_| {});
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("40 runs recorded again, no difference"), "{said}");
}

#[test]
fn a_changed_digit_is_drift() {
    let (code, said) = check(|now| {
        rewrite(now, |cases| cases[0]["steps"][1]["expected"]["learning_rate"] = json!(0.25));
    });
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("changed  exclusion/cases.jsonl\n"), "{said}");
    assert!(said.contains(": step 2, lr: "), "{said}");
    assert!(said.contains("`cargo xtask golden --family exclusion` mends"), "{said}");
}

#[test]
fn a_run_too_many_or_too_few_is_drift() {
    let (code, said) = check(|now| rewrite(now, |cases| drop(cases.remove(3))));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("extra    exclusion/"), "{said}");
    let (code, said) = check(|now| {
        rewrite(now, |cases| {
            let mut more = cases[0].clone();
            more["id"] = json!("zz-new");
            cases.push(more);
        });
    });
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("missing  exclusion/zz-new"), "{said}");
}
