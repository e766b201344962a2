//! The fast optimizer against the scalar reference: same arithmetic up to the order of sums.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use goldstep_core::{
    AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment,
};
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
        spread: 0.0,
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
        spread: 0.0,
    };
    check::<f32>(&case, f64::from(f32::EPSILON)).unwrap();
}

/// The sum of the squares of a row is in the normal range, and their mean is not.
#[test]
fn means_below_the_normal_range_agree() {
    let arguments = AdafactorArguments::builder().learning_rate(0.01).epsilon_1(1e-36);
    let case = Case {
        shapes: vec![vec![259, 535]],
        arguments: arguments.build().unwrap(),
        steps: 3,
        seed: 2_490_598_220_539_482_025,
        gradient_scale: 1e-19,
        irregular: false,
        spread: 0.0,
    };
    check::<f32>(&case, f64::from(f32::EPSILON)).unwrap();
}

/// One step with a gradient that repeats `pattern`, in both.
fn one_step(arguments: &AdafactorArguments, shape: &[usize], start: f32, pattern: &[f32]) {
    steps(1, arguments, shape, start, pattern);
}

/// So many of them.
fn steps(
    count: usize,
    arguments: &AdafactorArguments,
    shape: &[usize],
    start: f32,
    pattern: &[f32],
) {
    let list = ParameterList::new(vec![Parameter::new("w", shape).unwrap()]).unwrap();
    let elements = shape.iter().product();
    let gradient: Vec<f32> = pattern.iter().copied().cycle().take(elements).collect();
    let gradient = [Some(Gradient::Dense(&gradient[..]))];
    let (mut ours, mut theirs) = (vec![start; elements], vec![start; elements]);
    let mut cpu = Cpu::<f32>::build(arguments, &list).unwrap();
    let mut reference = Reference::<f32>::build(arguments, &list).unwrap();
    for _ in 0..count {
        cpu.step(&mut [&mut ours], &gradient).unwrap();
        reference.step(&mut [&mut theirs], &gradient).unwrap();
    }
    for (at, (x, y)) in ours.iter().zip(&theirs).enumerate() {
        let allowed = 16.0 * f32::EPSILON * start.abs().max(y.abs()) + f32::MIN_POSITIVE;
        let agree = (x.is_nan() && y.is_nan()) || (x - y).abs() <= allowed;
        assert!(agree, "{shape:?} {pattern:?} [{at}]: {x:e} and {y:e}");
    }
}

/// Shapes of each kernel, from which odd and even columns get different elements of a pattern of two.
const SHAPES: [&[usize]; 10] = [
    &[2],
    &[1, 2],
    &[2, 2],
    &[4, 4],
    &[20, 80],
    &[9, 600],
    &[300, 8],
    &[3, 17_000],
    &[16, 1, 2],
    &[32, 2, 4],
];

/// `g²/r` of a small column beside a large one is below the normal range, and with it a half of
/// `rms(u)`.
#[test]
fn columns_of_very_different_size_agree() {
    let with = |threshold| {
        let builder = AdafactorArguments::builder().learning_rate(0.1).clip_threshold(threshold);
        builder.build().unwrap()
    };
    for shape in SHAPES {
        for (large, small) in [(1e12, 1e-12), (1e8, 1e-14), (1e7, 1e-14), (1e4, 1e-6)] {
            one_step(&with(0.5), shape, 1.0, &[large, small]);
            one_step(&with(0.01), shape, 1.0, &[large, small]);
        }
    }
}

/// TensorFlow flushes what is below the normal range, and `ε₁` hides that only where it is large.
#[test]
fn squares_below_the_normal_range_are_zero() {
    let with = |epsilon_1| {
        let builder = AdafactorArguments::builder().learning_rate(1.0).epsilon_1(epsilon_1);
        builder.build().unwrap()
    };
    for shape in SHAPES {
        one_step(&with(2e-37), shape, 1.0, &[1.05e-19, 1e-19, -1.05e-19, 1.05e-19]);
        one_step(&with(2e-37), shape, 1.0, &[1.2e-19, 1e-19]);
        one_step(&with(0.0), shape, 1.0, &[1.05e-19, 1.7e-19]);
        one_step(&with(1e-30), shape, 0.0, &[1e-39, -1e-39]);
        one_step(&with(1e-30), shape, 0.0, &[1e-25, 1e-26]);
    }
    one_step(&with(0.0), &[3, 3], 1.0, &[1.05e-19, 1.05e-19, 1.7e-19, 1.7e-19, 1.05e-19]);
}

/// The gradient of a frozen layer, or of an expert without tokens.
#[test]
fn gradients_of_zeros_agree() {
    let builder = || AdafactorArguments::builder().learning_rate(0.1);
    for arguments in [
        builder(),
        builder().clipnorm(0.5),
        builder().global_clipnorm(0.5),
        builder().clipvalue(0.5),
        builder().weight_decay(0.1),
        builder().clip_threshold(1e-6),
    ] {
        let arguments = arguments.build().unwrap();
        for shape in SHAPES.into_iter().chain([&[257, 130][..], &[40, 3, 3], &[2, 16_400]]) {
            for pattern in [&[0.0][..], &[-1e-40, 0.0], &[0.0, 1e-25]] {
                for start in [0.0, 1.0] {
                    steps(2, &arguments, shape, start, pattern);
                }
            }
        }
    }
}

/// Both products of `β₂ v + (1 − β₂)(g² + ε₁)` fall below the normal range, and their sum does not.
#[test]
fn products_below_the_normal_range_are_zero() {
    for (epsilon_1, gradient) in [(0.0, 1.41e-19), (1.1e-38, 1.2e-19), (1e-37, 1e-30)] {
        let builder = AdafactorArguments::builder().learning_rate(1.0).epsilon_1(epsilon_1);
        let arguments = builder.build().unwrap();
        for shape in SHAPES {
            for count in 1..=4 {
                steps(count, &arguments, shape, 1.0, &[gradient]);
            }
        }
    }
}

#[test]
fn a_step_size_below_the_normal_range_is_zero() {
    let arguments = AdafactorArguments::builder().learning_rate(1e-37).build().unwrap();
    for shape in SHAPES {
        let list = ParameterList::new(vec![Parameter::new("w", shape).unwrap()]).unwrap();
        let elements: usize = shape.iter().product();
        let (mut ours, mut theirs) = (vec![0.0_f32; elements], vec![0.0_f32; elements]);
        let ones = vec![1.0; elements];
        let gradient = [Some(Gradient::Dense(&ones[..]))];
        Cpu::build(&arguments, &list).unwrap().step(&mut [&mut ours], &gradient).unwrap();
        Reference::build(&arguments, &list).unwrap().step(&mut [&mut theirs], &gradient).unwrap();
        assert!(ours == theirs && theirs == vec![0.0; elements], "{shape:?}: {}", ours[0]);
    }
}

/// Keras multiplies by the norm before it divides, and either may leave the normal range.
#[test]
fn a_norm_that_overflows_or_underflows_agrees() {
    for shape in SHAPES {
        for (norm, pattern) in [
            (10.0, [1e38, 1.0]),
            (1e30, [1e10, 1.0]),
            (5e-20, [1e-20, 1e-20]),
            (1e-12, [1.0, 1e-30]),
        ] {
            let arguments = AdafactorArguments::builder().learning_rate(0.1).clipnorm(norm);
            one_step(&arguments.build().unwrap(), shape, 1.0, &pattern);
        }
    }
}

/// In one chain of equal values each addition rounds the same way.
#[test]
fn the_second_moment_is_rebuilt_as_exactly_as_in_float64() {
    let list = ParameterList::new(vec![Parameter::new("w", &[100_000, 2]).unwrap()]).unwrap();
    let arguments = AdafactorArguments::default();
    let (mut parameter, gradient) = (vec![1.0_f64; 200_000], vec![0.3_f64; 200_000]);
    let mut optimizer = Cpu::<f64>::build(&arguments, &list).unwrap();
    optimizer.step(&mut [&mut parameter], &[Some(Gradient::Dense(&gradient))]).unwrap();
    for v in optimizer.second_moment(0) {
        assert!((v / 0.09 - 1.0).abs() <= 24.0 * f64::EPSILON, "{v}");
    }
}

/// The factors of a constant gradient in units of epsilon from its square.
fn distance_of_equal_squares<T: CpuElement>(shape: &[usize], value: f64) -> f64 {
    let list = ParameterList::new(vec![Parameter::new("w", shape).unwrap()]).unwrap();
    let elements = shape.iter().product();
    let (mut parameter, gradient) =
        (vec![T::round_from(1.0); elements], vec![T::round_from(value); elements]);
    let builder = Cpu::<T>::builder(&AdafactorArguments::default(), &list).threads(1).build();
    let mut optimizer = builder.unwrap();
    optimizer.step(&mut [&mut parameter], &[Some(Gradient::Dense(&gradient))]).unwrap();
    let square = T::round_from(T::round_from(value).to_f64().powi(2)).to_f64();
    let SecondMoment::Factored { row_factor, column_factor } =
        &optimizer.state().variables[0].second_moment
    else {
        return 0.0;
    };
    let factors = row_factor.to_vec::<f64>().into_iter().chain(column_factor.to_vec::<f64>());
    factors.map(|x| (x / square - 1.0).abs() / T::DTYPE.epsilon()).fold(0.0, f64::max)
}

/// Half of what is allowed, in every kind of kernel.
#[test]
fn factors_of_equal_squares_are_exact_to_a_few_digits() {
    let shapes: [&[usize]; 15] = [
        &[511, 15],
        &[4136, 8],
        &[4000, 3],
        &[4000, 40],
        &[4000, 70],
        &[700, 700],
        &[9, 5000],
        &[2000, 2],
        &[5000, 1],
        &[4, 20_000],
        &[200, 16_400],
        &[256, 16_400],
        &[1, 1_000_000],
        &[2, 600_000],
        &[64, 3, 3],
    ];
    let mut numbers = support::Numbers(12_345);
    for shape in shapes {
        for _ in 0..20 {
            let value = 0.6 + numbers.uniform() / 2.0;
            let single = distance_of_equal_squares::<f32>(shape, value);
            let double = distance_of_equal_squares::<f64>(shape, value);
            assert!(single <= 8.0 && double <= 8.0, "{shape:?} {value}: {single} and {double}");
        }
    }
}
