//! Everything that can be wrong with a directory of golden traces.

use std::path::PathBuf;

use thiserror::Error;

/// A golden file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// A file or directory that cannot be read as what it has to be.
    #[error("{} must be {rule}, got {got}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What it has to be.
        rule: String,
        /// What it was.
        got: String,
    },
    /// A file whose sha256 differs from the manifest's, or a series whose values do.
    #[error("{}{place} must have the sha256 {expected}, got {got}", path.display())]
    Sum {
        /// The file.
        path: PathBuf,
        /// Where in the file; empty for the whole of it.
        place: String,
        /// The sum that is promised.
        expected: String,
        /// The sum of what is there.
        got: String,
    },
    /// A record that is not JSON, lacks a field, or has one that the format does not know.
    #[error("{}:{line}:{column} must be a record of {format}, got {got}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The format and the kind of record.
        format: &'static str,
        /// What the parser says.
        got: String,
    },
    /// A format or version that this program does not know.
    #[error("{}:{line}: format must be {expected}, got {got}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The format that is known.
        expected: &'static str,
        /// What the file says.
        got: String,
    },
    /// A record that is well formed and contradicts itself or another one.
    #[error("{}:{line}: {subject} must {rule}, got {got}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        subject: String,
        /// What it has to fulfil.
        rule: String,
        /// What it was.
        got: String,
    },
}

/// Where a record stands, for the errors about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a std::path::Path,
    pub(super) line: usize,
}

impl Place<'_> {
    /// `subject` must `rule`, got `got`.
    pub(super) fn content(
        self,
        subject: impl Into<String>,
        rule: impl Into<String>,
        got: impl Into<String>,
    ) -> GoldenError {
        GoldenError::Content {
            path: self.path.to_owned(),
            line: self.line,
            subject: subject.into(),
            rule: rule.into(),
            got: got.into(),
        }
    }
}

/// The beginning of a text that may be long or come from a stranger.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 80;
    let text = text.escape_debug().to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
