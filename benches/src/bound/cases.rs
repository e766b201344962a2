//! What the suite `bound` measures, and what each row aims for.

use anyhow::Result;
use goldstep_core::AdafactorArguments;
use goldstep_cpu::Isa;

use super::{Case, Target};
use crate::models;
use crate::workloads::Workload;

/// Which part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Matrices of all sizes.
    Matrices,
    /// Tall, wide, rank 4, vectors.
    Shapes,
    /// Real and artificial parameter lists.
    Lists,
    /// The parameters measured again in each step.
    Measured,
    /// Unaligned buffers, options, other instruction sets.
    Variants,
    /// From a million parameters to a thousand million.
    Growth,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Matrices, Self::Shapes, Self::Lists, Self::Measured, Self::Variants, Self::Growth];

    /// Its cases.
    ///
    /// # Errors
    /// Arguments that are refused: none.
    pub fn cases(self) -> Result<Vec<Case>> {
        Ok(match self {
            Self::Matrices => matrices(),
            Self::Shapes => shapes(),
            Self::Lists => lists(),
            Self::Measured => measured(),
            Self::Variants => variants()?,
            Self::Growth => growth(),
        })
    }
}

fn matrices() -> Vec<Case> {
    let aims = [
        (256, 1.8, None),
        (512, 1.25, None),
        (1024, 1.25, Some(1.3)),
        (2048, 1.3, Some(1.35)),
        (4096, 1.2, Some(1.3)),
        (8192, 1.2, Some(1.3)),
    ];
    let of = |(size, one, two): (usize, f64, Option<f64>)| {
        let two = two.map_or(Target::None, Target::Ratio);
        [(1, Target::Ratio(one)), (2, two)]
            .map(|(threads, aim)| Case::new(Workload::matrix(size, size), threads, aim))
    };
    aims.into_iter().flat_map(of).collect()
}

fn shapes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (threads, tall, wide) in
        [(1, Target::Ratio(1.5), Target::Ratio(1.7)), (2, Target::None, Target::None)]
    {
        cases.push(Case::new(Workload::matrix(1_000_000, 8), threads, tall));
        cases.push(Case::new(Workload::matrix(8, 1_000_000), threads, wide));
        for shape in [&[512, 512, 3, 3][..], &[3, 3, 512, 512], &[10_000_000]] {
            cases.push(Case::new(Workload::one(shape), threads, Target::Ratio(1.5)));
        }
    }
    cases
}

fn lists() -> Vec<Case> {
    let mut cases = Vec::new();
    for threads in [1, 2] {
        let small = Target::PerTensorNs(600.0);
        cases.push(Case::new(Workload::many_small(4000), threads, small));
        cases.push(Case::new(models::t5_small(), threads, Target::Ratio(1.3)));
        cases.push(Case::new(models::bert_base(), threads, Target::Ratio(1.3)));
    }
    cases
}

/// The matrices and the long shapes once more, without the carried sum of squares.
fn measured() -> Vec<Case> {
    let cases = matrices().into_iter().chain(shapes());
    let aimed = cases.filter(|case| case.target != Target::None);
    aimed.map(|case| Case { variant: "p measured", carried: false, ..case }).collect()
}

/// Traffic, in bytes per parameter, of a plain step of a large matrix.
const PLAIN_BYTES: f64 = 16.0;

fn variants() -> Result<Vec<Case>> {
    let plain = |size, target| Case::new(Workload::matrix(size, size), 1, target);
    let mut cases = Vec::new();
    for size in [512, 1024, 2048, 4096] {
        let target = Target::OverPlain(1.25);
        cases.push(Case { variant: "16 bytes off", offset: 4, ..plain(size, target) });
    }
    let builder = AdafactorArguments::builder;
    // The bytes that each adds: nothing, nothing, a read of g, a read and a write of the average.
    let options = [
        ("decay", builder().weight_decay(0.01).build()?, 0.0),
        ("clipvalue", builder().clipvalue(1e-3).build()?, 0.0),
        ("clipnorm", builder().clipnorm(1e-3).build()?, 4.0),
        ("global_clipnorm", builder().global_clipnorm(1e-3).build()?, 4.0),
        ("EMA", builder().use_ema(true).build()?, 8.0),
    ];
    for (variant, arguments, bytes) in options {
        // Its own traffic and a tenth.
        let target = Target::OverPlain((PLAIN_BYTES + bytes) / PLAIN_BYTES * 1.1);
        for size in [1024, 4096] {
            cases.push(Case { variant, arguments: arguments.clone(), ..plain(size, target) });
        }
    }
    // A hundredth of the rows, anywhere: a read of the blocks in which they lie, for `Σp²`, and a
    // tenth.
    let embedding = Workload::matrix(100_000, 256);
    let target = Target::OverPlain(4.0 / PLAIN_BYTES + 0.1);
    cases.push(Case {
        variant: "1 % of rows",
        rows: Some(1000),
        ..Case::new(embedding, 1, target)
    });
    for size in [512, 1024, 2048, 4096] {
        for (isa, variant) in Isa::available().into_iter().rev().skip(1).zip(["AVX2", "portable"]) {
            cases.push(Case { variant, isa, ..plain(size, Target::None) });
        }
    }
    Ok(cases)
}

/// Matrices of 1024 columns.
fn growth() -> Vec<Case> {
    let of = |(name, rows): (&str, usize)| {
        let workload = Workload { name: name.to_owned(), shapes: vec![vec![rows, 1024]] };
        Case { variant: GROWTH, ..Case::new(workload, 1, Target::None) }
    };
    [("10⁶", 977), ("10⁷", 9766), ("10⁸", 97_656), ("10⁹", 976_563)].map(of).to_vec()
}

/// The variant of the rows whose time per parameter has to stay the same.
pub const GROWTH: &str = "growth";
