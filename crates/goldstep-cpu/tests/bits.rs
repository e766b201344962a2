//! The same bits for every number of threads, every instruction set and every grouping.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_cpu::{Adafactor, Isa};
use half::{bf16, f16};
use proptest::prelude::*;
use support::{bits, state_bits};

type Outcome = (Vec<Vec<u64>>, Vec<Vec<u64>>);

macro_rules! outcome {
    ($element:ty, $case:expr, $threads:expr, $isa:expr) => {{
        let list = $case.list();
        let builder = Adafactor::<$element>::builder(&$case.arguments, &list);
        let optimizer = builder.threads($threads).isa($isa).build().unwrap();
        let (parameters, state) = $case.run(optimizer);
        let parameters: Vec<_> = parameters.iter().map(|p| bits(p)).collect();
        (parameters, state_bits(&state))
    }};
}

macro_rules! invariant {
    ($element:ty, $case:expr) => {{
        let expected: Outcome = outcome!($element, $case, 1, Isa::PORTABLE);
        for isa in Isa::available() {
            for threads in [1, 2, 3, 7, 16] {
                let actual: Outcome = outcome!($element, $case, threads, isa);
                prop_assert!(expected == actual, "{} threads, {}", threads, isa.name());
            }
        }
    }};
}

proptest! {
    #![proptest_config(support::config(24))]

    #[test]
    fn float32_is_invariant(case in support::case()) {
        invariant!(f32, case);
    }

    #[test]
    fn float64_is_invariant(case in support::case()) {
        invariant!(f64, case);
    }

    #[test]
    fn bfloat16_is_invariant(case in support::case()) {
        invariant!(bf16, case);
    }

    #[test]
    fn float16_is_invariant(case in support::case()) {
        invariant!(f16, case);
    }
}

/// Kernels ask further ahead in a list that is larger than the caches: the same bits.
#[test]
fn a_large_neighbour_changes_nothing() {
    let shapes: [&[usize]; 6] =
        [&[70, 600], &[41, 1000], &[9, 1100], &[100, 256], &[40, 5], &[33, 3, 3]];
    let values = |elements: usize, scale: f32| -> Vec<f32> {
        (0..elements).map(|i| ((i * 37 % 101) as f32 - 50.0) * scale).collect()
    };
    let own = shapes.len();
    let steps = |neighbour: Option<usize>, isa: Isa| {
        let shapes = shapes.iter().copied().map(<[usize]>::to_vec);
        let shapes: Vec<_> = shapes.chain(neighbour.map(|elements| vec![elements])).collect();
        let parameter = |(i, shape): (usize, &Vec<usize>)| Parameter::new(format!("p{i}"), shape);
        let list = shapes.iter().enumerate().map(parameter).collect::<Result<_, _>>();
        let list = ParameterList::new(list.unwrap()).unwrap();
        let arguments = AdafactorArguments::default();
        let builder = Adafactor::<f32>::builder(&arguments, &list).threads(1).isa(isa);
        let mut optimizer = builder.build().unwrap();
        let sizes = shapes.iter().map(|shape| shape.iter().product());
        let mut parameters: Vec<_> = sizes.map(|elements| values(elements, 0.01)).collect();
        let gradients: Vec<_> = parameters.iter().map(|p| values(p.len(), 1e-3)).collect();
        for _ in 0..2 {
            let mut slices: Vec<_> = parameters.iter_mut().map(Vec::as_mut_slice).collect();
            let given = gradients.iter().zip(0..);
            let given: Vec<_> =
                given.map(|(g, i)| (i < own).then_some(Gradient::Dense(g.as_slice()))).collect();
            optimizer.step(&mut slices, &given).unwrap();
        }
        parameters.truncate(own);
        parameters.iter().map(|p| bits(p)).collect::<Vec<_>>()
    };
    for isa in Isa::available() {
        assert!(steps(None, isa) == steps(Some(4 << 20), isa), "{}", isa.name());
    }
}
