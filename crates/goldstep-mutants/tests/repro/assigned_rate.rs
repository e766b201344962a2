//! What tf.keras gave in schedules/schedules-assigned-schedules-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference, serde_json.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn schedules_assigned_schedules_f32() -> Result<(), Error> {
    let config = serde_json::json!({"learning_rate":{"class_name":"ExponentialDecay","config":{"initial_learning_rate":0.9,"decay_steps":3,"decay_rate":0.7}},"weight_decay":0.03});
    let config = config.as_object().expect("an object");
    let arguments = AdafactorArguments::from_keras_config(config)?;
    let parameters = ParameterList::new(vec![
        Parameter::new("kernel", &[3, 2])?,
        Parameter::new("bias", &[2])?,
    ])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // kernel
    let mut x0 = [-0.8822718_f32, -0.6913999, 0.88812596, -1.5954906, -0.3952618, -1.4696765];
    // bias
    let mut x1 = [-1.2246189_f32, -1.5420697];

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Dense(&[-0.6261329_f32, 1.0822426, 0.63073283, -1.624337, 1.4981165, 0.61906993])),
            Some(Gradient::Dense(&[-1.5418866_f32, -0.6000315])),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.8999999761581421], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of kernel", &factors(&state.variables[0]).0, &[0.7816457_f32, 1.5181472, 1.3138003], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[0]).1, &[1.0114064_f32, 1.3976556], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(0), &[0.6563231_f32, 0.90696836, 1.27474, 1.7615544, 1.1031563, 1.5244442], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x0, &[-0.13229209_f32, -1.7404394, 0.33926857, -0.40253425, -1.7247314, -1.9010892], 0e0, 9.631668405063465e-7);
    assert_close("v of bias", &optimizer.second_moment(1), &[2.3774142_f32, 0.3600378], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[0.0277884_f32, -0.2810912], 0e0, 7.812733784362536e-7);

    // Step 2
    let report = optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Dense(&[-0.18612652_f32, -0.416194, 0.19223905, 0.35153404, 0.3173864, 0.5384356])),
            Some(Gradient::Dense(&[0.24820594_f32, 0.26697242])),
        ],
    )?;
    assert_eq!(report.iterations, 2);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.7991135716438293], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of kernel", &factors(&state.variables[0]).0, &[0.3924004_f32, 0.6923014, 0.67140406], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[0]).1, &[0.4634991_f32, 0.7072381], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(0), &[0.31070545_f32, 0.47409528, 0.54816926, 0.8364335, 0.5316226, 0.8111854], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x0, &[0.16708873_f32, -1.1625137, 0.100805834, -0.73385453, -2.0695298, -2.3858342], 0e0, 1.2798612090136885e-6);
    assert_close("v of bias", &optimizer.second_moment(1), &[1.0473318_f32, 0.19418672], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[-0.0063096657_f32, -0.3578642], 0e0, 8.272306359913273e-7);

    // Step 3
    let report = optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Dense(&[2.3297408_f32, -2.5378637, 2.5283225, 1.1198927, -2.68223, 2.3014936])),
            Some(Gradient::Dense(&[-1.4544405_f32, 1.1790129])),
        ],
    )?;
    assert_eq!(report.iterations, 3);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.7095361351966858], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of kernel", &factors(&state.variables[0]).0, &[2.6936066_f32, 1.9924233, 2.9860597], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[0]).1, &[2.9029126_f32, 2.211814], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(0), &[3.057565_f32, 2.329648, 2.2616384, 1.7232083, 3.3895342, 2.582585], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x0, &[-0.5780628_f32, -0.21228188, -0.8371072, -1.1930815, -1.2145672, -3.1321797], 0e0, 1.7735783757188983e-6);
    assert_close("v of bias", &optimizer.second_moment(1), &[1.490839_f32, 0.6907702], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[0.12388152_f32, -0.50512993], 0e0, 8.73187893546401e-7);
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
