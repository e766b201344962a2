//! `cargo xtask golden` on copies of small families, with a program in place of the generator.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod drift;
mod interrupted;
mod place;
