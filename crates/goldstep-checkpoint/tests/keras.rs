//! A run that tf.keras 2.12.1 began is continued here and compared with tf.keras continuing.
//!
//! The files in `keras/` were written by `record.py`. `cargo xtask migration` records them anew into
//! the directory that `GOLDSTEP_MIGRATION` names; this test then also leaves there what it made,
//! for tf.keras to continue from.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use goldstep_checkpoint::Checkpoint;
use goldstep_core::{
    DType, Element, Gradient, HostOptimizer, LearningRate, SecondMoment, Values, VariableState,
};
use goldstep_reference::Adafactor;
use half::{bf16, f16};
use safetensors::SafeTensors;

const EXPORTED: u32 = 5;
const CONTINUED: u32 = 10;

fn directory() -> PathBuf {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keras");
    std::env::var_os("GOLDSTEP_MIGRATION").map_or(recorded, PathBuf::from)
}

fn path(case: &str, part: &str) -> PathBuf {
    directory().join(format!("{case}.{part}.safetensors"))
}

/// The gradients of a step, by parameter.
fn gradients<T: Element>(file: &SafeTensors<'_>, step: u32, names: &[&str]) -> Vec<Vec<T>> {
    let read = |name: &&str| {
        let view = file.tensor(&format!("{step}/{name}")).unwrap();
        let bytes = view.data();
        let number = |bytes: &[u8]| -> f64 {
            match T::DTYPE {
                DType::Float64 => f64::from_le_bytes(bytes.try_into().unwrap()),
                DType::Float32 => f64::from(f32::from_le_bytes(bytes.try_into().unwrap())),
                DType::Bfloat16 => f64::from(bf16::from_le_bytes(bytes.try_into().unwrap())),
                DType::Float16 => f64::from(f16::from_le_bytes(bytes.try_into().unwrap())),
            }
        };
        bytes.chunks_exact(T::DTYPE.bytes()).map(|b| T::round_from(number(b))).collect()
    };
    names.iter().map(read).collect()
}

/// Continues a run with a backend; the largest error as a share of what agreement allows.
fn continues<T: Element, O: HostOptimizer<T>>(case: &str) -> f64 {
    let exported = Checkpoint::load(path(case, "exported")).unwrap();
    assert_eq!(exported.state().iterations, u64::from(EXPORTED));
    let parameters = exported.parameters().clone();
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name()).collect();
    let bytes = fs::read(path(case, "gradients")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();

    let mut optimizer: O = exported.restore(&parameters).unwrap();
    let mut values: Vec<Vec<T>> =
        exported.variables().unwrap().iter().map(Values::to_vec).collect();
    let mut scales = vec![0.0_f64; values.len()];
    for step in EXPORTED + 1..=CONTINUED {
        let gradients = gradients::<T>(&file, step, &names);
        let dense: Vec<_> = gradients.iter().map(|g| Some(Gradient::Dense(g.as_slice()))).collect();
        let mut views: Vec<&mut [T]> = values.iter_mut().map(Vec::as_mut_slice).collect();
        optimizer.step(&mut views, &dense).unwrap();
        for (scale, values) in scales.iter_mut().zip(&values) {
            *scale = values.iter().fold(*scale, |most, value| most.max(value.to_f64().abs()));
        }
    }
    let slices: Vec<&[T]> = values.iter().map(Vec::as_slice).collect();
    let continued = Checkpoint::of(&optimizer).unwrap().with_variables(&slices).unwrap();
    if std::env::var_os("GOLDSTEP_MIGRATION").is_some() {
        continued.save(path(case, "continued")).unwrap();
    }
    let expected = Checkpoint::load(path(case, &format!("expected-{CONTINUED}"))).unwrap();
    expected.check(&parameters, &vec![T::DTYPE; parameters.len()]).unwrap();
    worst(&expected, &continued, &scales)
}

/// By the rules for free-running: variables and averages within (4 + t/4)·eps of their running
/// scale, states within 24 eps of the magnitude expected.
fn worst(expected: &Checkpoint, actual: &Checkpoint, scales: &[f64]) -> f64 {
    assert_eq!(expected.state().iterations, actual.state().iterations);
    let rate = |checkpoint: &Checkpoint| checkpoint.arguments().learning_rate().clone();
    match (rate(expected), rate(actual)) {
        (LearningRate::Constant(left), LearningRate::Constant(right)) => {
            assert_eq!(left.to_bits(), right.to_bits());
        }
        (left, right) => assert_eq!(left, right),
    }
    let (mut worst, steps) = (0.0_f64, f64::from(CONTINUED));
    let mut compare = |expected: &Values, actual: &Values, scale: Option<f64>| {
        let epsilon = expected.dtype().epsilon();
        // A backend may keep the state of a half in float32.
        assert_eq!(expected.len(), actual.len());
        for (expected, actual) in expected.to_vec::<f64>().iter().zip(actual.to_vec::<f64>()) {
            let allowed = match scale {
                Some(scale) => (4.0 + steps / 4.0) * epsilon * scale,
                None => 24.0 * epsilon * expected.abs() + f64::from(f32::MIN_POSITIVE),
            };
            let same = expected.to_bits() == actual.to_bits();
            let error = if same { 0.0 } else { (expected - actual).abs() / allowed };
            // `max` would forget a NaN.
            worst = worst.max(if error.is_nan() { f64::INFINITY } else { error });
        }
    };
    let states = |checkpoint: &Checkpoint| checkpoint.state().variables.clone();
    let pairs = states(expected).into_iter().zip(states(actual)).zip(scales);
    for ((expected, actual), scale) in pairs {
        let fields = |state: VariableState| match state.second_moment {
            SecondMoment::Full(values) => vec![values],
            SecondMoment::Factored { row_factor, column_factor } => vec![row_factor, column_factor],
        };
        assert_eq!(expected.average.is_some(), actual.average.is_some());
        if let (Some(expected), Some(actual)) = (&expected.average, &actual.average) {
            compare(expected, actual, Some(*scale));
        }
        for (expected, actual) in fields(expected).iter().zip(fields(actual)) {
            compare(expected, &actual, None);
        }
    }
    let variables = expected.variables().unwrap().iter().zip(actual.variables().unwrap());
    for ((expected, actual), scale) in variables.zip(scales) {
        compare(expected, actual, Some(*scale));
    }
    worst
}

macro_rules! migrations {
    ($($name:ident: $case:literal, $element:ty;)*) => {$(
        #[test]
        fn $name() {
            let worst = continues::<$element, Adafactor<$element>>($case);
            assert!(worst <= 1.0, "reference: {worst} of what agreement allows");
            let worst = continues::<$element, goldstep_cpu::Adafactor<$element>>($case);
            assert!(worst <= 1.0, "cpu: {worst} of what agreement allows");
        }
    )*};
}

migrations! {
    constant_float32: "constant-float32", f32;
    schedule_float32: "schedule-float32", f32;
    restarts_float64: "restarts-float64", f64;
    ema_bfloat16: "ema-bfloat16", bf16;
    decay_float16: "decay-float16", f16;
}

/// A run that ends in NaN does not agree.
#[test]
fn nan_is_worse_than_any_number() {
    let expected = Checkpoint::load(path("constant-float32", "expected-10")).unwrap();
    let mut values = expected.variables().unwrap().to_vec();
    let scales = vec![1.0; values.len()];
    assert!(worst(&expected, &expected, &scales) <= 0.0);
    values[0] = Values::round_from(DType::Float32, vec![f64::NAN; values[0].len()]);
    let spoiled = expected.clone().with_variable_values(values).unwrap();
    assert!(worst(&expected, &spoiled, &scales).is_infinite());
}

/// What the exporter wrote is what was set up there.
#[test]
fn arguments_and_parameters_arrive() {
    let exported = Checkpoint::load(path("schedule-float32", "exported")).unwrap();
    let arguments = exported.arguments();
    assert_eq!(arguments.weight_decay(), Some(0.01));
    assert_eq!(arguments.global_clipnorm(), Some(2.0));
    assert_eq!(arguments.ema().unwrap().overwrite_frequency, Some(4));
    let LearningRate::Schedule(schedule) = arguments.learning_rate() else {
        panic!("a schedule was exported, got {:?}", arguments.learning_rate());
    };
    assert_eq!(schedule.class_name(), "ExponentialDecay");
    let decays: Vec<bool> = exported.parameters().iter().map(|p| p.decays()).collect();
    assert_eq!(decays, [true, false, false, true]);
    assert!(exported.parameters()[2].constraint().is_some());
}
