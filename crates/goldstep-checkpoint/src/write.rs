//! Writing: the header, the tensors, and a file that is whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use goldstep_core::Values;
use serde_json::{Map, json};

use crate::CheckpointError;
use crate::document::{CHECKSUM_KEY, Document, KEY, checksum_text};
use crate::header::{LONGEST_HEADER, dtype_name};
use crate::values::for_each_chunk;

/// A tensor on its way into a file.
pub(crate) struct Tensor<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: &'a Values,
}

/// Writes header and tensors. `tensors` come in the order of their bytes: wider types first, so that
/// each is aligned to its size in the file.
pub(crate) fn write(
    writer: &mut impl Write,
    document: &Document,
    tensors: &[Tensor<'_>],
) -> Result<(), CheckpointError> {
    let io = |source| CheckpointError::io("write", "checkpoint", source);
    let json_error = |error: serde_json::Error| {
        CheckpointError::header("metadata goldstep", "be JSON", error.to_string())
    };
    let text = serde_json::to_string(document).map_err(json_error)?;
    let sum = checksum_text(crc32fast::hash(text.as_bytes()));
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({KEY: text, CHECKSUM_KEY: sum}));
    let mut end = 0;
    for tensor in tensors {
        let (first, dtype) = (end, tensor.values.dtype());
        end += tensor.values.len() * dtype.bytes();
        let entry = json!({
            "dtype": dtype_name(dtype), "shape": tensor.shape, "data_offsets": [first, end],
        });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header).map_err(json_error)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = u64::try_from(header.len()).unwrap_or(u64::MAX);
    if length > LONGEST_HEADER {
        // No reader would take it.
        let rule = format!("be at most {LONGEST_HEADER} bytes");
        return Err(CheckpointError::header("length", rule, length.to_string()));
    }
    writer.write_all(&length.to_le_bytes()).map_err(io)?;
    writer.write_all(&header).map_err(io)?;
    for tensor in tensors {
        for_each_chunk(tensor.values, |bytes| writer.write_all(bytes)).map_err(io)?;
    }
    Ok(())
}

/// Writes a file under a temporary name beside `path`, flushes it to the disk and renames it.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let io = |operation| move |source| CheckpointError::io(operation, "checkpoint", source);
    let (temporary, mut file) = create_beside(path).map_err(io("create"))?;
    let written = write(&mut file).and_then(|()| {
        file.sync_all().map_err(io("flush"))?;
        drop(file);
        fs::rename(&temporary, path).map_err(io("replace"))?;
        sync_directory(path);
        Ok(())
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_string_lossy();
    loop {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (temporary, file)),
        }
    }
}

/// Makes the renaming itself survive a power cut, where directories can be flushed. The file is in its
/// place already, so that a file system that cannot is no failure.
fn sync_directory(path: &Path) {
    if cfg!(unix) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let _ = File::open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all());
    }
}
