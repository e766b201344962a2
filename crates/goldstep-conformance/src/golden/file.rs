//! Files of a golden directory, read whole, with the sums that the manifest promises.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::{GoldenError, Place, shortened};

/// The largest golden file that is read.
const MOST_BYTES: u64 = 64 << 20;

/// One file, read whole.
#[derive(Debug)]
pub(super) struct GoldenFile {
    path: PathBuf,
    text: String,
}

/// One line of a file of records.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonLine<'a> {
    path: &'a Path,
    number: usize,
    text: &'a str,
}

impl GoldenFile {
    /// Reads a regular file of at most 64 MiB of UTF-8.
    pub(super) fn read(path: PathBuf) -> Result<Self, GoldenError> {
        let wrong = |rule: &str, got: String| GoldenError::File {
            path: path.clone(),
            rule: rule.to_owned(),
            got,
        };
        let unreadable = |error: std::io::Error| wrong("a readable file", error.to_string());
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "a directory" } else { "a special file" };
            return Err(wrong("a readable file", kind.to_owned()));
        }
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(unreadable)?;
        // One byte more than allowed shows that there is more, whatever the metadata said.
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(wrong("at most 64 MiB long", format!("{} bytes", metadata.len())));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            wrong("UTF-8", format!("another byte at offset {}", error.utf8_error().valid_up_to()))
        })?;
        Ok(Self { path, text })
    }

    /// As [`read`](Self::read), and proves length and sha256.
    pub(super) fn read_proven(
        path: PathBuf,
        bytes: u64,
        sha256: &str,
    ) -> Result<Self, GoldenError> {
        let file = Self::read(path)?;
        if file.text.len() as u64 != bytes {
            let rule = format!("{bytes} bytes long, as the manifest says");
            let got = format!("{} bytes", file.text.len());
            return Err(GoldenError::File { path: file.path, rule, got });
        }
        let got = hexadecimal(&Sha256::digest(file.text.as_bytes()));
        if got != sha256 {
            let (place, expected) = (String::new(), shortened(sha256));
            return Err(GoldenError::Sum { path: file.path, place, expected, got });
        }
        Ok(file)
    }

    /// A text that came from elsewhere; `name` stands for its file in errors.
    pub(super) fn from_text(name: &Path, text: &str) -> Self {
        Self { path: name.to_owned(), text: text.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file as one record.
    pub(super) fn whole(&self) -> JsonLine<'_> {
        JsonLine { path: &self.path, number: 1, text: &self.text }
    }

    /// The records of a file that holds one a line; the last line ends as well.
    pub(super) fn lines(&self) -> Result<Vec<JsonLine<'_>>, GoldenError> {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            return Err(GoldenError::File {
                path: self.path.clone(),
                rule: "a file whose last line ends".to_owned(),
                got: format!("{} bytes without that end", self.text.len()),
            });
        }
        let line = |(index, text)| JsonLine { path: &self.path, number: index + 1, text };
        Ok(self.text.lines().enumerate().map(line).collect())
    }
}

impl<'a> JsonLine<'a> {
    pub(super) const fn place(self) -> Place<'a> {
        Place { path: self.path, line: self.number }
    }

    /// Whether this is a JSON Schema, not a record, which may not name one but says its own format.
    pub(super) fn is_schema(self) -> bool {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "$schema")]
            _schema: String,
            format: Option<IgnoredAny>,
            steps: Option<IgnoredAny>,
        }
        let is_record = |head: &Head| head.format.is_some() || head.steps.is_some();
        let head = || serde_json::from_str::<Head>(self.text);
        self.text.contains("\"$schema\"") && head().is_ok_and(|head| !is_record(&head))
    }

    /// The record, which names its format and version; another version is told from a bad record.
    pub(super) fn versioned<T: DeserializeOwned>(
        self,
        expected: &'static str,
        kind: &'static str,
    ) -> Result<T, GoldenError> {
        #[derive(Deserialize)]
        struct Head {
            format: Value,
        }
        // Every record begins with its format, so that the common case reads it only once.
        let head = format!("{{\"format\":\"{expected}\"");
        if !self.text.starts_with(&head) {
            let got = serde_json::from_str::<Head>(self.text).map(|head| head.format);
            match got {
                Ok(Value::String(got)) if got == expected => {}
                Ok(got) => {
                    let (path, line) = (self.path.to_owned(), self.number);
                    let got = shortened(&got.to_string());
                    return Err(GoldenError::Version { path, line, expected, got });
                }
                // The parser's message below says more.
                Err(_) => {}
            }
        }
        self.parse(kind)
    }

    /// The record; `format` names what it has to be.
    pub(super) fn parse<T: DeserializeOwned>(self, format: &'static str) -> Result<T, GoldenError> {
        serde_json::from_str(self.text).map_err(|error| GoldenError::Json {
            path: self.path.to_owned(),
            line: self.number + error.line().saturating_sub(1),
            column: error.column(),
            format,
            got: shortened(without_position(&error.to_string())),
        })
    }
}

/// The message without the ` at line 1 column 2` that serde_json appends.
fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(message, _)| message)
}

/// Lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
