//! The judge against a parrot: an implementation that repeats what a case expects, but for what a
//! test changes. So each rule is seen to accept and to reject, on both sides of its tolerance.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper may panic")]

mod numbers;
mod parrot;
mod refusals;
mod runs;
