//! What tf.keras gave in errors/errors-bad-pattern-f32.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_reference::Adafactor;

#[test]
fn errors_bad_pattern_f32() {
    let refusal = run().err().map(|error| error.keras_type());
    assert_eq!(refusal, Some("error"));
}

fn run() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .weight_decay(0.1)
        .build()?;
    let mut parameters = ParameterList::new(vec![
        Parameter::new("kernel", &[3, 2])?,
        Parameter::new("bias", &[3])?,
    ])?;
    parameters.exclude_from_weight_decay(&["(kernel"])?;
    let mut optimizer =
        Adafactor::<f32>::build(&arguments, &parameters)?;
    // kernel
    let mut x0 = [-1.6445544_f32, 0.7024991, 1.3940156, 0.8243673, -1.2381895, 1.026175];
    // bias
    let mut x1 = [1.004076_f32, -1.3883568, 0.8094118];

    // Step 1
    optimizer.step(
        &mut [&mut x0, &mut x1],
        &[
            Some(Gradient::Dense(&[-0.9499612_f32, 0.54360086, -0.9058839, 0.5078475, -0.8022345, -0.95065373])),
            Some(Gradient::Dense(&[-1.5557971_f32, 0.62604225, -1.5651139])),
        ],
    )?;
    Ok(())
}
