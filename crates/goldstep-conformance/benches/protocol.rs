//! What the adapter protocol itself costs: as many messages as a full verify of the argument grid,
//! to an adapter that answers at once.
//!
//! `cargo bench -p goldstep-conformance --bench protocol [-- PROCESSES]`

#![expect(clippy::print_stdout, reason = "the result goes to standard output")]

use std::error::Error;
use std::time::Instant;

use goldstep_conformance::protocol::{Adapter, AdapterCommand, serve};
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateField,
    StateRequest, StepRequest, StepResponse, Variable,
};
use goldstep_core::DType;
use serde_json::{Map, json};

/// Combinations of the grid that step.
const COMBINATIONS: usize = 27_648;
const STEPS: u64 = 5;
const SHAPES: [&[usize]; 7] =
    [&[], &[3], &[3, 2], &[3, 2, 1], &[2, 1, 1, 2], &[2, 1, 2, 1, 2], &[1, 2, 1, 2, 2, 1]];

/// Returns its variables as they are.
struct Still {
    description: Description,
    response: StepResponse,
}

impl Still {
    fn new() -> Self {
        let capabilities = Capabilities {
            dtypes: vec![DType::Float32],
            arguments: Vec::new(),
            schedules: Vec::new(),
            sparse: false,
            ema: true,
            constraints: false,
            exclude: false,
            set_learning_rate: false,
            finalize: false,
            states: StateField::ALL.to_vec(),
            set_state: true,
            intermediates: Vec::new(),
            expectation: "goldstep".to_owned(),
        };
        let owned = str::to_owned;
        let description = Description {
            name: owned("still"),
            version: owned("1"),
            language: owned("Rust"),
            source: owned("benches/protocol.rs"),
            capabilities,
        };
        Self { description, response: StepResponse::default() }
    }
}

impl Implementation for Still {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        let full: Vec<Vec<f64>> = request.variables.iter().map(|one| one.initial.clone()).collect();
        let some = |values: &[Vec<f64>]| values.iter().cloned().map(Some).collect::<Vec<_>>();
        let factors = |variable: &Variable, skip: usize| {
            let rank = variable.shape.len();
            let kept = variable.shape.iter().enumerate().filter(|(axis, _)| axis + skip != rank);
            (rank > 1).then(|| vec![0.5; kept.map(|(_, size)| *size).product()])
        };
        self.response = StepResponse {
            r: request.variables.iter().map(|variable| factors(variable, 1)).collect(),
            c: request.variables.iter().map(|variable| factors(variable, 2)).collect(),
            v: some(&full),
            ema: some(&full),
            variables: full,
            ..StepResponse::default()
        };
        Ok(())
    }

    fn set_state(&mut self, _: &StateRequest<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn step(&mut self, _: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        self.response.iterations += 1;
        Ok(self.response.clone())
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        Ok(self.response.variables.clone())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds an option of its own.
    let argument = std::env::args().skip(1).find(|argument| argument != "--bench");
    if argument.as_deref() == Some("serve") {
        return Ok(serve(&mut Still::new(), std::io::stdin().lock(), std::io::stdout().lock())?);
    }
    let processes: usize = argument.map_or(Ok(1), |text| text.parse())?;
    let command = AdapterCommand::new(std::env::current_exe()?).argument("serve");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let run = || run(&command, COMBINATIONS / processes);
        let workers: Vec<_> = (0..processes).map(|_| scope.spawn(run)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Skip { reason: "a worker panicked".to_owned() }),
        })
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{COMBINATIONS} combinations × {STEPS} steps, forced and free, {processes} processes: {seconds:.1} s"
    );
    Ok(())
}

fn run(command: &AdapterCommand, combinations: usize) -> Result<(), Failure> {
    let mut adapter = Adapter::start(command)?;
    let values = |count: usize| (0..count).map(|_| f64::from(0.3_f32)).collect();
    let variables: Vec<Variable> = SHAPES
        .iter()
        .map(|shape| Variable {
            name: format!("{shape:?}"),
            shape: shape.to_vec(),
            initial: values(shape.iter().product()),
            constraint: None,
        })
        .collect();
    let gradients: Vec<GradientValues> =
        variables.iter().map(|one| GradientValues::Dense(one.initial.clone())).collect();
    let gradients: Vec<_> = gradients.iter().map(Some).collect();
    let full: Vec<&[f64]> = variables.iter().map(|one| one.initial.as_slice()).collect();
    let arguments = json!({"learning_rate": 0.9, "weight_decay": 0.04, "epsilon_1": 1e-30,
        "epsilon_2": 0.001, "clip_threshold": 1.0, "relative_step": true, "use_ema": true,
        "ema_momentum": 0.99, "ema_overwrite_frequency": 3, "jit_compile": false});
    let arguments: Map<_, _> = arguments.as_object().cloned().unwrap_or_default();
    let build = BuildRequest {
        dtype: DType::Float32,
        arguments: &arguments,
        exclude_from_weight_decay: &[],
        variables: &variables,
    };
    let step = StepRequest {
        learning_rate: None,
        gradients: &gradients,
        states: &StateField::ALL,
        intermediates: false,
    };
    for _ in 0..combinations {
        for forced in [true, false] {
            adapter.build(&build)?;
            let mut state = StepResponse::default();
            for iterations in 0..STEPS {
                if forced && iterations > 0 {
                    let [r, c, v, ema] = [&state.r, &state.c, &state.v, &state.ema]
                        .map(|list| list.iter().map(Option::as_deref).collect::<Vec<_>>());
                    adapter.set_state(&StateRequest {
                        iterations,
                        variables: &full,
                        r: &r,
                        c: &c,
                        v: &v,
                        ema: &ema,
                    })?;
                }
                state = adapter.step(&step)?;
            }
        }
    }
    Ok(())
}
