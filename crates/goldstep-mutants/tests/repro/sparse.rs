//! What tf.keras gave in sparse/sparse-with-clipvalue-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn sparse_with_clipvalue_f32() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.3)
        .epsilon_1(0.001)
        .clipvalue(0.35)
        .build()?;
    let parameters = ParameterList::new(vec![
        Parameter::new("embedding", &[5, 2])?,
        Parameter::new("bias", &[4])?,
        Parameter::new("kernel", &[2, 3])?,
    ])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // embedding
    let mut x0 = [0.5748227_f32, -1.608206, -1.1499541, 0.558895, -1.1677161, 1.25183, 1.08705, -1.3087898, 0.44041517, -0.9823805];
    // bias
    let mut x1 = [0.9476258_f32, 0.48814547, -1.0955698, 0.43575883];
    // kernel
    let mut x2 = [-1.6006116_f32, 1.3310673, -1.5810307, -1.3310808, -1.1957936, 1.0966612];

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Sparse { indices: &[1, 1], values: &[-0.6593697_f32, 0.8080052, -1.597046, 0.48059398] }),
            Some(Gradient::Sparse { indices: &[2, 2, 2], values: &[0.8602238_f32, 1.5035467, -0.869969] }),
            Some(Gradient::Dense(&[-0.555392_f32, -0.7324516, 1.3154051, 0.71099436, -0.8971459, 0.5642409])),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of embedding", &factors(&state.variables[0]).0, &[0.001_f32, 0.49099997, 0.001, 0.001, 0.001], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of embedding", &factors(&state.variables[0]).1, &[0.098999985_f32, 0.098999985], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of embedding", &optimizer.second_moment(0), &[0.001_f32, 0.001, 0.491, 0.491, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of embedding", &x0, &[0.5748227_f32, -1.608206, -0.828068, 0.2370089, -1.1677161, 1.25183, 1.08705, -1.3087898, 0.44041517, -0.9823805], 0e0, 8.14780669600168e-7);
    assert_close("v of bias", &optimizer.second_moment(1), &[0.001_f32, 0.001, 0.1235, 0.001], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[0.9476258_f32, 0.48814547, -1.3330243, 0.43575883], 0e0, 6.753627204147961e-7);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &[0.1235_f32, 0.1235], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &[0.1235_f32, 0.1235, 0.1235], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &[0.1235_f32, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &[-1.1917095_f32, 1.7399694, -1.9899328, -1.7399828, -0.7868916, 0.68775916], 0e0, 1.0081785077886707e-6);

    // Step 2
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Sparse { indices: &[3, 0, 3, 3], values: &[1.423374_f32, -1.1583797, -0.4095815, 0.54343534, 1.6966686, 1.4112009, 0.902507, 1.5115551] }),
            Some(Gradient::Sparse { indices: &[0, 1, 0], values: &[1.6719245_f32, 0.4627649, 0.67181945] }),
            Some(Gradient::Dense(&[-0.33469278_f32, -0.40312985, 0.39664924, -0.4015713, 1.6299396, 0.9519768])),
        ],
    )?;
    assert_eq!(report.iterations, 2);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of embedding", &factors(&state.variables[0]).0, &[0.07135777_f32, 0.2095689, 0.001, 0.3527888, 0.001], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of embedding", &factors(&state.variables[0]).1, &[0.1834293_f32, 0.070856884], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of embedding", &optimizer.second_moment(0), &[0.10294784_f32, 0.03976771, 0.302345, 0.11679282, 0.0014426999, 0.0005573004, 0.50896835, 0.19660933, 0.0014426999, 0.0005573004], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of embedding", &x0, &[0.9124292_f32, -2.151399, -0.828068, 0.2370089, -1.1677161, 1.25183, 0.6315428, -1.5530864, 0.44041517, -0.9823805], 0e0, 1.1541003033244124e-6);
    assert_close("v of bias", &optimizer.second_moment(1), &[0.28243107_f32, 0.07135777, 0.053142227, 0.001], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[0.59958327_f32, 0.14193678, -1.3330243, 0.43575883], 0e0, 7.150899392627252e-7);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &[0.12149346_f32, 0.1235], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &[0.12049019_f32, 0.1235, 0.1235], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &[0.11950336_f32, 0.12248851, 0.12248851, 0.12147703, 0.12451148, 0.12451148], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &[-0.77201843_f32, 2.173474, -2.4234376, -1.304677, -1.2168603, 0.25779045], 0e0, 1.3000332330648234e-6);
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
