//! What tf.keras gave in values/values-gradient-nan-f16.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference, half.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn values_gradient_nan_f16() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.3)
        .build()?;
    let parameters = ParameterList::new(vec![
        Parameter::new("matrix", &[3, 4])?,
        Parameter::new("vector", &[4])?,
        Parameter::new("slices", &[3, 2, 2])?,
    ])?;
    let mut optimizer =
        Adafactor::<half::f16>::build(&arguments, &parameters)?;
    // matrix
    let mut x0 = ([1.3740234, 0.55322266, 1.5429688, -1.5283203, -0.5854492, -1.2265625, -0.35229492, 1.5292969, 1.0371094, -1.0976563, 1.1767578, 1.1933594] as [f32; 12]).map(half::f16::from_f32);
    // vector
    let mut x1 = ([-1.5039063, 1.1699219, -0.85498047, 0.94873047] as [f32; 4]).map(half::f16::from_f32);
    // slices
    let mut x2 = ([0.70996094, -0.66845703, 1.2089844, -0.8183594, -0.6113281, 0.5463867, 0.38916016, 0.84033203, -1.5498047, -0.89697266, -1.3652344, 1.4492188] as [f32; 12]).map(half::f16::from_f32);

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([-0.8769531, 1.2324219, -1.6884766, -0.36987305, 1.5458984, 0.9321289, 0.7578125, 1.3623047, 0.35546875, 0.46728516, 1.4648438, -1.6962891] as [f32; 12]).map(half::f16::from_f32))),
            Some(Gradient::Dense(&([-0.5083008, 0.34375, 0.37329102, 1.6728516] as [f32; 4]).map(half::f16::from_f32))),
            Some(Gradient::Dense(&([-1.2382813, -0.3413086, 0.33032227, -1.2216797, -0.63134766, 0.37426758, -0.95214844, -0.47387695, -1.0302734, -1.5800781, -0.9785156, 1.0029297] as [f32; 12]).map(half::f16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of matrix", &factors(&state.variables[0]).0, &([1.3193359, 1.421875, 1.3417969] as [f32; 3]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("c of matrix", &factors(&state.variables[0]).1, &([1.0957031, 0.86865234, 1.8564453, 1.6220703] as [f32; 4]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("v of matrix", &optimizer.second_moment(0), &([1.0605469, 0.8413086, 1.7978516, 1.5703125, 1.1435547, 0.9067383, 1.9384766, 1.6933594, 1.0791016, 0.85546875, 1.828125, 1.5976563] as [f32; 12]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("var of matrix", &x0, &([1.671875, 0.083496094, 1.9833984, -1.4248047, -1.0917969, -1.5683594, -0.54296875, 1.1630859, 0.91748047, -1.2744141, 0.79785156, 1.6630859] as [f32; 12]).map(half::f16::from_f32), 0e0, 8.231878280639648e-3);
    assert_close("v of vector", &optimizer.second_moment(1), &([0.25830078, 0.11816406, 0.1394043, 2.7988281] as [f32; 4]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("var of vector", &x1, &([-1.1601563, 0.8261719, -1.1992188, 0.6044922] as [f32; 4]).map(half::f16::from_f32), 0e0, 6.241798400878906e-3);
    assert_close("r of slices", &factors(&state.variables[2]).0, &([0.82470703, 0.80078125, 0.26953125, 0.5654297, 1.7792969, 0.9814453] as [f32; 6]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("c of slices", &factors(&state.variables[2]).1, &([0.82128906, 0.8041992, 0.65283203, 0.18237305, 1.0097656, 1.7509766] as [f32; 6]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("v of slices", &optimizer.second_moment(2), &([0.8334961, 0.81591797, 0.80908203, 0.79248047, 0.42138672, 0.11773682, 0.88427734, 0.24707031, 1.3007813, 2.2558594, 0.71777344, 1.2451172] as [f32; 12]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("var of slices", &x2, &([1.1113281, -0.5566406, 1.1005859, -0.41259766, -0.3239746, 0.2241211, 0.68847656, 1.1220703, -1.2832031, -0.5859375, -1.0234375, 1.1835938] as [f32; 12]).map(half::f16::from_f32), 0e0, 6.432294845581055e-3);

    // Step 2
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([-0.3461914, 1.4580078, 0.9921875, 1.3398438, -1.2070313, 0.42236328, f32::NAN, -0.734375, -1.1054688, -1.2294922, -0.46484375, -0.88916016] as [f32; 12]).map(half::f16::from_f32))),
            Some(Gradient::Dense(&([f32::NAN, 0.53759766, -1.6435547, -1.5537109] as [f32; 4]).map(half::f16::from_f32))),
            Some(Gradient::Dense(&([-0.93847656, -1.0712891, 0.8129883, 1.1269531, -0.70996094, f32::NAN, 1.5810547, 1.4365234, 1.4111328, 1.4814453, -1.1982422, -0.7089844] as [f32; 12]).map(half::f16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 2);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of matrix", &factors(&state.variables[0]).0, &([1.2832031, f32::NAN, 1.1083984] as [f32; 3]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("c of matrix", &factors(&state.variables[0]).1, &([1.0019531, 1.0996094, f32::NAN, 1.2890625] as [f32; 4]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("v of matrix", &optimizer.second_moment(0), &([f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN] as [f32; 12]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("var of matrix", &x0, &([f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN] as [f32; 12]).map(half::f16::from_f32), 0e0, 8.716106414794922e-3);
    assert_close("v of vector", &optimizer.second_moment(1), &([f32::NAN, 0.2163086, 1.6103516, 2.578125] as [f32; 4]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("var of vector", &x1, &([f32::NAN, f32::NAN, f32::NAN, f32::NAN] as [f32; 4]).map(half::f16::from_f32), 0e0, 6.6089630126953125e-3);
    assert_close("r of slices", &factors(&state.variables[2]).0, &([0.93310547, 0.8955078, f32::NAN, 1.5507813, 1.9599609, 0.9741211] as [f32; 6]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("c of slices", &factors(&state.variables[2]).1, &([0.7919922, 1.0371094, 1.140625, f32::NAN, 1.4130859, 1.5195313] as [f32; 6]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("v of slices", &optimizer.second_moment(2), &([0.80810547, 1.0585938, 0.7758789, 1.015625, f32::NAN, f32::NAN, f32::NAN, f32::NAN, 1.8876953, 2.0292969, 0.93847656, 1.0087891] as [f32; 12]).map(half::f16::from_f32), 2.34375e-2, 6.103515625e-5);
    assert_close("var of slices", &x2, &([f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN, f32::NAN] as [f32; 12]).map(half::f16::from_f32), 0e0, 6.810665130615234e-3);
    Ok(())
}

fn assert_close<T: Copy + Into<f64>>(
    what: &str,
    actual: &[T],
    expected: &[T],
    relative: f64,
    absolute: f64,
) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let (actual, expected): (f64, f64) = ((*actual).into(), (*expected).into());
        let same = actual.to_bits() == expected.to_bits() || actual.is_nan() && expected.is_nan();
        let near = (actual - expected).abs() <= relative * expected.abs() + absolute;
        assert!(same || near, "{what}[{index}]: expected {expected:e}, got {actual:e}");
    }
}

fn factors(state: &VariableState) -> (Vec<half::f16>, Vec<half::f16>) {
    match &state.second_moment {
        SecondMoment::Factored { row_factor, column_factor } => {
            (row_factor.to_vec(), column_factor.to_vec())
        }
        SecondMoment::Full(values) => (values.to_vec(), Vec::new()),
    }
}
