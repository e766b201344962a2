//! What is measured: rows, and against whom.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::contestant::Task;
use crate::models::{bert_base, t5_small};
use crate::workloads::Workload;

/// The learning rate of every row: small, so that thousands of steps with the same gradient do not
/// carry the parameters away, and large enough that a step can be seen in float32.
pub const LEARNING_RATE: f64 = 1e-4;

/// Parameters up to which the scalar reference is measured as well.
const REFERENCE_LIMIT: usize = 1_100_000;

/// A workload with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The shapes.
    pub workload: Workload,
    /// What differs from the plain case; empty for nothing.
    pub variant: &'static str,
    /// `float32` or `bfloat16`.
    pub dtype: &'static str,
    /// Arguments of Keras's constructor.
    pub arguments: Map<String, Value>,
    /// Whether other libraries are measured on it.
    pub headline: bool,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Extent {
    /// A few rows for a glance, under two minutes.
    Quick,
    /// The rows on which other libraries are measured, about an hour with all of them.
    Headline,
    /// All rows, an hour and more.
    Full,
}

/// Another library's optimizer, in one way of calling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// What is run.
    pub program: Program,
    /// What it computes.
    pub dialect: Dialect,
}

/// What a peer is run with, below `benches/peers/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// A script, in an environment of pinned packages.
    Python {
        /// The file.
        script: &'static str,
        /// What it is told to run.
        mode: &'static str,
        /// The name of the environment.
        environment: &'static str,
    },
    /// A workspace of its own, built on demand.
    Cargo {
        /// The folder.
        folder: &'static str,
    },
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python { environment, .. } => write!(f, "python {environment}"),
            Self::Cargo { folder } => write!(f, "cargo {folder}"),
        }
    }
}

/// What a peer computes, so far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The same as ours, on these inputs.
    Adafactor,
    /// The same, but matrices with an axis below 128 keep a full second moment.
    AdafactorFullBelow128,
    /// `AdamW`: every element moves by the learning rate, since the gradient stays the same.
    AdamW,
}

impl Dialect {
    /// Whether it is Adafactor.
    #[must_use]
    pub const fn is_adafactor(self) -> bool {
        !matches!(self, Self::AdamW)
    }
}

/// All peers, in the order of the tables.
pub const PEERS: [Peer; 10] = [
    Peer {
        name: "torch-adafactor",
        title: "torch.optim.Adafactor, for-loop",
        program: Program::Python {
            script: "torch_optim.py",
            mode: "adafactor-loop",
            environment: "torch",
        },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "torch-adafactor-foreach",
        title: "torch.optim.Adafactor, foreach",
        program: Program::Python {
            script: "torch_optim.py",
            mode: "adafactor-foreach",
            environment: "torch",
        },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "transformers",
        title: "transformers Adafactor",
        program: Program::Python {
            script: "torch_optim.py",
            mode: "transformers",
            environment: "torch",
        },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "keras2-eager",
        title: "Keras 2.12 Adafactor, eager",
        program: Program::Python {
            script: "keras2.py",
            mode: "eager",
            environment: "tensorflow-2.12.1",
        },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "keras2-function",
        title: "Keras 2.12 Adafactor, tf.function",
        program: Program::Python {
            script: "keras2.py",
            mode: "function",
            environment: "tensorflow-2.12.1",
        },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "keras2-xla",
        title: "Keras 2.12 Adafactor, XLA",
        program: Program::Python {
            script: "keras2.py",
            mode: "xla",
            environment: "tensorflow-2.12.1",
        },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "keras3-jax",
        title: "Keras 3 Adafactor, jax jit",
        program: Program::Python { script: "jax_peers.py", mode: "keras3", environment: "jax" },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "optax",
        title: "optax adafactor, jit",
        program: Program::Python { script: "jax_peers.py", mode: "optax", environment: "jax" },
        dialect: Dialect::AdafactorFullBelow128,
    },
    Peer {
        name: "burn",
        title: "burn-optim Adafactor, flex",
        program: Program::Cargo { folder: "burn" },
        dialect: Dialect::Adafactor,
    },
    Peer {
        name: "torch-adamw",
        title: "torch.optim.AdamW, fused",
        program: Program::Python {
            script: "torch_optim.py",
            mode: "adamw-fused",
            environment: "torch",
        },
        dialect: Dialect::AdamW,
    },
];

impl Peer {
    /// The peer of that name.
    ///
    /// # Errors
    /// A name that none has.
    pub fn named(name: &str) -> Result<&'static Self> {
        PEERS.iter().find(|peer| peer.name == name).with_context(|| {
            let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            format!("peer must be none, all or some of {}, got {name}", names.join(", "))
        })
    }
}

impl Row {
    fn plain(workload: Workload) -> Self {
        let arguments = Map::from_iter([("learning_rate".to_owned(), json!(LEARNING_RATE))]);
        Self { workload, variant: "", dtype: "float32", arguments, headline: false }
    }

    fn headline(workload: Workload) -> Self {
        Self { headline: true, ..Self::plain(workload) }
    }

    fn with(mut self, variant: &'static str, arguments: &[(&str, Value)]) -> Self {
        self.variant = variant;
        for (name, value) in arguments {
            self.arguments.insert((*name).to_owned(), value.clone());
        }
        self
    }

    /// Its name in tables and for `--row`: the workload, and what differs from the plain case.
    #[must_use]
    pub fn name(&self) -> String {
        let parts = [self.workload.name.as_str(), self.variant];
        let dtype = if self.dtype == "float32" { "" } else { self.dtype };
        let parts = parts.into_iter().chain([dtype]).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(", ")
    }

    /// What a contestant is told.
    #[must_use]
    pub fn task(&self, threads: usize) -> Task {
        Task {
            shapes: self.workload.shapes.clone(),
            dtype: self.dtype.to_owned(),
            threads,
            arguments: self.arguments.clone(),
        }
    }

    /// Whether it has no arguments of its own, and float32 parameters: what every library can do.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.variant.is_empty() && self.dtype == "float32"
    }

    /// Whether the scalar reference takes part.
    #[must_use]
    pub fn has_reference(&self) -> bool {
        self.dtype == "float32" && self.workload.elements() <= REFERENCE_LIMIT
    }
}

impl Extent {
    /// Its rows.
    #[must_use]
    pub fn rows(self) -> Vec<Row> {
        let all = all_rows();
        let keep = |row: &Row| match self {
            Self::Full => true,
            Self::Headline => row.headline,
            Self::Quick => ["256²", "1024²", "4096²", "4000 small"].contains(&row.name().as_str()),
        };
        all.into_iter().filter(keep).collect()
    }
}

fn all_rows() -> Vec<Row> {
    let square = |size| Workload::matrix(size, size);
    let mut rows = vec![
        Row::plain(square(256)),
        Row::plain(square(512)),
        Row::headline(square(1024)),
        Row::plain(square(2048)),
        Row::headline(square(4096)),
        Row::plain(square(8192)),
        Row::plain(Workload::matrix(1_000_000, 8)),
        Row::plain(Workload::matrix(8, 1_000_000)),
        Row::plain(Workload::matrix(1023, 1537)),
        Row::plain(Workload::one(&[3, 3, 512, 512])),
        Row::plain(Workload::one(&[10_000_000])),
        Row::headline(Workload::many_small(4000)),
        Row::headline(t5_small()),
        Row::headline(bert_base()),
    ];
    for size in [1024, 4096] {
        let row = || Row::plain(square(size));
        rows.extend([
            row().with("clipvalue", &[("clipvalue", json!(0.01))]),
            row().with("clipnorm", &[("clipnorm", json!(1.0))]),
            row().with("global_clipnorm", &[("global_clipnorm", json!(1.0))]),
            row().with("decay", &[("weight_decay", json!(0.004))]),
            row().with("EMA", &[("use_ema", json!(true)), ("ema_momentum", json!(0.99))]),
        ]);
    }
    for workload in [square(1024), square(4096), t5_small()] {
        rows.push(Row { dtype: "bfloat16", ..Row::plain(workload) });
    }
    rows
}

/// Matrices as a library sees them that keeps a full second moment where an axis is below 128: as
/// vectors.
#[must_use]
pub fn full_below_128(shapes: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let seen = |shape: &Vec<usize>| {
        let mut axes = shape.clone();
        axes.sort_unstable();
        let second_largest = axes.len().checked_sub(2).map_or(0, |index| axes[index]);
        if second_largest < 128 { vec![shape.iter().product()] } else { shape.clone() }
    };
    shapes.iter().map(seen).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_and_peers_have_names_of_their_own() {
        let rows: BTreeSet<String> = all_rows().iter().map(Row::name).collect();
        assert_eq!(rows.len(), all_rows().len());
        let peers: BTreeSet<&str> = PEERS.iter().map(|peer| peer.name).collect();
        assert_eq!(peers.len(), PEERS.len());
        assert_eq!(Extent::Quick.rows().len(), 4);
        assert_eq!(Extent::Headline.rows().len(), 5);
    }

    #[test]
    fn small_matrices_become_vectors() {
        let shapes = [vec![16, 32], vec![512], vec![256, 128], vec![]];
        let seen = full_below_128(&shapes);
        assert_eq!(seen, [vec![512], vec![512], vec![256, 128], vec![1]]);
    }
}
