//! The table of all rows: ours alone.

use std::fmt::Write as _;

use super::{NOTHING, duration, figure, ratio, threads_phrase};
use crate::measure::to_f64;
use crate::record::Results;

/// A line per row and number of threads, in Markdown.
#[must_use]
pub fn rows(results: &Results) -> String {
    let mut text = String::from(
        "| row | | bound, ns | cpu, ns | share of the bound | cpu against itself | torch, ns | \
         reference, ns | instructions | state, bytes | construction | first step |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in results.row_names() {
        for threads in results.thread_counts() {
            let Some(block) = results.block(row, threads, None) else { continue };
            let Some(cpu) = block.entrant("cpu") else { continue };
            let share = match (results.complaint("cpu", block, cpu), ratio(block, "bound", "cpu")) {
                (None, Some(share)) => format!(
                    "{:.0} % ({:.0}–{:.0})",
                    100.0 * share.median,
                    100.0 * share.low,
                    100.0 * share.high
                ),
                _ => NOTHING.to_owned(),
            };
            let noise = ratio(block, "cpu again", "cpu").map_or(NOTHING.to_owned(), |noise| {
                format!("{} ({}–{})", figure(noise.median), figure(noise.low), figure(noise.high))
            });
            #[expect(clippy::cast_precision_loss, reason = "bytes and nanoseconds below 2^53")]
            let number = |value: Option<u64>, shown: &dyn Fn(f64) -> String| {
                value.map_or(NOTHING.to_owned(), |value| shown(value as f64))
            };
            let counted = results.instructions.iter().find(|one| one.row == row && threads == 1);
            let counted = counted.map_or(NOTHING.to_owned(), |one| figure(one.per_parameter));
            let per_parameter = |bytes: f64| figure(bytes / to_f64(block.elements));
            let _ = writeln!(
                text,
                "| {row} | {} | {} | {} | {share} | {noise} | {} | {} | {counted} | {} | {} | {} |",
                threads_phrase(threads),
                results.own_cell(row, threads, "bound"),
                results.own_cell(row, threads, "cpu"),
                results.own_cell(row, threads, "torch"),
                results.own_cell(row, threads, "reference"),
                number(cpu.state_bytes, &per_parameter),
                number(cpu.build_ns, &duration),
                number(cpu.first_ns, &duration),
            );
        }
    }
    text
}
