//! Saves a run, resumes it in what could be another process, and ends with the same bits.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use goldstep::cpu::Adafactor;
use goldstep::{AdafactorArguments, Checkpoint, Error, Gradient, HostOptimizer};
use goldstep::{Parameter, ParameterList};

fn train(optimizer: &mut Adafactor<f32>, w: &mut [f32], steps: u32) -> Result<(), Error> {
    for _ in 0..steps {
        let gradient: Vec<f32> = w.iter().map(|x| 2.0 * (x - 1.0)).collect();
        optimizer.step(&mut [&mut *w], &[Some(Gradient::Dense(&gradient))])?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("run.safetensors");
    let arguments = AdafactorArguments::builder().learning_rate(0.1).use_ema(true).build()?;
    let parameters = ParameterList::new(vec![Parameter::new("w", &[2, 2])?])?;

    let mut optimizer = Adafactor::build(&arguments, &parameters)?;
    let mut w = [0.0, 2.0, -3.0, 4.0];
    train(&mut optimizer, &mut w, 50)?;
    Checkpoint::of(&optimizer)?.with_variables(&[&w])?.save(&path)?;
    train(&mut optimizer, &mut w, 50)?;

    let checkpoint = Checkpoint::load(&path)?;
    let mut resumed: Adafactor<f32> = checkpoint.restore(&parameters)?;
    let mut again = [0.0; 4];
    checkpoint.copy_variables_to(&mut [&mut again])?;
    train(&mut resumed, &mut again, 50)?;
    println!("uninterrupted {w:?}\nresumed       {again:?}");
    assert_eq!(w.map(f32::to_bits), again.map(f32::to_bits));
    Ok(())
}
