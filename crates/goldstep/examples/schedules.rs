//! A Keras schedule, a schedule of one's own, and a learning rate assigned in mid-run.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use goldstep::cpu::Adafactor;
use goldstep::{AdafactorArguments, Error, Gradient, HostOptimizer, LearningRate};
use goldstep::{LearningRateSchedule, Parameter, ParameterList, Schedule};

/// Linear warm-up to 0.1 in 4 steps, which the six schedules of Keras 2.12 do not have.
#[derive(Debug)]
struct WarmUp;

impl LearningRateSchedule for WarmUp {
    fn at(&self, iterations: u64) -> f32 {
        0.1 * f32::from(u8::try_from(iterations + 1).unwrap_or(4).min(4)) / 4.0
    }
}

fn main() -> Result<(), Error> {
    let parameters = ParameterList::new(vec![Parameter::new("w", &[2])?])?;
    let decay = Schedule::exponential_decay(0.1, 2.0, 0.5, true);
    let rates: [LearningRate; 3] = [0.1.into(), decay.into(), Schedule::custom(WarmUp).into()];
    for rate in rates {
        let constant = matches!(rate, LearningRate::Constant(_));
        let arguments = AdafactorArguments::builder().learning_rate(rate).build()?;
        let mut optimizer = Adafactor::build(&arguments, &parameters)?;
        let mut w = [1.0_f32, -1.0];
        for step in 1..=6 {
            if constant && step == 4 {
                optimizer.set_learning_rate(0.01.into())?;
            }
            let report = optimizer.step(&mut [&mut w], &[Some(Gradient::Dense(&[0.1, 0.2]))])?;
            print!("{:8.4}", report.learning_rate);
        }
        println!("   then w = {w:?}");
    }
    Ok(())
}
