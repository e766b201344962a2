//! The adapter protocol `goldstep-adapter/1`: one JSON object a line on stdin and stdout.
//!
//! [`serve`] is the adapter's side: a Rust program hands it an
//! [`Implementation`](crate::Implementation) and is an adapter. [`AdapterCommand`] and [`Adapter`]
//! are the harness's side, on Unix: a program in any language becomes an `Implementation`.
//!
//! Every message but `start` and `stop` carries `seq`, which the answer echoes. Tensors are flat
//! lists of numbers, or base64 of their little-endian bytes where the adapter announced that.

#[cfg(unix)]
mod adapter;
#[cfg(unix)]
mod answer;
#[cfg(unix)]
mod command;
mod description;
mod item;
#[cfg(unix)]
mod process;
mod request;
mod serve;
mod write;

#[cfg(unix)]
pub use adapter::{Adapter, Incidents};
#[cfg(unix)]
pub use command::{AdapterCommand, CommandLineError, Limits, Line, Transcript};
#[cfg(unix)]
pub use process::end_adapters;
pub use serve::{ServeError, serve};

/// The version of the protocol, as `start` names it.
pub const VERSION: u64 = 1;

/// The longest line that either side accepts: 64 MiB.
pub const LINE_LIMIT: usize = 64 << 20;

/// The intermediates that the protocol knows.
pub const INTERMEDIATES: [&str; 5] =
    ["clipped_gradient", "parameter_rms", "alpha", "update", "update_rms"];
