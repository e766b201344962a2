//! Mutates inputs that parse and feeds them to a target.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Growth of the process's peak memory that a target may cause, in KiB.
const MOST_MEMORY: u64 = 256 * 1024;
const TOKENS: [&str; 16] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-1e-999",
    "18446744073709551616",
    "9223372036854775807",
    "4611686018427387904",
    "\"NaN\"",
    "\"-Infinity\"",
    "[",
    "{",
    "\"\"",
    "[[[[[[[[",
    "\u{fffd}",
];

/// A small generator of random numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit.max(1)
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// One to four mutations.
    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let (start, end) = self.range(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => {
                    let bit = 1 << self.below(8);
                    let at = self.below(bytes.len());
                    bytes[at] ^= bit;
                }
                1 => drop(bytes.drain(start..end)),
                2 => {
                    let copy = bytes[start..end].to_vec();
                    bytes.splice(start..start, copy);
                }
                3 => drop(bytes.splice(start..end, self.pick(&TOKENS).bytes())),
                4 => bytes.truncate(start),
                5 => {
                    let (number, end) = digits(&bytes, start);
                    drop(bytes.splice(number..end, self.pick(&TOKENS).bytes()));
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let (from, to) = self.range(other.len());
                    bytes.splice(start..end, other[from..to].iter().copied());
                }
            }
        }
        bytes
    }

    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        (start, (start + self.below(24)).min(length))
    }
}

/// The next number in a text from `start` on.
fn digits(bytes: &[u8], start: usize) -> (usize, usize) {
    let from = bytes[start..].iter().position(u8::is_ascii_digit).map_or(start, |at| start + at);
    let length = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    (from, from + length)
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Feeds `target`, which says whether it took the input: every seed, then `inputs` mutations, or for
/// as long as the caller asked, divided among the `parts` of a test.
pub(crate) fn fuzz(
    name: &str,
    inputs: u32,
    parts: u64,
    seeds: &[Vec<u8>],
    mut target: impl FnMut(&[u8], &mut Random) -> bool,
) {
    let mut random = Random(number("GOLDSTEP_FUZZ_SEED").unwrap_or(0x9E37_79B9_7F4A_7C15).max(1));
    for seed in seeds {
        let mut own = Random(random.0);
        assert!(target(seed, &mut own), "{name}: {}", String::from_utf8_lossy(seed));
    }
    let (seconds, most) = (number("GOLDSTEP_FUZZ_SECONDS").map(|all| all / parts), inputs);
    let (start, memory) = (Instant::now(), peak_memory());
    let (mut inputs, mut taken, mut slowest) = (0_u32, 0_u32, Duration::ZERO);
    while seconds.map_or(inputs < most, |limit| start.elapsed() < Duration::from_secs(limit)) {
        let input = random.mutate(seeds);
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input, &mut random)));
        match outcome {
            Ok(accepted) => taken += u32::from(accepted),
            Err(_) => panic!("{name} panicked at {}", String::from_utf8_lossy(&input)),
        }
        slowest = slowest.max(begin.elapsed());
        inputs = inputs.saturating_add(1);
    }
    let growth = peak_memory().saturating_sub(memory);
    println!(
        "{name}: {inputs} inputs, {taken} accepted, slowest {} ms, peak memory grew by {growth} KiB",
        slowest.as_millis()
    );
    assert!(growth < MOST_MEMORY, "{name} took {growth} KiB");
}
