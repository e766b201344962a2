//! Instructions per parameter, counted by callgrind: a figure without noise, which a check may gate.
//!
//! Two runs of the same contestant differ in a number of steps alone, so that their difference is
//! what these steps took.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::contestant::{Request, Task};
use crate::measure::to_f64;

/// The instruction set: callgrind knows no AVX-512.
pub const ISA: &str = "avx2";
/// Steps of the shorter run: the first ones also set up.
const BEFORE: u32 = 2;
/// Steps more in the longer run.
const STEPS: u32 = 2;

/// Whether callgrind is there.
#[must_use]
pub fn is_possible() -> bool {
    let version = Command::new("valgrind").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// Instructions of a step of goldstep-cpu per parameter, on one thread.
///
/// # Errors
/// A valgrind that fails or says no number.
pub fn per_parameter(program: &Path, task: &Task) -> Result<f64> {
    let elements: usize = task.shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    let (short, long) = (count(program, task, BEFORE)?, count(program, task, BEFORE + STEPS)?);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let difference = long.saturating_sub(short) as f64;
    Ok(difference / f64::from(STEPS) / to_f64(elements))
}

fn count(program: &Path, task: &Task, steps: u32) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program).args(["contestant", "cpu"]).env("GOLDSTEP_ISA", ISA);
    valgrind.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = valgrind.spawn().context("valgrind must start")?;
    let mut input = child.stdin.take().context("standard input")?;
    let requests =
        [Request::Prepare { task: task.clone() }, Request::Build, Request::Step { count: steps }];
    for request in &requests {
        writeln!(input, "{}", serde_json::to_string(request)?)?;
    }
    drop(input);
    let output = child.wait_with_output().context("valgrind must end")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed with {}", output.status);
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = collected.context("callgrind must say what it collected")?;
    number.trim().parse().context("a number of instructions")
}
