//! A contestant as the harness sees it: a process that is asked line by line.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::contestant::{Facts, Introduction, Request, Task};

/// Longer than any import, compilation or sample takes.
const PATIENCE: Duration = Duration::from_secs(240);

/// How a contestant is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// A contestant that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    introduction: Introduction,
}

impl Process {
    /// Starts a contestant on `threads` processors and reads its introduction.
    ///
    /// # Errors
    /// A program that does not start or does not introduce itself.
    pub fn start(launch: &Launch, threads: usize) -> Result<Self> {
        let (program, arguments) = launch.command.split_first().context("a command")?;
        let mut command = Command::new(program);
        command.args(arguments).env("PYTHONUNBUFFERED", "1");
        command.env("OMP_NUM_THREADS", threads.to_string());
        // Libraries differ in how they are told a number of threads, some cannot be; all of them
        // respect the processors that the process may run on, which a child inherits.
        let before = sched_getaffinity(None).context("processors of this thread")?;
        sched_setaffinity(None, &first_processors(&before, threads)).context("processors")?;
        let child = command
            // Ctrl-C is for the harness, which ends after a whole sample.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} must start", program.display()));
        sched_setaffinity(None, &before).context("processors")?;
        let mut child = child?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("standard output")?;
        let mut stderr = child.stderr.take().context("standard error")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ended = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let introduction = Introduction::default();
        let mut process = Self { child, input, lines, errors: Some(errors), introduction };
        let line = process.line()?;
        process.introduction = serde_json::from_str(&line)
            .with_context(|| format!("a contestant must introduce itself, got {line}"))?;
        Ok(process)
    }

    /// What it said of itself.
    #[must_use]
    pub const fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// Makes parameters and gradients.
    ///
    /// # Errors
    /// The contestant's own, or its end.
    pub fn prepare(&mut self, task: &Task) -> Result<()> {
        self.ask(&Request::Prepare { task: task.clone() }).map(|_| ())
    }

    /// Constructs the optimizer; nanoseconds.
    ///
    /// # Errors
    /// The contestant's own, or its end.
    pub fn build(&mut self) -> Result<f64> {
        self.timed(&Request::Build)
    }

    /// Makes `count` steps; nanoseconds of all of them.
    ///
    /// # Errors
    /// The contestant's own, or its end.
    pub fn step(&mut self, count: u32) -> Result<f64> {
        self.timed(&Request::Step { count })
    }

    /// Moves the least memory of `count` steps; nanoseconds of all of them.
    ///
    /// # Errors
    /// The contestant's own, or its end.
    pub fn stream(&mut self, count: u32) -> Result<f64> {
        self.timed(&Request::Stream { count })
    }

    /// What came of the steps.
    ///
    /// # Errors
    /// The contestant's own, or its end.
    pub fn facts(&mut self) -> Result<Facts> {
        Ok(serde_json::from_value(self.ask(&Request::Facts)?)?)
    }

    /// Bytes of memory that it holds now, and held at most since
    /// [`forget_peak`](Self::forget_peak). Nothing where the system does not say.
    #[must_use]
    pub fn memory(&self) -> Option<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        Some((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Sets the peak back to what is held now.
    pub fn forget_peak(&self) {
        let _refused = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    fn timed(&mut self, request: &Request) -> Result<f64> {
        let answer = self.ask(request)?;
        let ns = answer.get("ns").and_then(Value::as_f64);
        ns.with_context(|| format!("an answer must have ns, got {answer}"))
    }

    fn ask(&mut self, request: &Request) -> Result<Value> {
        let line = serde_json::to_string(request)?;
        let input = self.input.as_mut().context("the contestant was stopped")?;
        if writeln!(input, "{line}").and_then(|()| input.flush()).is_err() {
            return self.ended();
        }
        let line = self.line()?;
        let answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("an answer must be JSON, got {line}"))?;
        match answer.get("error") {
            Some(error) => bail!("{}", error.as_str().unwrap_or("no message")),
            None => Ok(answer),
        }
    }

    fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("no answer in {} s", PATIENCE.as_secs()),
            Err(RecvTimeoutError::Disconnected) => self.ended(),
        }
    }

    /// The error of a process that has ended, with the last of what it wrote.
    fn ended<T>(&mut self) -> Result<T> {
        let _killed = self.child.kill();
        let status = self.child.wait().context("the contestant must end")?;
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let last: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = last[last.len().saturating_sub(3)..].join(" / ");
        bail!("the contestant ended with {status}: {last}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends by itself at the end of its input; this is for one that does not, and memory
        // must be free before the next one starts.
        self.input = None;
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

fn first_processors(allowed: &CpuSet, count: usize) -> CpuSet {
    let mut chosen = CpuSet::new();
    for processor in (0..CpuSet::MAX_CPU).filter(|one| allowed.is_set(*one)).take(count) {
        chosen.set(processor);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Launch {
        Launch { command: ["sh", "-c", script].map(OsString::from).to_vec() }
    }

    #[test]
    fn answers_and_errors_come_back() {
        let script = concat!(
            r#"echo '{"name":"x","versions":{}}'; read l; echo '{"ns":5.5}'; "#,
            r#"read l; echo '{"error":"no"}'; read l; echo oops >&2; exit 3"#
        );
        let mut process = Process::start(&shell(script), 1).unwrap();
        assert_eq!(process.introduction().name, "x");
        assert!((process.build().unwrap() - 5.5).abs() < 1e-12);
        assert_eq!(process.step(1).unwrap_err().to_string(), "no");
        let ended = process.step(1).unwrap_err().to_string();
        assert!(ended.contains("exit status: 3") && ended.contains("oops"), "{ended}");
    }

    #[test]
    fn garbage_is_an_error() {
        let error = Process::start(&shell("echo hello"), 1).unwrap_err().to_string();
        assert!(error.contains("must introduce itself, got hello"), "{error}");
        assert!(Process::start(&Launch { command: vec!["/nowhere".into()] }, 1).is_err());
    }
}
