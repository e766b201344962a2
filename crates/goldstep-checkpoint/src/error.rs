//! Why a file could not be written, read or used.

use std::io;
use std::path::Path;

use goldstep_core::DType;
use thiserror::Error;

/// A checkpoint that cannot be written, read or used.
///
/// Nothing was loaded then, and a file that stood at the path of a failed save is still there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file, or what stands for it.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// Any other of these errors, of this file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<CheckpointError>,
    },
    /// The file is something else.
    #[error("file must be a Goldstep checkpoint in the safetensors format, got {got}")]
    Foreign {
        /// What it looks like.
        got: String,
    },
    /// The file was written in a format that this version does not know.
    #[error("checkpoint format must be {supported}, got {got}")]
    Version {
        /// The format that is known.
        supported: &'static str,
        /// The file's format.
        got: String,
    },
    /// The header contradicts itself or was damaged.
    #[error("{part} of the checkpoint's header must {rule}, got {got}")]
    Header {
        /// Which part.
        part: &'static str,
        /// What it has to fulfil.
        rule: String,
        /// What it was.
        got: String,
    },
    /// The file ends too early or too late.
    #[error("checkpoint must have {expected} bytes, got {got}")]
    Size {
        /// The size that its header gives.
        expected: u64,
        /// Its size.
        got: u64,
    },
    /// A tensor that the format demands is not there.
    #[error("tensor {name} must be in the checkpoint, got none of that name")]
    MissingTensor {
        /// Its name in the file.
        name: String,
    },
    /// A tensor that belongs to no parameter.
    #[error("tensor {name} must belong to a parameter of the checkpoint, got none that it does")]
    UnexpectedTensor {
        /// Its name in the file.
        name: String,
    },
    /// A tensor of another shape than its parameter's shape gives.
    #[error("tensor {name} must have shape {expected:?}, got {got:?}")]
    TensorShape {
        /// Its name in the file.
        name: String,
        /// The shape that follows from the parameter.
        expected: Vec<usize>,
        /// Its shape.
        got: Vec<usize>,
    },
    /// A tensor of a type that its parameter cannot have.
    #[error("tensor {name} must be of type {expected}, got {got}")]
    TensorDType {
        /// Its name in the file.
        name: String,
        /// The type or types allowed.
        expected: String,
        /// Its type.
        got: String,
    },
    /// A tensor whose place in the file is wrong: a gap, an overlap, too many or too few bytes.
    #[error("tensor {name} must lie in bytes {expected}, got {got}")]
    TensorRange {
        /// Its name in the file.
        name: String,
        /// Where it has to lie.
        expected: String,
        /// Where the header says it lies.
        got: String,
    },
    /// A tensor whose bytes are not those that were written.
    #[error("tensor {name} must have the CRC-32 {expected}, got {got}: its bytes are damaged")]
    TensorData {
        /// Its name in the file.
        name: String,
        /// The checksum in the header.
        expected: String,
        /// The checksum of the bytes.
        got: String,
    },
    /// Another number of parameters than the caller has.
    #[error("checkpoint must hold {expected} parameters, got {got}")]
    ParameterCount {
        /// How many the caller has.
        expected: usize,
        /// How many the checkpoint has.
        got: usize,
    },
    /// A parameter that differs from the caller's.
    #[error("{what} of parameter {name} in the checkpoint must be {expected}, got {got}")]
    Parameter {
        /// What differs: name, shape, type, weight decay or constraint.
        what: &'static str,
        /// The caller's name of it.
        name: String,
        /// What the caller has.
        expected: String,
        /// What the checkpoint has.
        got: String,
    },
    /// The values of the parameters were asked for, but only the optimizer was saved.
    #[error("checkpoint must hold the values of the parameters, got one that was saved without")]
    NoVariables,
    /// The learning rate was a schedule of the user's own, which no file can hold.
    #[error(
        "learning rate of the checkpoint must be given again, got a schedule of the user's own; \
         call with_learning_rate"
    )]
    CustomSchedule,
    /// The optimizer's own rules.
    #[error(transparent)]
    Optimizer(#[from] goldstep_core::Error),
}

impl CheckpointError {
    pub(crate) fn io(operation: &'static str, path: impl Into<String>, source: io::Error) -> Self {
        Self::Io { operation, path: path.into(), source }
    }

    /// The same error, with the name of the file.
    pub(crate) fn of_file(self, path: &Path) -> Self {
        let path = path.display().to_string();
        match self {
            Self::Io { operation, source, .. } => Self::Io { operation, path, source },
            other => Self::File { path, source: Box::new(other) },
        }
    }

    pub(crate) fn header(
        part: &'static str,
        rule: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self::Header { part, rule: rule.into(), got: got.into() }
    }

    pub(crate) fn dtype(name: &str, allowed: &[DType], got: impl Into<String>) -> Self {
        let expected: Vec<&str> = allowed.iter().map(|dtype| dtype.name()).collect();
        Self::TensorDType {
            name: name.to_owned(),
            expected: expected.join(" or "),
            got: got.into(),
        }
    }
}
