//! The tables of the README: everybody on the headline rows.

use std::fmt::Write as _;

use super::{NOTHING, figure, per_parameter, ratio, threads_phrase};
use crate::measure::to_f64;
use crate::plan::{PEERS, Peer};
use crate::record::{Block, Results};

/// Ours, by entrant and title.
const OURS: [(&str, &str); 3] = [
    ("cpu", "**goldstep, cpu**"),
    ("torch", "**goldstep, torch**"),
    ("reference", "**goldstep, reference**"),
];

/// The tables of times, of what they amount to, and of memory, in Markdown.
#[must_use]
pub fn headline(results: &Results) -> String {
    let mut text = String::new();
    for threads in results.thread_counts() {
        let _ = writeln!(
            text,
            "Nanoseconds per parameter and step, {}; in brackets how many times as long as \
             goldstep's cpu backend, measured in turn:\n",
            threads_phrase(threads)
        );
        text.push_str(&times(results, threads));
        text.push('\n');
    }
    text.push_str(&verdicts(results));
    text.push_str(&memory(results));
    text
}

fn times(results: &Results, threads: usize) -> String {
    let rows = results.headline_rows();
    let mut text = head("", &rows);
    let mut line = |title: &str, cells: Vec<String>| {
        if cells.iter().any(|cell| cell != NOTHING) {
            let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
        }
    };
    for (name, title) in OURS {
        let cells = rows.iter().map(|row| own(results, row, threads, name));
        line(title, cells.collect());
    }
    for peer in &PEERS {
        let cells = rows.iter().map(|row| foreign(results, row, threads, peer));
        line(peer.title, cells.collect());
    }
    let cells = rows.iter().map(|row| results.own_cell(row, threads, "bound"));
    line("least memory traffic (the bound)", cells.collect());
    let noise = |row: &&str| {
        let block = results.block(row, threads, None);
        let noise = block.and_then(|block| ratio(block, "cpu again", "cpu"));
        noise.map_or(NOTHING.to_owned(), |noise| {
            format!("{}–{}×", figure(noise.low), figure(noise.high))
        })
    };
    line("cpu against itself", rows.iter().map(noise).collect());
    text
}

fn own(results: &Results, row: &str, threads: usize, name: &str) -> String {
    let cell = results.own_cell(row, threads, name);
    let block = results.block(row, threads, None);
    let times = block.and_then(|block| ratio(block, name, "cpu"));
    match times.filter(|_| name != "cpu" && cell.starts_with(|c: char| c.is_ascii_digit())) {
        Some(times) => format!("{cell} ({}×)", figure(times.median)),
        None => cell,
    }
}

fn foreign(results: &Results, row: &str, threads: usize, peer: &Peer) -> String {
    let Some(block) = results.block(row, threads, Some(peer.name)) else {
        let failed = results.failures.iter().any(|failure| {
            failure.row == row
                && failure.threads == threads
                && failure.peer.as_deref() == Some(peer.name)
        });
        return if failed { "failed" } else { NOTHING }.to_owned();
    };
    let Some(entrant) = block.entrant(peer.name) else { return NOTHING.to_owned() };
    match against(results, block, peer) {
        Ok(times) => format!("{} ({}×)", figure(per_parameter(block, entrant)), figure(times)),
        Err(complaint) => complaint,
    }
}

/// How many times as long as ours a peer took, or why that cannot be said.
fn against(results: &Results, block: &Block, peer: &Peer) -> Result<f64, String> {
    for name in [peer.name, "cpu"] {
        let entrant = block.entrant(name).ok_or_else(|| NOTHING.to_owned())?;
        if let Some(complaint) = results.complaint(name, block, entrant) {
            return Err(complaint);
        }
    }
    let times = ratio(block, peer.name, "cpu").ok_or_else(|| NOTHING.to_owned())?;
    if times.is_noisy() { Err("too noisy".to_owned()) } else { Ok(times.median) }
}

/// What the tables amount to: a line per row and number of threads.
fn verdicts(results: &Results) -> String {
    let mut text = head(
        "How many times as fast",
        &[
            "cpu, against the best Adafactor",
            "cpu, against torch.optim.Adafactor",
            "cpu, against fused AdamW",
            "torch backend, against torch.optim.Adafactor",
        ],
    );
    for threads in results.thread_counts() {
        for row in results.headline_rows() {
            let peer = |peer: &Peer| {
                let block = results.block(row, threads, Some(peer.name))?;
                against(results, block, peer).ok()
            };
            let adafactors = PEERS.iter().filter(|peer| peer.dialect.is_adafactor());
            let best = adafactors
                .filter_map(|one| Some((peer(one)?, one.title)))
                .min_by(|left, right| left.0.total_cmp(&right.0));
            let best = best.map_or(NOTHING.to_owned(), |(times, title)| {
                format!("{} ({title})", figure(times))
            });
            let least = |prefix: &str| {
                let peers = PEERS.iter().filter(|peer| peer.name.starts_with(prefix));
                let least = peers.filter_map(peer).min_by(f64::total_cmp);
                least.map_or(NOTHING.to_owned(), figure)
            };
            let _ = writeln!(
                text,
                "| {row}, {} | {best} | {} | {} | {} |",
                threads_phrase(threads),
                least("torch-adafactor"),
                least("torch-adamw"),
                backend_against_torch(results, row, threads),
            );
        }
    }
    text.push('\n');
    text
}

/// The torch backend against the faster of the two ways of `torch.optim.Adafactor`.
fn backend_against_torch(results: &Results, row: &str, threads: usize) -> String {
    if results.objection("torch").is_some() {
        return NOTHING.to_owned();
    }
    let peers = PEERS.iter().filter(|peer| peer.name.starts_with("torch-adafactor"));
    let times = peers.filter_map(|peer| {
        let block = results.block(row, threads, Some(peer.name))?;
        let times = ratio(block, peer.name, "torch")?;
        (!times.is_noisy()).then_some(times.median)
    });
    times.min_by(f64::total_cmp).map_or(NOTHING.to_owned(), figure)
}

/// Bytes per parameter: the state, and what construction and steps added to the process at most.
fn memory(results: &Results) -> String {
    let mut text = String::from(
        "Bytes per parameter: the state that stays, then everything that construction and three \
         steps added to the memory of the process at its peak:\n\n",
    );
    let rows = results.headline_rows();
    text.push_str(&head("", &rows));
    let threads = results.thread_counts().into_iter().max().unwrap_or(1);
    let mut line = |title: &str, name: &str, peer: Option<&str>| {
        let cell = |row: &&str| {
            let block = results.block(row, threads, peer);
            let both = block.and_then(|block| Some((block, block.entrant(name)?)));
            both.map_or(NOTHING.to_owned(), |(block, entrant)| bytes(block, entrant))
        };
        let cells: Vec<String> = rows.iter().map(cell).collect();
        if cells.iter().any(|cell| cell != NOTHING) {
            let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
        }
    };
    for (name, title) in OURS {
        line(title, name, None);
    }
    for peer in &PEERS {
        line(peer.title, peer.name, Some(peer.name));
    }
    text
}

/// Below this many bytes of parameters the noise of a process's memory is larger than a state.
const MEMORY_FROM: usize = 32 << 20;

fn bytes(block: &Block, entrant: &crate::record::Entrant) -> String {
    #[expect(clippy::cast_precision_loss, reason = "bytes, far below 2^53")]
    let per = |bytes: u64| figure(bytes as f64 / to_f64(block.elements));
    let state = entrant.state_bytes.map_or(NOTHING.to_owned(), per);
    match entrant.memory_bytes {
        Some(peak) if block.elements * 4 >= MEMORY_FROM => format!("{state}; {}", per(peak)),
        _ => state,
    }
}

fn head(first: &str, columns: &[&str]) -> String {
    let lines: Vec<&str> = columns.iter().map(|_| "---:").collect();
    format!("| {first} | {} |\n|---|{}|\n", columns.join(" | "), lines.join("|"))
}
