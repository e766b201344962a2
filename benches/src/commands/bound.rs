//! Steps against the least memory traffic.

use anyhow::Result;
use benches::bound::{Case, Part, TABLE_HEAD, Target, cases};
use benches::machine::Machine;
use benches::measure::Effort;
use benches::workloads::Workload;
use clap::ValueEnum;

#[derive(Debug, clap::Args)]
pub(crate) struct Bound {
    /// Only these parts of the suite; all by default.
    #[arg(long, value_enum)]
    part: Vec<PartName>,
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PartName {
    /// Square matrices.
    Matrices,
    /// Tall, wide, rank 4, vectors.
    Shapes,
    /// Parameter lists.
    Lists,
    /// Not carried, unaligned, other instruction sets, options.
    Variants,
}

impl Bound {
    pub(crate) fn run(&self) -> Result<()> {
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        let all = [PartName::Matrices, PartName::Shapes, PartName::Lists, PartName::Variants];
        let parts = if self.part.is_empty() { &all[..] } else { &self.part };
        println!("{}\n\n{TABLE_HEAD}", Machine::here());
        if let Some(shape) = &self.shape {
            let axes = shape.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
            println!("{}", Case::new(Workload::one(&axes), 1, Target::None).measure(effort)?);
            return Ok(());
        }
        for part in parts {
            let part = match part {
                PartName::Matrices => Part::Matrices,
                PartName::Shapes => Part::Shapes,
                PartName::Lists => Part::Lists,
                PartName::Variants => Part::Variants,
            };
            for case in cases(part)? {
                let label = format!("{} {}", case.workload.name, case.variant);
                if label.contains(&self.only) {
                    println!("{}", case.measure(effort)?);
                }
            }
        }
        Ok(())
    }
}
