//! How an adapter is started, and how much it may take.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::LINE_LIMIT;

/// A program that speaks the adapter protocol, its arguments and its limits.
///
/// Cloned and given to several threads, each with [`Adapter::start`](super::Adapter::start), it
/// makes an adapter process for each of them.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterCommand {
    program: OsString,
    arguments: Vec<OsString>,
    limits: Limits,
    transcript: Option<Transcript>,
}

/// Every line that went to an adapter and came from it, for whoever wants to look at it.
#[derive(Debug, Clone, Default)]
pub struct Transcript(Arc<Mutex<Vec<Line>>>);

/// A line of a transcript, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whether the adapter wrote it.
    pub from_adapter: bool,
    /// The line.
    pub text: String,
}

impl Transcript {
    /// What was said since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add(&self, from_adapter: bool, lines: &[u8]) {
        let text = String::from_utf8_lossy(lines);
        let lines = text.lines().map(|line| Line { from_adapter, text: line.to_owned() });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
    }
}

impl PartialEq for Transcript {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What an adapter may take before its answer counts as none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Time for the answer to `start`; longer, since interpreters and libraries load in it.
    pub start: Duration,
    /// Time for each other answer.
    pub answer: Duration,
    /// Bytes of a line; no more than that is ever buffered.
    pub line_bytes: usize,
    /// Bytes of standard error that are kept, the last ones.
    pub stderr_bytes: usize,
    /// Crashes, time-outs and protocol faults in a row after which it is not started again.
    pub failures_in_a_row: u32,
    /// The same over the whole run.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            answer: Duration::from_secs(10),
            line_bytes: LINE_LIMIT,
            stderr_bytes: 16 << 10,
            failures_in_a_row: 8,
            failures: 64,
        }
    }
}

/// A command line that cannot be split into a program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandLineError {
    /// Nothing but white space.
    #[error("adapter command must name a program, got an empty line")]
    Empty,
    /// A quotation mark without its partner.
    #[error("adapter command must close its quotation marks, got {line}")]
    Quote {
        /// The line.
        line: String,
    },
}

impl AdapterCommand {
    /// A program that is looked up as the system does.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self { program, arguments: Vec::new(), limits: Limits::default(), transcript: None }
    }

    /// The same with one argument more.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// The same with other limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same, with every line noted in `transcript`, which grows with the run.
    #[must_use]
    pub fn with_transcript(mut self, transcript: Transcript) -> Self {
        self.transcript = Some(transcript);
        self
    }

    pub(super) const fn transcript(&self) -> Option<&Transcript> {
        self.transcript.as_ref()
    }

    /// What the adapter may take.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Splits a line at white space; single or double quotation marks keep it together. No shell
    /// is involved, so `$`, `*` and backslashes are ordinary characters.
    ///
    /// # Errors
    /// An empty line, an open quotation mark.
    pub fn from_line(line: &str) -> Result<Self, CommandLineError> {
        let mut words: Vec<String> = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for character in line.chars() {
            match quote {
                Some(mark) if character == mark => quote = None,
                None if matches!(character, '"' | '\'') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                None if character.is_whitespace() => words.extend(word.take()),
                _ => word.get_or_insert_default().push(character),
            }
        }
        if quote.is_some() {
            return Err(CommandLineError::Quote { line: line.to_owned() });
        }
        words.extend(word);
        let mut words = words.into_iter();
        let program = words.next().ok_or(CommandLineError::Empty)?;
        Ok(words.fold(Self::new(program), Self::argument))
    }

    /// The command with its three streams piped, as the leader of a process group of its own.
    pub(super) fn to_std(&self) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl fmt::Display for AdapterCommand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", quoted(&self.program))?;
        self.arguments.iter().try_for_each(|word| write!(formatter, " {}", quoted(word)))
    }
}

/// A word as [`AdapterCommand::from_line`] reads it.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| !c.is_whitespace() && c != '"' && c != '\'';
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r#"'"'"'"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_without_a_shell() {
        let command = AdapterCommand::from_line(" python3  'my adapter.py' --x=\"a b\" '' $HOME ");
        let expected = AdapterCommand::new("python3")
            .argument("my adapter.py")
            .argument("--x=a b")
            .argument("")
            .argument("$HOME");
        assert_eq!(command, Ok(expected));
        assert_eq!(AdapterCommand::from_line("  "), Err(CommandLineError::Empty));
        for words in [vec!["python3", "my adapter.py", "", "it's \"x\"", "$HOME"], vec!["a'b"]] {
            let command = AdapterCommand::new(words[0]);
            let command = words[1..].iter().fold(command, AdapterCommand::argument);
            assert_eq!(AdapterCommand::from_line(&command.to_string()), Ok(command));
        }
        let open = AdapterCommand::from_line("a 'b").unwrap_err().to_string();
        assert_eq!(open, "adapter command must close its quotation marks, got a 'b");
    }
}
