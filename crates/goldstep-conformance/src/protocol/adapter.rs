//! The harness's side: a program in any language as an implementation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goldstep_core::{Constraint, DType};

use super::answer::Answer;
use super::command::{AdapterCommand, Limits};
use super::description::{StartAnswer, state_name};
use super::item::Bounds;
use super::process::Process;
use super::write::{self, Form};
use super::{INTERMEDIATES, VERSION};
use crate::{BuildRequest, Description, Failure, Implementation, StateField, StateRequest};
use crate::{StepRequest, StepResponse, Variable};

/// How long a program may take to end after `stop`.
const GRACE: Duration = Duration::from_millis(500);

const UNASKED: &str = "a message must be asked for, got one unasked";

/// A program that speaks the adapter protocol, as an [`Implementation`].
///
/// A crash, a time-out and a protocol fault end its process, with everything that it started, and
/// the next `build` starts a fresh one: no case is judged by what an earlier one left behind. After
/// too many of them it is not started again, and every further case fails at once.
#[derive(Debug)]
pub struct Adapter {
    command: AdapterCommand,
    description: Description,
    base64: bool,
    process: Option<Process>,
    /// The number of the next message; it goes on when a process is replaced.
    seq: u64,
    /// Messages that wait to be written, and their names.
    outgoing: Vec<u8>,
    waiting: Vec<&'static str>,
    case: Case,
    failures: Failures,
    incidents: Incidents,
}

/// Faults that belong to no case, since they came to light after it had ended: messages that nobody
/// asked for, a crash after the last answer. Shared by all adapters that are started with it.
#[derive(Debug, Clone, Default)]
pub struct Incidents(Arc<Mutex<Vec<String>>>);

impl Incidents {
    /// What happened so far. A run with any of them is not a clean one.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, incident: String) {
        /// More of them tell nothing new.
        const MOST: usize = 100;
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < MOST {
            list.push(incident);
        }
    }
}

/// What the last `build` said.
#[derive(Debug)]
struct Case {
    dtype: DType,
    variables: Vec<Variable>,
    bounds: Bounds,
    /// Why there is no optimizer.
    broken: Option<Failure>,
    /// Whether the process had to be ended.
    broke_down: bool,
}

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    all: u32,
}

impl Adapter {
    /// Starts the program and asks it who it is.
    ///
    /// # Errors
    /// A program that cannot be started, crashes, does not answer in time or answers wrongly.
    pub fn start(command: &AdapterCommand) -> Result<Self, Failure> {
        Self::start_with(command, Incidents::default())
    }

    /// The same, with a list of incidents that several adapters share.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(command: &AdapterCommand, incidents: Incidents) -> Result<Self, Failure> {
        let (process, description, base64) = launch(command)?;
        Ok(Self {
            command: command.clone(),
            description,
            base64,
            process: Some(process),
            seq: 1,
            outgoing: Vec::new(),
            waiting: Vec::new(),
            case: Case {
                dtype: DType::Float32,
                variables: Vec::new(),
                bounds: Bounds::NONE,
                broken: Some(Failure::Protocol { reason: "build must come first".to_owned() }),
                broke_down: false,
            },
            failures: Failures::default(),
            incidents,
        })
    }

    /// Faults that belong to no case.
    #[must_use]
    pub const fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    /// Tells the program to stop; whether it has ended within `time`. It is killed otherwise.
    #[must_use]
    pub fn stop(mut self, time: Duration) -> bool {
        self.process.take().is_some_and(|mut process| process.stop(time))
    }

    fn form(&self) -> Form {
        if self.base64 { Form::Base64 } else { Form::Numbers }
    }

    /// Begins a message; its fields follow.
    fn begin(&mut self, command: &'static str) {
        write::raw(&mut self.outgoing, "{\"command\":\"");
        write::raw(&mut self.outgoing, command);
        write::raw(&mut self.outgoing, "\",\"seq\":");
        write::json(&mut self.outgoing, &self.seq);
        self.seq += 1;
        self.waiting.push(command);
    }

    /// Sends what waits and reads all answers; `read` gets the last one.
    fn exchange<T>(
        &mut self,
        read: impl FnOnce(Answer<'_>, &Case) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let outcome = self.try_exchange(read);
        self.outgoing.clear();
        self.waiting.clear();
        if let Err(failure) = &outcome
            && is_breakdown(failure)
        {
            self.break_down(failure.clone());
        }
        outcome
    }

    fn try_exchange<T>(
        &mut self,
        read: impl FnOnce(Answer<'_>, &Case) -> Result<T, String>,
    ) -> Result<T, Failure> {
        if let Some(failure) = &self.case.broken {
            return Err(failure.clone());
        }
        let time = self.command.limits().answer;
        let Some(process) = &mut self.process else {
            return Err(Failure::Protocol { reason: "build must come first".to_owned() });
        };
        if process.has_unread() {
            return Err(process.fault(UNASKED));
        }
        let first = self.seq - self.waiting.len() as u64;
        let mut outgoing = &self.outgoing[..];
        let mut refused = None;
        for (seq, message) in (first..self.seq).zip(&self.waiting) {
            let line = process.exchange(std::mem::take(&mut outgoing), message, time)?;
            let answer = match Answer::read(process.line(line.clone()), self.case.bounds) {
                Ok(answer) if answer.seq == Some(seq) => answer.accept(),
                Ok(answer) => {
                    let got = answer.seq.map_or("none".to_owned(), |seq| seq.to_string());
                    return Err(process.fault(format!("seq must be {seq}, got {got}")));
                }
                Err(reason) => {
                    let shown = excerpt(process.line(line));
                    return Err(process.fault(format!("{reason}, in {shown}")));
                }
            };
            let last = seq + 1 == self.seq;
            let read_one = match answer {
                Err(fault @ Failure::Protocol { .. }) => return Err(fault),
                Err(failure) => {
                    refused.get_or_insert(failure);
                    Ok(None)
                }
                Ok(answer) if !last => answer.into_nothing().map(|()| None),
                // What a message does after one that was refused says nothing.
                Ok(_) if refused.is_some() => Ok(None),
                Ok(answer) => {
                    return read(answer, &self.case).map_err(|reason| process.fault(reason));
                }
            };
            if let Err(reason) = read_one.map(|_: Option<T>| ()) {
                return Err(process.fault(reason));
            }
        }
        Err(refused.unwrap_or(Failure::Protocol { reason: "nothing was asked".to_owned() }))
    }

    /// Ends the process; what is left of the case fails for the same reason.
    fn break_down(&mut self, failure: Failure) {
        if self.case.broken.is_none() {
            self.process = None;
            self.failures.in_a_row += 1;
            self.failures.all += 1;
            self.case.broken = Some(failure);
            self.case.broke_down = true;
        }
    }

    /// Why no process is started any more, if that is so.
    fn given_up(&mut self) -> Option<Failure> {
        let Limits { failures_in_a_row, failures, .. } = *self.command.limits();
        let Failures { in_a_row, all } = self.failures;
        let count = match (in_a_row >= failures_in_a_row, all >= failures) {
            (true, _) => format!("{in_a_row} failures in a row"),
            (_, true) => format!("{all} failures"),
            _ => return None,
        };
        let note = format!("not started again after {count}");
        Some(match self.case.broken.take() {
            Some(Failure::TimeOut { message, seconds, .. }) => {
                Failure::TimeOut { message, seconds, stderr: note }
            }
            Some(Failure::Protocol { .. }) => Failure::Protocol { reason: note },
            _ => Failure::Crash { status: note, stderr: String::new() },
        })
    }

    /// Starts a process where there is none.
    fn renew(&mut self) -> Result<(), Failure> {
        if self.process.is_some() {
            return Ok(());
        }
        let (process, description, base64) = launch(&self.command)?;
        if description != self.description || base64 != self.base64 {
            return Err(Failure::Protocol {
                reason: "an adapter must describe itself as before when it is started again"
                    .to_owned(),
            });
        }
        self.process = Some(process);
        Ok(())
    }

    /// Sends `build` to a process, which is started where there is none.
    fn try_build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.renew()?;
        self.write_build(request);
        let outcome = self.try_exchange(|answer, _| answer.into_nothing());
        self.outgoing.clear();
        self.waiting.clear();
        outcome
    }

    fn write_build(&mut self, request: &BuildRequest<'_>) {
        let form = self.form();
        self.begin("build");
        let line = &mut self.outgoing;
        write::key(line, "dtype");
        write::json(line, request.dtype.name());
        write::key(line, "arguments");
        write::json(line, request.arguments);
        write::key(line, "exclude_from_weight_decay");
        write::json(line, request.exclude_from_weight_decay);
        write::key(line, "variables");
        write::list(line, request.variables, |line, variable| {
            write::raw(line, "{\"name\":");
            write::json(line, &variable.name);
            write::key(line, "shape");
            write::json(line, &variable.shape);
            write::key(line, "initial");
            write::tensor(line, request.dtype, form, &variable.initial);
            write::key(line, "constraint");
            write_constraint(line, variable.constraint.as_ref());
            line.push(b'}');
        });
        write::raw(line, "}\n");
    }
}

/// Whether a failure ends the process: everything but an answer.
const fn is_breakdown(failure: &Failure) -> bool {
    !matches!(failure, Failure::Error { .. } | Failure::Skip { .. })
}

/// Starts a process and reads its description.
fn launch(command: &AdapterCommand) -> Result<(Process, Description, bool), Failure> {
    let mut process = Process::spawn(command)?;
    let start = format!("{{\"command\":\"start\",\"protocol\":{VERSION}}}\n");
    let line = process.exchange(start.as_bytes(), "start", command.limits().start)?;
    let answer = serde_json::from_slice::<StartAnswer>(process.line(line.clone()))
        .map_err(|error| error.to_string())
        .and_then(StartAnswer::into_description);
    match answer {
        Ok((description, base64)) => Ok((process, description, base64)),
        Err(error) => {
            let shown = excerpt(process.line(line));
            Err(process.fault(format!(
                "the answer to start must follow the protocol: {error}, in {shown}"
            )))
        }
    }
}

/// The beginning of a line, for a message.
fn excerpt(line: &[u8]) -> String {
    const SHOWN: usize = 120;
    let text = String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN)]);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn write_constraint(line: &mut Vec<u8>, constraint: Option<&Constraint>) {
    match constraint {
        Some(Constraint::Clip { minimum, maximum }) => {
            write::raw(line, "{\"type\":\"clip\"");
            write::key(line, "minimum");
            write::number(line, *minimum);
            write::key(line, "maximum");
            write::number(line, *maximum);
            line.push(b'}');
        }
        Some(Constraint::NonNegative) => write::raw(line, "{\"type\":\"non_negative\"}"),
        _ => write::raw(line, "null"),
    }
}

impl Implementation for Adapter {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        self.outgoing.clear();
        self.waiting.clear();
        let given_up = self.given_up();
        if !self.case.broke_down {
            self.failures.in_a_row = 0;
        }
        self.case = Case {
            dtype: request.dtype,
            variables: request.variables.to_vec(),
            bounds: Bounds::of(request.variables),
            broken: None,
            broke_down: false,
        };
        if let Some(failure) = given_up {
            self.case.broken = Some(failure.clone());
            self.case.broke_down = true;
            return Err(failure);
        }
        let used = self.process.is_some();
        let mut outcome = self.try_build(request);
        if used
            && let Err(failure) = &outcome
            && is_breakdown(failure)
        {
            // An earlier case may have left it behind: a fresh process tells whose it is.
            let failure = failure.clone();
            self.process = None;
            outcome = self.try_build(request);
            if !outcome.as_ref().is_err_and(is_breakdown) {
                self.incidents.add(format!("{} after a case: {failure}", self.description.name));
            }
        }
        match &outcome {
            Ok(()) => {}
            Err(failure) if is_breakdown(failure) => self.break_down(failure.clone()),
            // The process is well; only this case has no optimizer.
            Err(failure) => self.case.broken = Some(failure.clone()),
        }
        outcome
    }

    /// Sent together with the next message, which also reports a failure of this one.
    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        if let Some(failure) = &self.case.broken {
            return Err(failure.clone());
        }
        let (dtype, form) = (self.case.dtype, self.form());
        self.begin("set_state");
        let line = &mut self.outgoing;
        write::key(line, "iterations");
        write::json(line, &request.iterations);
        write::key(line, "variables");
        write::list(line, request.variables, |line, values| {
            write::tensor(line, dtype, form, values);
        });
        for (name, values) in
            [("r", request.r), ("c", request.c), ("v", request.v), ("ema", request.ema)]
        {
            write::key(line, name);
            if name == "ema" && values.iter().all(Option::is_none) {
                write::raw(line, "null");
                continue;
            }
            write::list(line, values, |line, values| {
                write::optional_tensor(line, dtype, form, *values);
            });
        }
        write::raw(line, "}\n");
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        let (dtype, form) = (self.case.dtype, self.form());
        self.begin("step");
        let line = &mut self.outgoing;
        write::key(line, "learning_rate");
        match request.learning_rate {
            Some(value) => write::json(line, value),
            None => write::raw(line, "null"),
        }
        write::key(line, "gradients");
        write::list(line, request.gradients, |line, gradient| {
            write::gradient(line, dtype, form, *gradient);
        });
        let announced = &self.description.capabilities;
        let states: Vec<StateField> = request
            .states
            .iter()
            .copied()
            .filter(|state| announced.states.contains(state))
            .collect();
        let shown = |name: &&str| announced.intermediates.iter().any(|each| each == name);
        let intermediates: Vec<&str> =
            INTERMEDIATES.into_iter().filter(|name| request.intermediates && shown(name)).collect();
        write::key(line, "want");
        let names = states.iter().map(|state| state_name(*state));
        let wanted = std::iter::once("variables").chain(names).chain(intermediates.iter().copied());
        write::list(line, wanted, write::json);
        write::raw(line, "}\n");
        self.exchange(|answer, case| {
            answer.into_step(case.dtype, &case.variables, &states, &intermediates)
        })
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        self.begin("finalize");
        write::raw(&mut self.outgoing, "}\n");
        self.exchange(|answer, case| answer.into_variables(case.dtype, &case.variables))
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.stop(GRACE);
            if process.has_unread() {
                let failure = process.fault(UNASKED);
                self.incidents.add(format!("{} after a case: {failure}", self.description.name));
            }
        }
    }
}
