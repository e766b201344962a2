//! A network on libtorch: a `VarStore`, as with `tch::nn::Optimizer`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use goldstep::AdafactorArguments;
use goldstep::torch::Optimizer;
use goldstep::torch::tch::nn::{self, Module};
use goldstep::torch::tch::{self, Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tch::manual_seed(1);
    let store = nn::VarStore::new(Device::cuda_if_available());
    let root = store.root();
    let net = nn::seq()
        .add(nn::linear(&root / "hidden", 1, 32, nn::LinearConfig::default()))
        .add_fn(|x| x.tanh())
        .add(nn::linear(&root / "out", 32, 1, nn::LinearConfig::default()));
    let arguments =
        AdafactorArguments::builder().learning_rate(0.05).weight_decay(0.001).build()?;
    let mut optimizer = Optimizer::new(&store, &arguments)?;
    optimizer.exclude_from_weight_decay(&["bias"])?;

    let x = Tensor::linspace(-3.0, 3.0, 128, (Kind::Float, store.device())).view([-1, 1]);
    let y = x.sin();
    let mut loss = f64::INFINITY;
    for _ in 0..500 {
        let error = (net.forward(&x) - &y).square().mean(Kind::Float);
        loss = error.double_value(&[]);
        optimizer.backward_step(&error)?;
    }
    println!("loss {loss:.6} after {} steps", optimizer.iterations());
    assert!(loss < 0.05);
    Ok(())
}
