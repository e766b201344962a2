//! A training loop on ndarray: linear regression with a bias.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(clippy::cast_precision_loss, reason = "sizes here are small")]

use goldstep::cpu::Adafactor;
use goldstep::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
use ndarray::{Array1, Array2, Axis, array};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // y = x · [[2], [−1]] + 0.5, to be found from 64 samples.
    let x = Array2::from_shape_fn((64, 2), |(i, j)| (i as f32 * 7.0 + j as f32 * 13.0).sin());
    let y = x.dot(&array![[2.0], [-1.0]]) + 0.5;

    let (mut kernel, mut bias) = (Array2::<f32>::zeros((2, 1)), Array1::<f32>::zeros(1));
    let parameters = ParameterList::new(vec![
        Parameter::new("dense/kernel", kernel.shape())?,
        Parameter::new("dense/bias", bias.shape())?,
    ])?;
    let arguments = AdafactorArguments::builder().learning_rate(0.3).epsilon_2(0.1).build()?;
    let mut optimizer = Adafactor::build(&arguments, &parameters)?;

    let mut loss = f32::INFINITY;
    for _ in 0..2000 {
        let error = x.dot(&kernel) + &bias - &y;
        loss = error.mapv(|e| e * e).mean().unwrap_or(0.0);
        let scale = 2.0 / x.nrows() as f32;
        let (g_kernel, g_bias) = (x.t().dot(&error) * scale, error.sum_axis(Axis(0)) * scale);
        let dense = |g| Some(Gradient::Dense(g));
        let gradients = [g_kernel.as_slice().and_then(dense), g_bias.as_slice().and_then(dense)];
        let (Some(w), Some(b)) = (kernel.as_slice_mut(), bias.as_slice_mut()) else { break };
        optimizer.step(&mut [w, b], &gradients)?;
    }
    println!("loss {loss:.6} with kernel {kernel} and bias {bias}");
    assert!(loss < 1e-3);
    Ok(())
}
