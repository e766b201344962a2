//! Adafactor on libtorch through [tch](https://docs.rs/tch), in place, on a CPU or a CUDA device.
//!
//! The optimizer needs the feature `libtorch` and libtorch 2.13.0, which `cargo xtask libtorch`
//! fetches; without the feature this crate is empty and builds anywhere.
#![cfg_attr(
    feature = "libtorch",
    doc = r"
[`Optimizer`] has the methods of `tch::nn::Optimizer` for a `VarStore`; [`Adafactor`] works on
a list of tensors.

```
use goldstep_core::AdafactorArguments;
use goldstep_torch::Optimizer;
use tch::{nn, nn::Module, Device, Kind, Tensor};

let store = nn::VarStore::new(Device::Cpu);
let layer = nn::linear(store.root(), 4, 1, Default::default());
let arguments = AdafactorArguments::builder().learning_rate(0.05).build()?;
let mut optimizer = Optimizer::new(&store, &arguments)?;
let inputs = Tensor::ones([8, 4], (Kind::Float, Device::Cpu));
for _ in 0..3 {
    let loss = layer.forward(&inputs).square().mean(Kind::Float);
    optimizer.backward_step(&loss)?;
}
assert_eq!(optimizer.iterations(), 3);
# Ok::<(), goldstep_core::Error>(())
```

A call that returns an error has changed nothing. The exception is an error of libtorch itself,
[`Error::Backend`](goldstep_core::Error::Backend), as when memory runs out: parameters before the
one that it names may have moved, and `iterations` has not.
"
)]

#[cfg(feature = "libtorch")]
mod adafactor;
#[cfg(feature = "libtorch")]
mod device;
#[cfg(feature = "libtorch")]
mod error;
#[cfg(feature = "libtorch")]
mod optimizer;
#[cfg(feature = "worker")]
pub mod worker;

#[cfg(feature = "libtorch")]
pub use adafactor::{Adafactor, Gradient};
#[cfg(feature = "libtorch")]
pub use device::{DeviceError, device_from_name};
#[cfg(feature = "libtorch")]
pub use optimizer::Optimizer;
