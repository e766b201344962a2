//! What tf.keras gave in errors/errors-index-out-of-range-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn errors_index_out_of_range_f32() {
    let refusal = run().err().map(|error| error.keras_type());
    assert_eq!(refusal, Some("InvalidArgumentError"));
}

fn run() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .build()?;
    let parameters = ParameterList::new(vec![
        Parameter::new("kernel", &[3, 2])?,
        Parameter::new("bias", &[3])?,
    ])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // kernel
    let mut x0 = [-1.2699205_f32, 0.8446723, 1.3546964, 0.3211935, 1.6960847, -1.6054065];
    // bias
    let mut x1 = [1.6893905_f32, 0.6037632, 1.5412836];

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Dense(&[1.5974698_f32, 1.2519959, -0.38588843, -1.6620692, -1.3978024, 0.70329064])),
            Some(Gradient::Dense(&[-0.86504954_f32, -1.5072198, -1.1862245])),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.0010000000474974513], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of kernel", &factors(&state.variables[0]).0, &[2.0597017_f32, 1.4556919, 1.2242346], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[0]).1, &[1.551557_f32, 1.6081953], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(0), &[2.0227818_f32, 2.0966218, 1.4295988, 1.4817852, 1.2022903, 1.246179], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x0, &[-1.27135_f32, 0.8435719, 1.3551072, 0.32293123, 1.6977072, -1.6062083], 0e0, 8.601254819495807e-7);
    assert_close("v of bias", &optimizer.second_moment(1), &[0.7483107_f32, 2.2717116, 1.4071285], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[1.6907561_f32, 0.60512877, 1.5426491], 0e0, 8.566037834611961e-7);

    // Step 2
    let report = optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Dense(&[0.49452403_f32, 0.35292, 0.18394268, -0.16306867, 0.2772883, 0.30479026])),
            Some(Gradient::Dense(&[0.23434135_f32, -0.3448858, -0.43530333])),
        ],
    )?;
    assert_eq!(report.iterations, 2);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.0010000000474974513], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("r of kernel", &factors(&state.variables[0]).0, &[0.9827118_f32, 0.6369694, 0.5698547], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[0]).1, &[0.72843933_f32, 0.73125124], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(0), &[0.98081875_f32, 0.9846049, 0.6357423, 0.6381964, 0.56875694, 0.5709524], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of kernel", &x0, &[-1.2719859_f32, 0.84311897, 1.3548135, 0.32319117, 1.6972389, -1.606722], 0e0, 9.107210985348502e-7);
    assert_close("v of bias", &optimizer.second_moment(1), &[0.35005993_f32, 1.0352726, 0.7077782], 2.86102294921875e-6, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &[1.6902148_f32, 0.6055921, 1.5433564], 0e0, 9.069922413118547e-7);

    // Step 3
    optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Sparse { indices: &[0, 3], values: &[-0.89781946_f32, 1.1611894, 1.2234347, 1.3354707] }),
            None,
        ],
    )?;
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
