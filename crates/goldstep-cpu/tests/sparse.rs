//! Gradients of some rows: the same as if all others were zero, and nothing else is written.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_cpu::{Adafactor as Cpu, Isa, ParameterStore};
use goldstep_reference::Adafactor as Reference;
use proptest::prelude::*;
use support::{Numbers, Owned, bits, state_bits};

/// One parameter, and for each step its gradient and whether the caller changes it afterwards.
#[derive(Debug, Clone)]
struct Case {
    shape: Vec<usize>,
    arguments: AdafactorArguments,
    steps: Vec<Step>,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    /// How many of a thousand rows have a gradient; nothing for a dense one.
    rows: Option<usize>,
    changes: bool,
}

impl Case {
    fn list(&self) -> ParameterList {
        ParameterList::new(vec![Parameter::new("embedding", &self.shape).unwrap()]).unwrap()
    }

    fn numbers(&self) -> (Vec<f32>, Vec<Owned<f32>>) {
        let mut numbers = Numbers(self.seed);
        let elements = self.shape.iter().product();
        let (rows, initial) = (self.shape[0], numbers.tensor(elements, 1.5));
        let gradients = self.steps.iter().map(|step| {
            let Some(share) = step.rows else { return Owned::Dense(numbers.tensor(elements, 1.0)) };
            // Some twice, and one that is dropped.
            let touched = rows * share / 1000;
            let row = |numbers: &mut Numbers| i64::from(numbers.bits()) % rows as i64;
            let mut indices: Vec<i64> = (0..touched).map(|_| row(&mut numbers)).collect();
            indices.push(-1);
            let values = numbers.tensor(indices.len() * elements / rows, 1.0);
            Owned::Sparse(indices, values)
        });
        let gradients = gradients.collect();
        (initial, gradients)
    }

    /// The elements after every step, and the state after the last.
    fn run(
        &self,
        mut step: impl FnMut(&Gradient<'_, f32>, Option<f32>) -> Vec<f32>,
    ) -> Vec<Vec<f32>> {
        let (_, gradients) = self.numbers();
        let one = |(gradient, of): (&Owned<f32>, &Step)| {
            step(&gradient.borrow(), of.changes.then_some(3.0))
        };
        gradients.iter().zip(&self.steps).map(one).collect()
    }

    fn plain(&self, mut optimizer: impl HostOptimizer<f32>) -> (Vec<Vec<f32>>, Vec<Vec<u64>>) {
        let (mut parameter, _) = self.numbers();
        let after = self.run(|gradient, change| {
            optimizer.step(&mut [&mut parameter], &[Some(*gradient)]).unwrap();
            let after = parameter.clone();
            if let Some(value) = change {
                parameter[0] = value;
            }
            after
        });
        (after, state_bits(&optimizer.state()))
    }

    fn stored(&self, optimizer: Cpu<f32>) -> (Vec<Vec<f32>>, Vec<Vec<u64>>) {
        let mut store = ParameterStore::owning(optimizer);
        store.modify(0).copy_from_slice(&self.numbers().0);
        let after = self.run(|gradient, change| {
            store.step(&[Some(*gradient)]).unwrap();
            let after = store.get(0).to_vec();
            if let Some(value) = change {
                store.modify(0)[0] = value;
            }
            after
        });
        (after, state_bits(&store.optimizer().state()))
    }

    fn cpu(&self, threads: usize, isa: Isa) -> Cpu<f32> {
        let list = self.list();
        Cpu::builder(&self.arguments, &list).threads(threads).isa(isa).build().unwrap()
    }
}

fn case() -> impl Strategy<Value = Case> {
    let shape = prop_oneof![
        4 => (1..400_usize, 1..300_usize).prop_map(|(m, n)| vec![m, n]),
        1 => (500..3000_usize, 1..100_usize).prop_map(|(m, n)| vec![m, n]),
        1 => (2..40_usize, 16_390..17_000_usize).prop_map(|(m, n)| vec![m, n]),
        2 => (1..40_usize, 1..20_usize, 1..40_usize).prop_map(|(a, m, n)| vec![a, m, n]),
        1 => (1..20_usize, 1..20_usize, 1..5_usize, 1..5_usize)
            .prop_map(|(a, b, m, n)| vec![a, b, m, n]),
        1 => (1..400_usize).prop_map(|n| vec![n]),
    ];
    let rows = prop_oneof![1 => Just(None), 3 => (0..100_usize).prop_map(Some), 2 => (0..1200_usize).prop_map(Some)];
    let step = (rows, prop::bool::weighted(0.2)).prop_map(|(rows, changes)| Step { rows, changes });
    let arguments = prop_oneof![
        Just(AdafactorArguments::builder().learning_rate(0.1).build().unwrap()),
        support::arguments()
    ];
    (shape, arguments, prop::collection::vec(step, 1..6), any::<u64>())
        .prop_map(|(shape, arguments, steps, seed)| Case { shape, arguments, steps, seed })
}

proptest! {
    #![proptest_config(support::config(96))]

    #[test]
    fn carried_and_measured_agree_on_all_threads_and_instruction_sets(case in case()) {
        let (parameters, state) = case.plain(case.cpu(1, Isa::PORTABLE));
        let expected: Vec<_> = parameters.iter().map(|p| bits(p)).collect();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let (parameters, other) = case.stored(case.cpu(threads, isa));
                let parameters: Vec<_> = parameters.iter().map(|p| bits(p)).collect();
                prop_assert!(expected == parameters && state == other, "{threads}, {}", isa.name());
            }
        }
    }

    #[test]
    fn rows_without_a_gradient_count_as_zeros(case in case()) {
        let list = case.list();
        let reference = Reference::<f32>::build(&case.arguments, &list).unwrap();
        let (expected, _) = case.plain(reference);
        let (actual, _) = case.plain(case.cpu(1, Isa::best()));
        for (step, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
            let size = expected.iter().filter(|x| x.is_finite()).fold(1.5, |m: f32, x| m.max(x.abs()));
            let allowed = f64::from(size) * f64::from(f32::EPSILON) * (4.0 + step as f64 / 2.0);
            for (at, (x, y)) in expected.iter().zip(actual).enumerate() {
                let near = (f64::from(*x) - f64::from(*y)).abs() <= allowed;
                prop_assert!(x.is_nan() && y.is_nan() || near, "step {step}, [{at}]: {x} {y}");
            }
        }
    }
}

/// The scale of an update is one for all matrices of a parameter: what is not a number in one of them
/// reaches those that no gradient touches.
#[test]
fn a_gradient_that_is_not_finite_reaches_all_matrices() {
    for (shape, indices) in [([4, 2, 3], [0]), ([40, 20, 30], [7])] {
        for wrong in [f32::NAN, f32::INFINITY] {
            let list = ParameterList::new(vec![Parameter::new("w", &shape).unwrap()]).unwrap();
            let arguments = AdafactorArguments::default();
            let elements: usize = shape.iter().product();
            let mut values = vec![0.5_f32; elements / shape[0]];
            values[1] = wrong;
            let gradient = [Some(Gradient::Sparse { indices: &indices, values: &values })];
            let (mut ours, mut theirs) = (vec![1.0_f32; elements], vec![1.0_f32; elements]);
            let mut cpu = Cpu::<f32>::build(&arguments, &list).unwrap();
            let mut reference = Reference::<f32>::build(&arguments, &list).unwrap();
            cpu.step(&mut [&mut ours], &gradient).unwrap();
            reference.step(&mut [&mut theirs], &gradient).unwrap();
            assert!(theirs.iter().all(|x| x.is_nan()), "{shape:?} {wrong}");
            assert!(ours.iter().all(|x| x.is_nan()), "{shape:?} {wrong}");
        }
    }
}

/// A row and a column of zeros make `v` zero where they meet: as in Keras all becomes NaN.
#[test]
fn a_second_moment_of_nothing_is_noticed_in_other_rows() {
    for (shape, rows) in [(vec![8, 3], 2), (vec![8, 2, 3], 2)] {
        let list = ParameterList::new(vec![Parameter::new("w", &shape).unwrap()]).unwrap();
        let arguments = AdafactorArguments::default();
        let elements: usize = shape.iter().product();
        let per_row = elements / 8;
        let mut values = vec![1e4_f32; rows * per_row];
        values.iter_mut().step_by(3).for_each(|x| *x = 0.0);
        let gradient = [Some(Gradient::Sparse { indices: &[1, 5], values: &values })];
        let (mut ours, mut theirs) = (vec![1.0_f32; elements], vec![1.0_f32; elements]);
        let mut cpu = Cpu::<f32>::build(&arguments, &list).unwrap();
        let mut reference = Reference::<f32>::build(&arguments, &list).unwrap();
        cpu.step(&mut [&mut ours], &gradient).unwrap();
        reference.step(&mut [&mut theirs], &gradient).unwrap();
        assert_eq!(bits(&ours), bits(&theirs), "{shape:?}");
    }
}

/// The mean of millions of row factors, half of them equal, is that of a dense gradient.
#[test]
fn equal_rows_of_a_long_matrix_agree_with_dense_ones() {
    let (rows, columns) = (2_000_000, 2);
    let list = ParameterList::new(vec![Parameter::new("w", &[rows, columns]).unwrap()]).unwrap();
    let arguments = AdafactorArguments::builder().learning_rate(1.0).build().unwrap();
    let indices: Vec<i64> = (0..rows as i64).step_by(2).collect();
    let values = vec![0.3_f64; indices.len() * columns];
    let dense = |at: usize| if (at / columns).is_multiple_of(2) { 0.3 } else { 0.0 };
    let dense: Vec<f64> = (0..rows * columns).map(dense).collect();
    let step = |gradient: Gradient<'_, f64>| {
        let mut w = vec![1.0; rows * columns];
        Cpu::build(&arguments, &list).unwrap().step(&mut [&mut w], &[Some(gradient)]).unwrap();
        w
    };
    let some = step(Gradient::Sparse { indices: &indices, values: &values });
    for (x, y) in some.iter().zip(step(Gradient::Dense(&dense))) {
        assert!((x - y).abs() <= 4.0 * f64::EPSILON, "{x} instead of {y}");
    }
}
