//! What tf.keras gave in exclusion/exclusion-with-schedule-and-ema-f64.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn exclusion_with_schedule_and_ema_f64() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.2)
        .weight_decay(0.3)
        .use_ema(true)
        .ema_momentum(0.8)
        .ema_overwrite_frequency(2)
        .build()?;
    let mut parameters = ParameterList::new(vec![
        Parameter::new("encoder/dense/kernel", &[2, 3])?,
        Parameter::new("encoder/dense/bias", &[3])?,
        Parameter::new("encoder/norm_1/gamma", &[3])?,
        Parameter::new("decoder/Bias_2", &[2])?,
        Parameter::new("scale", &[])?,
    ])?;
    parameters.exclude_from_weight_decay(&["bias", "gamma"])?;
    let mut optimizer =
        Adafactor::<f64>::build(&arguments, &parameters)?;
    // encoder/dense/kernel
    let mut x0 = [1.4255611098017804_f64, 0.9608511330745613, 1.0818535974290975, -1.24855701743857, 0.5561039517205961, 0.7426643470567103];
    // encoder/dense/bias
    let mut x1 = [1.5084328582167172_f64, 1.6143302874780494, 0.44987122057623197];
    // encoder/norm_1/gamma
    let mut x2 = [-1.3321911557717285_f64, 1.56385784831692, 0.7417593304405934];
    // decoder/Bias_2
    let mut x3 = [1.4520841240372462_f64, 1.6361440132166958];
    // scale
    let mut x4 = [0.7007254271281866_f64];

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2, &mut x3, &mut x4],
        &[
            Some(Gradient::Dense(&[-0.723698551403162_f64, -0.41826984023470737, -0.44345112558436356, 1.5237367529851724, -0.3107243060999091, -0.5485144917790594])),
            Some(Gradient::Dense(&[1.160884362280094_f64, 1.4572296135673046, -0.3956241457945183])),
            Some(Gradient::Dense(&[-0.7769794540067754_f64, 0.47549975828378443, 0.7718188837612123])),
            Some(Gradient::Dense(&[-1.0386207050581322_f64, 1.1885292752588752])),
            Some(Gradient::Dense(&[-1.090623452858659_f64])),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.20000000298023224], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of encoder/dense/kernel", &factors(&state.variables[0]).0, &[0.2984460511116806_f64, 0.9063971448302354], 5.329070518200751e-15, 2.2250738585072014e-308);
    assert_close("c of encoder/dense/kernel", &factors(&state.variables[0]).1, &[1.4227566428504157_f64, 0.1357496268256188, 0.24875852423683942], 5.329070518200751e-15, 2.2250738585072014e-308);
    assert_close("v of encoder/dense/kernel", &optimizer.second_moment(0), &[0.7048487358052665_f64, 0.06725180538421421, 0.12323761214556103, 2.1406645498955648, 0.2042474482670234, 0.37427943632811783], 5.329070518200751e-15, 2.2250738585072014e-308);
    assert_close("var of encoder/dense/kernel", &x0, &[1.4934680158274336_f64, 1.1903012963188617, 1.2417984435448766, -1.3590249751613508, 0.6451224867753887, 0.8576999706037644], 0e0, 1.4093701910559347e-15);
    assert_close("ema of encoder/dense/kernel", &average(&state.variables[0]), &[1.439142491006911_f64, 1.0067411657234213, 1.1138425666522533, -1.2706506089831262, 0.5739076587315547, 0.765671471766121], 0e0, 1.4093701910559347e-15);
    assert_close("v of encoder/dense/bias", &optimizer.second_moment(1), &[1.3476525025864605_f64, 2.123518146657516, 0.1565184647356423], 5.329070518200751e-15, 2.2250738585072014e-308);
    assert_close("var of encoder/dense/bias", &x1, &[1.2480788368937221_f64, 1.3539762661550543, 0.710225241899227], 0e0, 1.5234266563316968e-15);
    assert_close("ema of encoder/dense/bias", &average(&state.variables[1]), &[1.4563620539521183_f64, 1.5622594832134504, 0.501942024840831], 0e0, 1.5234266563316968e-15);
    assert_close("v of encoder/norm_1/gamma", &optimizer.second_moment(2), &[0.6036970719486667_f64, 0.22610002012793742, 0.5957043893304038], 5.329070518200751e-15, 2.2250738585072014e-308);
    assert_close("var of encoder/norm_1/gamma", &x2, &[-1.0799851105962484_f64, 1.31165180314144, 0.48955328526511316], 0e0, 1.4757963418758703e-15);
    assert_close("ema of encoder/norm_1/gamma", &average(&state.variables[2]), &[-1.2817499467366325_f64, 1.513416639281824, 0.6913181214054973], 0e0, 1.4757963418758703e-15);
    assert_close("v of decoder/Bias_2", &optimizer.second_moment(3), &[1.0787329689754517_f64, 1.412601838147387], 5.329070518200751e-15, 2.2250738585072014e-308);
    assert_close("var of decoder/Bias_2", &x3, &[1.655767655734351_f64, 1.2471667831603537], 0e0, 1.5625306686020117e-15);
    assert_close("ema of decoder/Bias_2", &average(&state.variables[3]), &[1.492820830376667_f64, 1.5583485672054276], 0e0, 1.5625306686020117e-15);
    assert_close("v of scale", &optimizer.second_moment(4), &[1.1894595159253434_f64], 5.329070518200751e-15, 2.2250738585072014e-308);
    assert_close("var of scale", &x4, &[0.7904182810070312_f64], 0e0, 7.459094884598466e-16);
    assert_close("ema of scale", &average(&state.variables[4]), &[0.7186639979039555_f64], 0e0, 7.459094884598466e-16);
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

fn factors(state: &VariableState) -> (Vec<f64>, Vec<f64>) {
    match &state.second_moment {
        SecondMoment::Factored { row_factor, column_factor } => {
            (row_factor.to_vec(), column_factor.to_vec())
        }
        SecondMoment::Full(values) => (values.to_vec(), Vec::new()),
    }
}

fn average(state: &VariableState) -> Vec<f64> {
    state.average.as_ref().map(|average| average.to_vec()).unwrap_or_default()
}
