//! In steady state a step allocates nothing.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_cpu::{Adafactor, CpuElement, ParameterStore};
use half::{bf16, f16};
use support::Numbers;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn list(shapes: &[Vec<usize>]) -> ParameterList {
    let parameters = shapes.iter().enumerate();
    let parameters = parameters.map(|(i, shape)| Parameter::new(format!("p{i}"), shape).unwrap());
    ParameterList::new(parameters.collect()).unwrap()
}

/// Allocations of twenty steps, after as many to warm up.
fn in_twenty(mut step: impl FnMut()) -> usize {
    (0..20).for_each(|_| step());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..20).for_each(|_| step());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Allocations of twenty steps of a store, after some steps of warming up.
fn steady(shapes: &[Vec<usize>], arguments: &AdafactorArguments, threads: usize) -> usize {
    let list = list(shapes);
    let optimizer = Adafactor::<f32>::builder(arguments, &list).threads(threads).build().unwrap();
    let mut store = ParameterStore::owning(optimizer);
    let mut numbers = Numbers(3);
    let gradients: Vec<Vec<f32>> = list.iter().map(|p| numbers.tensor(p.elements(), 1.0)).collect();
    let gradients: Vec<_> = gradients.iter().map(|g| Some(Gradient::Dense(&g[..]))).collect();
    in_twenty(|| store.step(&gradients).map(drop).unwrap())
}

/// The same for a plain step of parameters of any type, some of them with gradients of few rows.
fn steady_plain<T: CpuElement>(arguments: &AdafactorArguments) -> usize {
    let list = list(&[vec![500, 40], vec![17], vec![60, 9, 7], vec![90, 300], vec![40, 4, 3, 3]]);
    let mut optimizer = Adafactor::<T>::builder(arguments, &list).threads(1).build().unwrap();
    let mut numbers = Numbers(5);
    let mut parameters: Vec<Vec<T>> =
        list.iter().map(|p| numbers.tensor(p.elements(), 1.0)).collect();
    let gradients = parameters.clone();
    let mut slices: Vec<&mut [T]> = parameters.iter_mut().map(Vec::as_mut_slice).collect();
    let indices = [11, 3, -1, 11];
    let given = gradients.iter().zip(&list).enumerate().map(|(i, (values, parameter))| {
        let values = if i % 2 == 0 { &values[..4 * parameter.row_elements()] } else { values };
        let sparse = Gradient::Sparse { indices: &indices, values };
        Some(if i % 2 == 0 { sparse } else { Gradient::Dense(values) })
    });
    let given: Vec<_> = given.collect();
    in_twenty(|| optimizer.step(&mut slices, &given).map(drop).unwrap())
}

fn a_plain_step_with_sparse_gradients_allocates_nothing() {
    let plain = AdafactorArguments::default();
    let decay = AdafactorArguments::builder().weight_decay(0.01).clipnorm(1.0).build().unwrap();
    for arguments in [&plain, &decay] {
        assert_eq!(steady_plain::<f32>(arguments), 0);
        assert_eq!(steady_plain::<f64>(arguments), 0);
        assert_eq!(steady_plain::<bf16>(arguments), 0);
        assert_eq!(steady_plain::<f16>(arguments), 0);
    }
}

/// One test: of several, the harness would allocate beside the others.
#[test]
fn a_step_allocates_nothing_in_steady_state() {
    a_plain_step_with_sparse_gradients_allocates_nothing();
    let shapes = |count: usize, scale: usize| -> Vec<Vec<usize>> {
        let one = [vec![17], vec![30, 40], vec![3, 20, 50 * scale], vec![70_000 * scale]];
        let one = one.into_iter().chain([vec![400 * scale, 500], vec![4, 20_000 * scale]]);
        one.cycle().take(count).collect()
    };
    let plain = AdafactorArguments::default();
    let all = AdafactorArguments::builder()
        .global_clipnorm(1.0)
        .weight_decay(0.01)
        .use_ema(true)
        .build()
        .unwrap();
    for arguments in [&plain, &all] {
        assert_eq!(steady(&shapes(60, 1), arguments, 1), 0);
        assert_eq!(steady(&shapes(12, 3), arguments, 1), 0);
        // Handing work to a pool takes a queue of rayon's, in pieces of some thirty calls; its own
        // growth does not depend on the work.
        let (few, many) =
            (steady(&shapes(12, 1), arguments, 2), steady(&shapes(60, 3), arguments, 2));
        assert!(few <= 4 && many <= 4, "{few} and {many} allocations in 20 steps");
    }
}
