//! The carried sum of squares: never stale, never other bits.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_cpu::{Adafactor, BoundExtra, CpuElement, ParameterStore};
use proptest::prelude::*;
use support::{Case, Numbers, Owned, bits, state_bits};

/// Steps through a store; after step `resume` everything moves to a new store.
fn through_store<T: CpuElement>(
    case: &Case,
    resume: Option<usize>,
) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
    let list = case.list();
    let mut store = ParameterStore::<T>::zeros(&case.arguments, &list).unwrap();
    for (index, initial) in case.initial::<T>().iter().enumerate() {
        store.modify(index).copy_from_slice(initial);
    }
    for (step, gradients) in case.gradients::<T>().iter().enumerate() {
        let gradients: Vec<_> = gradients.iter().map(|g| g.as_ref().map(Owned::borrow)).collect();
        store.step(&gradients).unwrap();
        if resume == Some(step) {
            let mut next = ParameterStore::<T>::zeros(&case.arguments, &list).unwrap();
            next.load_state(&store.optimizer().state()).unwrap();
            (0..list.len()).for_each(|i| next.modify(i).copy_from_slice(store.get(i)));
            store = next;
        }
    }
    let parameters = (0..list.len()).map(|index| bits(store.get(index))).collect();
    (parameters, state_bits(&store.optimizer().state()))
}

fn agree<T: CpuElement>(case: &Case) -> Result<(), TestCaseError> {
    let optimizer = Adafactor::<T>::build(&case.arguments, &case.list()).unwrap();
    let (parameters, state) = case.run(optimizer);
    let plain = (parameters.iter().map(|p| bits(p)).collect::<Vec<_>>(), state_bits(&state));
    prop_assert!(plain == through_store::<T>(case, None), "carried");
    prop_assert!(plain == through_store::<T>(case, Some(0)), "resumed");
    Ok(())
}

/// Chunks of several blocks, of which a step with few rows measures some again.
#[test]
fn carried_sums_of_many_blocks_are_those_that_are_measured() {
    let list = ParameterList::new(vec![Parameter::new("w", &[520, 512]).unwrap()]).unwrap();
    let arguments = AdafactorArguments::default();
    let mut numbers = Numbers(11);
    let (start, dense): (Vec<f64>, Vec<f64>) =
        (numbers.tensor(520 * 512, 1.0), numbers.tensor(520 * 512, 1.0));
    let rows = Gradient::Sparse { indices: &[3, 300, 519], values: &dense[..3 * 512] };
    let mut store = ParameterStore::<f64>::zeros(&arguments, &list).unwrap();
    store.modify(0).copy_from_slice(&start);
    let mut optimizer = Adafactor::<f64>::build(&arguments, &list).unwrap();
    let mut plain = start;
    for gradient in [Gradient::Dense(&dense), rows, rows, Gradient::Dense(&dense)] {
        store.step(&[Some(gradient)]).unwrap();
        optimizer.step(&mut [&mut plain], &[Some(gradient)]).unwrap();
        assert!(bits(store.get(0)) == bits(&plain));
    }
}

proptest! {
    #![proptest_config(support::config(32))]

    #[test]
    fn carried_measured_and_resumed_agree(case in support::case()) {
        agree::<f32>(&case)?;
        // Sums of squares of f32 are mostly exact, and show no order of additions.
        agree::<f64>(&case)?;
    }
}

#[test]
fn a_change_between_steps_is_noticed() {
    let list = ParameterList::new(vec![Parameter::new("w", &[300, 500]).unwrap()]).unwrap();
    let arguments = AdafactorArguments::default();
    let (mut numbers, mut plain) = (Numbers(7), vec![1.0_f32; 150_000]);
    let gradient: Vec<f32> = numbers.tensor(150_000, 1.0);
    let gradients = [Some(goldstep_core::Gradient::Dense(&gradient[..]))];
    let mut store = ParameterStore::<f32>::zeros(&arguments, &list).unwrap();
    store.modify(0).fill(1.0);
    let mut optimizer = Adafactor::<f32>::build(&arguments, &list).unwrap();
    for _ in 0..2 {
        store.step(&gradients).unwrap();
        store.modify(0)[17] = 1000.0;
        optimizer.step(&mut [&mut plain], &gradients).unwrap();
        plain[17] = 1000.0;
    }
    store.step(&gradients).unwrap();
    optimizer.step(&mut [&mut plain], &gradients).unwrap();
    assert_eq!(bits(store.get(0)), bits(&plain));
}

#[test]
fn borrowed_buffers_come_back_updated() {
    let list = ParameterList::new(vec![Parameter::new("w", &[3, 4]).unwrap()]).unwrap();
    let mut buffer = [1.0_f32; 12];
    let optimizer = Adafactor::build(&AdafactorArguments::default(), &list).unwrap();
    let mut store = ParameterStore::borrowing(optimizer, vec![&mut buffer]).unwrap();
    store.step(&[Some(goldstep_core::Gradient::Dense(&[1.0; 12]))]).unwrap();
    assert!(buffer.iter().all(|&x| x < 1.0));
    let optimizer = Adafactor::build(&AdafactorArguments::default(), &list).unwrap();
    let error = ParameterStore::borrowing(optimizer, vec![&mut buffer[..11]]).unwrap_err();
    assert_eq!(error.to_string(), "parameter of w must have 12 elements, got 11");
}

#[test]
fn the_bound_moves_memory_and_changes_nothing() {
    let shapes: [&[usize]; 4] = [&[90, 2000], &[70_000], &[40, 50, 3, 3], &[0, 3]];
    let named = |(index, shape): (usize, &&[usize])| Parameter::new(format!("p{index}"), shape);
    let parameters: Result<_, _> = shapes.iter().enumerate().map(named).collect();
    let list = ParameterList::new(parameters.unwrap()).unwrap();
    let arguments = AdafactorArguments::builder().use_ema(true).build().unwrap();
    let mut numbers = Numbers(3);
    let gradients: Vec<Vec<f32>> =
        list.iter().map(|parameter| numbers.tensor(parameter.elements(), 1.0)).collect();
    let borrowed: Vec<_> =
        gradients.iter().map(|g| Some(goldstep_core::Gradient::Dense(&g[..]))).collect();
    let sum: f64 = gradients.iter().flatten().copied().map(f64::from).sum();
    let mut store = ParameterStore::<f32>::zeros(&arguments, &list).unwrap();
    store.step(&borrowed).unwrap();
    let before: Vec<_> = (0..list.len()).map(|index| bits(store.get(index))).collect();
    let state = state_bits(&store.optimizer().state());
    let read: f64 =
        (0..list.len()).flat_map(|index| store.get(index)).copied().map(f64::from).sum();
    for (extra, expected) in [
        (BoundExtra::default(), sum),
        (BoundExtra { gradient_read: true, parameter_read: false }, 2.0 * sum),
        (BoundExtra { gradient_read: false, parameter_read: true }, sum + read),
    ] {
        let total = store.stream(&borrowed, extra).unwrap();
        assert!((total - expected).abs() < 0.1, "{extra:?}: {total} for {expected}");
    }
    let after: Vec<_> = (0..list.len()).map(|index| bits(store.get(index))).collect();
    assert!(before == after && state == state_bits(&store.optimizer().state()));
    store.forget();
    store.set_learning_rate(0.0.into()).unwrap();
    store.step(&borrowed).unwrap();
    let unmoved: Vec<_> = (0..list.len()).map(|index| bits(store.get(index))).collect();
    assert!(before == unmoved);
    store.finalize_variable_values().unwrap();
    assert!(before != (0..list.len()).map(|index| bits(store.get(index))).collect::<Vec<_>>());
}

/// `0 · v` is NaN where a second moment has overflowed; what streams must not write that.
#[test]
fn the_bound_changes_nothing_beside_an_infinite_second_moment() {
    let list = ParameterList::new(vec![Parameter::new("w", &[40]).unwrap()]).unwrap();
    let mut gradient = [1.0_f32; 40];
    gradient[3] = 1e30;
    let mut store = ParameterStore::<f32>::zeros(&AdafactorArguments::default(), &list).unwrap();
    store.modify(0).fill(1.0);
    store.step(&[Some(goldstep_core::Gradient::Dense(&gradient))]).unwrap();
    let before = bits(store.get(0));
    let ones = [1.0; 40];
    let ones = [Some(goldstep_core::Gradient::Dense(&ones[..]))];
    store.stream(&ones, BoundExtra::default()).unwrap();
    assert_eq!(before, bits(store.get(0)));
}

/// Four bytes for each row and column, or element of a vector; and of scratch some lines of columns
/// for each thread, however many rows there are.
#[test]
fn state_and_scratch_are_small() {
    let arguments = AdafactorArguments::default();
    let matrices = [(1000, 700, 1), (100_000, 700, 2), (3_000_000, 5, 3), (100_000, 700, 16)];
    for (rows, columns, threads) in matrices {
        let shapes = [vec![rows, columns], vec![131_000]];
        let named = |(i, shape): (usize, &Vec<usize>)| Parameter::new(format!("p{i}"), shape);
        let parameters: Result<_, _> = shapes.iter().enumerate().map(named).collect();
        let list = ParameterList::new(parameters.unwrap()).unwrap();
        let builder = Adafactor::<f32>::builder(&arguments, &list).threads(threads);
        let optimizer = builder.build().unwrap();
        assert_eq!(optimizer.state_bytes(), 4 * (rows + columns) + 4 * 131_000);
        // For each level of a tree two lines of sums, or the scales of 4,096 rows; and the updates of
        // the vector.
        let values = (2 * columns).next_multiple_of(16).max(4096);
        let most = threads * 4 * (13 * values + 131_008);
        let got = optimizer.scratch_bytes();
        assert!(got <= most, "{rows} × {columns}: {got} of {most}");
    }
}
