//! How Goldstep is measured.
//!
//! - [`bound`]: the suite that measures a step against the least memory traffic it can have, in one
//!   process; [`measure`]: two things timed in turn.
//! - [`plan`]: the rows of the published tables, and the peers; [`workloads`]: lists of shapes;
//!   [`models`]: those of models that people train.
//! - [`contestant`]: what a contestant is; [`contestants`]: ours; [`process`]: one that runs;
//!   [`input`]: the parameters and gradients that all of them make.
//! - [`session`]: a run; [`rounds`]: contestants that take turns; [`record`]: raw samples;
//!   [`statistics`]: what they say; [`instructions`]: counted by callgrind; [`report`]: tables and plots.
//! - [`machine`]: where a measurement was made.

pub mod bound;
pub mod contestant;
pub mod contestants;
pub mod input;
pub mod instructions;
pub mod machine;
pub mod measure;
pub mod models;
pub mod plan;
pub mod process;
pub mod record;
pub mod report;
pub mod rounds;
pub mod session;
pub mod statistics;
pub mod workloads;
