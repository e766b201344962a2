//! What tf.keras gave in missing/missing-with-global-clipnorm-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn missing_with_global_clipnorm_f32() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.3)
        .global_clipnorm(0.8)
        .build()?;
    let parameters = ParameterList::new(vec![
        Parameter::new("first", &[2, 3])?,
        Parameter::new("middle", &[3])?,
        Parameter::new("last", &[2, 2])?,
    ])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // first
    let mut x0 = [0.4396597_f32, 0.32176843, -1.1619604, 1.1100166, -0.34574303, -0.83936155];
    // middle
    let mut x1 = [1.0197624_f32, -1.5082836, -1.6297585];
    // last
    let mut x2 = [0.58462733_f32, -1.2020742, -0.5864527, -1.5466297];

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            None,
            Some(Gradient::Dense(&[0.9154802_f32, -1.5164146, -1.6369157])),
            Some(Gradient::Dense(&[-0.5058138_f32, 0.30864468, -0.5856536, 0.5167616])),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of first", &factors(&state.variables[0]).0, &[0.0_f32, 0.0], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of first", &factors(&state.variables[0]).1, &[0.0_f32, 0.0, 0.0], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of first", &optimizer.second_moment(0), &[0.0_f32, 0.0, 0.0, 0.0, 0.0, 0.0], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of first", &x0, &[0.4396597_f32, 0.32176843, -1.1619604, 1.1100166, -0.34574303, -0.83936155], 0e0, 5.886949949740483e-7);
    assert_close("v of middle", &optimizer.second_moment(1), &[0.079133466_f32, 0.21711919, 0.25299674], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of middle", &x1, &[0.59652674_f32, -1.085048, -1.2065228], 0e0, 8.256999883826666e-7);
    assert_close("r of last", &factors(&state.variables[2]).0, &[0.016575795_f32, 0.028799528], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of last", &factors(&state.variables[2]).1, &[0.028271016_f32, 0.017104309], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of last", &optimizer.second_moment(2), &[0.020655038_f32, 0.01249655, 0.03588699, 0.021712067], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of last", &x2, &[0.9296137_f32, -1.4727117, -0.28341508, -1.8903965], 0e0, 9.577494886059412e-7);

    // Step 2
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&[0.29686415_f32, 0.13677926, 0.54602087, 0.5305946, 0.23897575, 0.47739124])),
            None,
            Some(Gradient::Dense(&[-0.63930476_f32, 0.3351183, 0.21262428, -0.22426517])),
        ],
    )?;
    assert_eq!(report.iterations, 2);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of first", &factors(&state.variables[0]).0, &[0.03124662_f32, 0.04371259], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of first", &factors(&state.variables[0]).1, &[0.042782545_f32, 0.008774806, 0.060881466], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of first", &optimizer.second_moment(0), &[0.03566766_f32, 0.007315526, 0.05075667, 0.04989743, 0.010234086, 0.07100626], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of first", &x0, &[0.25936782_f32, 0.13834566, -1.4399436, 0.83757114, -0.61669046, -1.0448474], 0e0, 7.724459152314012e-7);
    assert_close("v of middle", &optimizer.second_moment(1), &[0.079133466_f32, 0.21711919, 0.25299674], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of middle", &x1, &[0.59652674_f32, -1.085048, -1.2065228], 0e0, 8.742705759345881e-7);
    assert_close("r of last", &factors(&state.variables[2]).0, &[0.067355245_f32, 0.023311712], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of last", &factors(&state.variables[2]).1, &[0.06456806_f32, 0.026098903], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of last", &optimizer.second_moment(2), &[0.09593346_f32, 0.03877704, 0.033202656, 0.013420768], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of last", &x2, &[1.3868217_f32, -1.8496773, -0.5418894, -1.4615873], 0e0, 1.0140876938180554e-6);
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
