//! The measuring program behind `cargo xtask bench`.
#![expect(clippy::print_stdout, reason = "results of commands go to standard output")]

use anyhow::Result;
use benches::bound::{Part, TABLE_HEAD, cases};
use benches::machine::Machine;
use benches::measure::Effort;
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
