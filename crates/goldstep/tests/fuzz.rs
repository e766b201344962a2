//! Everything that reads what others wrote, fed with damaged input: no panic, no unbounded memory.
//!
//! On stable Rust, so that everybody runs it: seeds that parse, mutated by bytes and by JSON tokens, and
//! for checkpoints re-framed with right lengths and checksums, so that what lies behind them is
//! reached. A plain test run makes a fixed number of inputs; `GOLDSTEP_FUZZ_SECONDS=600` goes on for
//! that long per target.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]
#![expect(clippy::panic, reason = "a finding fails the test")]
#![expect(clippy::print_stdout, reason = "long runs say how far they came")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use goldstep::cpu::Adafactor;
use goldstep::{AdafactorArguments, Checkpoint, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_conformance::golden::Case;
use goldstep_conformance::protocol::serve;
use serde_json::{Map, Value, json};

const INPUTS: u32 = 3000;
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
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
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

/// Feeds `target`, which says whether it took the input.
fn fuzz(name: &str, seeds: &[Vec<u8>], mut target: impl FnMut(&[u8], &mut Random) -> bool) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in seeds {
        assert!(target(seed, &mut Random(0)), "{name}: {}", String::from_utf8_lossy(seed));
    }
    let seconds = std::env::var("GOLDSTEP_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (start, memory) = (Instant::now(), peak_memory());
    let (mut inputs, mut taken) = (0_u32, 0_u32);
    while seconds.map_or(inputs < INPUTS, |limit| start.elapsed() < Duration::from_secs(limit)) {
        let input = random.mutate(seeds);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input, &mut random)));
        match outcome {
            Ok(accepted) => taken += u32::from(accepted),
            Err(_) => panic!("{name} panicked at {}", String::from_utf8_lossy(&input)),
        }
        inputs = inputs.saturating_add(1);
    }
    let growth = peak_memory().saturating_sub(memory);
    println!("{name}: {inputs} inputs, {taken} accepted, peak memory grew by {growth} KiB");
    assert!(growth < MOST_MEMORY, "{name} took {growth} KiB");
}

fn checkpoint() -> Vec<u8> {
    let arguments = AdafactorArguments::builder().use_ema(true).build().unwrap();
    let parameters = [("w", vec![2, 3]), ("b", vec![2])]
        .map(|(name, shape)| Parameter::new(name, &shape).unwrap());
    let parameters = ParameterList::new(parameters.to_vec()).unwrap();
    let mut optimizer = Adafactor::<f32>::build(&arguments, &parameters).unwrap();
    let (mut w, mut b) = ([0.5_f32; 6], [1.0_f32; 2]);
    let gradients = [Some(Gradient::Dense(&[0.1; 6][..])), Some(Gradient::Dense(&[0.2; 2][..]))];
    optimizer.step(&mut [&mut w, &mut b], &gradients).unwrap();
    let mut bytes = Vec::new();
    let checkpoint = Checkpoint::of(&optimizer).unwrap().with_variables(&[&w, &b]).unwrap();
    checkpoint.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn checkpoints() {
    let whole = checkpoint();
    fuzz("checkpoint", &[whole], |input, _| Checkpoint::from_bytes(input).is_ok());
}

/// Headers and metadata behind right lengths and checksums.
#[test]
fn framed_checkpoints() {
    let whole = checkpoint();
    let length = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let (header, data) = (whole[8..8 + length].to_vec(), whole[8 + length..].to_vec());
    let parsed: Value = serde_json::from_slice(&header).unwrap();
    let document = parsed["__metadata__"]["goldstep"].as_str().unwrap().as_bytes().to_vec();
    let framed = |header: &[u8]| {
        [&u64::try_from(header.len()).unwrap().to_le_bytes()[..], header, &data].concat()
    };
    fuzz("checkpoint header", &[header], |input, _| Checkpoint::from_bytes(&framed(input)).is_ok());
    fuzz("checkpoint metadata", &[document], |input, _| {
        let text = String::from_utf8_lossy(input);
        let mut header = parsed.clone();
        let sum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
        header["__metadata__"] = json!({"goldstep": text, "goldstep_crc32": sum});
        Checkpoint::from_bytes(&framed(header.to_string().as_bytes())).is_ok()
    });
}

#[test]
fn keras_configurations() {
    let recorded = include_str!("../../goldstep-core/tests/keras_configs.jsonl");
    let seeds: Vec<Vec<u8>> = recorded.lines().map(|line| line.as_bytes().to_vec()).collect();
    fuzz("keras configuration", &seeds, |input, random| {
        let Ok(config) = serde_json::from_slice::<Map<String, Value>>(input) else { return false };
        let Ok(arguments) = AdafactorArguments::from_keras_config(&config) else { return false };
        // What was taken can be used and written again.
        std::hint::black_box(arguments.learning_rate().at(random.next()));
        let again = arguments.to_keras_config().unwrap();
        assert_eq!(AdafactorArguments::from_keras_config(&again).unwrap(), arguments);
        true
    });
}

const CASE: &str = r#"{"format":"goldstep-case/1","id":"fuzz-1","family":"fuzz","comment":"a seed",
"flags":[],"dtype":"float32","arguments":{"learning_rate":0.5,"use_ema":true},
"variables":[{"name":"w","shape":[2,2],"initial":[1,2,3,4],"constraint":{"type":"non_negative"}}],
"steps":[{"gradients":[[0.1,0.2,0.3,"NaN"]]},{"learning_rate":0.25,
"gradients":[{"indices":[1,-1],"values":[0.5,0.5,1,1]}]}]}"#;

#[test]
fn cases() {
    fuzz("case", &[CASE.as_bytes().to_vec()], |input, _| {
        Case::from_json(Path::new("fuzz.json"), &String::from_utf8_lossy(input)).is_ok()
    });
}

const TRANSCRIPT: &str = r#"{"command":"start","protocol":1}
{"command":"build","seq":1,"dtype":"float32","arguments":{"learning_rate":0.5,"use_ema":true},"exclude_from_weight_decay":["b$"],"variables":[{"name":"w","shape":[2,2],"initial":[1,2,3,4],"constraint":null}]}
{"command":"set_state","seq":2,"iterations":3,"variables":[[1,2,3,4]],"r":[[0.5,0.5]],"c":[[0.5,0.5]],"v":[null],"ema":[[1,2,3,4]]}
{"command":"step","seq":3,"learning_rate":null,"gradients":[[0.1,0.2,0.3,0.4]],"want":["variables","r","c","v","ema","alpha"]}
{"command":"finalize","seq":4}
{"command":"stop"}
"#;

#[test]
fn protocol_messages() {
    let subject = goldstep_reference::conformance::subject();
    fuzz("protocol", &[TRANSCRIPT.as_bytes().to_vec()], |input, _| {
        let mut implementation = (subject.make)().unwrap();
        serve(implementation.as_mut(), input, &mut std::io::sink()).is_ok()
    });
}
