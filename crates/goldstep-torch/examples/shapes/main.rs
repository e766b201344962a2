//! Which shape – horizontal bar, vertical bar, cross, frame – is drawn in a noisy image? Run with
//! `cargo run --release -p goldstep-torch --features libtorch --example shapes`.
#![expect(clippy::print_stdout, reason = "an example shows its results")]

mod pictures;

use goldstep_core::{AdafactorArguments, SecondMomentUnderflow};
use goldstep_torch::Optimizer;
use tch::{Device, nn::ModuleT, nn::VarStore};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (loss, accuracy) = train(400, |step, loss| println!("step {step:>3}  loss {loss:.4}"))?;
    println!("held out   loss {loss:.4}   accuracy {accuracy:.3}");
    Ok(())
}

/// Trains and returns what [`pictures::held_out`] finds.
pub(crate) fn train(steps: u32, mut report: impl FnMut(u32, f64)) -> pictures::Outcome {
    // One thread and a fixed seed: the same losses in every run.
    tch::set_num_threads(1);
    tch::manual_seed(20_240_607);
    let store = VarStore::new(Device::Cpu);
    let (network, bank) = (pictures::network(&store.root()), pictures::bank());
    // Dead units leave rows and columns without a gradient, of which Keras makes NaN.
    let builder = AdafactorArguments::builder().learning_rate(0.05).weight_decay(0.001);
    let arguments = builder.second_moment_underflow(SecondMomentUnderflow::Finite).build()?;
    // In place of `nn::AdamW::default().build(&store, 0.05)?`.
    let mut optimizer = Optimizer::new(&store, &arguments)?;
    optimizer.exclude_from_weight_decay(&["bias"])?;
    for step in 1..=steps {
        let (images, labels) = pictures::batch(&bank, 64);
        let loss = network.forward_t(&images, true).cross_entropy_for_logits(&labels);
        optimizer.backward_step_clip_norm(&loss, 5.0)?;
        if step % 50 == 0 || step == 1 {
            report(step, f64::try_from(&loss)?);
        }
    }
    pictures::held_out(&network, &bank)
}
