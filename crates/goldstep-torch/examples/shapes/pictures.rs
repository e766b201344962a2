//! Noisy 12 × 12 images of four shapes, and a network that tells them apart.

use tch::nn::{self, ModuleT};
use tch::{Device, IndexOp, Kind, Tensor};

const SIDE: i64 = 12;
/// Each shape is drawn at up to two pixels from the middle in each direction.
const PLACES: i64 = 25;

/// Cross-entropy and share of right answers.
pub(crate) type Outcome = Result<(f64, f64), Box<dyn std::error::Error>>;

/// How good a network is on images that it has not seen; guessing has a cross-entropy of ln 4.
pub(crate) fn held_out(network: &nn::SequentialT, bank: &Tensor) -> Outcome {
    let (images, labels) = batch(bank, 1024);
    let logits = tch::no_grad(|| network.forward_t(&images, false));
    let loss = f64::try_from(logits.cross_entropy_for_logits(&labels))?;
    Ok((loss, f64::try_from(logits.accuracy_for_logits(&labels))?))
}

/// Two convolutions and two dense layers.
pub(crate) fn network(root: &nn::Path<'_>) -> nn::SequentialT {
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
pub(crate) fn bank() -> Tensor {
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
pub(crate) fn batch(bank: &Tensor, count: i64) -> (Tensor, Tensor) {
    let images = Tensor::randint(4 * PLACES, [count], (Kind::Int64, Device::Cpu));
    let noise = Tensor::randn([count, 1, SIDE, SIDE], (Kind::Float, Device::Cpu)) * 0.6;
    let labels = images.divide_scalar_mode(PLACES, "floor");
    (bank.index_select(0, &images).unsqueeze(1) + noise, labels)
}
