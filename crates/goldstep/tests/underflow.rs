//! A dead row and a dead column of one matrix, and a dead slice, on the backends in host memory: NaN
//! as in Keras by default, the exact algebra's result on request.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use goldstep::{
    AdafactorArguments, Element, Gradient, HostOptimizer, Parameter, ParameterList,
    SecondMomentUnderflow, cpu,
};
use half::{bf16, f16};

const SHAPE: [usize; 2] = [3, 40];
const STEPS: u8 = 4;

/// Row 1 and column 17 have no gradient.
fn gradient<T: Element>() -> Vec<T> {
    let element = |index: usize| {
        let (row, column) = (index / SHAPE[1], index % SHAPE[1]);
        let size = f64::from(u8::try_from(index % 7).unwrap() + 1) / 8.0;
        if row == 1 || column == 17 { 0.0 } else { size }
    };
    (0..SHAPE[0] * SHAPE[1]).map(|index| T::round_from(element(index))).collect()
}

fn run<T: Element, O: HostOptimizer<T>>(underflow: SecondMomentUnderflow) -> Vec<f64> {
    let builder = AdafactorArguments::builder().learning_rate(0.5);
    let arguments = builder.second_moment_underflow(underflow).build().unwrap();
    let parameters = ParameterList::new(vec![Parameter::new("w", &SHAPE).unwrap()]).unwrap();
    let mut optimizer = O::build(&arguments, &parameters).unwrap();
    let gradient = gradient::<T>();
    let mut w = vec![T::round_from(1.0); gradient.len()];
    for _ in 0..STEPS {
        optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&gradient))]).unwrap();
    }
    w.into_iter().map(Element::to_f64).collect()
}

fn both<T: Element, O: HostOptimizer<T>>() {
    if T::DTYPE != goldstep::DType::Float64 {
        let w = run::<T, O>(SecondMomentUnderflow::MatchKeras);
        assert!(w.iter().all(|value| value.is_nan()), "{w:?}");
    }
    // In float64 nothing underflows, so that Keras's own formula is the exact algebra's.
    let exact = run::<f64, goldstep_reference::Adafactor<f64>>(SecondMomentUnderflow::MatchKeras);
    let w = run::<T, O>(SecondMomentUnderflow::Finite);
    // The rule for free-running variables, which start at 1.
    let allowed = (4.0 + f64::from(STEPS) / 4.0) * T::DTYPE.epsilon();
    for (value, exact) in w.iter().zip(&exact) {
        assert!((value - exact).abs() <= allowed, "{value} instead of {exact}, allowed {allowed}");
    }
    assert!(exact.iter().any(|value| *value < 0.9), "the run moves: {exact:?}");
}

/// A slice without a gradient and no ε₁, an expert without tokens say: its factors are 0 throughout.
fn dead_slice<T: Element, O: HostOptimizer<T>>() {
    for [rows, columns] in [[3, 40], [300, 7], [2, 600], [1, 1]] {
        for underflow in [SecondMomentUnderflow::MatchKeras, SecondMomentUnderflow::Finite] {
            let builder = AdafactorArguments::builder().learning_rate(0.5).epsilon_1(0.0);
            let arguments = builder.second_moment_underflow(underflow).build().unwrap();
            let parameter = Parameter::new("w", &[2, rows, columns]).unwrap();
            let parameters = ParameterList::new(vec![parameter]).unwrap();
            let mut optimizer = O::build(&arguments, &parameters).unwrap();
            let slice = rows * columns;
            let mut gradient = vec![T::round_from(0.0); 2 * slice];
            gradient[slice..].fill(T::round_from(0.5));
            let mut w = vec![T::round_from(1.0); 2 * slice];
            for _ in 0..STEPS {
                optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&gradient))]).unwrap();
            }
            let w: Vec<f64> = w.into_iter().map(Element::to_f64).collect();
            if underflow == SecondMomentUnderflow::MatchKeras {
                assert!(w.iter().all(|value| value.is_nan()), "{rows} x {columns}: {w:?}");
            } else {
                let (dead, alive) = w.split_at(slice);
                let unmoved = dead.iter().all(|value| value.to_bits() == 1.0_f64.to_bits());
                let moved = alive.iter().all(|value| *value < 0.9);
                assert!(unmoved && moved, "{rows} x {columns}: {w:?}");
            }
        }
    }
}

macro_rules! backends {
    ($($name:ident: $element:ty, $optimizer:ty;)*) => {$(
        #[test]
        fn $name() {
            both::<$element, $optimizer>();
            dead_slice::<$element, $optimizer>();
        }
    )*};
}

backends! {
    cpu_float64: f64, cpu::Adafactor<f64>;
    cpu_float32: f32, cpu::Adafactor<f32>;
    cpu_bfloat16: bf16, cpu::Adafactor<bf16>;
    cpu_float16: f16, cpu::Adafactor<f16>;
    reference_float64: f64, goldstep_reference::Adafactor<f64>;
    reference_float32: f32, goldstep_reference::Adafactor<f32>;
    reference_bfloat16: bf16, goldstep_reference::Adafactor<bf16>;
}
