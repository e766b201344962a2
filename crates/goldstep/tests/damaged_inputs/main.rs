//! Everything that reads what others wrote, fed with damaged input: no panic, no unbounded memory.
//!
//! On stable Rust, so that everybody runs it: seeds that parse, mutated by bytes and by JSON tokens, and
//! for checkpoints re-framed with right lengths and checksums, so that what lies behind them is
//! reached. A plain test run makes a fixed number of inputs; `cargo xtask fuzz-inputs` goes on for ten
//! minutes per target.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]
#![expect(clippy::panic, reason = "a finding fails the test")]
#![expect(clippy::print_stdout, reason = "long runs say how far they came")]

mod mutate;

use std::path::Path;
use std::time::Duration;

use goldstep::cpu::Adafactor;
use goldstep::{
    AdafactorArguments, Checkpoint, DType, Gradient, HostOptimizer, Parameter, ParameterList,
};
use goldstep_conformance::golden::{Case, Golden};
use goldstep_conformance::protocol::serve;
use mutate::fuzz;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

fn checkpoint() -> Vec<u8> {
    let arguments = AdafactorArguments::builder().use_ema(true).build().unwrap();
    let parameters = [("w", vec![2, 3]), ("b", vec![2])]
        .map(|(name, shape)| Parameter::new(name, &shape).unwrap());
    let parameters = ParameterList::new(parameters.to_vec()).unwrap();
    let mut optimizer = Adafactor::<f32>::build(&arguments, &parameters).unwrap();
    let (mut w, mut b) = ([0.5_f32; 6], [1.0_f32; 2]);
    let gradients = [Some(Gradient::Dense(&[0.1; 6][..])), Some(Gradient::Dense(&[0.2; 2][..]))];
    optimizer.step(&mut [&mut w, &mut b], &gradients).unwrap();
    let mut bytes = Vec::new();
    let checkpoint = Checkpoint::of(&optimizer).unwrap().with_variables(&[&w, &b]).unwrap();
    checkpoint.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn checkpoints() {
    let whole = checkpoint();
    fuzz("checkpoint", 3000, 1, &[whole], |input, _| Checkpoint::from_bytes(input).is_ok());
}

/// Headers and metadata behind right lengths and checksums.
#[test]
fn framed_checkpoints() {
    let whole = checkpoint();
    let length = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let (header, data) = (whole[8..8 + length].to_vec(), whole[8 + length..].to_vec());
    let parsed: Value = serde_json::from_slice(&header).unwrap();
    let document = parsed["__metadata__"]["goldstep"].as_str().unwrap().as_bytes().to_vec();
    let framed = |header: &[u8]| {
        [&u64::try_from(header.len()).unwrap().to_le_bytes()[..], header, &data].concat()
    };
    fuzz("checkpoint header", 3000, 2, &[header], |input, _| {
        Checkpoint::from_bytes(&framed(input)).is_ok()
    });
    fuzz("checkpoint metadata", 3000, 2, &[document], |input, _| {
        let text = String::from_utf8_lossy(input);
        let mut header = parsed.clone();
        let sum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
        header["__metadata__"] = json!({"goldstep": text, "goldstep_crc32": sum});
        Checkpoint::from_bytes(&framed(header.to_string().as_bytes())).is_ok()
    });
}

#[test]
fn keras_configurations() {
    let recorded =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../goldstep-core/tests/keras_configs.jsonl");
    let recorded = std::fs::read_to_string(recorded).unwrap();
    let seeds: Vec<Vec<u8>> = recorded.lines().map(|line| line.as_bytes().to_vec()).collect();
    fuzz("keras configuration", 3000, 1, &seeds, |input, random| {
        let Ok(config) = serde_json::from_slice::<Map<String, Value>>(input) else { return false };
        let Ok(arguments) = AdafactorArguments::from_keras_config(&config) else { return false };
        // What was taken can be used and written again.
        std::hint::black_box(arguments.learning_rate().at(random.next()));
        let again = arguments.to_keras_config().unwrap();
        assert_eq!(AdafactorArguments::from_keras_config(&again).unwrap(), arguments);
        true
    });
}

const CASE: &str = r#"{"format":"goldstep-case/1","id":"fuzz-1","family":"fuzz","comment":"a seed",
"flags":[],"dtype":"float32","arguments":{"learning_rate":0.5,"use_ema":true},
"variables":[{"name":"w","shape":[2,2],"initial":[1,2,3,4],"constraint":{"type":"non_negative"}}],
"steps":[{"gradients":[[0.1,0.2,0.3,"NaN"]]},{"learning_rate":0.25,
"gradients":[{"indices":[1,-1],"values":[0.5,0.5,1,1]}]}]}"#;

#[test]
fn cases() {
    fuzz("case", 3000, 1, &[CASE.as_bytes().to_vec()], |input, _| {
        Case::from_json(Path::new("fuzz.json"), &String::from_utf8_lossy(input)).is_ok()
    });
}

/// The packed families that a mutation starts from; small, so that many fit into a second.
const FAMILIES: [&str; 3] = ["constraints", "errors", "grid-bf16"];

/// Packed families: one file damaged, its sum in the manifest right, so that what lies behind the
/// sums is reached; sometimes the manifest itself. Each family has a folder of its own, since reading the
/// others would take most of the time.
#[test]
fn golden_families() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    let read = |path: &str| std::fs::read(golden.join(path)).unwrap();
    let all: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
    let (mut manifests, mut files) = (Vec::new(), Vec::new());
    for family in all["families"].as_array().unwrap() {
        let id = family["id"].as_str().unwrap();
        if !FAMILIES.contains(&id) {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(id)).unwrap();
        for (number, entry) in family["files"].as_array().unwrap().iter().enumerate() {
            let path = entry["path"].as_str().unwrap();
            let bytes = read(path);
            std::fs::write(folder.path().join(path), &bytes).unwrap();
            // A large file is left whole: nothing in it is of another kind than in the rest.
            if bytes.len() < 100_000 {
                files.push((manifests.len(), number, path, bytes));
            }
        }
        let mut manifest = all.clone();
        manifest["families"] = json!([family]);
        manifests.push((folder, manifest));
    }
    let load = |folder: &Path, manifest: &[u8]| {
        std::fs::write(folder.join("manifest.json"), manifest).unwrap();
        Golden::load(folder).is_ok()
    };
    let parts = u64::try_from(files.len() + manifests.len()).unwrap();
    for (folder, manifest) in &manifests {
        let seed = manifest.to_string().into_bytes();
        fuzz("golden manifest", 40, parts, &[seed], |input, _| load(folder.path(), input));
    }
    for (family, number, path, seed) in files {
        let (folder, manifest) = &manifests[family];
        fuzz(path, 40, parts, std::slice::from_ref(&seed), |input, _| {
            std::fs::write(folder.path().join(path), input).unwrap();
            let mut manifest = manifest.clone();
            let entry = &mut manifest["families"][0]["files"][number];
            entry["bytes"] = json!(input.len());
            entry["sha256"] = json!(hexadecimal(&Sha256::digest(input)));
            load(folder.path(), manifest.to_string().as_bytes())
        });
        std::fs::write(folder.path().join(path), seed).unwrap();
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRANSCRIPT: &str = r#"{"command":"start","protocol":1}
{"command":"build","seq":1,"dtype":"float32","arguments":{"learning_rate":0.5,"use_ema":true},"exclude_from_weight_decay":["b$"],"variables":[{"name":"w","shape":[2,2],"initial":[1,2,3,4],"constraint":null}]}
{"command":"set_state","seq":2,"iterations":3,"variables":[[1,2,3,4]],"r":[[0.5,0.5]],"c":[[0.5,0.5]],"v":[null],"ema":[[1,2,3,4]]}
{"command":"step","seq":3,"learning_rate":null,"gradients":[[0.1,0.2,0.3,0.4]],"want":["variables","r","c","v","ema","alpha"]}
{"command":"finalize","seq":4}
{"command":"stop"}
"#;

#[test]
fn protocol_messages() {
    let subject = goldstep_reference::conformance::subject();
    fuzz("protocol request", 3000, 1, &[TRANSCRIPT.as_bytes().to_vec()], |input, _| {
        let mut implementation = (subject.make)().unwrap();
        serve(implementation.as_mut(), input, &mut std::io::sink()).is_ok()
    });
}

/// Found by `cargo xtask fuzz-inputs`: the number of elements of such a shape is no number.
#[test]
fn a_shape_beyond_the_address_space_is_a_fault() {
    let subject = goldstep_reference::conformance::subject();
    let huge = TRANSCRIPT.replace("[2,2]", "[4611686018427387904,4611686018427387904]");
    let mut implementation = (subject.make)().unwrap();
    let outcome = serve(implementation.as_mut(), huge.as_bytes(), &mut std::io::sink());
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("4611686018427387904"), "{error}");
}

/// What an adapter may answer: a description, then an answer for each message.
#[cfg(unix)]
const ANSWERS: &str = r#"{"implementation":{"name":"sh","version":"1","language":"sh","source":"here"},"capabilities":{"dtypes":["float32"],"arguments":["learning_rate"],"schedules":[],"sparse":false,"ema":false,"constraints":false,"exclude":false,"set_learning_rate":true,"finalize":true,"states":["r","v"],"set_state":true,"intermediates":["alpha"],"base64":false,"expectation":"goldstep"}}
{"seq":1}
{"seq":2,"iterations":1,"learning_rate":0.5,"variables":[[1,2],[3]],"r":[[1],null],"v":[[5,"NaN"],[6]],"alpha":[null,0.25]}
{"seq":3,"variables":[[1,2],[3]]}
"#;

/// One answer per message, whatever the message is.
#[cfg(unix)]
const ADAPTER: &str = "exec 3<\"$0\"; while read -r line; do read -r answer <&3 || exit; printf '%s\\n' \"$answer\"; done";

/// The harness's side of the protocol: a program that answers nonsense.
#[cfg(unix)]
#[test]
fn protocol_answers() {
    use goldstep_conformance::protocol::{Adapter, AdapterCommand, Limits};
    use goldstep_conformance::{BuildRequest, GradientValues, Implementation, StepRequest};
    use goldstep_conformance::{StateField, Variable};

    let variable = |name: &str, shape: &[usize], initial: &[f64]| {
        let (name, shape, initial) = (name.to_owned(), shape.to_vec(), initial.to_vec());
        Variable { name, shape, initial, constraint: None }
    };
    let variables = [variable("m", &[1, 2], &[0.1, 0.2]), variable("b", &[], &[0.3])];
    let gradients = [GradientValues::Dense(vec![1.0, 2.0]), GradientValues::Dense(vec![3.0])];
    let file = tempfile::NamedTempFile::new().unwrap();
    let patient = Limits { line_bytes: 1 << 20, failures: 1, ..Limits::default() };
    let (start, answer) = (Duration::from_millis(500), Duration::from_millis(50));
    let hasty = Limits { start, answer, ..patient };
    fuzz("protocol answer", 60, 1, &[ANSWERS.as_bytes().to_vec()], |input, _| {
        std::fs::write(file.path(), input).unwrap();
        // The seed may take its time; a mutation that says nothing may not.
        let limits = if input == ANSWERS.as_bytes() { patient } else { hasty };
        let command = AdapterCommand::new("sh").argument("-c").argument(ADAPTER);
        let command = command.argument(file.path()).with_limits(limits);
        let Ok(mut adapter) = Adapter::start(&command) else { return false };
        let request = BuildRequest {
            dtype: DType::Float32,
            arguments: &Map::new(),
            exclude_from_weight_decay: &[],
            variables: &variables,
        };
        let step = StepRequest {
            learning_rate: None,
            gradients: &[Some(&gradients[0]), Some(&gradients[1])],
            states: &StateField::ALL,
            intermediates: true,
        };
        let built = adapter.build(&request).is_ok();
        let stepped = adapter.step(&step).is_ok();
        adapter.finalize().is_ok() && built && stepped
    });
}
