//! The Adafactors of other libraries: which adapter, in which environment, with which settings.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use goldstep_conformance::protocol::{AdapterCommand, Limits};

use crate::environment::{Environment, JAX, TENSORFLOW_2_12, TENSORFLOW_2_15, TORCH};
use crate::workspace_root;

/// A library whose Adafactor is compared.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// The adapter, below `adapters/`.
    script: &'static str,
    /// Where it is installed.
    pub(crate) environment: Environment,
    /// Sets of settings that are tried; empty where there is only one.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// What a user who moves from it has to know, as read from its source.
    pub(crate) moving: &'static [&'static str],
}

/// All peers; the first is the oracle that the goldens were recorded from.
pub(crate) const PEERS: [Peer; 6] = [
    Peer {
        name: "tf.keras-2.12.1",
        script: "keras2.py",
        environment: TENSORFLOW_2_12,
        settings: &[],
        moving: &["Nothing: the goldens were recorded from it."],
    },
    Peer {
        name: "tf.keras-2.15.1",
        script: "keras2.py",
        environment: TENSORFLOW_2_15,
        settings: &[],
        moving: &["Nothing but last digits: averages are paired by variable, as here."],
    },
    Peer {
        name: "keras-3",
        script: "keras3.py",
        environment: JAX,
        settings: &[],
        moving: &[
            "The average starts at the variable's first updated value, not at its initial one.",
            "Only one of clipnorm, clipvalue and global_clipnorm may be set.",
            "epsilon_2 and weight_decay are not rounded through float32: float64 runs differ near 1e-8.",
        ],
    },
    Peer {
        name: "torch.optim",
        script: "torch_optim.py",
        environment: TORCH,
        settings: &[
            ("closest", "eps=(epsilon_1, epsilon_2) given"),
            ("defaults", "eps[0] left at None, the machine epsilon"),
        ],
        moving: &[
            "epsilon_1 is not added to g² but is a floor of mean(r), and its square one of v: small gradients move further.",
            "The parameter scale is taken before weight decay, not after it.",
            "Its default learning rate is 0.01, here 0.001.",
        ],
    },
    Peer {
        name: "transformers",
        script: "transformers_adafactor.py",
        environment: TORCH,
        settings: &[
            (
                "closest",
                "relative_step=False, scale_parameter=True, lr=min(learning_rate, 1/√t) set before each step",
            ),
            ("relative", "relative_step=True: it chooses min(0.01, 1/√t) itself"),
            ("t5", "relative_step=False, scale_parameter=False, as recommended for T5"),
        ],
        moving: &[
            "lr is not capped at 1/√t: set it before each step, or keep learning rates below 1/√t here.",
            "Weight decay is multiplied with the scaled step size, here with the plain learning rate: divide it by the parameter's scale.",
            "scale_parameter=False has no counterpart: every step here is proportional to the parameter's RMS.",
        ],
    },
    Peer {
        name: "optax",
        script: "optax_adafactor.py",
        environment: JAX,
        settings: &[
            (
                "closest",
                "min_dim_size_to_factor=0, a schedule min(learning_rate, 1/√t), weight_decay_rate=weight_decay·learning_rate",
            ),
            ("defaults", "min_dim_size_to_factor=128, the learning rate as it is"),
        ],
        moving: &[
            "The two largest axes are factored, here the last two: convolution kernels differ.",
            "Small matrices are not factored by default.",
            "Weight decay is applied after the step and not multiplied with the learning rate; the floor of the parameter scale is fixed.",
        ],
    },
];

impl Peer {
    /// The peer of that name.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
        PEERS
            .iter()
            .find(|peer| peer.name == name)
            .with_context(|| format!("peer must be one of {}, got {name}", names.join(", ")))
    }

    /// The command of its adapter, run by `python`.
    pub(crate) fn command(&self, python: &Path, settings: Option<&str>) -> AdapterCommand {
        let script = workspace_root().join("adapters").join(self.script);
        let limits = Limits {
            // A first import after an installation compiles everything.
            start: Duration::from_secs(300),
            answer: Duration::from_secs(60),
            ..Limits::default()
        };
        let command = AdapterCommand::new(python).argument(script).with_limits(limits);
        match settings {
            Some(settings) => command.argument("--settings").argument(settings),
            None => command,
        }
    }
}
