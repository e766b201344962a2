//! What tf.keras gave in arguments/arguments-clips-zero-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn arguments_clips_zero_f32() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.1)
        .clipnorm(0.0)
        .clipvalue(0.3)
        .build()?;
    let parameters = ParameterList::new(vec![
        Parameter::new("kernel", &[3, 2])?,
        Parameter::new("bias", &[3])?,
        Parameter::new("scale", &[])?,
    ])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // kernel
    let mut x0 = [0.48441827_f32, 0.8617321, -0.65148157, -1.6901917, -0.409005, 0.4632525];
    // bias
    let mut x1 = [-1.5161184_f32, -0.9656547, -1.0619929];
    // scale
    let mut x2 = [1.2871197_f32];

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&[-0.90646034_f32, 1.5475124, 0.5235685, 0.842895, -1.5359601, -0.4217037])),
            Some(Gradient::Dense(&[-0.6378843_f32, -1.4021814, 1.3862337])),
            Some(Gradient::Dense(&[1.1723542_f32])),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.10000000149011612], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of kernel", &factors(&state.variables[0]).0, &[0.09_f32, 0.09, 0.09], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[0]).1, &[0.09_f32, 0.09], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(0), &[0.09_f32, 0.09, 0.09, 0.09, 0.09, 0.09], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x0, &[0.5723606_f32, 0.7737898, -0.7394239, -1.778134, -0.32106268, 0.5511948], 0e0, 9.008728802939459e-7);
    assert_close("v of bias", &optimizer.second_moment(1), &[0.09_f32, 0.09, 0.09], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[-1.3955789_f32, -0.8451151, -1.1825324], 0e0, 7.681254423630435e-7);
    assert_close("v of scale", &optimizer.second_moment(2), &[0.09_f32], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of scale", &x2, &[1.1584078_f32], 0e0, 6.521056796771063e-7);
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

fn factors(state: &VariableState) -> (Vec<f32>, Vec<f32>) {
    match &state.second_moment {
        SecondMoment::Factored { row_factor, column_factor } => {
            (row_factor.to_vec(), column_factor.to_vec())
        }
        SecondMoment::Full(values) => (values.to_vec(), Vec::new()),
    }
}
