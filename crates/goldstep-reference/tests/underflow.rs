//! Dead rows and columns: NaN as in Keras by default, the exact algebra's result on request.
//!
//! The expectation is computed: in float64 the second moment of a dead element is not rounded to
//! zero, so that Keras's own formula gives the exact algebra's result there.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use goldstep_core::{
    AdafactorArguments, Element, Gradient, HostOptimizer, Parameter, ParameterList,
    SecondMomentUnderflow,
};
use goldstep_reference::Adafactor;
use half::{bf16, f16};
use proptest::prelude::*;

const STEPS: usize = 6;

/// Gradients of shape `[2, rows, columns]` whose dead rows and columns are zero.
#[derive(Debug, Clone)]
struct Case {
    rows: usize,
    columns: usize,
    initial: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

fn cases() -> impl Strategy<Value = Case> {
    let mask = |length| prop::collection::vec(any::<bool>(), length);
    (1_usize..5, 1_usize..6, 0_i32..2).prop_flat_map(move |(rows, columns, exponent)| {
        let elements = 2 * rows * columns;
        let values = || prop::collection::vec(-1.0_f32..1.0, elements);
        let gradients = prop::collection::vec(values(), STEPS);
        (values(), gradients, mask(rows), mask(columns)).prop_map(
            move |(initial, mut gradients, dead_rows, dead_columns)| {
                let scale = 1000.0_f32.powi(exponent);
                for (index, gradient) in gradients.iter_mut().flatten().enumerate() {
                    let (row, column) = (index / columns % rows, index % columns);
                    let dead = dead_rows[row] || dead_columns[column];
                    *gradient = if dead { 0.0 } else { *gradient * scale };
                }
                Case { rows, columns, initial, gradients }
            },
        )
    })
}

fn run<T: Element>(case: &Case, underflow: SecondMomentUnderflow) -> Vec<T> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.5)
        .second_moment_underflow(underflow)
        .build()
        .unwrap();
    let parameter = Parameter::new("w", &[2, case.rows, case.columns]).unwrap();
    let parameters = ParameterList::new(vec![parameter]).unwrap();
    let mut optimizer = Adafactor::build(&arguments, &parameters).unwrap();
    let convert = |values: &[f32]| -> Vec<T> {
        values.iter().map(|value| T::round_from(f64::from(*value))).collect()
    };
    let mut w = convert(&case.initial);
    for gradient in &case.gradients {
        let gradient = convert(gradient);
        optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&gradient))]).unwrap();
    }
    assert_eq!(optimizer.iterations(), u64::try_from(case.gradients.len()).unwrap());
    w
}

fn assert_close<T: Element>(case: &Case) {
    let expected: Vec<f64> = run(case, SecondMomentUnderflow::MatchKeras);
    let actual: Vec<T> = run(case, SecondMomentUnderflow::Finite);
    let scale = case.initial.iter().map(|x| f64::from(x.abs())).chain(expected.clone());
    let scale = scale.fold(0.0_f64, |most, x| most.max(x.abs()));
    // The rule for free-running variables; both sides round the same inputs.
    let steps = f64::from(u8::try_from(STEPS).unwrap());
    let allowed = (4.0 + steps / 4.0) * T::DTYPE.epsilon() * scale;
    for (actual, expected) in actual.iter().zip(&expected) {
        let difference = (actual.to_f64() - expected).abs();
        assert!(difference <= allowed, "{actual:?} instead of {expected}, allowed {allowed}");
    }
}

fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    values.iter().map(|value| value.to_f64().to_bits()).collect()
}

proptest! {
    #[test]
    fn finite_is_the_exact_algebra(case in cases()) {
        assert_close::<f32>(&case);
    }

    #[test]
    fn finite_changes_nothing_that_keras_keeps_finite(case in cases()) {
        let keras: Vec<f32> = run(&case, SecondMomentUnderflow::MatchKeras);
        let finite: Vec<f32> = run(&case, SecondMomentUnderflow::Finite);
        if keras.iter().all(|value| value.is_finite()) {
            prop_assert_eq!(bits(&keras), bits(&finite));
        }
    }
}

fn one_dead_row_and_column() -> Case {
    let gradient = vec![0.0, 0.0, 0.0, 0.5, 0.0, 0.25, 0.0, 0.0, 0.0, 0.5, 0.0, 0.25];
    Case { rows: 2, columns: 3, initial: vec![1.0; 12], gradients: vec![gradient; STEPS] }
}

#[test]
fn by_default_a_dead_row_and_column_give_nan() {
    let w: Vec<f32> = run(&one_dead_row_and_column(), SecondMomentUnderflow::MatchKeras);
    assert!(w.iter().all(|value| value.is_nan()), "{w:?}");
}

#[test]
fn finite_leaves_dead_elements_alone_and_moves_the_others() {
    let w: Vec<f32> = run(&one_dead_row_and_column(), SecondMomentUnderflow::Finite);
    for (value, gradient) in w.iter().zip(&one_dead_row_and_column().gradients[0]) {
        assert_eq!(*value < 1.0, *gradient > 0.0, "{w:?}");
        assert_eq!(value.to_bits() == 1.0_f32.to_bits(), *gradient <= 0.0, "{w:?}");
    }
}

/// A gradient of which the factors see nothing, but for which there is an update.
#[test]
fn tiny_gradients_move_as_the_exact_algebra_says() {
    let mut case = one_dead_row_and_column();
    for (index, gradient) in case.gradients.iter_mut().flatten().enumerate() {
        if *gradient <= 0.0 {
            *gradient = if index % 2 == 0 { 1e-17 } else { -3e-17 };
        }
    }
    let keras: Vec<f32> = run(&case, SecondMomentUnderflow::MatchKeras);
    assert!(keras.iter().any(|value| !value.is_finite()), "{keras:?}");
    assert_close::<f32>(&case);
}

/// In float16 the default ε₁ is 0, so that dead factors are 0 themselves.
#[test]
fn halves_are_finite_too() {
    let case = one_dead_row_and_column();
    let keras: Vec<f16> = run(&case, SecondMomentUnderflow::MatchKeras);
    assert!(keras.iter().all(|value| value.is_nan()));
    let narrow: Vec<f16> = run(&case, SecondMomentUnderflow::Finite);
    let wide: Vec<f32> = run(&case, SecondMomentUnderflow::Finite);
    for (narrow, wide) in narrow.iter().zip(&wide) {
        assert!((f32::from(*narrow) - wide).abs() < 0.02, "{narrow} instead of {wide}");
    }
    assert_close::<bf16>(&case);
}

#[test]
fn vectors_without_epsilon_are_finite_too() {
    for (underflow, finite) in
        [(SecondMomentUnderflow::MatchKeras, false), (SecondMomentUnderflow::Finite, true)]
    {
        let builder = AdafactorArguments::builder().learning_rate(0.5).epsilon_1(0.0);
        let arguments = builder.second_moment_underflow(underflow).build().unwrap();
        let parameters = ParameterList::new(vec![Parameter::new("b", &[2]).unwrap()]).unwrap();
        let mut optimizer = Adafactor::build(&arguments, &parameters).unwrap();
        let mut b = [1.0_f32, 1.0];
        optimizer.step(&mut [&mut b], &[Some(Gradient::Dense(&[0.0, 0.5]))]).unwrap();
        assert_eq!(b.iter().all(|value| value.is_finite()), finite, "{b:?}");
    }
}
