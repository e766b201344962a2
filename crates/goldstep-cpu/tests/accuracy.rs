//! How far results lie from exact arithmetic, beside how far tf.keras's own lie.
//!
//! Every golden run is replayed free-running: by this backend, and by the scalar reference in f64 on
//! the same inputs. An element's distance is measured in the last digit of the variable's largest
//! magnitude so far, a state's in that of its own magnitude. `--nocapture` prints the table.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and print")]

use std::path::Path;

use goldstep_conformance::golden::{Expected, Golden, Trial};
use goldstep_conformance::{
    BuildRequest, Implementation, StateField, StepRequest, StepResponse, Subject,
};
use goldstep_core::DType;
use goldstep_cpu::conformance::{Settings, subject};

/// Distances, counted by their size: a quantile is known to one part in sixty-four of an octave.
#[derive(Clone)]
struct Distances {
    counts: Vec<u64>,
}

impl Distances {
    const PER_OCTAVE: f64 = 64.0;
    const SMALLEST: f64 = -40.0;

    fn new() -> Self {
        Self { counts: vec![0; 80 * 64] }
    }

    fn add(&mut self, distance: f64) {
        let octaves = distance.log2().clamp(Self::SMALLEST, 39.0) - Self::SMALLEST;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the table"
        )]
        let bin = (octaves * Self::PER_OCTAVE) as usize;
        self.counts[bin] += 1;
    }

    /// The distance below which this share lies.
    #[expect(clippy::cast_precision_loss, reason = "counts of elements are far below 2^53")]
    fn quantile(&self, share: f64) -> f64 {
        let wanted = self.counts.iter().sum::<u64>() as f64 * share;
        let mut below = 0.0;
        for (bin, &count) in self.counts.iter().enumerate() {
            below += count as f64;
            if below >= wanted && bin > 0 {
                return ((bin as f64 + 0.5) / Self::PER_OCTAVE + Self::SMALLEST).exp2();
            }
        }
        0.0
    }
}

/// What is compared, and of whom: variables and states, this backend's and tf.keras's.
struct Groups {
    ours: [Distances; 2],
    keras: [Distances; 2],
}

const NAMES: [&str; 2] = ["variables", "states"];

/// Adds the distances of two tensors from the exact one, unless something is not finite.
fn compare(
    groups: &mut Groups,
    group: usize,
    (ours, keras, exact): (&[f64], &[f64], &[f64]),
    unit: impl Fn(usize) -> f64,
) {
    let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
    if !(finite(ours) && finite(keras) && finite(exact)) {
        return;
    }
    for (at, exact) in exact.iter().enumerate() {
        groups.ours[group].add((ours[at] - exact).abs() / unit(at));
        groups.keras[group].add((keras[at] - exact).abs() / unit(at));
    }
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

fn steps(trial: &Trial<'_>, subject: &Subject, dtype: DType) -> Option<Vec<StepResponse>> {
    let mut implementation: Box<dyn Implementation> = (subject.make)().unwrap();
    let request = BuildRequest {
        dtype,
        arguments: &trial.arguments,
        exclude_from_weight_decay: trial.exclude_from_weight_decay,
        variables: trial.variables,
    };
    implementation.build(&request).ok()?;
    let one = |step: &goldstep_conformance::golden::Step| {
        let gradients: Vec<_> = step.gradients.iter().map(Option::as_ref).collect();
        let request = StepRequest {
            learning_rate: step.learning_rate.as_ref(),
            gradients: &gradients,
            states: &StateField::ALL,
            intermediates: false,
        };
        implementation.step(&request).ok()
    };
    trial.steps.iter().map(one).collect()
}

fn add_run(groups: &mut Groups, trial: &Trial<'_>, ours: &Subject, oracle: &Subject) {
    if trial.expectation.error.is_some() {
        return;
    }
    let runs = (steps(trial, ours, trial.dtype), steps(trial, oracle, DType::Float64));
    let (Some(ours), Some(exact)) = runs else { return };
    let epsilon = trial.dtype.epsilon();
    let mut scales: Vec<f64> = trial.variables.iter().map(|one| magnitude(&one.initial)).collect();
    for ((ours, exact), keras) in ours.iter().zip(&exact).zip(&trial.expectation.steps) {
        let Some(keras) = keras else { continue };
        for (i, scale) in scales.iter_mut().enumerate() {
            *scale = scale.max(magnitude(&exact.variables[i]));
            let tensors = (&*ours.variables[i], &*keras.variables[i], &*exact.variables[i]);
            compare(groups, 0, tensors, |_| epsilon * *scale);
            states_of(groups, i, ours, keras, exact, epsilon);
        }
    }
}

fn states_of(
    groups: &mut Groups,
    variable: usize,
    ours: &StepResponse,
    keras: &Expected,
    exact: &StepResponse,
    epsilon: f64,
) {
    let fields = [
        (&ours.r, &keras.r, &exact.r),
        (&ours.c, &keras.c, &exact.c),
        (&ours.v, &keras.v, &exact.v),
    ];
    for (ours, keras, exact) in fields {
        if let (Some(ours), Some(keras), Some(exact)) =
            (&ours[variable], &keras[variable], &exact[variable])
        {
            let unit = |at: usize| epsilon * exact[at].abs().max(f64::from(f32::MIN_POSITIVE));
            compare(groups, 1, (ours, keras, exact), unit);
        }
    }
}

#[test]
fn results_are_as_close_to_exact_arithmetic_as_those_of_keras() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/v1");
    let golden = Golden::load(&directory).unwrap();
    let ours = subject(Settings { threads: Some(1), isa: None });
    let oracle = goldstep_reference::conformance::subject();
    println!("| values | quantile | this backend | tf.keras |\n|---|---|---:|---:|");
    let mut worse = Vec::new();
    for dtype in [DType::Float32, DType::Bfloat16, DType::Float16] {
        let empty = || [Distances::new(), Distances::new()];
        let mut groups = Groups { ours: empty(), keras: empty() };
        for family in golden.families() {
            for position in 0..family.len() {
                let trial = family.trial(position);
                if trial.dtype == dtype {
                    add_run(&mut groups, &trial, &ours, &oracle);
                }
            }
        }
        for (group, name) in NAMES.into_iter().enumerate() {
            for (quantile, share) in [("median", 0.5), ("99th percentile", 0.99)] {
                let (ours, keras) = (&groups.ours[group], &groups.keras[group]);
                let (ours, keras) = (ours.quantile(share), keras.quantile(share));
                let row =
                    format!("| {dtype} {name} | {quantile} | {ours:.4} eps | {keras:.4} eps |");
                println!("{row}");
                if ours > keras {
                    worse.push(row);
                }
            }
        }
    }
    assert!(worse.is_empty(), "further from exact arithmetic than tf.keras:\n{}", worse.join("\n"));
}
