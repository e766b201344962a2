//! The libtorch backend beside the scalar reference, over shapes, arguments and values, for both
//! ways of computing a step. What tf.keras says is checked by `cargo xtask verify`.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]
#![expect(clippy::cast_precision_loss, reason = "counts of elements are far below 2^53")]

use goldstep_core::{
    AdafactorArguments, AdafactorArgumentsBuilder, Element, Gradient as HostGradient,
    HostOptimizer, Parameter, ParameterList, SecondMomentUnderflow,
};
use goldstep_torch::{Adafactor, Gradient};
use tch::{Device, Kind, Tensor};

const SHAPES: [&[usize]; 12] = [
    &[],
    &[1],
    &[7],
    &[5000],
    &[1, 1],
    &[3, 5],
    &[257, 129],
    &[2, 3, 4],
    &[6, 1, 2, 3],
    &[3, 70, 80],
    &[0, 3],
    &[2, 0, 3],
];

/// A fixed sequence of numbers in [-1, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(1_u32 << 31) - 1.0
    }

    fn tensor(&mut self, elements: usize, scale: f64) -> Vec<f64> {
        (0..elements).map(|_| self.next() * scale).collect()
    }
}

/// A gradient for each parameter from its shape, if it gets one.
type Gradients<'a> = &'a mut dyn FnMut(usize, &[usize]) -> Option<Vec<f64>>;

/// The largest difference of a parameter, relative to the parameter's largest magnitude.
fn compare<T: Element>(
    kind: Kind,
    arguments: AdafactorArgumentsBuilder,
    shapes: &[&[usize]],
    steps: u64,
    whole: bool,
    gradients: Gradients<'_>,
) -> f64 {
    let arguments = arguments.build().unwrap();
    let named = |(index, shape): (usize, &&[usize])| Parameter::new(format!("p{index}"), shape);
    let list: Result<_, _> = shapes.iter().enumerate().map(named).collect();
    let list = ParameterList::new(list.unwrap()).unwrap();
    let mut numbers = Numbers(7);
    let initial: Vec<Vec<f64>> = list.iter().map(|p| numbers.tensor(p.elements(), 2.0)).collect();

    let mut expected: Vec<Vec<T>> = initial.iter().map(|values| round(values)).collect();
    let mut reference = goldstep_reference::Adafactor::build(&arguments, &list).unwrap();
    let axes = |shape: &[usize]| -> Vec<i64> {
        shape.iter().map(|axis| i64::try_from(*axis).unwrap()).collect()
    };
    let tensor = |values: &[f64], shape: &[usize]| {
        Tensor::from_slice(values).to_kind(kind).reshape(axes(shape))
    };
    let tensors: Vec<Tensor> =
        initial.iter().zip(shapes).map(|(values, shape)| tensor(values, shape)).collect();
    let mut optimizer = Adafactor::new(&arguments, &list, &tensors).unwrap();
    if whole {
        optimizer.use_whole_tensors();
    }
    let mut worst: f64 = 0.0;
    for step in 0..steps {
        let values: Vec<Option<Vec<f64>>> =
            shapes.iter().enumerate().map(|(index, shape)| gradients(index, shape)).collect();
        let typed: Vec<Option<Vec<T>>> =
            values.iter().map(|values| values.as_deref().map(round)).collect();
        let mut targets: Vec<&mut [T]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
        let borrowed: Vec<_> =
            typed.iter().map(|values| values.as_deref().map(HostGradient::Dense)).collect();
        reference.step(&mut targets, &borrowed).unwrap();
        let given: Vec<Option<Gradient>> = values
            .iter()
            .zip(shapes)
            .map(|(values, shape)| values.as_ref().map(|v| Gradient::Tensor(tensor(v, shape))))
            .collect();
        optimizer.step(&given).unwrap();
        for ((index, expected), actual) in expected.iter().enumerate().zip(&tensors) {
            let actual = host(actual);
            let expected: Vec<f64> = expected.iter().map(|value| value.to_f64()).collect();
            let what = format!("step {step}, shape {:?}, whole {whole}", shapes[index]);
            worst = worst.max(difference(&expected, &actual, &what));
            let v: Vec<f64> =
                reference.second_moment(index).iter().map(|value| value.to_f64()).collect();
            let own = host(&optimizer.second_moment(index).unwrap());
            let floor = T::DTYPE.min_positive();
            // The reference adds up the squares of a gradient one after another when it clips by a
            // norm: its own rounding grows like the root of their number.
            let allowed = (24.0 + (v.len() as f64).sqrt()) * T::DTYPE.epsilon();
            for (expected, actual) in v.iter().zip(&own) {
                let close = (expected - actual).abs() <= allowed * expected.abs() + floor;
                let same = close
                    || expected.to_bits() == actual.to_bits()
                    || expected.is_nan() && actual.is_nan();
                assert!(same, "v: {expected} {actual}, {what}");
            }
        }
    }
    worst
}

fn round<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|value| T::round_from(*value)).collect()
}

fn host(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap()
}

fn difference(expected: &[f64], actual: &[f64], what: &str) -> f64 {
    let finite = expected.iter().copied().filter(|value| value.is_finite());
    let scale = finite.fold(f64::MIN_POSITIVE, |scale, value| scale.max(value.abs()));
    let mut worst: f64 = 0.0;
    for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
        if expected.is_finite() && actual.is_finite() {
            worst = worst.max((expected - actual).abs() / scale);
        } else {
            let same =
                expected.is_nan() && actual.is_nan() || expected.to_bits() == actual.to_bits();
            assert!(same, "element {index}: {expected} {actual}, {what}");
        }
    }
    worst
}

fn builder() -> AdafactorArgumentsBuilder {
    AdafactorArguments::builder().learning_rate(0.9)
}

/// Arguments that each change the step.
fn variants() -> Vec<AdafactorArgumentsBuilder> {
    vec![
        builder(),
        builder().learning_rate(0.01).beta_2_decay(-0.65).epsilon_1(1e-3).epsilon_2(0.05),
        builder().clip_threshold(0.5).weight_decay(0.04),
        builder().clipnorm(0.5),
        builder().clipvalue(0.3).weight_decay(0.004),
        builder().global_clipnorm(0.8),
        builder().use_ema(true).ema_momentum(0.5).ema_overwrite_frequency(2),
        builder().epsilon_1(0.0).epsilon_2(0.0),
    ]
}

fn both_ways<T: Element>(kind: Kind, tolerance: f64) {
    for (index, arguments) in variants().into_iter().enumerate() {
        for whole in [false, true] {
            let mut numbers = Numbers(11);
            let mut step = 0;
            let mut gradients = |index: usize, shape: &[usize]| {
                step += 1;
                // Now and then one is missing.
                (index == 3 || (step / SHAPES.len() + index) % 5 != 4)
                    .then(|| numbers.tensor(shape.iter().product(), 0.1))
            };
            let worst = compare::<T>(kind, arguments.clone(), &SHAPES, 5, whole, &mut gradients);
            assert!(worst <= tolerance, "variant {index}, whole {whole}: {worst:e}");
        }
    }
}

#[test]
fn float64_agrees() {
    both_ways::<f64>(Kind::Double, 2e-14);
}

#[test]
fn float32_agrees() {
    both_ways::<f32>(Kind::Float, 2e-6);
}

/// Gradients that leave the normal range somewhere, one after another, each for two steps.
#[test]
fn extreme_values_agree() {
    let mut gradients: Vec<(&str, Vec<f64>)> = vec![
        ("zeros", vec![0.0; 12]),
        ("tiny", vec![1e-16; 12]),
        ("subnormal", vec![1e-40; 12]),
        ("large", vec![1e20; 12]),
        ("largest", vec![f64::from(f32::MAX); 12]),
    ];
    let ordinary = |index: usize| 0.1 + f64::from(u8::try_from(index).unwrap()) / 20.0;
    let mut spoil = |name, at: &[usize], value: f64| {
        let spoilt = |index| if at.contains(&index) { value } else { ordinary(index) };
        gradients.push((name, (0..12).map(spoilt).collect()));
    };
    spoil("zero row", &[0, 1, 2, 3], 0.0);
    spoil("zero column", &[1, 5, 9], 0.0);
    spoil("zero row and column", &[0, 1, 2, 3, 5, 9], 0.0);
    spoil("one NaN", &[6], f64::NAN);
    spoil("one infinity", &[6], f64::NEG_INFINITY);
    spoil("one large", &[6], 1e20);
    spoil("one subnormal", &[6], 1e-40);
    for (name, even, odd) in [("columns apart", 1e12, 1e-12), ("columns further apart", 1e8, 1e-14)]
    {
        let value = |index| if index % 2 == 0 { even } else { odd };
        gradients.push((name, (0..12).map(value).collect()));
    }
    for (name, values) in &gradients {
        for shape in [&[3_usize, 4][..], &[12], &[3, 2, 2]] {
            for whole in [false, true] {
                for arguments in variants() {
                    let mut gradient = |_: usize, _: &[usize]| Some(values.clone());
                    let worst =
                        compare::<f32>(Kind::Float, arguments, &[shape], 2, whole, &mut gradient);
                    assert!(worst <= 2e-6, "{name}, {shape:?}, whole {whole}: {worst:e}");
                }
            }
        }
    }
}

/// What one step makes of one parameter.
fn stepped(
    arguments: &AdafactorArguments,
    shape: &[usize],
    x: &Tensor,
    gradient: &Tensor,
    whole: bool,
) -> Vec<f64> {
    let list = ParameterList::new(vec![Parameter::new("x", shape).unwrap()]).unwrap();
    let axes: Vec<i64> = shape.iter().map(|axis| i64::try_from(*axis).unwrap()).collect();
    let x = x.reshape(&axes).copy();
    let mut optimizer = Adafactor::new(arguments, &list, &[x.shallow_clone()]).unwrap();
    if whole {
        optimizer.use_whole_tensors();
    }
    optimizer.step(&[Some(Gradient::Tensor(gradient.reshape(&axes)))]).unwrap();
    host(&x)
}

/// TensorFlow reads them as 0.
#[test]
fn subnormal_gradients_move_nothing() {
    let arguments = builder().build().unwrap();
    for (kind, subnormal) in [(Kind::Float, 1e-40), (Kind::Double, 1e-310)] {
        let x = Tensor::from_slice(&[0.0, 1.0, 1.0, 1.0]).to_kind(kind);
        let gradient = Tensor::from_slice(&[subnormal, 0.1, 0.2, 0.3]).to_kind(kind);
        for (shape, whole) in [(&[4][..], true), (&[2, 2], true), (&[2, 2], false)] {
            let x = stepped(&arguments, shape, &x, &gradient, whole);
            assert_eq!(x[0].abs().to_bits(), 0, "{kind:?}, {shape:?}, whole {whole}: {x:?}");
            assert!(x[1] < 0.9, "{x:?}");
        }
    }
}

/// With an ε₁ of 0 the factors of a matrix without a gradient are 0, and `v` is 0/0.
#[test]
fn a_matrix_without_gradient_stays_where_results_are_finite() {
    let arguments = builder().epsilon_1(0.0);
    let arguments =
        arguments.second_moment_underflow(SecondMomentUnderflow::Finite).build().unwrap();
    let x = Tensor::ones([8], (Kind::Float, Device::Cpu));
    let gradient = Tensor::from_slice(&[0.0_f32, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4]);
    for whole in [false, true] {
        let stack = stepped(&arguments, &[2, 2, 2], &x, &gradient, whole);
        assert_eq!(stack[..4].to_vec(), vec![1.0; 4], "{stack:?}");
        assert!(stack[4..].iter().all(|x| *x < 0.99), "{stack:?}");
        let matrix = stepped(&arguments, &[2, 4], &x, &gradient.zeros_like(), whole);
        assert_eq!(matrix, vec![1.0; 8]);
    }
}

#[test]
fn halves_follow_float32_arithmetic() {
    for kind in [Kind::BFloat16, Kind::Half] {
        let shapes: [&[usize]; 3] = [&[7], &[3, 5], &[2, 3, 4]];
        let steps = |kind, whole| {
            let arguments = builder().learning_rate(0.05).build().unwrap();
            let list = shapes.iter().enumerate();
            let list = list.map(|(i, shape)| Parameter::new(format!("p{i}"), shape).unwrap());
            let list = ParameterList::new(list.collect()).unwrap();
            let mut numbers = Numbers(3);
            let mut tensor = |scale: f64, shape: &[usize]| {
                let values = numbers.tensor(shape.iter().product(), scale);
                let axes: Vec<i64> = shape.iter().map(|a| i64::try_from(*a).unwrap()).collect();
                // Rounded to the half type in both runs, so that both start from the same values.
                let half = if kind == Kind::Float { Kind::BFloat16 } else { kind };
                Tensor::from_slice(&values).to_kind(half).to_kind(kind).reshape(axes)
            };
            let tensors: Vec<Tensor> = shapes.iter().map(|shape| tensor(2.0, shape)).collect();
            let mut optimizer = Adafactor::new(&arguments, &list, &tensors).unwrap();
            if whole {
                optimizer.use_whole_tensors();
            }
            for _ in 0..3 {
                let gradients: Vec<_> =
                    shapes.iter().map(|s| Some(Gradient::Tensor(tensor(0.1, s)))).collect();
                optimizer.step(&gradients).unwrap();
            }
            tensors.iter().flat_map(host).collect::<Vec<f64>>()
        };
        let (blocks, whole) = (steps(kind, false), steps(kind, true));
        assert_eq!(blocks, whole, "{kind:?}");
        assert_ne!(blocks[0].to_bits(), 2.0_f64.to_bits());
        if kind == Kind::BFloat16 {
            for (half, float) in blocks.iter().zip(steps(Kind::Float, false)) {
                assert!((half - float).abs() <= 3.0 * 2.0_f64.powi(-8) * 2.0, "{half} {float}");
            }
        }
    }
}

#[test]
fn devices_do_not_matter_for_sparse_gradients() {
    let list = ParameterList::new(vec![Parameter::new("table", &[5, 2]).unwrap()]).unwrap();
    for builder in variants() {
        let arguments = builder.build().unwrap();
        let start = [0.5, -0.25, 1.5, 2.0, -1.0, 0.125, 0.75, -2.0, 3.0, 1.0];
        let mut expected = start;
        let mut reference = goldstep_reference::Adafactor::build(&arguments, &list).unwrap();
        let table = Tensor::from_slice(&start).reshape([5, 2]);
        let mut rows_optimizer =
            Adafactor::new(&arguments, &list, &[table.shallow_clone()]).unwrap();
        let other = Tensor::from_slice(&start).reshape([5, 2]);
        let mut coo_optimizer =
            Adafactor::new(&arguments, &list, &[other.shallow_clone()]).unwrap();
        for step in 0..3 {
            let indices = [3_i64, 0, 3, 4 - step];
            let values: Vec<f64> = (0..8_i8).map(|i| 0.1 * f64::from(i) - 0.3).collect();
            let gradient = HostGradient::Sparse { indices: &indices, values: &values };
            reference.step(&mut [&mut expected], &[Some(gradient)]).unwrap();
            let indices = Tensor::from_slice(&indices);
            let values = Tensor::from_slice(&values).reshape([4, 2]);
            let coo = Tensor::sparse_coo_tensor_indices_size(
                &indices.unsqueeze(0),
                &values,
                [5, 2],
                (Kind::Double, Device::Cpu),
                false,
            );
            rows_optimizer.step(&[Some(Gradient::Rows { indices, values })]).unwrap();
            coo_optimizer.step(&[Some(Gradient::Tensor(coo))]).unwrap();
            for tensor in [&table, &other] {
                assert!(difference(&expected, &host(tensor), "sparse") < 1e-14);
            }
        }
    }
}
