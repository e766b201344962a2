//! What somebody types to see a failure again.

use std::path::{Path, PathBuf};

/// How a command line chooses a subject and its traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    subject: String,
    unit_test: Option<String>,
    golden: Option<PathBuf>,
}

impl Invocation {
    /// A subject by its options, such as `--backend cpu`, on the traces that are the default.
    pub fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), unit_test: None, golden: None }
    }

    /// A backend by its name.
    #[must_use]
    pub fn backend(name: &str) -> Self {
        Self::new(format!("--backend {}", quoted(name)))
    }

    /// A program that speaks the adapter protocol, by its command line.
    #[must_use]
    pub fn adapter(line: &str) -> Self {
        Self::new(format!("--adapter {}", quoted(line)))
    }

    /// The same with one more option of the subject.
    #[must_use]
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.subject.push_str(&format!(" {option} {}", quoted(value)));
        self
    }

    /// The same for a backend of which `repro` writes a unit test under that name.
    #[must_use]
    pub fn with_unit_test(mut self, backend: &str) -> Self {
        self.unit_test = Some(format!(" --backend {}", quoted(backend)));
        self
    }

    /// Whether `repro` writes a test of the subject itself, not of the reference in its place.
    #[must_use]
    pub const fn has_unit_test(&self) -> bool {
        self.unit_test.is_some()
    }

    /// The same on the traces of another directory.
    #[must_use]
    pub fn on(mut self, golden: &Path) -> Self {
        self.golden = Some(golden.to_owned());
        self
    }

    /// The command that judges the subject again.
    #[must_use]
    pub fn verify(&self) -> String {
        format!("cargo xtask verify {}{}", self.subject, self.traces())
    }

    /// The command that prints a run as a test, to which the run's name belongs.
    pub(crate) fn repro(&self) -> String {
        let subject = self.unit_test.as_deref().unwrap_or_default();
        format!("cargo xtask repro{subject}{}", self.traces())
    }

    fn traces(&self) -> String {
        let golden = self.golden.as_ref();
        golden.map_or_else(String::new, |golden| {
            format!(" --golden {}", quoted(&golden.to_string_lossy()))
        })
    }
}

/// A word as a POSIX shell reads it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_expand_them() {
        for (word, expected) in [
            ("dense/kernel:0", "dense/kernel:0"),
            ("", "''"),
            ("python3 mine.py --fast", "'python3 mine.py --fast'"),
            ("$HOME/a b", "'$HOME/a b'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn commands_name_the_subject_and_its_traces() {
        let own = Invocation::adapter("python3 mine.py").with("--adapter-timeout", "60");
        let own = own.on(Path::new("my traces"));
        assert_eq!(
            own.verify(),
            "cargo xtask verify --adapter 'python3 mine.py' --adapter-timeout 60 \
             --golden 'my traces'"
        );
        assert_eq!(own.repro(), "cargo xtask repro --golden 'my traces'");
        assert_eq!(Invocation::backend("cpu").verify(), "cargo xtask verify --backend cpu");
        let cpu = Invocation::backend("cpu-2-threads");
        assert_eq!(cpu.repro(), "cargo xtask repro");
        assert_eq!(cpu.with_unit_test("cpu").repro(), "cargo xtask repro --backend cpu");
    }
}
