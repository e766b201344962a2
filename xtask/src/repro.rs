//! `cargo xtask repro`: a run as a self-contained Rust test.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use goldstep_conformance::explain::{Target, restricted, unit_test};
use goldstep_conformance::golden::Golden;

use crate::workspace_root;

/// Print a run as a Rust test that stands alone
///
/// The test needs the crates goldstep-core and the backend's, half for half types, and serde_json
/// for schedules.
#[derive(Debug, clap::Args)]
pub(crate) struct Repro {
    /// The run: family/number or family/id
    #[arg(value_name = "FAMILY/ID")]
    case: String,
    /// Only this variable; all of them if absent
    #[arg(long, value_name = "NAME")]
    variable: Option<String>,
    /// Up to this step, counted from 1; all of them if absent
    #[arg(long, value_name = "STEP")]
    step: Option<usize>,
    /// The backend that the test is written for
    #[arg(long, value_enum, default_value_t = Backend::Reference)]
    backend: Backend,
    /// A directory with golden traces [default: golden/v1]
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    Reference,
    Cpu,
}

impl Repro {
    pub(crate) fn run(&self) -> Result<()> {
        let directory = self.golden.clone().unwrap_or_else(|| workspace_root().join("golden/v1"));
        let golden = Golden::load(&directory)?;
        let found = golden.families().iter().find_map(|family| {
            let id = self.case.strip_prefix(&family.id)?.strip_prefix('/')?;
            Some((family, family.position(id)?))
        });
        let Some((family, position)) = found else {
            bail!("case must be family/id of a run, got {}", self.case);
        };
        let trial = family.trial(position);
        let steps = self.step.unwrap_or(trial.steps.len());
        ensure!(
            self.step != Some(0) && steps <= trial.steps.len(),
            "step must be 1 to {}, got {steps}",
            trial.steps.len()
        );
        let variables = match &self.variable {
            None => (0..trial.variables.len()).collect(),
            Some(name) => {
                let coupled =
                    trial.arguments.get("global_clipnorm").is_some_and(|one| !one.is_null());
                ensure!(
                    !coupled || trial.variables.len() == 1,
                    "variable must be absent where global_clipnorm couples all of them, got {name}"
                );
                let own = trial.variables.iter().position(|variable| variable.name == *name);
                vec![
                    own.with_context(|| {
                        format!("variable must occur in {}, got {name}", self.case)
                    })?,
                ]
            }
        };
        let module = match self.backend {
            Backend::Reference => "goldstep_reference",
            Backend::Cpu => "goldstep_cpu",
        };
        let target = Target { module: module.to_owned(), optimizer: "Adafactor".to_owned() };
        print!("{}", unit_test(&restricted(&trial, &variables, steps), &target));
        Ok(())
    }
}
