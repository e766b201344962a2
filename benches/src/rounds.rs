//! One block: contestants that take turns in random order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::contestant::Task;
use crate::measure::to_f64;
use crate::process::Process;
use crate::record::Entrant;
use crate::statistics::random_below;

/// Steps before the first sample: the first, which may compile, and two more.
pub const STEPS_BEFORE: u32 = 3;
/// A step that is faster is made once, untimed, before each sample, so that threads are awake and
/// caches hold what they can.
const WARMED_NS: f64 = 50e6;

/// How long samples and blocks are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Rounds, where a step takes less than a second.
    pub rounds: usize,
    /// At least so many where it takes longer.
    pub least_rounds: usize,
    /// A sample is as many steps as take about so long.
    pub sample_ns: f64,
    /// Blocks whose steps take longer than [`slow_ns`](Self::slow_ns) end after about so long.
    pub block_s: f64,
    /// See there.
    pub slow_ns: f64,
}

impl Effort {
    /// For numbers that are published.
    pub const FULL: Self =
        Self { rounds: 31, least_rounds: 7, sample_ns: 2e7, block_s: 15.0, slow_ns: 1e9 };
    /// For a glance.
    pub const QUICK: Self =
        Self { rounds: 15, least_rounds: 3, sample_ns: 4e6, block_s: 3.0, slow_ns: 0.0 };
}

/// What a process is asked to do in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Steps.
    Step,
    /// The least memory traffic of a step.
    Stream,
}

/// Whose turn it can be.
#[derive(Debug)]
pub struct Turn {
    /// The name in results.
    pub name: String,
    /// The process, by position.
    pub process: usize,
    /// What it is asked.
    pub call: Call,
}

/// Has a process construct its optimizer and make the first steps; everything but samples.
///
/// # Errors
/// What the contestant refuses.
pub fn introduce(process: &mut Process, task: &Task, name: &str) -> Result<Entrant> {
    process.prepare(task).with_context(|| format!("{name} must prepare"))?;
    process.forget_peak();
    let before = process.memory();
    let build_ns = process.build().with_context(|| format!("{name} must build"))?;
    let first_ns = process.step(1).with_context(|| format!("{name} must step"))?;
    let _steps = process.step(STEPS_BEFORE - 1)?;
    let after = process.memory();
    let facts = process.facts()?;
    let memory_bytes = before.zip(after).map(|(before, after)| after.1.saturating_sub(before.0));
    Ok(Entrant {
        name: name.to_owned(),
        versions: process.introduction().versions.clone(),
        count: 0,
        ns: Vec::new(),
        build_ns: Some(whole(build_ns)),
        first_ns: Some(whole(first_ns)),
        state_bytes: Some(facts.state_bytes),
        memory_bytes,
        change: Some(facts.change),
        expected_change: None,
    })
}

/// Samples of all turns, in rounds; whether it was interrupted.
///
/// # Errors
/// A contestant that ends or refuses.
pub fn take_turns(
    processes: &mut [Process],
    turns: &[Turn],
    entrants: &mut [Entrant],
    effort: Effort,
    stop: &AtomicBool,
) -> Result<bool> {
    let mut counts = Vec::with_capacity(turns.len());
    let mut slowest = 0.0_f64;
    for turn in turns {
        let once = [1, 1].into_iter().map(|count| sample(processes, turn, count));
        let once = once.collect::<Result<Vec<f64>>>()?;
        let once = once.into_iter().fold(f64::INFINITY, f64::min).max(1.0);
        slowest = slowest.max(once);
        counts.push((effort.sample_ns / once).clamp(1.0, 1e6));
    }
    let mut order: Vec<usize> = (0..turns.len()).collect();
    let mut state = 0x9e37_79b9_u32;
    let start = Instant::now();
    for (entrant, count) in entrants.iter_mut().zip(&counts) {
        entrant.count = rounded(*count);
    }
    for round in 0..effort.rounds {
        let late = start.elapsed().as_secs_f64() > effort.block_s && slowest > effort.slow_ns;
        if late && round >= effort.least_rounds {
            break;
        }
        for end in (1..order.len()).rev() {
            order.swap(end, random_below(end + 1, &mut state));
        }
        let mut taken = vec![0; turns.len()];
        for &index in &order {
            if stop.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let (turn, count) = (&turns[index], entrants[index].count);
            let known = effort.sample_ns / counts[index];
            if known < WARMED_NS {
                let _untimed = sample(processes, turn, 1)?;
            }
            taken[index] = whole(sample(processes, turn, count)? / f64::from(count));
        }
        // Only whole rounds: samples of one position are a pair.
        for (entrant, ns) in entrants.iter_mut().zip(taken) {
            entrant.ns.push(ns);
        }
    }
    Ok(false)
}

fn sample(processes: &mut [Process], turn: &Turn, count: u32) -> Result<f64> {
    let process = processes.get_mut(turn.process).context("a turn must have a process")?;
    let ns = match turn.call {
        Call::Step => process.step(count),
        Call::Stream => process.stream(count),
    };
    ns.with_context(|| turn.name.clone())
}

/// Nanoseconds without their fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
fn whole(ns: f64) -> u64 {
    ns.round() as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1e6")]
fn rounded(count: f64) -> u32 {
    count as u32
}

/// Seconds that a block of that many elements may take, for an estimate of the time left.
#[must_use]
pub fn expected_seconds(elements: usize, has_peer: bool) -> f64 {
    let share = if has_peer { 1.5e-7 } else { 0.5e-7 };
    1.0 + to_f64(elements) * share
}
