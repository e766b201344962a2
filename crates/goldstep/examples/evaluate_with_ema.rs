//! Evaluates with averaged parameters: swap the averages in, evaluate, swap back.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use goldstep::cpu::Adafactor;
use goldstep::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList};

/// The distance from the optimum, 0.
fn evaluate(w: &[f32]) -> f32 {
    w.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn main() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .epsilon_2(0.5)
        .use_ema(true)
        .learning_rate(0.2)
        .ema_momentum(0.9)
        .build()?;
    let parameters = ParameterList::new(vec![Parameter::new("w", &[4])?])?;
    let mut optimizer = Adafactor::build(&arguments, &parameters)?;
    let mut w = [1.0_f32, -2.0, 3.0, -4.0];
    for step in 0..400_u32 {
        // The true gradient 2·w, and noise that changes its sign in every step.
        let noise = if step % 2 == 0 { 3.0 } else { -3.0 };
        let gradient = w.map(|x| 2.0 * x + noise);
        optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&gradient))])?;
    }
    let raw = evaluate(&w);
    let trained = w;
    optimizer.finalize_variable_values(&mut [&mut w])?;
    let averaged = evaluate(&w);
    w = trained;
    println!("distance {raw:.4}, with the averages {averaged:.4}; training goes on from {w:?}");
    assert!(averaged < raw);
    Ok(())
}
