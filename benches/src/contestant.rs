//! What a contestant is, and the lines that it speaks.
//!
//! Each contestant is a process of its own, ours as well: one then disturbs the other neither
//! through its threads nor through its memory, and its memory can be measured. It writes one line
//! to introduce itself, then answers each line of JSON with one line:
//!
//! ```text
//! {"do":"prepare","task":{…}}   make parameters and gradients               {}
//! {"do":"build"}                construct the optimizer                     {"ns":…}
//! {"do":"step","count":n}       n steps, one after the other                {"ns":…}
//! {"do":"stream","count":n}     the least memory traffic of n steps         {"ns":…}
//! {"do":"facts"}                what came of it                             {"state_bytes":…, "change":…}
//! ```
//!
//! Anything may be answered with `{"error":"…"}`. The contestant times itself, so that the pipe
//! is not part of the time.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is to be stepped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The shape of each parameter.
    pub shapes: Vec<Vec<usize>>,
    /// `float32` or `bfloat16`.
    pub dtype: String,
    /// Threads of a step. The process may run on as many processors.
    pub threads: usize,
    /// Arguments of Keras's constructor that differ from its defaults.
    pub arguments: Map<String, Value>,
}

/// A line to a contestant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make parameters and gradients; whatever was there before goes.
    Prepare {
        /// Of these shapes.
        task: Task,
    },
    /// Construct the optimizer.
    Build,
    /// Make steps.
    Step {
        /// How many.
        count: u32,
    },
    /// Move the least memory that so many steps could move.
    Stream {
        /// How many.
        count: u32,
    },
    /// Say what came of it.
    Facts,
}

/// The first line of a contestant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Introduction {
    /// Its name.
    pub name: String,
    /// Versions of what it is made of.
    pub versions: BTreeMap<String, String>,
}

/// What came of the steps so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Bytes of the optimizer's state, parameters not counted.
    pub state_bytes: u64,
    /// Mean absolute change of the parameters, see [`change`](crate::input::change).
    pub change: f64,
}

/// One of ours.
pub trait Contestant {
    /// Name and versions.
    fn introduction(&self) -> Introduction;

    /// Makes parameters and gradients.
    ///
    /// # Errors
    /// Anything that keeps it from doing so.
    fn prepare(&mut self, task: &Task) -> Result<()>;

    /// Constructs the optimizer.
    ///
    /// # Errors
    /// What the optimizer refuses.
    fn build(&mut self) -> Result<()>;

    /// One step.
    ///
    /// # Errors
    /// What the optimizer refuses.
    fn step(&mut self) -> Result<()>;

    /// The least memory traffic of a step.
    ///
    /// # Errors
    /// A contestant that has no such thing.
    fn stream(&mut self) -> Result<()>;

    /// What came of it.
    ///
    /// # Errors
    /// Parameters that cannot be read.
    fn facts(&mut self) -> Result<Facts>;
}

/// Answers every line of `input`.
///
/// # Errors
/// A stream that cannot be read or written; a line that is no request. What the contestant itself
/// refuses is an answer.
pub fn serve(
    contestant: &mut dyn Contestant,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<()> {
    serde_json::to_writer(&mut output, &contestant.introduction())?;
    writeln!(output)?;
    output.flush()?;
    for line in input.lines() {
        let answer = match answer(contestant, &serde_json::from_str(&line?)?) {
            Ok(answer) => answer,
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn answer(contestant: &mut dyn Contestant, request: &Request) -> Result<Value> {
    let mut timed = |count: u32, once: fn(&mut dyn Contestant) -> Result<()>| {
        let start = Instant::now();
        for _ in 0..count {
            once(contestant)?;
        }
        Ok(json!({ "ns": start.elapsed().as_secs_f64() * 1e9 }))
    };
    match request {
        Request::Prepare { task } => contestant.prepare(task).map(|()| json!({})),
        Request::Build => timed(1, |contestant| contestant.build()),
        Request::Step { count } => timed(*count, |contestant| contestant.step()),
        Request::Stream { count } => timed(*count, |contestant| contestant.stream()),
        Request::Facts => Ok(serde_json::to_value(contestant.facts()?)?),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[derive(Default)]
    struct Counter(u32);

    impl Contestant for Counter {
        fn introduction(&self) -> Introduction {
            Introduction { name: "counter".to_owned(), ..Introduction::default() }
        }

        fn prepare(&mut self, _: &Task) -> Result<()> {
            Ok(())
        }

        fn build(&mut self) -> Result<()> {
            self.0 = 0;
            Ok(())
        }

        fn step(&mut self) -> Result<()> {
            self.0 += 1;
            Ok(())
        }

        fn stream(&mut self) -> Result<()> {
            bail!("counters have no bound")
        }

        fn facts(&mut self) -> Result<Facts> {
            Ok(Facts { state_bytes: 4, change: f64::from(self.0) })
        }
    }

    #[test]
    fn every_line_is_answered() {
        let lines = concat!(
            r#"{"do":"prepare","task":{"shapes":[[2]],"dtype":"float32","threads":1,"#,
            r#""arguments":{}}}"#,
            "\n",
            r#"{"do":"build"}"#,
            "\n",
            r#"{"do":"step","count":3}"#,
            "\n",
            r#"{"do":"stream","count":1}"#,
            "\n",
            r#"{"do":"facts"}"#,
            "\n",
        );
        let mut output = Vec::new();
        serve(&mut Counter::default(), lines.as_bytes(), &mut output).unwrap();
        let output = String::from_utf8(output).unwrap();
        let answers: Vec<Value> =
            output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), 6);
        assert_eq!(answers[0]["name"], "counter");
        assert!(answers[3]["ns"].as_f64().unwrap() >= 0.0);
        assert_eq!(answers[4]["error"], "counters have no bound");
        assert_eq!(answers[5], json!({ "state_bytes": 4, "change": 3.0 }));
    }

    #[test]
    fn a_line_that_is_no_request_ends_it() {
        let outcome = serve(&mut Counter::default(), &b"{\"do\":\"dance\"}\n"[..], Vec::new());
        assert!(outcome.is_err());
    }
}
