//! Golden files: a small pack of two self-contained cases, spoiled in one place.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Spoil = fn(&Path);

/// Name, what is done to the whole directory, and what is said.
pub(crate) const FILES: &[(&str, Spoil, &str)] = &[
    ("case-truncated", |at| edit(at, CASE, |text| text[..text.len() / 2].to_owned()), "EOF"),
    ("case-empty", |at| edit(at, CASE, |_| String::new()), "case.json:1:0 must be a record of"),
    ("case-no-json", |at| edit(at, CASE, |_| "step 1: fine".into()), "case.json:1:1 must be"),
    ("case-of-a-later-version", |at| replace(at, CASE, "case/1", "case/2"), "goldstep-case/2"),
    ("case-unknown-field", |at| replace(at, CASE, "\"dtype\"", "\"d\""), "unknown field `d`"),
    ("case-missing-field", |at| replace(at, CASE, "\"id\":\"single\",", ""), "field `id`"),
    ("case-unknown-type", |at| replace(at, CASE, "float32", "float8"), "got float8"),
    (
        "case-shape-overflows",
        |at| replace(at, CASE, "[2,1]", "[4294967296,4294967296]"),
        "shape of w must have a size below 2^63 bytes, got [4294967296, 4294967296]",
    ),
    (
        "case-gigabyte-promised",
        |at| replace(at, CASE, "[2,1]", "[268435456]"),
        "initial of w must have 268435456 elements, got 2",
    ),
    ("case-number-too-large", |at| replace(at, CASE, "1.5", "1.5e99"), "got 1.5e99"),
    ("case-twice", |at| fs::copy(at.join(CASE), at.join("z.json")).map(drop).unwrap(), "twice"),
    ("case-not-utf-8", |at| fs::write(at.join(CASE), [b'{', 0xff]).unwrap(), "must be UTF-8"),
    ("packed-is-a-folder", |at| folder(at, PACKED), "a/cases.jsonl must be a readable file"),
    ("packed-truncated", |at| edit(at, PACKED, |text| text[..40].to_owned()), "bytes long, as"),
    (
        "packed-flipped-digit",
        |at| replace(at, PACKED, "0.25", "0.26"),
        "a/cases.jsonl must have the sha256 ",
    ),
    ("packed-missing", |at| fs::remove_file(at.join(PACKED)).unwrap(), "a/cases.jsonl must be a"),
    ("manifest-wrong-sum", |at| manifest(at, "sha256", json!("00")), "must have the sha256 00"),
    ("manifest-wrong-length", |at| manifest(at, "bytes", json!(1u64 << 60)), "bytes long, as"),
    ("manifest-path-outside", |at| manifest(at, "path", json!("../x")), "got ../x"),
    ("manifest-unknown-field", |at| manifest(at, "mode", json!(1)), "unknown field `mode`"),
    ("manifest-of-a-later-version", |at| replace(at, MANIFEST, "trace/1", "trace/2"), "trace/2"),
    ("manifest-no-json", |at| edit(at, MANIFEST, |_| "[".into()), "manifest.json:1:1 must be"),
    (
        "manifest-of-gigabytes",
        |at| fs::File::create(at.join(MANIFEST)).unwrap().set_len(4 << 30).unwrap(),
        "manifest.json must be at most 64 MiB long, got 4294967296 bytes",
    ),
    ("manifest-wrong-count", |at| replace(at, MANIFEST, "\"cases\":1", "\"cases\":2"), "counts"),
];

const CASE: &str = "case.json";
const PACKED: &str = "a/cases.jsonl";
const MANIFEST: &str = "manifest.json";

/// A pack of one family of one case, and a case of its own beside it.
pub(crate) fn write(directory: &Path) {
    fs::create_dir(directory.join("a")).unwrap();
    fs::write(directory.join(CASE), case("single").to_string()).unwrap();
    let mut packed = case("packed");
    packed["family"] = json!("a");
    let packed = format!("{packed}\n");
    fs::write(directory.join(PACKED), &packed).unwrap();
    let sum: String =
        Sha256::digest(packed.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = json!({"format": "goldstep-trace/1", "generated": {}, "families": [{
        "id": "a", "kind": "cases", "dtypes": ["float32"], "purpose": "a test",
        "counts": {"cases": 1, "steps": 1, "compared_steps": 1, "errors": 0},
        "files": [{"path": PACKED, "sha256": sum, "bytes": packed.len()}]}]});
    fs::write(directory.join(MANIFEST), manifest.to_string()).unwrap();
}

fn case(id: &str) -> Value {
    json!({"format": "goldstep-case/1", "id": id, "dtype": "float32", "arguments": {},
        "variables": [{"name": "w", "shape": [2, 1], "initial": [1, 2], "constraint": null}],
        "steps": [{"gradients": [[0.5, 0.25]], "expected": {
            "iterations": 1, "learning_rate": 1e-3, "variables": [[0.5, 1.5]],
            "r": [[0.5, 0.5]], "c": [[0.5]], "v": [[0.5, 0.5]], "ema": null}}]})
}

fn edit(directory: &Path, name: &str, change: fn(&str) -> String) {
    let text = fs::read_to_string(directory.join(name)).unwrap();
    fs::write(directory.join(name), change(&text)).unwrap();
}

fn replace(directory: &Path, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(directory.join(name)).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(directory.join(name), text.replacen(from, to, 1)).unwrap();
}

/// Changes what the manifest says about the one file.
fn manifest(directory: &Path, field: &str, value: Value) {
    let text = fs::read_to_string(directory.join(MANIFEST)).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["families"][0]["files"][0][field] = value;
    fs::write(directory.join(MANIFEST), manifest.to_string()).unwrap();
}

/// A folder where a file should be.
fn folder(directory: &Path, name: &str) {
    fs::remove_file(directory.join(name)).unwrap();
    fs::create_dir(directory.join(name)).unwrap();
}
