//! The fast optimizer against the scalar reference: same arithmetic up to the order of sums.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use goldstep_core::{AdafactorArguments, HostOptimizer};
use goldstep_cpu::{Adafactor as Cpu, CpuElement};
use goldstep_reference::Adafactor as Reference;
use proptest::prelude::*;
use support::Case;

/// Free-running tolerance of the conformance suite.
fn check<T: CpuElement>(case: &Case, epsilon: f64) -> Result<(), TestCaseError> {
    let list = case.list();
    let expected = case.run(Reference::<f64>::build(&case.arguments, &list).unwrap());
    let literal = case.run(Reference::<T>::build(&case.arguments, &list).unwrap());
    let actual = case.run(Cpu::<T>::build(&case.arguments, &list).unwrap());
    let initial = case.initial::<T>();
    for (i, parameter) in list.iter().enumerate() {
        let size = initial[i].iter().chain(&actual.0[i]).map(|x| x.to_f64().abs());
        let size = size.filter(|x| x.is_finite()).fold(0.0, f64::max);
        let allowed = (4.0 + case.steps as f64 / 4.0) * epsilon * size;
        for (at, (x, y)) in actual.0[i].iter().zip(&literal.0[i]).enumerate() {
            let (x, y, exact) = (x.to_f64(), y.to_f64(), expected.0[i][at]);
            prop_assert_eq!(
                x.is_nan(),
                y.is_nan(),
                "{} {:?} [{}] {} {} {}",
                parameter.name(),
                parameter.shape(),
                at,
                x,
                y,
                exact
            );
            prop_assert!(
                y.is_nan() || (x - y).abs() <= allowed || (x - exact).abs() <= allowed,
                "{} {:?} [{}]: {} and {} ({})",
                parameter.name(),
                parameter.shape(),
                at,
                x,
                y,
                exact
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(support::config(96))]

    #[test]
    fn float32_agrees(case in support::case()) {
        check::<f32>(&case, f64::from(f32::EPSILON))?;
    }

    #[test]
    fn float64_agrees(mut case in support::case()) {
        // The reference adds one value after the other. In float32 the float64 run is the judge; in
        // float64 there is none, and long sums would be judged by the reference's own error.
        case.shapes.retain(|shape| shape.iter().product::<usize>() <= 2048);
        case.shapes.push(vec![7, 33]);
        check::<f64>(&case, f64::EPSILON)?;
    }
}

/// Clipped gradients have equal squares, which round the same way at every addition of a chain.
#[test]
fn equal_squares_agree() {
    let arguments = AdafactorArguments::builder().learning_rate(0.7).clipvalue(1e-3);
    let case = Case {
        shapes: vec![vec![4000, 3], vec![4000, 40], vec![4000, 70], vec![4000, 200]],
        arguments: arguments.build().unwrap(),
        steps: 2,
        seed: 5_661_808_261_923_053_228,
        gradient_scale: 0.1,
        irregular: false,
    };
    check::<f32>(&case, f64::from(f32::EPSILON)).unwrap();
}

/// With one row of zeros all updates of the other are equal, and the matrix takes the literal way.
#[test]
fn equal_updates_beside_a_dead_row_agree() {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.850_035_256_230_904_7)
        .clip_threshold(0.355_050_708_334_246_1);
    let case = Case {
        shapes: vec![vec![535, 599], vec![15, 1], vec![2, 16_394], vec![65_543]],
        arguments: arguments.build().unwrap(),
        steps: 2,
        seed: 18_012_041_122_200_658_786,
        gradient_scale: 0.1,
        irregular: true,
    };
    check::<f32>(&case, f64::from(f32::EPSILON)).unwrap();
}
