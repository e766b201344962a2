//! Whatever is wrong with a file is said, tensor by tensor; nothing is loaded from it.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::{BTreeMap, HashMap};
use std::fs;

use goldstep_checkpoint::{Checkpoint, CheckpointError};
use goldstep_core::{
    AdafactorArguments, Constraint, DType, Gradient, HostOptimizer, Parameter, ParameterList,
    Values,
};
use goldstep_reference::Adafactor;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};

fn parameters() -> ParameterList {
    let parameters =
        vec![Parameter::new("w", &[2, 3]).unwrap(), Parameter::new("b", &[3]).unwrap()];
    ParameterList::new(parameters).unwrap()
}

fn checkpoint() -> Checkpoint {
    let arguments = AdafactorArguments::builder().use_ema(true).build().unwrap();
    let mut optimizer = Adafactor::<f32>::build(&arguments, &parameters()).unwrap();
    let (mut w, mut b) = ([0.5_f32; 6], [0.25_f32; 3]);
    let gradients = [0.1_f32, -0.2, 0.3, 0.4, 0.5, 0.6];
    let steps = [Some(Gradient::Dense(&gradients[..])), Some(Gradient::Dense(&gradients[..3]))];
    optimizer.step(&mut [&mut w, &mut b], &steps).unwrap();
    Checkpoint::of(&optimizer).unwrap().with_variables(&[&w, &b]).unwrap()
}

fn bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    checkpoint().write(&mut bytes).unwrap();
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    Checkpoint::from_bytes(bytes).unwrap_err().to_string()
}

/// The parts of a file, to be put together again by the safetensors crate.
struct Parts {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl Parts {
    fn new() -> Self {
        let bytes = bytes();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let part = |(name, view): (&str, TensorView<'_>)| {
            (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        };
        let tensors = file.iter().map(part).collect();
        Self { tensors, metadata: metadata.metadata().clone().unwrap() }
    }

    fn edit_document(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut document = serde_json::from_str(&self.metadata["goldstep"]).unwrap();
        edit(&mut document);
        let text = document.to_string();
        let sum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
        self.metadata.insert("goldstep".to_owned(), text);
        self.metadata.insert("goldstep_crc32".to_owned(), sum);
    }

    fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        self.tensors.insert(name.to_owned(), (dtype, shape.to_vec(), data));
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        serialize(views, Some(self.metadata.clone())).unwrap()
    }

    fn refusal(&self) -> String {
        refusal(&self.bytes())
    }
}

#[test]
fn the_safetensors_crate_reads_and_writes_the_same_file() {
    let bytes = bytes();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    let expected = [
        "average/b",
        "average/w",
        "column_factor/w",
        "row_factor/w",
        "second_moment/b",
        "variable/b",
        "variable/w",
    ];
    assert_eq!(names, expected);
    assert_eq!(file.tensor("column_factor/w").unwrap().shape(), [3]);
    assert_eq!(Checkpoint::from_bytes(&Parts::new().bytes()).unwrap(), checkpoint());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let error = Checkpoint::from_bytes(&bytes[..length]).unwrap_err();
        let typed = matches!(error, CheckpointError::Size { .. } | CheckpointError::Foreign { .. });
        assert!(typed, "{length}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let message = format!("checkpoint must have {} bytes, got {}", bytes.len(), longer.len());
    assert_eq!(refusal(&longer), message);
}

/// Every bit is covered by a checksum or by a rule; white space after the header is not content.
#[test]
fn every_flipped_bit_is_noticed() {
    let (original, bytes) = (checkpoint(), bytes());
    let mut harmless = 0;
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            match Checkpoint::from_bytes(&damaged) {
                Ok(loaded) => {
                    assert_eq!(loaded, original, "byte {position}, bit {bit}");
                    harmless += 1;
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    assert!(harmless < 8, "{harmless} flips left the checkpoint as it was");
}

#[test]
fn damaged_data_names_its_tensor() {
    let mut bytes = bytes();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let message = refusal(&bytes);
    assert!(message.starts_with("tensor variable/b must have the CRC-32 "), "{message}");
    assert!(message.ends_with(": its bytes are damaged"), "{message}");
}

#[test]
fn other_files_are_refused() {
    assert_eq!(
        refusal(b"PK"),
        "file must be a Goldstep checkpoint in the safetensors format, got 2 bytes"
    );
    let zip = [&b"PK\x03\x04"[..], &[0; 400]].concat();
    assert!(refusal(&zip).starts_with("file must be a Goldstep checkpoint"), "{}", refusal(&zip));
    let data = 1.0_f32.to_le_bytes();
    let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
    let other = serialize([("w", view)], None).unwrap();
    assert_eq!(
        refusal(&other),
        "file must be a Goldstep checkpoint in the safetensors format, got a safetensors file without \
         the metadata entry goldstep"
    );
}

#[test]
fn a_header_that_promises_gigabytes_allocates_nothing() {
    for promised in [u64::MAX, 1 << 40, 40_000_000, 20_000_000] {
        let file = [&promised.to_le_bytes()[..], b"{}"].concat();
        assert!(Checkpoint::from_bytes(&file).is_err());
    }
    let text = r#"{"row_factor/w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    let file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let expected = 4_398_046_511_104 + 8 + text.len() as u64;
    assert_eq!(
        refusal(&file),
        format!("checkpoint must have {expected} bytes, got {}", file.len())
    );
}

#[test]
fn later_versions_are_refused_as_such() {
    let mut parts = Parts::new();
    parts.edit_document(|document| {
        document["format"] = json!("goldstep-checkpoint/2");
        document["shards"] = json!([1, 2]);
    });
    assert_eq!(
        parts.refusal(),
        "checkpoint format must be goldstep-checkpoint/1, got goldstep-checkpoint/2"
    );
}

#[test]
fn tensors_are_checked_one_by_one() {
    let refusal = |edit: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::new();
        edit(&mut parts);
        parts.refusal()
    };
    let missing = refusal(&|parts| {
        parts.tensors.remove("row_factor/w");
        parts.edit_document(|document| {
            document["crc32"].as_object_mut().unwrap().remove("row_factor/w");
        });
    });
    assert_eq!(missing, "tensor row_factor/w must be in the checkpoint, got none of that name");
    let promised = refusal(&|parts| drop(parts.tensors.remove("average/b")));
    assert_eq!(promised, "tensor average/b must be in the checkpoint, got none of that name");
    let extra = refusal(&|parts| parts.tensor("average/x", Dtype::F32, &[1], vec![0; 4]));
    assert_eq!(
        extra,
        "tensor average/x must belong to a parameter of the checkpoint, got none that it does"
    );
    let shape = refusal(&|parts| parts.tensor("row_factor/w", Dtype::F32, &[3], vec![0; 12]));
    assert_eq!(shape, "tensor row_factor/w must have shape [2], got [3]");
    let dtype = refusal(&|parts| parts.tensor("row_factor/w", Dtype::F64, &[2], vec![0; 16]));
    assert_eq!(dtype, "tensor row_factor/w must be of type float32, got float64");
    let foreign = refusal(&|parts| parts.tensor("variable/w", Dtype::I64, &[2, 3], vec![0; 48]));
    assert_eq!(foreign, "tensor variable/w must be of type float32, got I64");
    let unlisted = refusal(&|parts| {
        parts.edit_document(|document| document["crc32"] = json!({}));
    });
    assert!(unlisted.starts_with("tensor row_factor/w must have the CRC-32 of the metadata"));
    let renamed = refusal(&|parts| {
        parts.edit_document(|document| document["parameters"][0]["name"] = json!("v"));
    });
    assert_eq!(
        renamed,
        "tensor average/w must belong to a parameter of the checkpoint, got none that it does"
    );
}

#[test]
fn the_metadata_is_checked() {
    let refusal = |edit: &dyn Fn(&mut Value)| {
        let mut parts = Parts::new();
        parts.edit_document(edit);
        parts.refusal()
    };
    for (message, edit) in [
        (
            "type must be adafactor",
            &(|d: &mut Value| d["optimizer"] = json!("adam")) as &dyn Fn(&mut Value),
        ),
        ("unknown field `extra`", &|d| d["extra"] = json!(1)),
        ("learning_rate must be finite", &|d| d["arguments"]["learning_rate"] = json!(-1)),
        ("foo is not an argument", &|d| d["arguments"]["foo"] = json!(1)),
        ("parameter names must be unique", &|d| d["parameters"][1]["name"] = json!("w")),
        ("at least one parameter", &|d| d["parameters"] = json!([])),
        ("float64 or float32 or", &|d| d["parameters"][0]["dtype"] = json!("float8")),
        ("below 2^63 bytes", &|d| d["parameters"][0]["shape"] = json!([u64::MAX, 2])),
        ("unknown variant", &|d| d["parameters"][0]["constraint"] = json!({"type": "unit"})),
        ("invalid type", &|d| d["iterations"] = json!("many")),
    ] {
        let refused = refusal(edit);
        let message = if message.starts_with("type must") { "optimizer" } else { message };
        assert!(refused.contains(message), "{refused}");
    }
}

#[test]
fn a_checkpoint_of_other_parameters_is_refused() {
    let list = |parameters: Vec<Parameter>| ParameterList::new(parameters).unwrap();
    let (w, b) = (Parameter::new("w", &[2, 3]).unwrap(), Parameter::new("b", &[3]).unwrap());
    let other = Parameter::new("w", &[3, 2]).unwrap();
    for (parameters, message) in [
        (list(vec![w.clone()]), "checkpoint must hold 1 parameters, got 2"),
        (
            list(vec![b.clone(), w.clone()]),
            "name of parameter b in the checkpoint must be b, got w",
        ),
        (
            list(vec![other, b.clone()]),
            "shape of parameter w in the checkpoint must be [3, 2], got [2, 3]",
        ),
        (
            list(vec![w.clone(), b.clone().without_weight_decay()]),
            "weight decay of parameter b in the checkpoint must be excluded, got applied",
        ),
        (
            list(vec![w, b.with_constraint(Constraint::NonNegative)]),
            "constraint of parameter b in the checkpoint must be NonNegative, got none",
        ),
    ] {
        let refused = checkpoint().restore::<f32, Adafactor<f32>>(&parameters).unwrap_err();
        assert_eq!(refused.to_string(), message);
    }
    let refused = checkpoint().restore::<f64, Adafactor<f64>>(&parameters()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "type of parameter w in the checkpoint must be float64, got float32"
    );
}

#[test]
fn values_are_copied_only_where_they_fit() {
    let (mut w, mut b) = ([0.0_f32; 6], [7.0_f32; 2]);
    let refused = checkpoint().copy_variables_to(&mut [&mut w, &mut b]).unwrap_err();
    assert_eq!(refused.to_string(), "parameter of b must have 3 elements, got 2");
    assert!(w.iter().all(|value| value.to_bits() == 0));
    let (mut w, mut b) = ([0.0_f64; 6], [0.0_f64; 3]);
    let refused = checkpoint().copy_variables_to(&mut [&mut w, &mut b]).unwrap_err();
    assert_eq!(refused.to_string(), "tensor variable/w must be of type float64, got float32");
    let plain = Checkpoint::new(
        checkpoint().arguments(),
        &parameters(),
        &[DType::Float32; 2],
        checkpoint().state().clone(),
    );
    let refused = plain.unwrap().copy_variables_to::<f32>(&mut []).unwrap_err();
    assert!(matches!(refused, CheckpointError::NoVariables));
    let wrong = checkpoint()
        .with_variable_values(vec![Values::Float32(vec![0.0; 6]), Values::Float64(vec![0.0; 3])]);
    let message = "tensor variable/b must be of type float32, got float64";
    assert_eq!(wrong.unwrap_err().to_string(), message);
}

#[test]
fn saving_replaces_the_file_or_leaves_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.safetensors");
    fs::write(&path, "before").unwrap();
    checkpoint().save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint());
    let entries = || fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(entries(), 1);

    // A directory that is not empty cannot be replaced.
    let occupied = directory.path().join("occupied");
    fs::create_dir(&occupied).unwrap();
    fs::write(occupied.join("file"), "kept").unwrap();
    let error = checkpoint().save(&occupied).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { operation: "replace", .. }), "{error}");
    assert_eq!((entries(), fs::read(occupied.join("file")).unwrap()), (2, b"kept".to_vec()));

    let nowhere = directory.path().join("none").join("run.safetensors");
    let error = checkpoint().save(&nowhere).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { operation: "create", .. }), "{error}");
    let error = Checkpoint::load(&nowhere).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { operation: "open", .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("open {}: ", nowhere.display())), "{error}");

    // Of ten files the damaged one is named.
    fs::write(&path, "after").unwrap();
    let error = Checkpoint::load(&path).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: file must be", path.display())), "{error}");
}

#[test]
fn a_header_that_no_reader_takes_is_not_written() {
    // A name stands three times in the header.
    let name = "x".repeat(12 << 20);
    let list = ParameterList::new(vec![Parameter::new(name, &[1]).unwrap()]).unwrap();
    let optimizer = Adafactor::<f32>::build(&AdafactorArguments::default(), &list).unwrap();
    let error = Checkpoint::of(&optimizer).unwrap().write(&mut Vec::new()).unwrap_err();
    let rule = "length of the checkpoint's header must be at most 33554432 bytes, got ";
    assert!(error.to_string().starts_with(rule), "{error}");
}

proptest! {
    /// Arbitrary bytes, bare and behind a header's length that fits, are refused without a panic.
    #[test]
    fn arbitrary_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Checkpoint::from_bytes(&bytes).is_err());
        bytes.push(b'}');
        let framed = [&(bytes.len() as u64 + 1).to_le_bytes()[..], b"{", &bytes].concat();
        prop_assert!(Checkpoint::from_bytes(&framed).is_err());
    }
}
