//! Steps against the least memory traffic.

use anyhow::Result;
use benches::bound::{Case, GROWTH, Part, Row, TABLE_HEAD, Target};
use benches::machine::Machine;
use benches::measure::Effort;
use benches::workloads::Workload;

#[derive(Debug, clap::Args)]
pub(crate) struct Bound {
    /// Only these parts of the suite; all by default.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Only rows whose workload or variant contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// One parameter of this shape on one thread, instead of the suite's cases: `512x512`
    #[arg(long)]
    shape: Option<String>,
    /// Fewer and shorter rounds, for a glance.
    #[arg(long)]
    quick: bool,
}

impl Bound {
    pub(crate) fn run(&self) -> Result<()> {
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        let parts = if self.part.is_empty() { &Part::ALL[..] } else { &self.part };
        println!("{}\n\n{TABLE_HEAD}", Machine::here());
        if let Some(shape) = &self.shape {
            let axes = shape.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
            println!("{}", Case::new(Workload::one(&axes), 1, Target::None).measure(effort)?);
            return Ok(());
        }
        let mut skipped = Vec::new();
        let mut growth = Vec::new();
        for part in parts {
            for case in part.cases()? {
                let label = format!("{} {}", case.workload.name, case.variant);
                if !label.contains(&self.only) {
                    continue;
                }
                if let Some(reason) = case.lack_of_memory() {
                    skipped.push(format!("{label}: {reason}"));
                    continue;
                }
                let row = case.measure(effort)?;
                println!("{row}");
                if case.variant == GROWTH && case.is_beyond_caches() {
                    growth.push(row.step_ns());
                }
            }
        }
        if growth.len() > 1 {
            println!("\n{}", Row::growth(&growth));
        }
        if !skipped.is_empty() {
            println!("\nNot measured: {}.", skipped.join("; "));
        }
        Ok(())
    }
}
