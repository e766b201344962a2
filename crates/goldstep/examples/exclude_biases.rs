//! Many parameters, with biases and norms excluded from weight decay by name.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use goldstep::cpu::Adafactor;
use goldstep::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList};

fn main() -> Result<(), Error> {
    let mut list = Vec::new();
    for layer in 0..12 {
        for (name, shape) in [("kernel", vec![64, 64]), ("bias", vec![64]), ("norm", vec![64])] {
            list.push(Parameter::new(format!("layer_{layer}/{name}"), &shape)?);
        }
    }
    let mut parameters = ParameterList::new(list)?;
    // Regular expressions, searched for anywhere in a name, as in Keras.
    parameters.exclude_from_weight_decay(&["/bias$", "/norm$"])?;

    let arguments = AdafactorArguments::builder().learning_rate(0.01).weight_decay(0.1).build()?;
    let mut optimizer = Adafactor::build(&arguments, &parameters)?;

    let mut values: Vec<Vec<f32>> = parameters.iter().map(|p| vec![1.0; p.elements()]).collect();
    // Gradients of zero: what moves now, moves by weight decay alone.
    let zeros: Vec<Vec<f32>> = parameters.iter().map(|p| vec![0.0; p.elements()]).collect();
    let gradients: Vec<_> = zeros.iter().map(|g| Some(Gradient::Dense(g))).collect();
    for _ in 0..10 {
        let mut views: Vec<&mut [f32]> = values.iter_mut().map(Vec::as_mut_slice).collect();
        optimizer.step(&mut views, &gradients)?;
    }
    for (parameter, values) in parameters.iter().zip(&values).take(3) {
        println!("{:16} decays {:5}  now {}", parameter.name(), parameter.decays(), values[0]);
        assert_eq!(values[0] < 1.0, parameter.decays());
    }
    Ok(())
}
