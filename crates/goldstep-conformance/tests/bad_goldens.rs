//! Golden files that cannot be used: each is answered by an error that names the file, the rule and
//! the value, none by a panic, a hang or memory that a short file promises to fill.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fs;
use std::path::Path;

use goldstep_conformance::golden::{Case, Golden};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// A packed grid of one argument, one variable `w` of shape [2, 1] and one step.
struct Pack {
    manifest: Value,
    inputs: Value,
    index: Value,
    classes: Vec<Value>,
    states: Vec<Value>,
    series: Vec<Value>,
}

fn series(id: &str, shape: &[usize], values: &[f32]) -> Value {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    json!({"id": id, "shape": shape, "values": [values], "sha256": sum(&bytes)})
}

fn pack() -> Pack {
    Pack {
        manifest: json!({"format": "goldstep-trace/1", "generated": {}, "families": [{
            "id": "grid", "kind": "grid", "dtypes": ["float32"], "purpose": "a test", "files": [],
            "counts": {"combinations": 3, "errors": 1, "trajectories": 2, "states": 1,
                "series": 4, "steps": 1}}]}),
        inputs: json!({"format": "goldstep-trace/1", "family": "grid", "dtype": "float32",
            "axes": [["clip_threshold", [1, 0.5, 0.25]]],
            "variables": [{"name": "w", "shape": [2, 1], "initial": [1, 2], "constraint": null}],
            "steps": [{"gradients": [[0.5, 0.25]]}]}),
        index: json!({"format": "goldstep-trace/1", "family": "grid", "radices": [3],
            "combinations": null, "classes": [0, 1, -1],
            "errors": [{"stage": "construct", "type": "ValueError", "message": "no"}]}),
        classes: vec![
            json!({"class": 0, "iterations": [1], "learning_rate": [1e-3], "states": "st",
                "variables": ["va"], "ema": null}),
            json!({"class": 1, "iterations": [1], "learning_rate": [1e-3], "states": "st",
                "variables": ["vb"], "ema": null}),
        ],
        states: vec![json!({"id": "st", "r": ["fr"], "c": ["fc"], "v": ["va"]})],
        series: vec![
            series("va", &[2, 1], &[0.5, 1.5]),
            series("vb", &[2, 1], &[0.25, 1.25]),
            series("fr", &[2], &[0.5, 0.75]),
            series("fc", &[1], &[0.5]),
        ],
    }
}

impl Pack {
    /// Writes the files, with the sums that belong to them.
    fn write(&mut self, directory: &Path) {
        let lines = |records: &[Value]| -> String {
            records.iter().map(|record| format!("{record}\n")).collect()
        };
        let files = [
            ("classes.jsonl", lines(&self.classes)),
            ("index.json", self.index.to_string()),
            ("inputs.json", self.inputs.to_string()),
            ("series.jsonl", lines(&self.series)),
            ("states.jsonl", lines(&self.states)),
        ];
        fs::create_dir_all(directory.join("grid")).unwrap();
        let entries = files.map(|(name, text)| {
            fs::write(directory.join("grid").join(name), &text).unwrap();
            json!({"path": format!("grid/{name}"), "sha256": sum(text.as_bytes()),
                "bytes": text.len()})
        });
        let listed = &mut self.manifest["families"][0]["files"];
        if listed.as_array().is_some_and(Vec::is_empty) {
            *listed = json!(entries);
        }
        fs::write(directory.join("manifest.json"), self.manifest.to_string()).unwrap();
    }
}

fn load(directory: &Path) -> Result<Golden, String> {
    let shown = format!("{}/", directory.display());
    Golden::load(directory).map_err(|error| error.to_string().replace(&shown, ""))
}

fn load_pack(change: impl FnOnce(&mut Pack)) -> Result<Golden, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut pack = pack();
    change(&mut pack);
    pack.write(directory.path());
    load(directory.path())
}

/// Writes a whole pack, then spoils what is on disk.
fn load_spoiled(spoil: impl FnOnce(&Path)) -> Result<Golden, String> {
    let directory = tempfile::tempdir().unwrap();
    pack().write(directory.path());
    spoil(directory.path());
    load(directory.path())
}

fn case() -> Value {
    json!({"format": "goldstep-case/1", "id": "a", "dtype": "float32", "arguments": {},
        "variables": [{"name": "w", "shape": [2, 1], "initial": [1, 2], "constraint": null}],
        "steps": [{"gradients": [[0.5, 0.25]], "expected": {
            "iterations": 1, "learning_rate": 1e-3, "variables": [[0.5, 1.5]],
            "r": [[0.5, 0.5]], "c": [[0.5]], "v": [[0.5, 0.5]], "ema": null}}]})
}

fn load_case(change: impl FnOnce(&mut Value)) -> Result<Case, String> {
    let mut case = case();
    change(&mut case);
    Case::from_json(Path::new("a.json"), &case.to_string()).map_err(|error| error.to_string())
}

#[test]
fn the_untouched_pack_and_case_are_read() {
    let golden = load_pack(|_| {}).unwrap();
    let family = &golden.families()[0];
    assert_eq!((family.len(), family.errors(), family.trajectories()), (3, 1, Some(2)));
    assert_eq!(family.trial(1).arguments["clip_threshold"], 0.5);
    assert_eq!(family.position("00002"), Some(2));
    assert_eq!(family.position("3"), None);
    let expected = family.trial(1).expectation.steps[0].as_ref().unwrap();
    assert_eq!(*expected.variables[0], [0.25, 1.25]);
    assert_eq!(load_case(|_| {}).unwrap().id, "a");
}

#[test]
fn spoiled_files_are_named() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 11] = [
        ("grid/series.jsonl must be a readable file, got No such file", |at| {
            fs::remove_file(at.join("grid/series.jsonl")).unwrap();
        }),
        ("grid/index.json must be a readable file, got a directory", |at| {
            fs::remove_file(at.join("grid/index.json")).unwrap();
            fs::create_dir(at.join("grid/index.json")).unwrap();
        }),
        (" bytes long, as the manifest says, got ", |at| {
            let text = fs::read_to_string(at.join("grid/series.jsonl")).unwrap();
            fs::write(at.join("grid/series.jsonl"), &text[..text.len() - 1]).unwrap();
        }),
        ("grid/series.jsonl must have the sha256 ", |at| {
            let text = fs::read_to_string(at.join("grid/series.jsonl")).unwrap();
            fs::write(at.join("grid/series.jsonl"), text.replacen("1.5", "1.6", 1)).unwrap();
        }),
        ("manifest.json:1:0 must be a record of goldstep-trace/1 (manifest), got EOF", |at| {
            fs::write(at.join("manifest.json"), "").unwrap();
        }),
        ("manifest.json:1:1 must be a record of goldstep-trace/1 (manifest), got expected", |at| {
            fs::write(at.join("manifest.json"), "hello").unwrap();
        }),
        ("manifest.json must be UTF-8, got another byte at offset 1", |at| {
            fs::write(at.join("manifest.json"), [b'{', 0xff]).unwrap();
        }),
        ("manifest.json must be at most 64 MiB long, got 67108865 bytes", |at| {
            // A sparse file: it promises more than it holds on disk.
            fs::File::create(at.join("manifest.json")).unwrap().set_len((64 << 20) + 1).unwrap();
        }),
        ("extra.json:1:2 must be a record of goldstep-case/1, got missing field `format`", |at| {
            fs::write(at.join("extra.json"), "{}").unwrap();
        }),
        ("extra.json:1: format must be goldstep-case/1, got \\\"goldstep-case/2\\\"", |at| {
            fs::write(at.join("extra.json"), r#"{"format": "goldstep-case/2", "new": 1}"#).unwrap();
        }),
        ("b.json:1: id must be unique in the directory, got a twice", |at| {
            fs::write(at.join("a.json"), case().to_string()).unwrap();
            fs::write(at.join("b.json"), case().to_string()).unwrap();
        }),
    ];
    for (message, spoil) in spoils {
        let error = load_spoiled(spoil).unwrap_err();
        assert!(error.contains(message), "{message}\n{error}");
    }
}

#[test]
fn empty_and_missing_directories_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = load(directory.path()).unwrap_err();
    assert!(error.contains("must be a directory with a manifest.json or self-contained cases"));
    let error = load(&directory.path().join("none")).unwrap_err();
    assert!(error.contains("none must be a readable directory, got No such file"), "{error}");
}

#[test]
fn a_directory_may_hold_cases_alone_and_schemas_beside_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("more")).unwrap();
    fs::write(at("more/a.json"), case().to_string()).unwrap();
    fs::write(at("trace.schema.json"), "{}").unwrap();
    fs::write(at("other.json"), r#"{"$schema": "http://json-schema.org/x"}"#).unwrap();
    // A case that names a schema is no schema, and is not left out.
    let mut marked = case();
    marked["$schema"] = json!("goldstep-case-1.schema.json");
    fs::write(at("marked.json"), marked.to_string()).unwrap();
    assert!(load(directory.path()).unwrap_err().contains("unknown field `$schema`"));
    fs::remove_file(at("marked.json")).unwrap();
    let golden = load(directory.path()).unwrap();
    assert_eq!(golden.families().len(), 1);
    assert_eq!((golden.families()[0].id.as_str(), golden.families()[0].packed), ("cases", false));
}

#[test]
fn packs_that_contradict_themselves_are_explained() {
    type Change = fn(&mut Pack);
    let changes: [(&str, Change); 36] = [
        (
            "manifest.json:1: format must be goldstep-trace/1, got \\\"goldstep-trace/2\\\"",
            |pack| {
                pack.manifest["format"] = json!("goldstep-trace/2");
            },
        ),
        ("unknown field `claims`", |pack| pack.manifest["claims"] = json!([])),
        ("kind of family grid must be grid or cases, got tree", |pack| {
            pack.manifest["families"][0]["kind"] = json!("tree");
        }),
        ("counts of family grid must be {", |pack| {
            pack.manifest["families"][0]["counts"]["combinations"] = json!(4);
        }),
        ("counts of family grid must be {", |pack| {
            pack.manifest["families"][0]["counts"]["more"] = json!(1);
        }),
        ("dtypes of family grid must be [\"float32\"], got", |pack| {
            pack.manifest["families"][0]["dtypes"] = json!(["float64"]);
        }),
        ("files must be paths below the manifest, each listed once, got ../a", |pack| {
            pack.manifest["families"][0]["files"] =
                json!([{"path": "../a", "sha256": "", "bytes": 0}]);
        }),
        ("files must be paths below the manifest, each listed once, got /etc/passwd", |pack| {
            pack.manifest["families"][0]["files"] =
                json!([{"path": "/etc/passwd", "sha256": "", "bytes": 0}]);
        }),
        ("families must have unique ids, got grid twice", |pack| {
            let second = pack.manifest["families"][0].clone();
            pack.manifest["families"].as_array_mut().unwrap().push(second);
        }),
        ("inputs.json:1: family must be grid, got grit", |pack| {
            pack.inputs["family"] = json!("grit");
        }),
        ("dtype must be float64, float32, bfloat16 or float16, got int8", |pack| {
            pack.inputs["dtype"] = json!("int8");
        }),
        ("shape of w must have a size below 2^63 bytes, got [4294967296, 4294967296]", |pack| {
            pack.inputs["variables"][0]["shape"] = json!([4_294_967_296_u64, 4_294_967_296_u64]);
        }),
        ("shape of w must have a size below 2^63 bytes, got [0, 4294967296, 4294967296]", |pack| {
            pack.inputs["variables"][0]["shape"] = json!([0, 4_294_967_296_u64, 4_294_967_296_u64]);
        }),
        ("initial of w must have 268435456 elements, got 2", |pack| {
            pack.inputs["variables"][0]["shape"] = json!([268_435_456_u64]);
        }),
        ("initial of w must be listed where all tiled tensors exceed", |pack| {
            pack.inputs["variables"][0]["shape"] = json!([268_435_456_u64]);
            pack.inputs["variables"][0]["initial"] = json!({"tiled": [0]});
        }),
        ("inputs.json:1: gradients must have 1 entries, got 2", |pack| {
            pack.inputs["steps"][0]["gradients"] = json!([[1, 2], [1, 2]]);
        }),
        ("gradient of w must have 2 elements, got 3", |pack| {
            pack.inputs["steps"][0]["gradients"] = json!([[1, 2, 3]]);
        }),
        ("steps must hold inputs only, got expected", |pack| {
            pack.inputs["steps"][0]["expected"] = case()["steps"][0]["expected"].clone();
        }),
        ("radices must be the lengths of the axes [3], got [2]", |pack| {
            pack.index["radices"] = json!([2]);
        }),
        ("radices must have a product of 1 to 2^64, got [0]", |pack| {
            pack.inputs["axes"] = json!([["clip_threshold", []]]);
            pack.index["radices"] = json!([0]);
        }),
        ("classes must have 3 entries, got 2", |pack| pack.index["classes"] = json!([0, 1])),
        ("combinations must ascend, got 1 after 1", |pack| {
            pack.index["combinations"] = json!([0, 1, 1]);
        }),
        ("combinations must be below 3, got 3", |pack| {
            pack.index["combinations"] = json!([0, 1, 3]);
        }),
        ("classes must name one of 2 trajectories or 1 errors, got 2", |pack| {
            pack.index["classes"] = json!([0, 2, -1]);
        }),
        ("classes must name one of 2 trajectories or 1 errors, got -2", |pack| {
            pack.index["classes"] = json!([0, 1, -2]);
        }),
        ("got -9223372036854775808", |pack| pack.index["classes"] = json!([0, 1, i64::MIN])),
        ("classes must use every trajectory and error, got none for number 1", |pack| {
            pack.index["classes"] = json!([0, 0, -1]);
        }),
        ("stage of expected_error must be construct, or step with a step below 1", |pack| {
            pack.index["errors"][0]["stage"] = json!("apply");
        }),
        ("classes.jsonl:2: class must be 1, the classes in order, got 7", |pack| {
            pack.classes[1]["class"] = json!(7);
        }),
        ("classes.jsonl:1: states must exist, got no", |pack| {
            pack.classes[0]["states"] = json!("no");
        }),
        ("iterations must have 1 entries, got 2", |pack| {
            pack.classes[0]["iterations"] = json!([1, 2]);
        }),
        ("variables of w must be a series that exists, got no", |pack| {
            pack.classes[0]["variables"] = json!(["no"]);
        }),
        ("r of w must be a series from rank 2 and null below, got None", |pack| {
            pack.states[0]["r"] = json!([null]);
        }),
        ("r of w must be a series of 2 elements, got 1", |pack| {
            pack.states[0]["r"] = json!(["fc"]);
        }),
        ("series va must have 2 elements a step, got 3", |pack| {
            pack.series[0]["values"] = json!([[1, 2, 3]]);
        }),
        ("series.jsonl:1: values of series va must have the sha256 ", |pack| {
            pack.series[0]["values"] = json!([[0.5, 1.25]]);
        }),
    ];
    for (message, change) in changes {
        let error = load_pack(change).unwrap_err();
        assert!(error.contains(message), "{message}\n{error}");
    }
}

#[test]
fn more_series_that_contradict_themselves() {
    type Change = fn(&mut Pack);
    let changes: [(&str, Change); 5] = [
        ("series va must hold 1 steps, got 2", |pack| {
            pack.series[0]["values"] = json!([[1, 2], [1, 2]]);
        }),
        ("series va must hold 1 steps, got 0", |pack| pack.series[0]["values"] = json!([])),
        ("id must be unique, got va twice", |pack| {
            let again = pack.series[0].clone();
            pack.series.push(again);
        }),
        ("series va must hold values of float32, got 1e40", |pack| {
            pack.series[0]["values"] = json!([[1e40, 1]]);
        }),
        ("states.jsonl:2: id must be unique, got st twice", |pack| {
            let again = pack.states[0].clone();
            pack.states.push(again);
        }),
    ];
    for (message, change) in changes {
        let error = load_pack(change).unwrap_err();
        assert!(error.contains(message), "{message}\n{error}");
    }
}

#[test]
fn cases_that_contradict_themselves_are_explained() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 34] = [
        ("a.json:1: format must be goldstep-case/1, got \\\"goldstep-case/9\\\"", |case| {
            case["format"] = json!("goldstep-case/9");
        }),
        ("a.json:1: format must be goldstep-case/1, got 1", |case| case["format"] = json!(1)),
        ("unknown field `note`", |case| case["note"] = json!("x")),
        ("unknown field `rows`", |case| case["steps"][0]["rows"] = json!([])),
        ("unknown field `sum`", |case| case["steps"][0]["expected"]["sum"] = json!(1)),
        ("unknown variant `positive`", |case| {
            case["variables"][0]["constraint"] = json!({"type": "positive"});
        }),
        ("missing field `minimum`", |case| {
            case["variables"][0]["constraint"] = json!({"type": "clip", "maximum": 1});
        }),
        ("unknown field `maximum`", |case| {
            case["variables"][0]["constraint"] = json!({"type": "non_negative", "maximum": 1});
        }),
        ("id must be a name, got an empty text", |case| case["id"] = json!("")),
        ("dtype must be float64, float32, bfloat16 or float16, got float8", |case| {
            case["dtype"] = json!("float8");
        }),
        ("variables must have unique names, got w twice", |case| {
            let again = case["variables"][0].clone();
            case["variables"].as_array_mut().unwrap().push(again);
        }),
        ("invalid value: integer `-1`", |case| case["variables"][0]["shape"] = json!([-1])),
        ("initial of w must have 2 elements, got 1", |case| {
            case["variables"][0]["initial"] = json!([1]);
        }),
        ("initial of w must hold values of float32, got 1e39", |case| {
            case["variables"][0]["initial"] = json!([1, 1e39]);
        }),
        ("invalid value: string \\\"nan\\\"", |case| {
            case["variables"][0]["initial"] = json!([1, "nan"]);
        }),
        ("invalid type: null", |case| case["variables"][0]["initial"] = json!([1, null])),
        ("gradients must have 1 entries, got 0", |case| {
            case["steps"][0]["gradients"] = json!([]);
        }),
        ("gradient of w must have 3 elements, got 2", |case| {
            case["steps"][0]["gradients"] = json!([{"indices": [0, 1, 1], "values": [1, 2]}]);
        }),
        ("neither tiled alone nor indices with values", |case| {
            case["steps"][0]["gradients"] = json!([{"indices": [0]}]);
        }),
        ("r of w must be a tensor, got null", |case| {
            case["steps"][0]["expected"]["r"] = json!([null]);
        }),
        ("r of w must be null below rank 2, got a tensor", |case| {
            case["variables"][0]["shape"] = json!([2]);
        }),
        ("ema of w must be a tensor with use_ema, got null", |case| {
            case["arguments"]["use_ema"] = json!(true);
        }),
        ("c of w must have 1 elements, got 2", |case| {
            case["steps"][0]["expected"]["c"] = json!([[1, 2]]);
        }),
        ("v must have 1 entries, got 2", |case| {
            case["steps"][0]["expected"]["v"] = json!([[1, 2], [1, 2]]);
        }),
        ("ema of w must have 2 elements, got 1", |case| {
            case["steps"][0]["expected"]["ema"] = json!([[1]]);
        }),
        ("missing field `iterations`", |case| {
            case["steps"][0]["expected"].as_object_mut().unwrap().remove("iterations");
        }),
        ("finalized must have 1 entries, got 0", |case| case["finalized"] = json!([])),
        ("stage of expected_error must be construct, or step with a step below 1", |case| {
            case["expected_error"] =
                json!({"stage": "step", "step": 1, "type": "ValueError", "message": ""});
        }),
        ("case must expect nothing after its error at step index 0", |case| {
            case["expected_error"] =
                json!({"stage": "step", "step": 0, "type": "ValueError", "message": ""});
        }),
        ("steps of expected_in must have at most 1 entries, got 2", |case| {
            case["expected_in"] = json!({"keras-2.12.1": {"steps": [null, null]}});
        }),
        ("unknown field `colums`", |case| {
            case["expected_in"] = json!({"old": {"steps": [{"iterations": 1, "colums": []}]}});
        }),
        ("expected u64", |case| {
            let mut step = case["steps"][0]["expected"].clone();
            step["iterations"] = json!("one");
            case["expected_in"] = json!({"old": {"steps": [{"expected": step}]}});
        }),
        ("unknown field `$schema`", |case| {
            case["$schema"] = json!("../schema/goldstep-case-1.schema.json");
        }),
        ("expected_in old must expect nothing after its error at step index 0", |case| {
            case["expected_in"] = json!({"old": {"finalized": [[1, 2]], "expected_error":
                {"stage": "construct", "type": "ValueError", "message": ""}}});
        }),
    ];
    for (message, change) in changes {
        let error = load_case(change).unwrap_err();
        assert!(error.contains(message), "{message}\n{error}");
    }
}

#[test]
fn bad_json_is_answered() {
    let from = |text: &str| {
        Case::from_json(Path::new("a.json"), text).map_err(|error| error.to_string()).unwrap_err()
    };
    let deep =
        format!("{{\"format\":\"goldstep-case/1\",\"arguments\":{{\"a\":{}", "[".repeat(100_000));
    assert!(from(&deep).contains("recursion limit exceeded"));
    assert!(from("{\"format\":\"goldstep-case/1\",\"format\":1}").contains("duplicate field"));
    assert!(from("[]").contains("a.json:1:"));
    assert!(from("null").contains("a.json:1:"));
    assert!(from("{\"format\":\"goldstep-case/1\"").contains("EOF"));
    let huge = case().to_string().replace("0.25", "1e999");
    assert!(from(&huge).contains("number out of range"));
    let text = case().to_string();
    for end in 0..text.len() {
        assert!(!from(&text[..end]).is_empty());
    }
}

#[test]
fn a_failing_step_may_have_gradients_that_do_not_fit() {
    let case = load_case(|case| {
        case["steps"][0] = json!({"gradients": [[1, 2, 3]]});
        case["expected_error"] =
            json!({"stage": "step", "step": 0, "type": "InvalidArgumentError", "message": ""});
    });
    assert_eq!(case.unwrap().expectation.error.unwrap().step, Some(0));
}
