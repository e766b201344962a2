//! The same bits for every number of threads, every instruction set and every grouping.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

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
