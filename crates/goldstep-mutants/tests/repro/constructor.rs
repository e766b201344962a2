//! What tf.keras gave in errors/errors-ema-frequency-fraction-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference, serde_json.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_reference::Adafactor;

#[test]
fn errors_ema_frequency_fraction_f32() {
    let refusal = run().err().map(|error| error.keras_type());
    assert_eq!(refusal, Some("ValueError"));
}

fn run() -> Result<(), Error> {
    let config = serde_json::json!({"use_ema":true,"ema_overwrite_frequency":1.5});
    let config = config.as_object().expect("an object");
    let arguments = AdafactorArguments::from_keras_config(config)?;
    let parameters = ParameterList::new(vec![
        Parameter::new("kernel", &[3, 2])?,
        Parameter::new("bias", &[3])?,
    ])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // kernel
    let mut x0 = [0.3116458_f32, 1.3641187, 0.5046332, 1.297508, -0.6747303, -0.655554];
    // bias
    let mut x1 = [1.1124252_f32, 0.7718483, -1.5428352];

    // Step 1
    optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Dense(&[-0.4029569_f32, 1.0668724, 0.98221964, 0.4242164, 0.33364826, -1.3266257])),
            Some(Gradient::Dense(&[0.85175246_f32, -0.4973706, 0.5775967])),
        ],
    )?;
    Ok(())
}
