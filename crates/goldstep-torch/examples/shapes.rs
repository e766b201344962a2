//! Trains a small convolutional network with Adafactor through a `VarStore`: which of four shapes
//! – horizontal bar, vertical bar, cross, frame – is drawn in a noisy 12 × 12 image?
//!
//! ```text
//! cargo run --release -p goldstep-torch --features libtorch --example shapes
//! ```

#![expect(clippy::print_stdout, reason = "an example shows its results")]

use goldstep_core::{AdafactorArguments, SecondMomentUnderflow};
use goldstep_torch::Optimizer;
use tch::nn::{self, ModuleT};
use tch::{Device, IndexOp, Kind, Tensor};

const SIDE: i64 = 12;
const STEPS: u32 = 400;
const BATCH: i64 = 64;
/// Each shape is drawn at up to two pixels from the middle in each direction.
const PLACES: i64 = 25;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let outcome = train(STEPS, |step, loss| println!("step {step:>3}  loss {loss:.4}"))?;
    println!("held out   loss {:.4}   accuracy {:.3}", outcome.loss, outcome.accuracy);
    Ok(())
}

/// How good the network is on images that it has not seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Mean cross-entropy; ln 4 = 1.386 for guessing.
    pub(crate) loss: f64,
    /// Share of right answers.
    pub(crate) accuracy: f64,
}

/// Trains from a fixed seed; `report` gets the loss of every fiftieth batch.
///
/// # Errors
/// Those of the optimizer and of libtorch.
pub(crate) fn train(
    steps: u32,
    mut report: impl FnMut(u32, f64),
) -> Result<Outcome, Box<dyn std::error::Error>> {
    // One thread and a fixed seed: the same losses in every run.
    tch::set_num_threads(1);
    tch::manual_seed(20_240_607);
    let store = nn::VarStore::new(Device::Cpu);
    let (network, bank) = (network(&store.root()), bank());
    // The whole port of a program that used `nn::AdamW::default().build(&store, 1e-3)?`.
    // Units that no image excites leave whole rows and columns without a gradient; where they cross,
    // Keras's Adafactor turns the matrix into NaN. `Finite` is the way to train nevertheless.
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.05)
        .weight_decay(0.001)
        .second_moment_underflow(SecondMomentUnderflow::Finite)
        .build()?;
    let mut optimizer = Optimizer::new(&store, &arguments)?;
    optimizer.exclude_from_weight_decay(&["bias"])?;

    for step in 1..=steps {
        let (images, labels) = batch(&bank, BATCH);
        let loss = network.forward_t(&images, true).cross_entropy_for_logits(&labels);
        optimizer.backward_step_clip_norm(&loss, 5.0)?;
        if step % 50 == 0 || step == 1 {
            report(step, f64::try_from(&loss)?);
        }
    }

    let (images, labels) = batch(&bank, 1024);
    let logits = tch::no_grad(|| network.forward_t(&images, false));
    Ok(Outcome {
        loss: f64::try_from(logits.cross_entropy_for_logits(&labels))?,
        accuracy: f64::try_from(logits.accuracy_for_logits(&labels))?,
    })
}

fn network(root: &nn::Path<'_>) -> nn::SequentialT {
    let convolution = |name: &str, from, to| {
        nn::conv2d(root / name, from, to, 3, nn::ConvConfig { padding: 1, ..Default::default() })
    };
    nn::seq_t()
        .add(convolution("first", 1, 8))
        .add_fn(|x| x.relu().max_pool2d_default(2))
        .add(convolution("second", 8, 16))
        .add_fn(|x| x.relu().max_pool2d_default(2).flat_view())
        .add(nn::linear(root / "hidden", 16 * 9, 32, nn::LinearConfig::default()))
        .add_fn(Tensor::relu)
        .add(nn::linear(root / "output", 32, 4, nn::LinearConfig::default()))
}

/// Every shape at every place: `[4 · 25, 12, 12]`, the places of a shape one after another.
fn bank() -> Tensor {
    let clean = Tensor::zeros([4, SIDE, SIDE], (Kind::Float, Device::Cpu));
    let ink = |mut part: Tensor| {
        let _part = part.fill_(1.0);
    };
    for shape in [0, 2] {
        ink(clean.i((shape, 5..7, 2..10)));
    }
    for shape in [1, 2] {
        ink(clean.i((shape, 2..10, 5..7)));
    }
    for edge in [2, 9] {
        ink(clean.i((3, edge, 2..10)));
        ink(clean.i((3, 2..10, edge)));
    }
    let places = (-2..=2).flat_map(|down| (-2..=2).map(move |right| [down, right]));
    let moved: Vec<Tensor> = places.map(|place| clean.roll(place, [1, 2])).collect();
    Tensor::stack(&moved, 1).view([4 * PLACES, SIDE, SIDE])
}

/// Noisy images of shape `[count, 1, 12, 12]` and the numbers of their shapes.
fn batch(bank: &Tensor, count: i64) -> (Tensor, Tensor) {
    let images = Tensor::randint(4 * PLACES, [count], (Kind::Int64, Device::Cpu));
    let noise = Tensor::randn([count, 1, SIDE, SIDE], (Kind::Float, Device::Cpu)) * 0.6;
    let labels = images.divide_scalar_mode(PLACES, "floor");
    (bank.index_select(0, &images).unsqueeze(1) + noise, labels)
}
