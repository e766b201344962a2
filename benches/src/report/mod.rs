//! Tables and plots from raw samples: what is published, and nothing else is.

mod compare;
mod headline;
mod plot;
mod rows;

use crate::measure::to_f64;
use crate::plan::{Extent, Row};
use crate::record::{Block, Entrant, PASSED, Results, Run};
use crate::statistics::{Estimate, median, ratios};

pub use compare::compare;
pub use headline::headline;
pub use plot::plot;
pub use rows::rows;

/// What stands in a cell without a number.
const NOTHING: &str = "–";

/// The blocks that are published, by name.
#[must_use]
pub fn publication(results: &Results) -> [(&'static str, String); 3] {
    let Run { command, commit, date, machine, .. } = &results.run;
    let continued: String = results
        .continued
        .iter()
        .map(|run| format!(", continued on {} at {} by `{}`", run.date, run.commit, run.command))
        .collect();
    let place = format!(
        "Measured on {date} at commit {commit} on {machine}, by `{command}`{continued}. Every number is a \
         median of paired rounds; the samples lie in `benches/results/published.jsonl`. One row \
         alone: `cargo xtask bench --peers all --row 'NAME'`.\n"
    );
    [
        ("performance", format!("{place}\n{}", headline(results))),
        ("performance-place", place),
        ("performance-rows", rows(results)),
    ]
}

impl Results {
    /// The rows that were measured, in the order of the plan.
    fn row_names(&self) -> Vec<&str> {
        in_order(distinct(self.blocks.iter().map(|block| block.row.as_str())))
    }

    /// The numbers of threads that were measured, in their order.
    #[must_use]
    pub fn thread_counts(&self) -> Vec<usize> {
        distinct(self.blocks.iter().map(|block| block.threads))
    }

    /// The rows that any peer was measured on.
    fn headline_rows(&self) -> Vec<&str> {
        let blocks = self.blocks.iter();
        let against: Vec<&str> =
            distinct(blocks.filter(|block| block.peer.is_some()).map(|block| block.row.as_str()));
        self.row_names().into_iter().filter(|row| against.contains(row)).collect()
    }

    /// Why an implementation of ours has no numbers, if that is so.
    fn objection(&self, name: &str) -> Option<&str> {
        let verified = self.run.verified.get(name).map_or("not verified", String::as_str);
        (verified != PASSED).then_some(verified)
    }

    /// Nanoseconds per parameter of one of ours, or why there is no number.
    fn own_cell(&self, row: &str, threads: usize, name: &str) -> String {
        let block = self.block(row, threads, None);
        match block.and_then(|block| Some((block, block.entrant(name)?))) {
            Some((block, entrant)) => match self.complaint(name, block, entrant) {
                Some(complaint) => complaint,
                None => figure(per_parameter(block, entrant)),
            },
            None => NOTHING.to_owned(),
        }
    }

    /// Why this entrant's times are no numbers to publish.
    fn complaint(&self, name: &str, block: &Block, entrant: &Entrant) -> Option<String> {
        if ["cpu", "reference", "torch"].contains(&name)
            && let Some(objection) = self.objection(name)
        {
            return Some(objection.to_owned());
        }
        if entrant.computed_right() == Some(false) {
            return Some("computes something else".to_owned());
        }
        let estimate = Estimate::of(&entrant.samples())?;
        let noisy = estimate.is_noisy() || entrant.ns.is_empty();
        (noisy || block.interrupted && entrant.ns.len() < 5).then(|| "too noisy".to_owned())
    }
}

/// Median nanoseconds per parameter.
fn per_parameter(block: &Block, entrant: &Entrant) -> f64 {
    median(&entrant.samples()) / to_f64(block.elements)
}

/// How many times as long `slow` took as `fast`, pair by pair.
fn ratio(block: &Block, slow: &str, fast: &str) -> Option<Estimate> {
    let (slow, fast) = (block.entrant(slow)?, block.entrant(fast)?);
    Estimate::of(&ratios(&slow.samples(), &fast.samples()))
}

/// Each value once, in the order of the first.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// Rows as the plan has them, whenever they were measured; rows that it no longer has come last.
fn in_order(mut rows: Vec<&str>) -> Vec<&str> {
    let plan: Vec<String> = Extent::Full.rows().iter().map(Row::name).collect();
    rows.sort_by_key(|row| plan.iter().position(|name| name == row).unwrap_or(plan.len()));
    rows
}

/// Three significant digits, never in scientific notation.
#[must_use]
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.09995 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// A time in the unit that suits it.
fn duration(ns: f64) -> String {
    let (unit, scale) = match ns {
        ns if ns < 1e3 => ("ns", 1.0),
        ns if ns < 1e6 => ("µs", 1e3),
        ns if ns < 1e9 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    format!("{} {unit}", figure(ns / scale))
}

/// `1 thread`, `2 threads`.
fn threads_phrase(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::Results;

    /// A run whose steps take `factor` times as long as the bound.
    pub(crate) fn results(factor: f64) -> Results {
        let noisy = |scale: f64| -> Vec<u64> {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            (0..31).map(|round| (scale * (1e6 + 1e3 * f64::from(round % 7))) as u64).collect()
        };
        let entrant = |name: &str, scale: f64| {
            let ns = noisy(scale);
            let value = serde_json::json!({
                "name": name, "versions": {}, "count": 1, "ns": ns, "build_ns": 5000,
                "first_ns": 2_000_000, "state_bytes": 8192, "memory_bytes": 10000,
                "change": 1e-6, "expected_change": 1e-6,
            });
            value
        };
        let block = |peer: Option<&str>, entrants: Vec<serde_json::Value>| {
            serde_json::json!({
                "record": "block", "row": "1024²", "elements": 1_048_576, "tensors": 1,
                "threads": 1, "peer": peer, "interrupted": false, "entrants": entrants,
            })
        };
        let ours = ["cpu", "cpu again"].map(|name| entrant(name, factor));
        let ours = ours.into_iter().chain([entrant("bound", 1.0)]).collect();
        let optax = vec![entrant("cpu", factor), entrant("optax", 8.0 * factor)];
        let mut wrong = entrant("torch-adamw", 4.0);
        wrong["change"] = 1e-3.into();
        let lines = [
            serde_json::json!({
                "record": "run", "format": crate::record::FORMAT, "command": "x", "commit": "c",
                "date": "d", "verified": {"cpu": "passed"},
                "machine": {"processor": "p", "threads": 1, "caches": [], "system": "s",
                    "compiler": "r"},
            }),
            block(None, ours),
            block(Some("optax"), optax),
            block(Some("torch-adamw"), vec![entrant("cpu", factor), wrong]),
        ];
        let lines = lines.map(|line| line.to_string());
        Results::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn numbers_need_a_reason_to_be_there() {
        let mut results = results(1.0);
        let text = headline(&results);
        assert!(text.contains("| optax adafactor, jit | 7.65 (8.00×) |"), "{text}");
        assert!(text.contains("| torch.optim.AdamW, fused | computes something else |"), "{text}");
        results.run.verified.insert("cpu".to_owned(), "failed the goldens".to_owned());
        let text = headline(&results);
        assert!(text.contains("| **goldstep, cpu** | failed the goldens |"), "{text}");
        assert!(!text.contains("8.00×"), "{text}");
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.012_34, 0.1234, 1.234, 12.34, 123.4, 1234.0].map(figure);
        assert_eq!(shown, ["0.0123", "0.123", "1.23", "12.3", "123", "1234"]);
        assert_eq!(figure(f64::NAN), NOTHING);
        assert_eq!([5.0, 5e4, 5e7, 5e9].map(duration), ["5.00 ns", "50.0 µs", "50.0 ms", "5.00 s"]);
    }
}
