//! The measuring program behind `cargo xtask bench`.
#![expect(clippy::print_stdout, reason = "results of commands go to standard output")]

use anyhow::Result;
use benches::bound::{Case, Part, TABLE_HEAD, Target, cases};
use benches::machine::Machine;
use benches::measure::Effort;
use benches::workloads::Workload;
use clap::{Parser, ValueEnum};

/// Measure optimizers.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long, value_enum, default_value = "bound")]
    suite: Suite,
    /// Only these parts of it; all by default.
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
enum Suite {
    /// Steps against the least memory traffic.
    Bound,
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

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Suite::Bound = arguments.suite;
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let all = [PartName::Matrices, PartName::Shapes, PartName::Lists, PartName::Variants];
    let parts = if arguments.part.is_empty() { &all[..] } else { &arguments.part };
    println!("{}\n\n{TABLE_HEAD}", Machine::here());
    if let Some(shape) = &arguments.shape {
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
            if label.contains(&arguments.only) {
                println!("{}", case.measure(effort)?);
            }
        }
    }
    Ok(())
}
