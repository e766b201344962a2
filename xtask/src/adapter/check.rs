//! `cargo xtask adapter check`: is this program a conforming adapter, and if not, what to mend.

use std::time::Duration;

use anyhow::{Context, Result};
use goldstep_conformance::protocol::{Adapter, AdapterCommand, Limits, Line, Transcript};
use goldstep_conformance::{
    BuildRequest, Capabilities, Failure, GradientValues, Implementation, StateField, StateRequest,
    StepRequest, StepResponse, Variable,
};
use goldstep_core::{Constraint, DType};
use serde_json::{Map, Value, json};

use crate::{AGREED, FAILED};

const SCHEMA: &str = include_str!("../../../golden/schema/goldstep-adapter-1.schema.json");

/// Check each message of a program against the schema, in a run that tries what it announces; schedules
/// and what it computes are for `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Seconds for each answer.
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    /// The program and its arguments, after `--`.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

impl Check {
    pub(super) fn run(&self) -> Result<u8> {
        super::end_with_this_command()?;
        let answer = super::duration("--timeout", self.timeout)?;
        let transcript = Transcript::default();
        let (program, arguments) = self.command.split_first().context("a program is needed")?;
        let command = arguments
            .iter()
            .fold(AdapterCommand::new(program), AdapterCommand::argument)
            .with_limits(Limits { answer, ..Limits::default() })
            .with_transcript(transcript.clone());
        let mut report = Report { schema: Schema::new()?, transcript, failed: 0 };
        let mut adapter = match Adapter::start(&command) {
            Ok(adapter) => adapter,
            Err(failure) => {
                report.note("start", Err(&failure.to_string()));
                return Ok(report.finish());
            }
        };
        let who = adapter.describe().clone();
        report.note("start", Ok(&format!("{} {} ({})", who.name, who.version, who.language)));
        for (name, check) in CHECKS {
            let outcome = check(&mut adapter, &who.capabilities);
            match outcome {
                Ok(Outcome::Done) => report.note(name, Ok("")),
                Ok(Outcome::NotAnnounced) => report.skip(name),
                Err(problem) => report.note(name, Err(&problem)),
            }
        }
        let incidents = adapter.incidents().clone();
        let stopped = adapter.stop(Duration::from_secs(5));
        report.note("stop", if stopped { Ok("") } else { Err("must exit within 5 s") });
        for incident in incidents.list() {
            report.note("between cases", Err(&incident));
        }
        Ok(report.finish())
    }
}

/// What came of one part.
enum Outcome {
    Done,
    NotAnnounced,
}

type Part = fn(&mut Adapter, &Capabilities) -> Result<Outcome, String>;

/// The parts of the run, in order.
const CHECKS: [(&str, Part); 12] = [
    ("build and step", build_and_step),
    ("build again", build_again),
    ("every dtype", every_dtype),
    ("missing gradient", missing_gradient),
    ("set_state", set_state),
    ("intermediates", intermediates),
    ("sparse", sparse),
    ("constraints", constraints),
    ("exclude", exclude),
    ("set_learning_rate", set_learning_rate),
    ("ema and finalize", ema_and_finalize),
    ("errors", errors),
];

/// Results to standard output, one aligned line each, with the schema's verdict on its messages.
struct Report {
    schema: Schema,
    transcript: Transcript,
    failed: u32,
}

impl Report {
    fn note(&mut self, name: &str, outcome: Result<&str, &str>) {
        let broken = self.schema.first_broken(&self.transcript.take());
        match (outcome, broken) {
            (Ok(text), None) => println!("ok    {name:<18}{text}"),
            (outcome, broken) => {
                self.failed += 1;
                let problem = outcome.err().unwrap_or("a message does not fit the schema");
                println!("FAIL  {name:<18}{problem}");
                if let Some(broken) = &broken {
                    println!("      schema            {broken}");
                }
                let text = format!("{problem} {}", broken.unwrap_or_default());
                if let Some(hint) = hint(&text) {
                    println!("      hint              {hint}");
                }
            }
        }
    }

    fn skip(&mut self, name: &str) {
        let _unsent = self.transcript.take();
        println!("skip  {name:<18}not announced");
    }

    fn finish(&self) -> u8 {
        if self.failed == 0 {
            println!("\nThis program speaks goldstep-adapter/1. What it computes is for `verify`:");
            println!("  cargo xtask verify --adapter 'COMMAND'");
            AGREED
        } else {
            println!(
                "\n{} parts failed; the protocol is explained in adapters/README.md",
                self.failed
            );
            FAILED
        }
    }
}

/// What usually causes a problem, by words of its description.
fn hint(problem: &str) -> Option<&'static str> {
    const FLAT: &str = "tensors are flat lists, row-major, one per variable, without nesting";
    const HINTS: [(&str, &str); 17] = [
        ("No such file", "the command is run without a shell; give the interpreter and the file"),
        ("no answer to", "flush after each line: print(…, flush=True), fflush(stdout)"),
        ("invalid type: sequence", FLAT),
        ("elements, got", FLAT),
        ("invalid type: null", "only a tensor that is not there is null; a number never is"),
        (
            "invalid value: string",
            "JSON has no NaN and no infinity: write \"NaN\", \"Infinity\", \"-Infinity\" as strings",
        ),
        (
            "expected value",
            "only answers may go to standard output, logs belong on standard error; \
          and JSON has no NaN: write the string \"NaN\"",
        ),
        ("expected ident", "only answers may go to standard output; logs belong on standard error"),
        ("seq must be", "answer each message once, with its own seq; start and stop have none"),
        ("unasked", "answer each message once, and print nothing else on standard output"),
        ("exit status: 0", "the program must stay and answer until {\"command\":\"stop\"}"),
        ("exit status: 1", "the program raised; its last lines are above"),
        ("missing field", "every field of the table in adapters/README.md is needed"),
        ("unknown field", "a spelling? Fields that the protocol lacks are errors"),
        ("null below rank 2", "r and c exist from rank 2 on; write null for scalars and vectors"),
        (
            "set_state",
            "set_state replaces all: iterations, variables and each state that the next step reads",
        ),
        ("must exit", "leave the loop at {\"command\":\"stop\"} and at the end of the input"),
    ];
    HINTS.iter().find(|(word, _)| problem.contains(word)).map(|(_, hint)| *hint)
}

/// The protocol's schema, with a validator for what each message may be answered with.
struct Schema {
    answers: Vec<(&'static str, jsonschema::Validator)>,
    refusal: jsonschema::Validator,
    skipped: jsonschema::Validator,
}

impl Schema {
    fn new() -> Result<Self> {
        let schema: Value = serde_json::from_str(SCHEMA)?;
        let validator = |definition: &str| {
            let reference = format!("#/$defs/{definition}");
            let part = json!({"$ref": reference, "$defs": schema["$defs"]});
            jsonschema::validator_for(&part).with_context(|| format!("schema of {definition}"))
        };
        let answers = [
            ("start", "description"),
            ("build", "done"),
            ("set_state", "done"),
            ("step", "stepped"),
            ("finalize", "finalized"),
        ];
        let answers = answers
            .into_iter()
            .map(|(command, definition)| Ok((command, validator(definition)?)))
            .collect::<Result<_>>()?;
        Ok(Self { answers, refusal: validator("refusal")?, skipped: validator("skipped")? })
    }

    /// The first line of an adapter that does not fit, and how. Answers come in the order of the
    /// messages, of which several may be sent before the first answer is read.
    fn first_broken(&self, lines: &[Line]) -> Option<String> {
        let mut asked = lines.iter().filter(|line| !line.from_adapter);
        lines.iter().filter(|line| line.from_adapter).find_map(|line| {
            let command = asked
                .next()
                .and_then(|line| serde_json::from_str::<Value>(&line.text).ok())
                .and_then(|message| message["command"].as_str().map(str::to_owned))?;
            self.complaint(&command, &line.text)
                .map(|complaint| format!("answer to {command}: {complaint}"))
        })
    }

    fn complaint(&self, command: &str, text: &str) -> Option<String> {
        let Ok(answer) = serde_json::from_str::<Value>(text) else {
            return Some(format!("not JSON: {text:.80}"));
        };
        let validator = if answer.get("error").is_some() {
            &self.refusal
        } else if answer.get("skip").is_some() {
            &self.skipped
        } else {
            &self.answers.iter().find(|(name, _)| *name == command)?.1
        };
        let error = validator.validate(&answer).err()?;
        let text = error.to_string();
        let short: String = text.chars().take(160).collect();
        Some(format!("at {:?}: {short}", error.instance_path().to_string()))
    }
}

fn variables(dtype: DType) -> Vec<Variable> {
    let variable = |name: &str, shape: &[usize], initial: &[f64]| Variable {
        name: name.to_owned(),
        shape: shape.to_vec(),
        initial: initial.iter().map(|value| dtype.round(*value)).collect(),
        constraint: None,
    };
    vec![
        variable("matrix", &[2, 3], &[0.5, -0.25, 1.0, 2.0, -1.5, 0.75]),
        variable("bias", &[2], &[0.1, -0.2]),
        variable("scalar", &[], &[0.3]),
    ]
}

fn gradients(dtype: DType, step: u32) -> Vec<GradientValues> {
    let scale = 1.0 + 0.5 * f64::from(step);
    let rounded = |values: &[f64]| {
        GradientValues::Dense(values.iter().map(|value| dtype.round(value * scale)).collect())
    };
    vec![rounded(&[0.25, -0.5, 1.0, 0.125, -0.75, 0.5]), rounded(&[0.5, -1.0]), rounded(&[-0.25])]
}

fn build(adapter: &mut Adapter, dtype: DType, arguments: &Value) -> Result<(), Failure> {
    let empty = Map::new();
    adapter.build(&BuildRequest {
        dtype,
        arguments: arguments.as_object().unwrap_or(&empty),
        exclude_from_weight_decay: &[],
        variables: &variables(dtype),
    })
}

fn step(adapter: &mut Adapter, dtype: DType, number: u32) -> Result<StepResponse, Failure> {
    let gradients = gradients(dtype, number);
    let gradients: Vec<_> = gradients.iter().map(Some).collect();
    adapter.step(&StepRequest {
        learning_rate: None,
        gradients: &gradients,
        states: &StateField::ALL,
        intermediates: false,
    })
}

fn explained(failure: Failure) -> String {
    failure.to_string()
}

/// Builds and does `count` steps; the responses.
fn run(
    adapter: &mut Adapter,
    dtype: DType,
    arguments: &Value,
    count: u32,
) -> Result<Vec<StepResponse>, String> {
    build(adapter, dtype, arguments).map_err(explained)?;
    (0..count).map(|number| step(adapter, dtype, number).map_err(explained)).collect()
}

/// The type that most checks use.
fn main_dtype(can: &Capabilities) -> Result<DType, String> {
    let float32 = can.dtypes.iter().find(|dtype| **dtype == DType::Float32);
    float32.or(can.dtypes.first()).copied().ok_or_else(|| "dtypes must not be empty".to_owned())
}

fn build_and_step(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    let arguments = json!({"learning_rate": 0.25});
    let responses = run(adapter, main_dtype(can)?, &arguments, 3)?;
    for (number, response) in (1..).zip(&responses) {
        if response.iterations != number {
            return Err(format!("iterations must be {number}, got {}", response.iterations));
        }
    }
    if (responses[0].learning_rate - 0.25).abs() > 1e-9 {
        let got = responses[0].learning_rate;
        return Err(format!("learning_rate must be 0.25, as it was built, got {got}"));
    }
    match responses[0].variables == responses[1].variables {
        true => Err("variables must change in a step, got the same twice".to_owned()),
        false => Ok(Outcome::Done),
    }
}

fn build_again(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    let dtype = main_dtype(can)?;
    let first = run(adapter, dtype, &json!({"learning_rate": 0.25}), 2)?;
    match first == run(adapter, dtype, &json!({"learning_rate": 0.25}), 2)? {
        true => Ok(Outcome::Done),
        false => Err("build must forget the optimizer before it, got another result".to_owned()),
    }
}

fn every_dtype(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    for dtype in &can.dtypes {
        run(adapter, *dtype, &json!({"learning_rate": 0.25}), 2)
            .map_err(|problem| format!("{dtype}: {problem}"))?;
    }
    Ok(Outcome::Done)
}

fn missing_gradient(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    let dtype = main_dtype(can)?;
    build(adapter, dtype, &json!({"learning_rate": 0.25})).map_err(explained)?;
    let own = gradients(dtype, 0);
    let request = StepRequest {
        learning_rate: None,
        gradients: &[Some(&own[0]), None, Some(&own[2])],
        states: &StateField::ALL,
        intermediates: false,
    };
    let response = adapter.step(&request).map_err(explained)?;
    match response.variables[1] == variables(dtype)[1].initial {
        true => Ok(Outcome::Done),
        false => Err("a variable whose gradient is null must stay as it is".to_owned()),
    }
}

fn set_state(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    if !can.set_state {
        return Ok(Outcome::NotAnnounced);
    }
    let dtype = main_dtype(can)?;
    let arguments = json!({"learning_rate": 0.25});
    let responses = run(adapter, dtype, &arguments, 3)?;
    let shows = |field| can.states.contains(&field);
    build(adapter, dtype, &arguments).map_err(explained)?;
    let state = &responses[1];
    let variables: Vec<&[f64]> = state.variables.iter().map(Vec::as_slice).collect();
    let list = |own: &[Option<Vec<f64>>]| -> Vec<Option<Vec<f64>>> {
        if own.is_empty() { vec![None; variables.len()] } else { own.to_vec() }
    };
    let lists = [&state.r, &state.c, &state.v, &state.ema].map(|own| list(own));
    let [r, c, v, ema] =
        lists.each_ref().map(|own| own.iter().map(Option::as_deref).collect::<Vec<_>>());
    let request =
        StateRequest { iterations: 2, variables: &variables, r: &r, c: &c, v: &v, ema: &ema };
    adapter.set_state(&request).map_err(explained)?;
    let forced = step(adapter, dtype, 2).map_err(explained)?;
    if forced.iterations != 3 {
        return Err(format!("set_state to 2 iterations: then 3, got {}", forced.iterations));
    }
    // Without its states on show nobody can say what the next step should give.
    let complete = shows(StateField::R) && shows(StateField::C) && shows(StateField::V);
    // Not bit for bit: what came out of step 2 was rounded to the element type, and a program may
    // compute in a wider one.
    let expected = responses[2].variables.iter().flatten();
    let restored = state.variables.iter().flatten().zip(forced.variables.iter().flatten());
    let same = expected.zip(restored).all(|(expected, (before, after))| {
        (after - expected).abs() <= 8.0 * dtype.epsilon() * expected.abs().max(before.abs())
    });
    match !complete || same {
        true => Ok(Outcome::Done),
        false => Err("set_state to the state after step 2 must give step 3, got others".to_owned()),
    }
}

fn intermediates(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    if can.intermediates.is_empty() {
        return Ok(Outcome::NotAnnounced);
    }
    let dtype = main_dtype(can)?;
    build(adapter, dtype, &json!({"learning_rate": 0.25})).map_err(explained)?;
    let own = gradients(dtype, 0);
    let request = StepRequest {
        learning_rate: None,
        gradients: &[Some(&own[0]), Some(&own[1]), None],
        states: &[],
        intermediates: true,
    };
    adapter.step(&request).map_err(explained).map(|_| Outcome::Done)
}

fn sparse(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    if !can.sparse {
        return Ok(Outcome::NotAnnounced);
    }
    let dtype = main_dtype(can)?;
    build(adapter, dtype, &json!({"learning_rate": 0.25})).map_err(explained)?;
    let rows = GradientValues::Sparse {
        indices: vec![1, 1, -1],
        values: [0.5, 0.25, 1.0, 0.125, 0.5, 1.0, 2.0, 2.0, 2.0].to_vec(),
    };
    let request = StepRequest {
        learning_rate: None,
        gradients: &[Some(&rows), None, None],
        states: &StateField::ALL,
        intermediates: false,
    };
    adapter.step(&request).map_err(explained).map(|_| Outcome::Done)
}

fn constraints(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    if !can.constraints {
        return Ok(Outcome::NotAnnounced);
    }
    let dtype = main_dtype(can)?;
    let mut constrained = variables(dtype);
    constrained[0].constraint = Some(Constraint::NonNegative);
    let arguments = Map::from_iter([("learning_rate".to_owned(), json!(0.25))]);
    let request = BuildRequest {
        dtype,
        arguments: &arguments,
        exclude_from_weight_decay: &[],
        variables: &constrained,
    };
    adapter.build(&request).map_err(explained)?;
    let response = step(adapter, dtype, 0).map_err(explained)?;
    match response.variables[0].iter().any(|value| *value < 0.0) {
        true => {
            Err("a variable with the constraint non_negative must have none below 0".to_owned())
        }
        false => Ok(Outcome::Done),
    }
}

fn exclude(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    if !can.exclude {
        return Ok(Outcome::NotAnnounced);
    }
    let dtype = main_dtype(can)?;
    let mut arguments = Map::from_iter([("learning_rate".to_owned(), json!(0.25))]);
    if can.arguments.iter().any(|name| name == "weight_decay") {
        arguments.insert("weight_decay".to_owned(), json!(0.5));
    }
    let request = BuildRequest {
        dtype,
        arguments: &arguments,
        exclude_from_weight_decay: &["bias".to_owned()],
        variables: &variables(dtype),
    };
    adapter.build(&request).map_err(explained)?;
    step(adapter, dtype, 0).map_err(explained).map(|_| Outcome::Done)
}

fn set_learning_rate(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    if !can.set_learning_rate {
        return Ok(Outcome::NotAnnounced);
    }
    let dtype = main_dtype(can)?;
    build(adapter, dtype, &json!({"learning_rate": 0.25})).map_err(explained)?;
    let (rate, own) = (json!(0.125), gradients(dtype, 0));
    let request = StepRequest {
        learning_rate: Some(&rate),
        gradients: &[Some(&own[0]), Some(&own[1]), Some(&own[2])],
        states: &StateField::ALL,
        intermediates: false,
    };
    let got = adapter.step(&request).map_err(explained)?.learning_rate;
    match (got - 0.125).abs() > 1e-9 {
        true => Err(format!("learning_rate must be 0.125, as the step sets it, got {got}")),
        false => Ok(Outcome::Done),
    }
}

fn ema_and_finalize(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    if !can.ema {
        return Ok(Outcome::NotAnnounced);
    }
    let dtype = main_dtype(can)?;
    let arguments = json!({"learning_rate": 0.25, "use_ema": true, "ema_momentum": 0.5});
    let responses = run(adapter, dtype, &arguments, 2)?;
    if can.finalize {
        let variables = adapter.finalize().map_err(explained)?;
        let averages: Vec<_> = responses[1].ema.iter().flatten().cloned().collect();
        if can.states.contains(&StateField::Ema) && variables != averages {
            return Err("finalize must return the averages".to_owned());
        }
    }
    Ok(Outcome::Done)
}

fn errors(adapter: &mut Adapter, can: &Capabilities) -> Result<Outcome, String> {
    let dtype = main_dtype(can)?;
    if !["clipnorm", "global_clipnorm"].iter().all(|name| can.arguments.iter().any(|a| a == name)) {
        return Ok(Outcome::NotAnnounced);
    }
    match build(adapter, dtype, &json!({"clipnorm": 1.0, "global_clipnorm": 1.0})) {
        Err(Failure::Error { stage, .. }) if stage == "construct" => {}
        Err(Failure::Skip { .. }) => {}
        Ok(()) => return Err("clipnorm with global_clipnorm must be refused at build".to_owned()),
        Err(failure) => return Err(explained(failure)),
    }
    // After a refusal it goes on.
    run(adapter, dtype, &json!({"learning_rate": 0.25}), 1).map(|_| Outcome::Done)
}
