//! What tf.keras gave in constraints/constraints-with-ema-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference.

use goldstep_core::{AdafactorArguments, Constraint, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn constraints_with_ema_f32() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.4)
        .use_ema(true)
        .ema_momentum(0.5)
        .ema_overwrite_frequency(2)
        .build()?;
    let parameters = ParameterList::new(vec![
        Parameter::new("non_negative", &[2, 3])?.with_constraint(Constraint::NonNegative),
        Parameter::new("clipped", &[4])?.with_constraint(Constraint::Clip { minimum: -0.5, maximum: 0.75 }),
        Parameter::new("one_sided", &[2, 2, 2])?.with_constraint(Constraint::Clip { minimum: 0.25, maximum: 3.0 }),
        Parameter::new("free", &[3])?,
    ])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // non_negative
    let mut x0 = [-1.4416665_f32, -0.3875724, -1.6943291, -0.61278224, 0.378573, -1.098363];
    // clipped
    let mut x1 = [1.6267252_f32, -1.6912317, -0.6683008, -1.2052228];
    // one_sided
    let mut x2 = [0.9083754_f32, -0.9570559, 1.5495274, -0.74360836, -1.684185, 1.5824354, 1.0597434, 0.6120305];
    // free
    let mut x3 = [0.3150985_f32, -0.5244041, 0.3979844];

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2, &mut x3],
        &[
            Some(Gradient::Dense(&[0.73622715_f32, 1.449466, -0.50808054, 1.513022, -1.0705997, -0.41409728])),
            Some(Gradient::Dense(&[1.4095707_f32, 1.2975485, -1.4144626, 1.2323036])),
            Some(Gradient::Dense(&[1.6833924_f32, -0.5755348, 1.4831167, 1.4189991, 1.5194519, -1.4262556, 1.5771714, -0.68049437])),
            Some(Gradient::Dense(&[-0.8555513_f32, -0.32117552, -0.8573613])),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.4000000059604645], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of non_negative", &factors(&state.variables[0]).0, &[0.9670426_f32, 1.2022985], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of non_negative", &factors(&state.variables[0]).1, &[1.4156328_f32, 1.6235676, 0.2148112], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of non_negative", &optimizer.second_moment(0), &[1.2621135_f32, 1.4474986, 0.19151585, 1.5691522, 1.7996366, 0.23810656], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of non_negative", &x0, &[-0.0_f32, -0.0, -0.0, -0.0, 0.7177629, -0.0], 0e0, 8.584140367418058e-7);
    assert_close("ema of non_negative", &average(&state.variables[0]), &[-1.5809312_f32, -0.6435944, -1.4476068, -0.8694616, 0.54816794, -0.91802186], 0e0, 8.584140367418058e-7);
    assert_close("v of clipped", &optimizer.second_moment(1), &[1.9868896_f32, 1.6836321, 2.0007043, 1.5185722], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of clipped", &x1, &[0.75_f32, -0.5, -0.124032974, -0.5], 0e0, 9.94718565294761e-7);
    assert_close("ema of clipped", &average(&state.variables[1]), &[1.3545913_f32, -1.9633657, -0.3961669, -1.4773568], 0e0, 9.94718565294761e-7);
    assert_close("r of one_sided", &factors(&state.variables[2]).0, &[1.5825253_f32, 2.106597, 2.1714694, 1.4752711], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of one_sided", &factors(&state.variables[2]).1, &[2.5167227_f32, 1.1723994, 2.3981018, 1.2486387], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of one_sided", &optimizer.second_moment(2), &[2.1592004_f32, 1.00585, 2.8742447, 1.3389488, 2.8559227, 1.4870161, 1.9402808, 1.0102614], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of one_sided", &x2, &[0.35816246_f32, 0.25, 1.1293764, 0.25, 0.25, 2.1441703, 0.51594424, 0.9371923], 0e0, 1.0863213191214527e-6);
    assert_close("ema of one_sided", &average(&state.variables[2]), &[0.63326895_f32, -0.81925035, 1.3394519, -1.0380926, -1.9000964, 1.8633028, 0.7878438, 0.7746114], 0e0, 1.0863213191214527e-6);
    assert_close("v of free", &optimizer.second_moment(3), &[0.73196805_f32, 0.10315371, 0.73506844], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of free", &x3, &[0.4836497_f32, -0.3558529, 0.5665356], 0e0, 2.870292981071998e-7);
    assert_close("ema of free", &average(&state.variables[3]), &[0.3993741_f32, -0.4401285, 0.48226], 0e0, 2.870292981071998e-7);

    // Step 2
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2, &mut x3],
        &[
            Some(Gradient::Dense(&[0.12922378_f32, -0.60130847, -0.4167531, -0.6441335, 0.21743438, 0.4808457])),
            Some(Gradient::Dense(&[0.57513463_f32, 0.39527795, -0.22589117, 0.61441606])),
            Some(Gradient::Dense(&[0.43953055_f32, 0.17417015, -0.4783862, -0.49458638, 0.62046385, -0.208762, 0.5013566, 0.43860364])),
            Some(Gradient::Dense(&[-0.5383395_f32, 0.41647348, 0.23928647])),
        ],
    )?;
    assert_eq!(report.iterations, 2);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.4000000059604645], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of non_negative", &factors(&state.variables[0]).0, &[0.5172939_f32, 0.64451027], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of non_negative", &factors(&state.variables[0]).1, &[0.7265118_f32, 0.8084841, 0.20771033], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of non_negative", &optimizer.second_moment(0), &[0.6469594_f32, 0.71995586, 0.18496625, 0.80606407, 0.89701223, 0.2304544], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of non_negative", &x0, &[-0.0_f32, -0.0, -0.0, -0.0, 0.619511, -0.0], 0e0, 9.089089800795591e-7);
    assert_close("ema of non_negative", &average(&state.variables[0]), &[-0.799881_f32, -0.28026548, -0.6670139, -0.39268464, 0.619511, -0.51771235], 0e0, 9.089089800795591e-7);
    assert_close("v of clipped", &optimizer.second_moment(1), &[1.0357044_f32, 0.80637836, 0.8809086, 0.86320245], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of clipped", &x1, &[0.75_f32, -0.5, -0.23511261, -0.5], 0e0, 1.0532314220768058e-6);
    assert_close("ema of clipped", &average(&state.variables[1]), &[0.9936227_f32, -1.2773831, -0.23511261, -1.0573366], 0e0, 1.0532314220768058e-6);
    assert_close("r of one_sided", &factors(&state.variables[2]).0, &[0.7377931_f32, 1.0326431, 1.0473585, 0.75537884], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of one_sided", &factors(&state.variables[2]).1, &[1.1924443_f32, 0.5779917, 1.2034929, 0.59924436], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of one_sided", &optimizer.second_moment(2), &[0.9938536_f32, 0.4817325, 1.3910351, 0.67425096, 1.3984162, 0.69630075, 1.0085696, 0.50218797], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of one_sided", &x2, &[0.41129255_f32, 0.25, 1.3120823, 0.25, 0.25, 2.0516422, 0.55630076, 0.737387], 0e0, 1.1502225731874205e-6);
    assert_close("ema of one_sided", &average(&state.variables[2]), &[0.41129255_f32, -0.3326764, 1.3120823, -0.27871025, -0.9255172, 2.0516422, 0.55630076, 0.737387], 0e0, 1.1502225731874205e-6);
    assert_close("v of free", &optimizer.second_moment(3), &[0.4780146_f32, 0.14352842, 0.34576857], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of free", &x3, &[0.5157354_f32, -0.50278175, 0.4856068], 0e0, 3.0391337446644684e-7);
    assert_close("ema of free", &average(&state.variables[3]), &[0.5157354_f32, -0.50278175, 0.4856068], 0e0, 3.0391337446644684e-7);
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

fn average(state: &VariableState) -> Vec<f32> {
    state.average.as_ref().map(|average| average.to_vec()).unwrap_or_default()
}
