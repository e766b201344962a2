//! The adapter's side: a Rust program that serves an implementation.

use std::io::{Read, Write};

use goldstep_core::DType;
use thiserror::Error;

use super::description::{StartAnswer, state_name};
use super::request::{List, Request, VariableFields, gradients};
use super::write::{self, Form};
use super::{INTERMEDIATES, LINE_LIMIT, VERSION};
use crate::{BuildRequest, Failure, Implementation, StateField, StateRequest, StepIntermediates};
use crate::{StepRequest, StepResponse, Variable};

/// Why serving ended before `stop` or the end of the input.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Reading a message or writing an answer failed.
    #[error("adapter pipe must stay open: {0}")]
    Io(#[from] std::io::Error),
    /// A message that the protocol does not allow.
    #[error("message must follow goldstep-adapter/1: {reason}")]
    Message {
        /// What was wrong with it.
        reason: String,
    },
    /// The implementation could not answer, and not because it refused or skipped.
    #[error("implementation must answer, got {0}")]
    Implementation(Failure),
}

/// Answers messages of the adapter protocol until `stop` or the end of the input.
///
/// Standard output belongs to the protocol: the implementation must not print there. Tensors come
/// back in the form in which those of `build` came, numbers or base64. A program that ends with an
/// error should say it on standard error and exit with another status than 0; the harness shows
/// both.
///
/// ```no_run
/// # fn implementation() -> Box<dyn goldstep_conformance::Implementation> { unimplemented!() }
/// let mut implementation = implementation();
/// let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
/// goldstep_conformance::protocol::serve(implementation.as_mut(), input, output)?;
/// # Ok::<(), goldstep_conformance::protocol::ServeError>(())
/// ```
///
/// # Errors
/// A broken pipe, a message that the protocol does not allow, an implementation that cannot answer.
pub fn serve(
    implementation: &mut dyn Implementation,
    input: impl Read,
    output: impl Write,
) -> Result<(), ServeError> {
    let mut lines = Lines::new(input);
    let mut server = Server { implementation, case: None, answer: Vec::new(), complete: 0, output };
    while let Some(line) = lines.next_line()? {
        let line = std::str::from_utf8(line).map_err(|error| message(error.to_string()))?;
        if !server.answer(line)? {
            break;
        }
        server.complete = server.answer.len();
        // The next message may be here already: then the answers leave together.
        if !lines.has_line() {
            server.flush()?;
        }
    }
    server.flush()
}

fn message(reason: impl Into<String>) -> ServeError {
    ServeError::Message { reason: reason.into() }
}

/// What later messages need to know of the last `build`.
struct Case {
    dtype: DType,
    form: Form,
    variables: Vec<Variable>,
}

struct Server<'a, W: Write> {
    implementation: &'a mut dyn Implementation,
    case: Option<Case>,
    /// Answers that have not been written yet.
    answer: Vec<u8>,
    /// Bytes of `answer` that are whole lines.
    complete: usize,
    output: W,
}

/// Whatever ends the server, a panic of the implementation included, what was answered leaves: or
/// the judge would blame an earlier message.
impl<W: Write> Drop for Server<'_, W> {
    fn drop(&mut self) {
        self.answer.truncate(self.complete);
        let _broken_pipe = self.flush();
    }
}

impl<W: Write> Server<'_, W> {
    fn flush(&mut self) -> Result<(), ServeError> {
        self.output.write_all(&self.answer)?;
        self.answer.clear();
        self.complete = 0;
        Ok(self.output.flush()?)
    }

    /// Answers one message; false after `stop`.
    fn answer(&mut self, line: &str) -> Result<bool, ServeError> {
        let request: Request<'_> =
            serde_json::from_str(line).map_err(|error| message(error.to_string()))?;
        match request.command.as_ref() {
            "stop" => return Ok(false),
            "start" => self.start(&request)?,
            command => {
                let seq = request.seq.ok_or_else(|| message(format!("{command} must have seq")))?;
                let begin = self.answer.len();
                write::raw(&mut self.answer, "{\"seq\":");
                write::json(&mut self.answer, &seq);
                let outcome = match command {
                    "build" => self.build(request)?,
                    "set_state" => self.set_state(request)?,
                    "step" => self.step(request)?,
                    "finalize" => self.finalize()?,
                    _ => return Err(message(format!("unknown command {command:?}"))),
                };
                if let Err(failure) = outcome {
                    self.answer.truncate(begin);
                    self.refuse(seq, failure)?;
                }
                write::raw(&mut self.answer, "}\n");
            }
        }
        Ok(true)
    }

    fn start(&mut self, request: &Request<'_>) -> Result<(), ServeError> {
        if request.protocol != Some(VERSION) {
            let got = request.protocol.map_or("none".to_owned(), |version| version.to_string());
            return Err(message(format!("protocol must be {VERSION}, got {got}")));
        }
        write::json(&mut self.answer, &StartAnswer::new(self.implementation.describe(), true));
        self.answer.push(b'\n');
        Ok(())
    }

    fn refuse(&mut self, seq: u64, failure: Failure) -> Result<(), ServeError> {
        let line = &mut self.answer;
        write::raw(line, "{\"seq\":");
        write::json(line, &seq);
        match failure {
            Failure::Error { stage, kind, message } => {
                write::raw(line, ",\"error\":{\"stage\":");
                write::json(line, &stage);
                write::key(line, "type");
                write::json(line, &kind);
                write::key(line, "message");
                write::json(line, &message);
                line.push(b'}');
            }
            Failure::Skip { reason } => {
                write::key(line, "skip");
                write::json(line, &reason);
            }
            failure => return Err(ServeError::Implementation(failure)),
        }
        Ok(())
    }

    fn build(&mut self, request: Request<'_>) -> Result<Result<(), Failure>, ServeError> {
        self.case = None;
        let name = request.dtype.ok_or_else(|| message("build must have dtype"))?;
        let dtype = DType::from_name(&name)
            .ok_or_else(|| message(format!("dtype must be a known one, got {name:?}")))?;
        let fields = request.variables.ok_or_else(|| message("build must have variables"))?;
        let fields: Vec<VariableFields<'_>> = serde_json::from_str(fields.get())
            .map_err(|error| message(format!("variables: {error}")))?;
        let mut form = Form::Numbers;
        let mut variables = Vec::with_capacity(fields.len());
        for variable in fields {
            let (variable, base64) = variable.into_variable(dtype).map_err(message)?;
            form = if base64 { Form::Base64 } else { form };
            variables.push(variable);
        }
        let outcome = self.implementation.build(&BuildRequest {
            dtype,
            arguments: &request.arguments.unwrap_or_default(),
            exclude_from_weight_decay: &request.exclude_from_weight_decay.unwrap_or_default(),
            variables: &variables,
        });
        self.case = Some(Case { dtype, form, variables });
        Ok(outcome)
    }

    fn set_state(&mut self, request: Request<'_>) -> Result<Result<(), Failure>, ServeError> {
        let case = self.case.as_ref().ok_or_else(|| message("set_state must follow build"))?;
        let iterations =
            request.iterations.ok_or_else(|| message("set_state must have iterations"))?;
        let variables =
            request.variables.ok_or_else(|| message("set_state must have variables"))?;
        let variables: List<'_> = serde_json::from_str(variables.get())
            .map_err(|error| message(format!("variables: {error}")))?;
        let read = |list: List<'_>, field: &str, elements: fn(&Variable) -> usize| {
            list.into_tensors(field, case.dtype, case.variables.iter().map(elements))
                .map_err(message)
        };
        let variables = read(variables, "variables", elements)?;
        let r = read(request.r, "r", |variable| row_elements(&variable.shape))?;
        let c = read(request.c, "c", |variable| column_elements(&variable.shape))?;
        let v = read(request.v, "v", elements)?;
        let ema = read(request.ema, "ema", elements)?;
        let variables: Vec<&[f64]> = variables
            .iter()
            .map(|values| values.as_deref().ok_or_else(|| message("variables must be tensors")))
            .collect::<Result<_, _>>()?;
        Ok(self.implementation.set_state(&StateRequest {
            iterations,
            variables: &variables,
            r: &borrowed(&r),
            c: &borrowed(&c),
            v: &borrowed(&v),
            ema: &borrowed(&ema),
        }))
    }

    fn step(&mut self, request: Request<'_>) -> Result<Result<(), Failure>, ServeError> {
        let case = self.case.as_ref().ok_or_else(|| message("step must follow build"))?;
        let values = gradients(request.gradients, case.dtype, &case.variables).map_err(message)?;
        let want = request.want.ok_or_else(|| message("step must have want"))?;
        let wanted = |name: &str| want.iter().any(|wanted| wanted == name);
        let states: Vec<StateField> =
            StateField::ALL.into_iter().filter(|state| wanted(state_name(*state))).collect();
        let gradients: Vec<_> = values.iter().map(Option::as_ref).collect();
        let response = match self.implementation.step(&StepRequest {
            learning_rate: request.learning_rate.as_ref(),
            gradients: &gradients,
            states: &states,
            intermediates: INTERMEDIATES.iter().any(|name| wanted(name)),
        }) {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        write_response(&mut self.answer, case, &response, &states, wanted);
        Ok(Ok(()))
    }

    fn finalize(&mut self) -> Result<Result<(), Failure>, ServeError> {
        let case = self.case.as_ref().ok_or_else(|| message("finalize must follow build"))?;
        Ok(self.implementation.finalize().map(|variables| {
            write::key(&mut self.answer, "variables");
            write::list(&mut self.answer, &variables, |line, values| {
                write::tensor(line, case.dtype, case.form, values);
            });
        }))
    }
}

fn write_response(
    line: &mut Vec<u8>,
    case: &Case,
    response: &StepResponse,
    states: &[StateField],
    wanted: impl Fn(&str) -> bool,
) {
    let Case { dtype, form, .. } = *case;
    write::key(line, "iterations");
    write::json(line, &response.iterations);
    write::key(line, "learning_rate");
    write::number(line, response.learning_rate);
    if wanted("variables") {
        write::key(line, "variables");
        write::list(line, &response.variables, |line, values| {
            write::tensor(line, dtype, form, values);
        });
    }
    for state in states {
        let values = match state {
            StateField::R => &response.r,
            StateField::C => &response.c,
            StateField::V => &response.v,
            StateField::Ema => &response.ema,
        };
        write::key(line, state_name(*state));
        write::list(line, values, |line, values| {
            write::optional_tensor(line, dtype, form, values.as_deref());
        });
    }
    let shown = INTERMEDIATES.iter().filter(|name| wanted(name));
    for name in shown.filter(|_| !response.intermediates.is_empty()) {
        write::key(line, name);
        write::list(line, &response.intermediates, |line, variable| {
            write_intermediate(line, case, name, variable.as_ref());
        });
    }
}

fn write_intermediate(
    line: &mut Vec<u8>,
    case: &Case,
    name: &str,
    variable: Option<&StepIntermediates>,
) {
    let tensor = |values: fn(&StepIntermediates) -> Option<&Vec<f64>>| {
        variable.and_then(values).map(Vec::as_slice)
    };
    let scalar = match name {
        "clipped_gradient" => {
            let values = tensor(|variable| variable.clipped_gradient.as_ref());
            return write::optional_tensor(line, case.dtype, case.form, values);
        }
        "update" => {
            let values = tensor(|variable| variable.update.as_ref());
            return write::optional_tensor(line, case.dtype, case.form, values);
        }
        "parameter_rms" => variable.and_then(|variable| variable.parameter_rms),
        "alpha" => variable.and_then(|variable| variable.alpha),
        _ => variable.and_then(|variable| variable.update_rms),
    };
    match scalar {
        Some(value) => write::number(line, value),
        None => write::raw(line, "null"),
    }
}

fn elements(variable: &Variable) -> usize {
    variable.initial.len()
}

/// Elements of a row factor of shape `shape[..-1]`; 0 below rank 2.
pub(super) fn row_elements(shape: &[usize]) -> usize {
    match shape {
        [leading @ .., rows, _] => leading.iter().product::<usize>() * rows,
        _ => 0,
    }
}

/// Elements of a column factor of shape `shape[..-2] + shape[-1..]`; 0 below rank 2.
pub(super) fn column_elements(shape: &[usize]) -> usize {
    match shape {
        [leading @ .., _, columns] => leading.iter().product::<usize>() * columns,
        _ => 0,
    }
}

fn borrowed(list: &[Option<Vec<f64>>]) -> Vec<Option<&[f64]>> {
    list.iter().map(Option::as_deref).collect()
}

/// Lines of a stream, at most [`LINE_LIMIT`] bytes each.
struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where the first line that was not returned begins.
    begin: usize,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), begin: 0 }
    }

    fn has_line(&self) -> bool {
        self.buffer[self.begin..].contains(&b'\n')
    }

    /// The next line without its end, or `None` at the end of the stream.
    fn next_line(&mut self) -> Result<Option<&[u8]>, ServeError> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        let mut searched = 0;
        let mut chunk = [0; 1 << 16];
        loop {
            if let Some(length) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                self.begin = searched + length + 1;
                return Ok(Some(&self.buffer[..self.begin - 1]));
            }
            searched = self.buffer.len();
            if searched > LINE_LIMIT {
                return Err(message(format!("a line must have at most {LINE_LIMIT} bytes")));
            }
            match self.input.read(&mut chunk)? {
                0 if searched == 0 => return Ok(None),
                0 => return Err(message("the last line must end with a line feed")),
                read => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use goldstep_core::Constraint;

    use super::*;
    use crate::{Capabilities, Description, GradientValues};

    /// Adds gradients, and notes what it was asked.
    struct Adder {
        description: Description,
        variables: Vec<Vec<f64>>,
        iterations: u64,
        panics: bool,
        log: Vec<String>,
    }

    impl Adder {
        fn new() -> Self {
            let capabilities = Capabilities {
                dtypes: vec![DType::Float32],
                arguments: vec!["learning_rate".into()],
                schedules: vec![],
                sparse: true,
                ema: false,
                constraints: true,
                exclude: true,
                set_learning_rate: true,
                finalize: true,
                states: vec![StateField::V],
                set_state: true,
                intermediates: vec!["alpha".into(), "update".into()],
                expectation: "goldstep".into(),
            };
            let description = Description {
                name: "adder".into(),
                version: "1".into(),
                language: "rust".into(),
                source: "here".into(),
                capabilities,
            };
            Self { description, variables: vec![], iterations: 0, panics: false, log: vec![] }
        }
    }

    impl Implementation for Adder {
        fn describe(&self) -> &Description {
            &self.description
        }

        fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
            self.log.push(format!("{} {:?}", request.dtype, request.exclude_from_weight_decay));
            self.iterations = 0;
            self.variables = request.variables.iter().map(|each| each.initial.clone()).collect();
            if request.variables.iter().any(|each| each.constraint == Some(Constraint::NonNegative))
            {
                return Err(Failure::Skip { reason: "constraints".into() });
            }
            Ok(())
        }

        fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
            self.log.push(format!("{:?} {:?} {:?}", request.r, request.v, request.ema));
            self.iterations = request.iterations;
            self.variables = request.variables.iter().map(|values| values.to_vec()).collect();
            Ok(())
        }

        fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
            self.log.push(format!("{:?} {:?}", request.learning_rate, request.states));
            for (variable, gradient) in self.variables.iter_mut().zip(request.gradients) {
                match gradient {
                    Some(GradientValues::Dense(values)) if values.len() == variable.len() => {
                        variable.iter_mut().zip(values).for_each(|(x, g)| *x += g);
                    }
                    Some(GradientValues::Dense(_)) => {
                        return Err(Failure::Error {
                            stage: "step".into(),
                            kind: "ValueError".into(),
                            message: "length".into(),
                        });
                    }
                    Some(GradientValues::Sparse { indices, values }) => {
                        self.log.push(format!("{indices:?} {values:?}"));
                    }
                    None => {}
                }
            }
            self.iterations += 1;
            let alpha = StepIntermediates { alpha: Some(f64::NAN), ..Default::default() };
            Ok(StepResponse {
                iterations: self.iterations,
                learning_rate: 0.1,
                variables: self.variables.clone(),
                v: self.variables.iter().map(|values| Some(values.clone())).collect(),
                intermediates: self.variables.iter().map(|_| Some(alpha.clone())).collect(),
                ..StepResponse::default()
            })
        }

        fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
            assert!(!self.panics, "as it was told");
            Ok(self.variables.clone())
        }
    }

    fn answers(adder: &mut Adder, input: &str) -> (String, Result<(), ServeError>) {
        let mut output = Vec::new();
        let result = serve(adder, input.as_bytes(), &mut output);
        (String::from_utf8(output).unwrap(), result)
    }

    const BUILD: &str = concat!(
        r#"{"command":"build","seq":1,"dtype":"float32","arguments":{},"#,
        r#""exclude_from_weight_decay":["b"],"variables":[{"name":"m","shape":[2,1],"#,
        r#""initial":[0.1,"NaN"],"constraint":null},{"name":"b","shape":[],"initial":[1],"#,
        r#""constraint":{"type":"clip","minimum":"-Infinity","maximum":2}}]}"#,
        "\n"
    );

    #[test]
    fn a_session_is_answered_line_by_line() {
        let mut adder = Adder::new();
        let rest = concat!(
            r#"{"command":"set_state","seq":2,"iterations":3,"variables":[[1,2],[3]],"#,
            r#""r":[[1,2],null],"c":[[5],null],"v":[null,[4]],"ema":null}"#,
            "\n",
            r#"{"command":"step","seq":3,"learning_rate":0.5,"gradients":[null,[1e-3]],"#,
            r#""want":["variables","v","alpha"]}"#,
            "\n",
            r#"{"command":"step","seq":4,"learning_rate":null,"#,
            r#""gradients":[{"indices":[-1,1],"values":[7,8]},[1,2]],"want":[]}"#,
            "\n",
            r#"{"command":"finalize","seq":5}"#,
            "\n",
            r#"{"command":"stop"}"#,
            "\n"
        );
        let (text, result) = answers(&mut adder, &format!("{BUILD}{rest}"));
        assert!(result.is_ok(), "{result:?}");
        let expected = [
            r#"{"seq":1}"#,
            r#"{"seq":2}"#,
            concat!(
                r#"{"seq":3,"iterations":4,"learning_rate":0.1,"variables":[[1.0,2.0],[3.001]],"#,
                r#""v":[[1.0,2.0],[3.001]],"alpha":["NaN","NaN"]}"#
            ),
            r#"{"seq":4,"error":{"stage":"step","type":"ValueError","message":"length"}}"#,
            r#"{"seq":5,"variables":[[1.0,2.0],[3.001]]}"#,
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let log = [
            "float32 [\"b\"]",
            "[Some([1.0, 2.0]), None] [None, Some([4.0])] [None, None]",
            "Some(Number(0.5)) [V]",
            "None []",
            "[-1, 1] [7.0, 8.0]",
        ];
        assert_eq!(adder.log, log);
    }

    #[test]
    fn base64_is_answered_with_base64() {
        let build = concat!(
            r#"{"command":"build","seq":1,"dtype":"float32","variables":"#,
            r#"[{"name":"b","shape":[2],"initial":"AACAPwAAAEA=","constraint":null}]}"#,
            "\n"
        );
        let finalize = "{\"command\":\"finalize\",\"seq\":2}\n";
        let (text, result) = answers(&mut Adder::new(), &format!("{build}{finalize}"));
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(text, "{\"seq\":1}\n{\"seq\":2,\"variables\":[\"AACAPwAAAEA=\"]}\n");
    }

    #[test]
    fn a_gradient_of_another_length_is_refused_by_the_optimizer() {
        for (initial, gradients) in [
            ("[1,2]", "[[1]]"),
            ("\"AACAPwAAAEA=\"", "[\"AACAPw==\"]"),
            ("\"AACAPwAAAEA=\"", "[\"\"]"),
        ] {
            let build = format!(
                r#"{{"command":"build","seq":1,"dtype":"float32","variables":[{{"name":"b","shape":[2],"initial":{initial},"constraint":null}}]}}"#
            );
            let step = format!(r#"{{"command":"step","seq":2,"gradients":{gradients},"want":[]}}"#);
            let (text, result) = answers(&mut Adder::new(), &format!("{build}\n{step}\n"));
            assert!(result.is_ok(), "{result:?}");
            assert!(text.ends_with("\"type\":\"ValueError\",\"message\":\"length\"}}\n"), "{text}");
        }
    }

    #[test]
    fn the_start_names_the_capabilities() {
        let (text, result) = answers(&mut Adder::new(), "{\"command\":\"start\",\"protocol\":1}\n");
        assert!(result.is_ok(), "{result:?}");
        let answer: StartAnswer = serde_json::from_str(&text).unwrap();
        assert_eq!(answer.into_description(), Ok((Adder::new().description, true)));
    }

    #[test]
    fn a_skip_is_an_answer() {
        let build = BUILD.replace(
            r#"{"type":"clip","minimum":"-Infinity","maximum":2}"#,
            r#"{"type":"non_negative"}"#,
        );
        let (text, _) = answers(&mut Adder::new(), &build);
        assert_eq!(text, "{\"seq\":1,\"skip\":\"constraints\"}\n");
    }

    /// Or the judge would blame the message before.
    #[test]
    fn what_was_answered_leaves_before_an_end() {
        let (text, result) =
            answers(&mut Adder::new(), &format!("{BUILD}{{\"command\":\"dance\",\"seq\":2}}\n"));
        result.unwrap_err();
        assert_eq!(text, "{\"seq\":1}\n");

        let mut output = Vec::new();
        let mut adder = Adder { panics: true, ..Adder::new() };
        let input = format!("{BUILD}{{\"command\":\"finalize\",\"seq\":2}}\n");
        let serving = AssertUnwindSafe(|| serve(&mut adder, input.as_bytes(), &mut output));
        std::panic::catch_unwind(serving).unwrap_err();
        assert_eq!(output, b"{\"seq\":1}\n");
    }

    #[test]
    fn messages_that_the_protocol_does_not_allow_end_serving() {
        for (input, reason) in [
            ("{\"command\":\"start\",\"protocol\":2}\n", "protocol must be 1, got 2"),
            ("{\"command\":\"dance\",\"seq\":1}\n", "unknown command \"dance\""),
            ("{\"command\":\"finalize\"}\n", "finalize must have seq"),
            ("{\"command\":\"finalize\",\"seq\":1}\n", "finalize must follow build"),
            ("{\"command\":\"stop\",\"colour\":1}\n", "unknown field `colour`"),
            ("{\"command\":\"stop\"}", "the last line must end with a line feed"),
            ("nonsense\n", "expected ident"),
        ] {
            let (_, result) = answers(&mut Adder::new(), input);
            let text = result.unwrap_err().to_string();
            assert!(text.contains(reason), "{text}");
        }
        let step = "{\"command\":\"step\",\"seq\":2,\"gradients\":[[1,2]],\"want\":[]}\n";
        let (_, result) = answers(&mut Adder::new(), &format!("{BUILD}{step}"));
        assert!(result.unwrap_err().to_string().contains("gradients must have 2 items, got 1"));
    }
}
