//! The Adafactors of other libraries: which adapter, in which environment, with which settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use goldstep_conformance::protocol::{AdapterCommand, Limits};

use crate::cargo::{cargo_in, executable};
use crate::environment::{Environment, JAX, TENSORFLOW_2_12, TENSORFLOW_2_15, TORCH};
use crate::workspace_root;

/// A library whose Adafactor is compared.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// How its adapter is run.
    program: Program,
    /// Sets of settings that are tried; empty where there is only one.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// What a user who moves from it has to know, as read from its source.
    pub(crate) moving: &'static [&'static str],
}

/// What an adapter is.
#[derive(Debug)]
pub(crate) enum Program {
    /// A script below `adapters/`, in an environment made on demand.
    Python(&'static str, Environment),
    /// A workspace of its own below `adapters/`, built on demand.
    Cargo(&'static str),
}

/// All peers; the first is the oracle that the goldens were recorded from.
pub(crate) const PEERS: [Peer; 7] = [
    Peer {
        name: "tf.keras-2.12.1",
        program: Program::Python("keras2.py", TENSORFLOW_2_12),
        settings: &[],
        moving: &["Nothing: the goldens were recorded from it."],
    },
    Peer {
        name: "tf.keras-2.15.1",
        program: Program::Python("keras2.py", TENSORFLOW_2_15),
        settings: &[],
        moving: &["Nothing but last digits: averages are paired by variable, as here."],
    },
    Peer {
        name: "keras-3",
        program: Program::Python("keras3.py", JAX),
        settings: &[],
        moving: &[
            "The average starts at the variable's first updated value, not at its initial one.",
            "Only one of clipnorm, clipvalue and global_clipnorm may be set.",
            "epsilon_2 and weight_decay are not rounded through float32: float64 runs differ near 1e-8.",
        ],
    },
    Peer {
        name: "torch.optim",
        program: Program::Python("torch_optim.py", TORCH),
        settings: &[
            ("closest", "eps=(epsilon_1, epsilon_2) given"),
            ("defaults", "eps[0] left at None, the machine epsilon"),
        ],
        moving: &[
            "epsilon_1 is not added to g² but is a floor of mean(r), and its square one of v: small gradients move further.",
            "Left at its default, the machine epsilon, that floor shows only where second moments are as small: everywhere else both settings give the same.",
            "A clip threshold below 1 is refused, here it is not.",
            "The parameter scale is taken before weight decay, not after it.",
            "Its default learning rate is 0.01, here 0.001.",
            "learning_rate, epsilon_2 and weight_decay are not rounded through float32: float64 runs differ near 1e-8.",
        ],
    },
    Peer {
        name: "transformers",
        program: Program::Python("transformers_adafactor.py", TORCH),
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
            "learning_rate, epsilon_2 and weight_decay are not rounded through float32: float64 runs differ near 1e-8.",
        ],
    },
    Peer {
        name: "optax",
        program: Program::Python("optax_adafactor.py", JAX),
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
            "learning_rate, epsilon_2 and weight_decay are not rounded through float32: float64 runs differ near 1e-8.",
        ],
    },
    Peer {
        name: "burn",
        program: Program::Cargo("burn"),
        settings: &[
            ("closest", "relative_step left at its default, true"),
            ("told", "relative_step as the trace has it: false lifts the cap of 1/√t"),
        ],
        moving: &[
            "The parameter scale is taken before weight decay, here after it.",
            "relative_step=False lifts the cap of 1/√t, here it does nothing: keep learning rates below 1/√t.",
            "A parameter counts its own steps, here the optimizer counts: they differ after a missing gradient.",
            "The epsilons, the clip threshold and weight decay are kept in float32 whatever the parameter's type, the learning rate is not: float64 runs differ near 1e-8.",
            "It refuses a beta_2_decay of 0 or above.",
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

    /// Whether it is run without being asked for by name.
    pub(crate) fn by_default(&self) -> bool {
        matches!(self.program, Program::Python(..))
    }

    /// What runs its adapter: the interpreter `given` or its environment's, or what cargo built.
    ///
    /// # Errors
    /// An environment that cannot be made, an adapter that does not build.
    pub(crate) fn provide(&self, given: Option<PathBuf>) -> Result<PathBuf> {
        match (&self.program, given) {
            (Program::Python(..), Some(python)) => Ok(python),
            (Program::Python(_, environment), None) => environment.interpreter(None),
            (Program::Cargo(folder), _) => built(folder),
        }
    }

    /// The command of its adapter, with what [`provide`](Self::provide) gave.
    pub(crate) fn command(&self, program: &Path, settings: Option<&str>) -> AdapterCommand {
        let limits = Limits {
            // A first import after an installation compiles everything.
            start: Duration::from_secs(300),
            answer: Duration::from_secs(60),
            ..Limits::default()
        };
        let mut command = AdapterCommand::new(program).with_limits(limits);
        if let Program::Python(script, _) = &self.program {
            command = command.argument(workspace_root().join("adapters").join(script));
        }
        match settings {
            Some(settings) => command.argument("--settings").argument(settings),
            None => command,
        }
    }
}

/// The program of a workspace below `adapters/`.
fn built(folder: &str) -> Result<PathBuf> {
    let root = workspace_root();
    let mut cargo = cargo_in(&root.join("adapters").join(folder));
    cargo.args(["build", "--locked", "--target-dir"]).arg(root.join("target").join(folder));
    executable(cargo).with_context(|| format!("adapters/{folder} must build"))
}
