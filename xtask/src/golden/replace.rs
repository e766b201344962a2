//! Puts a whole directory in the place of another, so that one of them is there at every moment.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Held by the one recording that may run in this work tree.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(scratch: &Path) -> Result<Self> {
        let path = scratch.join("lock");
        let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!("only one recording may run at a time, {} is held", path.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} cannot be locked", path.display()))
            }
        }
    }
}

/// A hidden neighbour of `directory` that belongs to this process: renaming stays in one file system.
pub(super) fn beside(directory: &Path, role: &str) -> PathBuf {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    directory.with_file_name(format!(".{name}.{role}-{}", std::process::id()))
}

/// Removes what interrupted recordings left, after putting back a directory that was moved away.
pub(super) fn clean(directory: &Path) -> Result<()> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(entries) = fs::read_dir(parent) else { return Ok(()) };
    let mut left: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    left.retain(|path| {
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        ["new-", "old-"].iter().any(|role| own.starts_with(&format!(".{name}.{role}")))
    });
    left.sort();
    let is_old = |path: &&PathBuf| path.to_string_lossy().contains(".old-");
    if !directory.exists()
        && let Some(old) = left.iter().find(is_old)
    {
        fs::rename(old, directory)
            .with_context(|| format!("{} cannot be put back", old.display()))?;
    }
    left.iter().filter(|path| path.exists()).try_for_each(|path| remove(path))
}

/// Puts `new` in the place of `directory`; what was there is removed.
pub(super) fn exchange(new: &Path, directory: &Path) -> Result<()> {
    let what = || format!("{} cannot take the place of {}", new.display(), directory.display());
    if !directory.exists() {
        return fs::rename(new, directory).with_context(what);
    }
    if exchange_at_once(new, directory).is_err() {
        // Not every file system can do that. `clean` puts the old one back after an interruption.
        let old = beside(directory, "old");
        fs::rename(directory, &old).with_context(what)?;
        fs::rename(new, directory).with_context(what)?;
        sync(directory);
        return remove(&old);
    }
    sync(directory);
    remove(new)
}

#[cfg(target_os = "linux")]
fn exchange_at_once(new: &Path, directory: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, new, CWD, directory, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange_at_once(_new: &Path, _directory: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Removes a directory, which need not be there.
pub(super) fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)
            .with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

/// The renaming outlives a loss of power where the system lets a directory be synced.
fn sync(directory: &Path) {
    if let Some(parent) = directory.parent() {
        // Best effort: the names are consistent either way.
        let _ = File::open(parent).and_then(|parent| parent.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(path: &Path, text: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("manifest.json"), text).unwrap();
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path.join("manifest.json")).unwrap()
    }

    #[test]
    fn the_new_directory_takes_the_place_of_the_old_one() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("v1");
        let new = beside(&directory, "new");
        filled(&new, "first");
        exchange(&new, &directory).unwrap();
        assert_eq!(text(&directory), "first");
        filled(&new, "second");
        exchange(&new, &directory).unwrap();
        assert_eq!(text(&directory), "second");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_an_interruption_left_is_put_back_or_removed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("v1");
        filled(&parent.path().join(".v1.old-17"), "old");
        filled(&parent.path().join(".v1.new-17"), "new");
        filled(&parent.path().join(".v1.new-17.18"), "half");
        filled(&parent.path().join("other"), "other");
        clean(&directory).unwrap();
        assert_eq!(text(&directory), "old");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }

    #[test]
    fn two_recordings_do_not_run_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let held = Lock::take(scratch.path()).unwrap();
        let refused = Lock::take(scratch.path()).unwrap_err().to_string();
        assert!(refused.starts_with("only one recording may run at a time"), "{refused}");
        drop(held);
        Lock::take(scratch.path()).unwrap();
    }
}
