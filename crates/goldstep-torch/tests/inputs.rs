//! Input that cannot be used is refused with a message that names the parameter, and changes
//! nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use goldstep_core::{AdafactorArguments, Error, LearningRate, Parameter, ParameterList, Schedule};
use goldstep_torch::{Adafactor, Gradient};
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn list(shapes: &[(&str, &[usize])]) -> ParameterList {
    let parameters = shapes.iter().map(|(name, shape)| Parameter::new(*name, shape).unwrap());
    ParameterList::new(parameters.collect()).unwrap()
}

fn refusal(shapes: &[(&str, &[usize])], tensors: &[Tensor]) -> String {
    let arguments = AdafactorArguments::default();
    Adafactor::new(&arguments, &list(shapes), tensors).unwrap_err().to_string()
}

#[test]
fn parameters_are_checked() {
    let w = [("w", &[2_usize, 3][..])];
    let two = [("w", &[2_usize, 3][..]), ("b", &[3])];
    let matrix = || Tensor::zeros([2, 3], F32);
    assert_eq!(refusal(&w, &[]), "number of parameters must be 1, got 0");
    assert_eq!(
        refusal(&w, &[Tensor::zeros([3, 2], F32)]),
        "parameter of w must have shape [2, 3], got [3, 2]"
    );
    assert_eq!(
        refusal(&w, &[Tensor::zeros([2, 3], (Kind::Int64, Device::Cpu))]),
        "parameter of w must be of kind Float, Double, Half or BFloat16, got Int64"
    );
    assert_eq!(
        refusal(&w, &[Tensor::new()]),
        "parameter of w must be a defined tensor, got an undefined one"
    );
    let (coo, csr) = (matrix().to_sparse_sparse_dim(2), matrix().to_sparse_csr(None));
    for other in [coo, csr, matrix().to_mkldnn()] {
        let message = "parameter of w must be dense, got a sparse or oneDNN tensor";
        assert_eq!(refusal(&w, &[other]), message);
    }
    let shared = matrix();
    assert_eq!(
        refusal(&two, &[shared.shallow_clone(), shared.get(1)]),
        "parameters must not overlap, got w and b in the same memory"
    );
}

/// `meta` tensors live on no device that tch can name; a second device needs hardware. What is
/// checked here is the rule itself, on the one comparison that every device goes through.
#[test]
fn gradients_are_checked_before_anything_is_written() {
    let parameters = list(&[("w", &[2, 3]), ("b", &[3])]);
    let (w, b) = (Tensor::ones([2, 3], F32), Tensor::ones([3], F32));
    let tensors = [w.shallow_clone(), b.shallow_clone()];
    let mut optimizer =
        Adafactor::new(&AdafactorArguments::default(), &parameters, &tensors).unwrap();
    let good = || Some(Gradient::Tensor(Tensor::ones([2, 3], F32)));
    let indices = |values: &[i64]| Tensor::from_slice(values);
    let rows = |indices: Tensor, values: Tensor| Some(Gradient::Rows { indices, values });
    let cases: Vec<(Vec<Option<Gradient>>, &str)> = vec![
        (vec![good()], "number of gradients must be 2, got 1"),
        (vec![None, None], "at least one parameter must have a gradient, got none of 2"),
        (
            vec![good(), Some(Tensor::ones([1], F32).into())],
            "gradient of b must have shape [3], got [1]",
        ),
        (
            vec![good(), Some(Tensor::ones([3], (Kind::Double, Device::Cpu)).into())],
            "gradient of b must be of kind Float, got Double",
        ),
        (
            vec![good(), Some(Tensor::new().into())],
            "gradient of b must be a defined tensor, got an undefined one",
        ),
        (
            vec![good(), Some(Tensor::ones([3], F32).to_mkldnn().into())],
            "gradient of b must be dense or sparse COO, got a tensor of another layout",
        ),
        (
            vec![Some(Tensor::ones([2, 3], F32).to_sparse_csr(None).into()), None],
            "gradient of w must be dense or sparse COO, got a tensor of another layout",
        ),
        (
            vec![rows(indices(&[0]), Tensor::ones([1, 3], F32).to_sparse_csr(None)), None],
            "gradient of w must have dense rows and row indices, got a tensor of another layout",
        ),
        (
            vec![rows(indices(&[0, 2]), Tensor::ones([2, 3], F32)), None],
            "row indices of w must be below 2, got 2",
        ),
        (
            vec![rows(indices(&[0]), Tensor::ones([2, 3], F32)), None],
            "gradient of w must have shape [1, 3], got [2, 3]",
        ),
        (
            vec![rows(Tensor::ones([1], F32), Tensor::ones([1, 3], F32)), None],
            "gradient of w must have row indices of kind Int64 and one axis, got Float [1]",
        ),
    ];
    for (gradients, message) in cases {
        assert_eq!(optimizer.step(&gradients).unwrap_err().to_string(), message);
        let untouched = |tensor: &Tensor| tensor.eq(1.0).all().int64_value(&[]) == 1;
        assert!(untouched(&w) && untouched(&b), "{message}");
        assert_eq!(optimizer.iterations(), 0);
        let state = optimizer.state().unwrap();
        assert_eq!(
            state,
            goldstep_core::AdafactorState::zeros(&parameters, goldstep_core::DType::Float32)
        );
    }
}

#[test]
fn empty_parameters_take_rows() {
    let parameters = list(&[("w", &[2]), ("no columns", &[5, 0]), ("no rows", &[0, 3])]);
    let tensors = [[2_i64].as_slice(), &[5, 0], &[0, 3]].map(|shape| Tensor::ones(shape, F32));
    let mut optimizer =
        Adafactor::new(&AdafactorArguments::default(), &parameters, &tensors).unwrap();
    let rows = |index: i64, values: Tensor| {
        Some(Gradient::Rows { indices: Tensor::from_slice(&[index]), values })
    };
    let gradients = [
        Some(Gradient::Tensor(Tensor::ones([2], F32))),
        rows(1, Tensor::ones([1, 0], F32)),
        rows(-1, Tensor::ones([1, 3], F32)),
    ];
    assert_eq!(optimizer.step(&gradients).unwrap().iterations, 1);
}

/// float16 holds neither 2047.5 nor 2048.5.
#[test]
fn rows_of_halves_are_clipped_and_summed_in_float32() {
    let arguments = AdafactorArguments::builder().clipvalue(2047.5).build().unwrap();
    let half = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Half);
    let mut optimizer = Adafactor::new(&arguments, &list(&[("b", &[1])]), &[half(&[1.0])]).unwrap();
    let indices = Tensor::from_slice(&[0_i64, 0]);
    optimizer.step(&[Some(Gradient::Rows { indices, values: half(&[2048.0, 1.0]) })]).unwrap();
    let v = optimizer.second_moment(0).unwrap().double_value(&[0]);
    assert!((v - 2048.5 * 2048.5).abs() < 1.0, "{v}");
}

#[test]
fn a_parameter_that_has_changed_is_refused() {
    let mut tensor = Tensor::ones([3], F32);
    let mut optimizer = Adafactor::new(
        &AdafactorArguments::default(),
        &list(&[("b", &[3])]),
        &[tensor.shallow_clone()],
    )
    .unwrap();
    tensor.set_data(&Tensor::ones([3], (Kind::Double, Device::Cpu)));
    let gradient = Some(Gradient::Tensor(Tensor::ones([3], (Kind::Double, Device::Cpu))));
    let error = optimizer.step(&[gradient]).unwrap_err().to_string();
    assert_eq!(error, "parameter of b must be of kind Float, as planned, got Double");
}

#[test]
fn gradient_tracking_is_off_within_a_step_and_stays_as_it_was() {
    let leaf = Tensor::ones([2, 2], F32).set_requires_grad(true);
    let mut optimizer = Adafactor::new(
        &AdafactorArguments::default(),
        &list(&[("w", &[2, 2])]),
        &[leaf.shallow_clone()],
    )
    .unwrap();
    // Without the guard libtorch refuses: a leaf that requires gradients, changed in place.
    optimizer.step(&[Some(Tensor::ones([2, 2], F32).into())]).unwrap();
    assert!(leaf.requires_grad() && leaf.is_leaf());
    let loss = (&leaf * 2.0).sum(Kind::Float);
    assert!(loss.requires_grad(), "tracking is on again");
    loss.backward();
    tch::no_grad(|| optimizer.step(&[Some(leaf.grad().into())]).unwrap());
    assert_eq!(optimizer.iterations(), 2);
}

#[test]
fn strided_and_expanded_tensors_are_updated_in_place() {
    let base = Tensor::ones([3, 2], F32);
    let transposed = base.tr();
    let gradient = Tensor::from_slice(&[0.1_f32, 0.2, 0.3, 0.4, 0.5, 0.6]).reshape([2, 3]);
    let step = |tensor: &Tensor| {
        let arguments = AdafactorArguments::builder().learning_rate(0.5).build().unwrap();
        let mut optimizer =
            Adafactor::new(&arguments, &list(&[("w", &[2, 3])]), &[tensor.shallow_clone()])
                .unwrap();
        optimizer.step(&[Some(gradient.shallow_clone().into())]).unwrap();
    };
    step(&transposed);
    let plain = Tensor::ones([2, 3], F32);
    step(&plain);
    assert!((transposed - plain).abs().max().double_value(&[]) < 1e-6);
    assert!(base.double_value(&[0, 0]) < 1.0);
    let expanded = Tensor::ones([1], F32).expand([3], false);
    let error = Adafactor::new(&AdafactorArguments::default(), &list(&[("e", &[3])]), &[expanded]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "parameter of e must have memory of its own for each element, got strides [0]"
    );
}

#[test]
fn state_goes_out_and_in() {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.3)
        .use_ema(true)
        .ema_momentum(0.5)
        .build()
        .unwrap();
    let parameters = list(&[("w", &[2, 3]), ("b", &[3])]);
    let new = || {
        let tensors = [Tensor::ones([2, 3], F32), Tensor::ones([3], F32)];
        (Adafactor::new(&arguments, &parameters, &tensors).unwrap(), tensors)
    };
    let gradients = |scale: f64| {
        let w = Tensor::from_slice(&[0.1_f32, -0.2, 0.3, 0.4, 0.5, -0.6]).reshape([2, 3]) * scale;
        let b = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]) * scale;
        [Some(Gradient::Tensor(w)), Some(Gradient::Tensor(b))]
    };
    let (mut first, tensors) = new();
    assert!(matches!(first.finalize_variable_values(), Err(Error::NotBuilt { .. })));
    first.step(&gradients(1.0)).unwrap();
    let state = first.state().unwrap();
    let saved: Vec<Tensor> = tensors.iter().map(Tensor::copy).collect();
    first.step(&gradients(2.0)).unwrap();

    let (mut second, resumed) = new();
    second.load_state(&state).unwrap();
    for (target, values) in resumed.iter().zip(&saved) {
        target.shallow_clone().copy_(values);
    }
    second.step(&gradients(2.0)).unwrap();
    for (continued, resumed) in tensors.iter().zip(&resumed) {
        assert_eq!(continued, resumed);
    }
    assert_eq!(first.state().unwrap(), second.state().unwrap());

    let average = second.average(0).unwrap().unwrap();
    let mut copy = second.average(0).unwrap().unwrap();
    let _copy = copy.fill_(7.0);
    assert_ne!(copy, average);
    second.finalize_variable_values().unwrap();
    assert_eq!(resumed[0], average);

    let other = list(&[("w", &[2, 2]), ("b", &[3])]);
    let foreign = goldstep_core::AdafactorState::zeros(&other, goldstep_core::DType::Float32);
    let before = second.state().unwrap();
    assert!(second.load_state(&foreign).is_err());
    assert_eq!(second.state().unwrap(), before);
}

#[test]
fn learning_rates_are_assigned_as_in_keras() {
    let arguments = AdafactorArguments::default();
    let mut optimizer =
        Adafactor::new(&arguments, &list(&[("b", &[1])]), &[Tensor::ones([1], F32)]).unwrap();
    optimizer.set_learning_rate(0.25.into()).unwrap();
    let report = optimizer.step(&[Some(Tensor::ones([1], F32).into())]).unwrap();
    assert_eq!(report.learning_rate.to_bits(), 0.25_f32.to_bits());
    let schedule = LearningRate::from(Schedule::exponential_decay(0.1, 1.0, 0.5, false));
    optimizer.set_learning_rate(schedule).unwrap();
    let report = optimizer.step(&[Some(Tensor::ones([1], F32).into())]).unwrap();
    assert!((report.learning_rate - 0.05).abs() < 1e-7);
    assert_eq!(
        optimizer.set_learning_rate(0.5.into()),
        Err(Error::NumberOntoSchedule { value: 0.5 })
    );
    assert!(optimizer.set_learning_rate(f64::NAN.into()).is_err());
}
