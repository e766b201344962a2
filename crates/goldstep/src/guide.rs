//! From a first training loop to how all of this is tested.
//!
//! For whoever knows tf.keras: [`getting_started`], then [`from_keras`]. For whoever knows Rust but
//! not Adafactor: [`how_adafactor_works`], then [`arguments`].

#[doc = include_str!("../guide/getting_started.md")]
pub mod getting_started {}

#[doc = include_str!("../guide/how_adafactor_works/01_memory.md")]
#[doc = include_str!("../guide/plots/memory.svg")]
#[doc = include_str!("../guide/how_adafactor_works/02_one_step.md")]
pub mod how_adafactor_works {}

#[doc = include_str!("../guide/arguments/01_learning_rate.md")]
#[doc = include_str!("../guide/plots/learning_rate.svg")]
#[doc = include_str!("../guide/arguments/02_schedules.md")]
#[doc = include_str!("../guide/plots/schedules.svg")]
#[doc = include_str!("../guide/arguments/03_beta_2_decay.md")]
#[doc = include_str!("../guide/plots/beta_2_decay.svg")]
#[doc = include_str!("../guide/arguments/04_epsilon_1.md")]
#[doc = include_str!("../guide/plots/epsilon_1.svg")]
#[doc = include_str!("../guide/arguments/05_epsilon_2.md")]
#[doc = include_str!("../guide/plots/epsilon_2.svg")]
#[doc = include_str!("../guide/arguments/06_clip_threshold.md")]
#[doc = include_str!("../guide/plots/clip_threshold.svg")]
#[doc = include_str!("../guide/arguments/07_weight_decay.md")]
#[doc = include_str!("../guide/plots/weight_decay.svg")]
#[doc = include_str!("../guide/arguments/08_clipping.md")]
#[doc = include_str!("../guide/plots/clipping.svg")]
#[doc = include_str!("../guide/arguments/09_ema.md")]
#[doc = include_str!("../guide/plots/ema.svg")]
#[doc = include_str!("../guide/arguments/10_underflow.md")]
pub mod arguments {}

#[doc = include_str!("../guide/from_keras.md")]
pub mod from_keras {}

#[doc = include_str!("../guide/checkpoints.md")]
pub mod checkpoints {}

#[doc = include_str!("../guide/differences.md")]
pub mod differences {}

#[doc = include_str!("../guide/tests.md")]
pub mod tests {}

#[doc = include_str!("../guide/performance.md")]
pub mod performance {}
