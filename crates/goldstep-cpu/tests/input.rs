//! Bad input changes nothing; views of any layout are read as what they are.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a test may panic, and its numbers are small"
)]

mod support;

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_cpu::{Adafactor, Isa};
use ndarray::{Array, ArrayD, Axis, IxDyn, Slice};
use support::{Numbers, bits, state_bits};

fn list() -> ParameterList {
    let parameters = [("w", &[5_usize, 7][..]), ("t", &[2, 3, 4]), ("b", &[7])];
    let parameters = parameters.map(|(name, shape)| Parameter::new(name, shape).unwrap());
    ParameterList::new(parameters.to_vec()).unwrap()
}

#[test]
fn a_step_that_fails_changes_nothing() {
    let mut optimizer = Adafactor::<f32>::build(&AdafactorArguments::default(), &list()).unwrap();
    let (mut w, mut t, mut b) = ([1.0_f32; 35], [2.0_f32; 24], [3.0_f32; 7]);
    let (short, long) = ([0.1_f32; 34], [0.1_f32; 35]);
    let good = Some(Gradient::Dense(&long[..]));
    let before = state_bits(&optimizer.state());
    let beyond = [Gradient::Sparse { indices: &[0, 5], values: &short[..14] }];
    let cases: Vec<(Vec<Option<Gradient<'_, f32>>>, &str)> = vec![
        (
            vec![Some(Gradient::Dense(&short)), None, None],
            "gradient of w must have 35 elements, got 34",
        ),
        (vec![good, None], "number of gradients must be 3, got 2"),
        (vec![None, None, None], "at least one parameter must have a gradient, got none of 3"),
        (vec![Some(beyond[0]), None, None], "row indices of w must be below 5, got 5"),
        (
            vec![None, Some(Gradient::Sparse { indices: &[0, 1], values: &short[..23] }), None],
            "gradient of t must have 24 elements, got 23",
        ),
        (
            vec![good, None, Some(Gradient::Dense(&short[..6]))],
            "gradient of b must have 7 elements, got 6",
        ),
    ];
    for (gradients, message) in cases {
        let error = optimizer.step(&mut [&mut w, &mut t, &mut b], &gradients).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let error = optimizer.step(&mut [&mut w, &mut t], &[good, None, None]).unwrap_err();
    assert_eq!(error.to_string(), "number of parameters must be 3, got 2");
    // The list of another model, or in another order.
    let error = optimizer.step(&mut [&mut w, &mut b, &mut t], &[good, None, None]).unwrap_err();
    assert_eq!(error.to_string(), "parameter of t must have 24 elements, got 7");
    let gradients = [good, None, None];
    let error = optimizer.step(&mut [&mut w[..34], &mut t, &mut b], &gradients).unwrap_err();
    assert_eq!(error.to_string(), "parameter of w must have 35 elements, got 34");
    assert_eq!((w, t, b), ([1.0; 35], [2.0; 24], [3.0; 7]));
    assert_eq!(before, state_bits(&optimizer.state()));
}

#[test]
fn settings_are_checked() {
    let (arguments, list) = (AdafactorArguments::default(), list());
    let builder = Adafactor::<f32>::builder(&arguments, &list).threads(0);
    assert!(matches!(builder.build(), Err(Error::Argument { name: "threads", .. })));
    let error = Isa::by_name("avx1024").unwrap_err();
    assert!(error.to_string().ends_with("got avx1024"), "{error}");
}

#[test]
fn a_length_that_overflows_is_refused() {
    let most = usize::MAX / 8;
    for shape in [&[most, 3][..], &[usize::MAX], &[1 << 31, 1 << 31, 4], &[0, usize::MAX, 2]] {
        let error = Parameter::new("w", shape).unwrap_err();
        assert!(matches!(error, Error::ShapeOverflow { .. }), "{shape:?}: {error}");
    }
    // As many row indices as give a length beyond the address space need no values to be wrong.
    let list = ParameterList::new(vec![Parameter::new("w", &[2, 1 << 40]).unwrap()]).unwrap();
    let (indices, values) = (vec![0; 1 << 20], [0.0_f32; 1]);
    let gradient = Gradient::Sparse { indices: &indices, values: &values };
    let error = list.check_step([1 << 41].into_iter(), &[Some(gradient)]).unwrap_err();
    assert!(matches!(error, Error::Length { .. }), "{error}");
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let arguments = AdafactorArguments::default();
    let mut optimizer = Adafactor::<f32>::build(&arguments, &list()).unwrap();
    let (mut w, mut t, mut b) = ([1.0_f32; 35], [2.0_f32; 24], [3.0_f32; 7]);
    let gradients = [Some(Gradient::Dense(&[0.1; 35][..])), None, None];
    optimizer.step(&mut [&mut w, &mut t, &mut b], &gradients).unwrap();
    let before = state_bits(&optimizer.state());
    let other = ParameterList::new(vec![Parameter::new("w", &[5, 7]).unwrap()]).unwrap();
    let mut state = Adafactor::<f32>::build(&arguments, &other).unwrap().state();
    optimizer.load_state(&state).unwrap_err();
    state.variables.extend(optimizer.state().variables.into_iter().rev().take(2));
    optimizer.load_state(&state).unwrap_err();
    assert_eq!(before, state_bits(&optimizer.state()));
}

#[test]
fn the_users_pool_is_respected() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let list = ParameterList::new(vec![Parameter::new("w", &[700, 700]).unwrap()]).unwrap();
    let gradient = vec![0.1_f32; 490_000];
    let run = |parameter: &mut [f32]| {
        let mut optimizer = Adafactor::<f32>::build(&AdafactorArguments::default(), &list).unwrap();
        optimizer.step(&mut [parameter], &[Some(Gradient::Dense(&gradient))]).unwrap();
    };
    let (mut inside, mut outside) = (vec![1.0_f32; 490_000], vec![1.0_f32; 490_000]);
    pool.install(|| run(&mut inside));
    run(&mut outside);
    assert_eq!(bits(&inside), bits(&outside));
}

/// One step over views of each kind of layout equals the step over slices.
#[test]
fn views_of_any_layout_agree_with_slices() {
    let list = list();
    let mut numbers = Numbers(11);
    let tensors: Vec<ArrayD<f32>> = list
        .iter()
        .map(|p| {
            Array::from_shape_vec(IxDyn(p.shape()), numbers.tensor(p.elements(), 1.0)).unwrap()
        })
        .collect();
    let gradients: Vec<ArrayD<f32>> = tensors.iter().map(|t| t.mapv(|x| 0.3 - x)).collect();
    let mut expected: Vec<Vec<f32>> = tensors.iter().map(|t| t.iter().copied().collect()).collect();
    let mut optimizer = Adafactor::<f32>::build(&AdafactorArguments::default(), &list).unwrap();
    let slices: Vec<_> =
        gradients.iter().map(|g| Some(Gradient::Dense(g.as_slice().unwrap()))).collect();
    let mut views: Vec<&mut [f32]> = expected.iter_mut().map(|p| &mut p[..]).collect();
    optimizer.step(&mut views, &slices).unwrap();

    // Standard, axes reversed in memory, every second column, rows backwards.
    for kind in 0..4 {
        let store = |tensor: &ArrayD<f32>| -> ArrayD<f32> {
            let last = Axis(tensor.ndim() - 1);
            match kind {
                1 => tensor.t().as_standard_layout().into_owned(),
                2 => {
                    let mut shape = tensor.shape().to_vec();
                    shape[last.index()] *= 2;
                    let mut wide = ArrayD::from_elem(IxDyn(&shape), 9.0);
                    wide.slice_axis_mut(last, Slice::new(0, None, 2)).assign(tensor);
                    wide
                }
                3 => {
                    let mut reversed = tensor.clone();
                    reversed.invert_axis(Axis(0));
                    reversed.as_standard_layout().into_owned()
                }
                _ => tensor.clone(),
            }
        };
        let mut stored: Vec<_> = tensors.iter().map(store).collect();
        let stored_gradients: Vec<_> = gradients.iter().map(store).collect();
        let mut parameters: Vec<_> = stored
            .iter_mut()
            .map(|array| {
                let mut view = array.view_mut();
                let last = Axis(view.ndim() - 1);
                match kind {
                    1 => view = view.reversed_axes(),
                    2 => view.slice_axis_inplace(last, Slice::new(0, None, 2)),
                    3 => view.invert_axis(Axis(0)),
                    _ => {}
                }
                view
            })
            .collect();
        let gradient_views = stored_gradients.iter().map(|a| {
            let mut view = a.view();
            let last = Axis(view.ndim() - 1);
            match kind {
                1 => view = view.reversed_axes(),
                2 => view.slice_axis_inplace(last, Slice::new(0, None, 2)),
                3 => view.invert_axis(Axis(0)),
                _ => {}
            }
            Some(view)
        });
        let gradient_views: Vec<_> = gradient_views.collect();
        let mut optimizer = Adafactor::<f32>::build(&AdafactorArguments::default(), &list).unwrap();
        optimizer.step_views(&mut parameters, &gradient_views).unwrap();
        for (view, expected) in parameters.iter().zip(&expected) {
            let actual: Vec<f32> = view.iter().copied().collect();
            assert_eq!(bits(&actual), bits(expected), "kind {kind}");
        }
    }
}

#[test]
fn a_view_of_another_shape_is_refused() {
    let list = list();
    let mut optimizer = Adafactor::<f32>::build(&AdafactorArguments::default(), &list).unwrap();
    let mut arrays: Vec<ArrayD<f32>> =
        list.iter().map(|p| ArrayD::zeros(IxDyn(p.shape()))).collect();
    arrays[0] = ArrayD::zeros(IxDyn(&[7, 5]));
    let mut views: Vec<_> = arrays.iter_mut().map(|a| a.view_mut()).collect();
    let error = optimizer.step_views(&mut views, &[None, None, None]).unwrap_err();
    assert_eq!(error.to_string(), "parameter of w must have shape [5, 7], got [7, 5]");
    arrays[0] = ArrayD::zeros(IxDyn(&[5, 7]));
    let gradient = ArrayD::<f32>::zeros(IxDyn(&[1, 35]));
    let mut views: Vec<_> = arrays.iter_mut().map(|a| a.view_mut()).collect();
    let gradients = [Some(gradient.view()), None, None];
    let error = optimizer.step_views(&mut views, &gradients).unwrap_err();
    assert_eq!(error.to_string(), "gradient of w must have shape [5, 7], got [1, 35]");
}
