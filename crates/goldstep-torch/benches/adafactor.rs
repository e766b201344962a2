//! The libtorch backend beside `torch.optim.Adafactor` of the same libtorch version, in paired and
//! interleaved samples.
//!
//! ```text
//! GOLDSTEP_PEER_PYTHON=python3 cargo bench -p goldstep-torch --features libtorch
//! ```
//!
//! The Python needs torch 2.13.0. A row is the median time per step of each side, the median of
//! the ratios of pairs, its 95 % bootstrap interval, and the same ratio of our samples among
//! themselves: what is inside that band is noise. Without the variable only our side is measured.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]
#![expect(clippy::cast_precision_loss, reason = "nanoseconds and counts are far below 2^53")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use goldstep_core::{AdafactorArguments, Parameter, ParameterList};
use goldstep_torch::{Adafactor, Gradient};
use tch::{Device, Kind, Tensor};

const SIZES: [u32; 3] = [256, 1024, 4096];
const PAIRS: usize = 31;
/// A sample lasts at least about this long.
const SAMPLE: Duration = Duration::from_millis(40);
/// Between samples, so that the other side's threads have gone to sleep.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let python = std::env::var_os("GOLDSTEP_PEER_PYTHON");
    println!("size   threads  ours ns/param  torch ns/param  ratio  95 % interval  noise  scratch");
    for threads in [1, 2] {
        tch::set_num_threads(threads);
        let mut peer = match &python {
            Some(python) => Some(Peer::start(python, threads)?),
            None => None,
        };
        for size in SIZES {
            row(size, threads, peer.as_mut())?;
        }
    }
    Ok(())
}

fn row(
    size: u32,
    threads: i32,
    mut peer: Option<&mut Peer>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut ours = Ours::new(size)?;
    let warm = ours.sample(3)? / 3.0;
    // As many steps as fill a sample, found by doubling: no cast from a float.
    let mut count = 1_u32;
    while f64::from(count) * warm < SAMPLE.as_nanos() as f64 && count < 2048 {
        count *= 2;
    }
    let repetitions = f64::from(count);
    let peer_repetitions = (repetitions / 6.0).ceil().max(1.0);
    if let Some(peer) = &mut peer {
        peer.sample(size, 2.0)?;
    }
    let elements = f64::from(size) * f64::from(size);
    let (mut own, mut theirs, mut ratios, mut noise) = (vec![], vec![], vec![], vec![]);
    for pair in 0..PAIRS {
        let mut once = || -> Result<f64, Box<dyn std::error::Error>> {
            std::thread::sleep(PAUSE);
            Ok(ours.sample(count)? / repetitions / elements)
        };
        let mut other = || -> Result<Option<f64>, Box<dyn std::error::Error>> {
            let Some(peer) = &mut peer else { return Ok(None) };
            std::thread::sleep(PAUSE);
            Ok(Some(peer.sample(size, peer_repetitions)? / peer_repetitions / elements))
        };
        let (a, b) = if pair % 2 == 0 {
            let a = once()?;
            (a, other()?)
        } else {
            let b = other()?;
            (once()?, b)
        };
        noise.push(once()? / a);
        own.push(a);
        if let Some(b) = b {
            theirs.push(b);
            ratios.push(b / a);
        }
    }
    let (low, high) = interval(&ratios);
    println!(
        "{size:<6} {threads:>7}  {:>13.3}  {:>14.3}  {:>5.2}  {low:.2} – {high:.2}  {:>6.2}  {} KiB",
        median(&own),
        median(&theirs),
        median(&ratios),
        median(&noise),
        ours.optimizer.scratch_bytes() / 1024,
    );
    Ok(())
}

struct Ours {
    optimizer: Adafactor,
    gradient: Tensor,
}

impl Ours {
    fn new(size: u32) -> Result<Self, goldstep_core::Error> {
        let axis = i64::from(size);
        let random = || Tensor::randn([axis, axis], (Kind::Float, Device::Cpu));
        let list = ParameterList::new(vec![Parameter::new("w", &[size as usize, size as usize])?])?;
        let arguments = AdafactorArguments::builder().learning_rate(1e-3).build()?;
        let optimizer = Adafactor::new(&arguments, &list, &[random()])?;
        Ok(Self { optimizer, gradient: random() })
    }

    /// Nanoseconds of that many steps with a fresh gradient.
    fn sample(&mut self, repetitions: u32) -> Result<f64, goldstep_core::Error> {
        let _gradient = self.gradient.normal_(0.0, 1.0);
        let gradients = [Some(Gradient::Tensor(self.gradient.shallow_clone()))];
        let start = Instant::now();
        for _ in 0..repetitions {
            self.optimizer.step(&gradients)?;
        }
        Ok(start.elapsed().as_nanos() as f64)
    }
}

/// The process that runs torch.optim.Adafactor.
struct Peer {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(python: &std::ffi::OsStr, threads: i32) -> Result<Self, Box<dyn std::error::Error>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
        let mut process = Command::new(python)
            .args([script, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().ok_or("the peer must have an input")?;
        let output = process.stdout.take().ok_or("the peer must have an output")?;
        let mut peer = Self { process, input, output: BufReader::new(output).lines() };
        let version = peer.line()?;
        if version != "2.13.0" {
            return Err(format!("peer must run torch 2.13.0, got {version}").into());
        }
        Ok(peer)
    }

    fn sample(&mut self, size: u32, repetitions: f64) -> Result<f64, Box<dyn std::error::Error>> {
        writeln!(self.input, "{size} {repetitions}")?;
        Ok(self.line()?.parse()?)
    }

    fn line(&mut self) -> Result<String, Box<dyn std::error::Error>> {
        Ok(self.output.next().ok_or("the peer must answer, got the end of its output")??)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself at the end of its input; this is for a peer that does not.
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The 95 % interval of the median over 2,000 bootstrap samples.
fn interval(values: &[f64]) -> (f64, f64) {
    let mut state = 1_u64;
    let mut medians: Vec<f64> = (0..2000)
        .map(|_| {
            let sample: Vec<f64> = (0..values.len())
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    values[usize::try_from(state >> 33).unwrap_or(0) % values.len()]
                })
                .collect();
            median(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    (medians[50], medians[1949])
}
