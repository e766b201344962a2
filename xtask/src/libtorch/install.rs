//! Makes the folder of libtorch: download, check, prune, and one rename at the end.
//!
//! Everything happens in a folder beside the final one, under a lock, so that an interruption
//! leaves nothing half-installed and two runs at once make it once. What an interrupted run left is
//! removed by the next one.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::wheels::{KEPT_BYTES, TAGS, WHEELS, Wheel, place, requirements};
use super::{REMEDY, VERSION};

/// Names and sizes of the libraries, written last: a folder with these files is whole.
const RECORD: &str = "libraries.txt";

/// Makes `folder` a libtorch, unless it is one.
pub(super) fn provide(folder: &Path) -> Result<()> {
    if is_whole(folder) {
        return Ok(());
    }
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "no libtorch is pinned for {} on {}: {REMEDY}",
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let parent = folder.parent().context("libtorch's folder must have a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("{} must be writable", parent.display()))?;
    let _lock = lock(&parent.join("lock"))?;
    if is_whole(folder) {
        return Ok(());
    }
    let work = parent.join("unfinished");
    remove(&work)?;
    let made = make(&work, folder);
    // Whatever happened: no gigabyte stays behind.
    let removed = remove(&work);
    made.with_context(|| format!("libtorch {VERSION} could not be provided; {REMEDY}"))?;
    removed
}

fn make(work: &Path, folder: &Path) -> Result<()> {
    let wheels = work.join("wheels");
    fs::create_dir_all(&wheels).context("a folder for the wheels")?;
    check_space(work)?;
    eprintln!(
        "libtorch {VERSION}: {} MB to download, {} MB to keep in {}",
        WHEELS.iter().map(|wheel| wheel.bytes).sum::<u64>() / 1_000_000,
        KEPT_BYTES / 1_000_000,
        folder.display()
    );
    download(work, &wheels)?;
    for wheel in &WHEELS {
        check(&wheels.join(wheel.file), wheel)?;
    }
    let tree = work.join("tree");
    let bar = bar("unpacking", KEPT_BYTES);
    for wheel in &WHEELS {
        unpack(&wheels.join(wheel.file), &tree, &bar)?;
    }
    bar.finish_and_clear();
    // tch links with -ltorch; libtorch.so itself is an empty library that needs libtorch_cuda.
    fs::write(tree.join("lib/libtorch.so"), "INPUT(libtorch_cpu.so)\n").context("libtorch.so")?;
    fs::write(tree.join("build-version"), format!("{VERSION}\n")).context("build-version")?;
    fs::write(tree.join(RECORD), record(&tree)?).context(RECORD)?;
    ensure!(is_whole(&tree), "the wheels must hold the libraries of libtorch, got others");
    if folder.exists() {
        fs::rename(folder, work.join("old")).context("the incomplete libtorch must be movable")?;
    }
    fs::rename(&tree, folder).with_context(|| format!("{} must be writable", folder.display()))
}

/// Refuses to begin what cannot end: pip's own message is lost when the disk is full.
fn check_space(work: &Path) -> Result<()> {
    let disk = rustix::fs::statvfs(work).context("the free space of the target folder")?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // pip copies each wheel from its temporary folder.
    let largest = WHEELS.iter().map(|wheel| wheel.bytes).max().unwrap_or(0);
    let needed = WHEELS.iter().map(|wheel| wheel.bytes).sum::<u64>() + largest.max(KEPT_BYTES);
    ensure!(
        free >= needed,
        "no space left for libtorch: {} must have {} MB free, got {} MB",
        work.display(),
        needed / 1_000_000,
        free / 1_000_000
    );
    Ok(())
}

/// Waits until no other run makes libtorch.
fn lock(path: &Path) -> Result<File> {
    let file =
        File::create(path).with_context(|| format!("{} must be writable", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("libtorch: another run provides it, waiting");
        file.lock().context("the lock of libtorch's folder")?;
    }
    Ok(file)
}

/// One line per library: name, size.
fn record(tree: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(tree.join("lib")).context("lib")? {
        let entry = entry.context("lib")?;
        let size = entry.metadata().context("lib")?.len();
        lines.push(format!("{} {size}\n", entry.file_name().display()));
    }
    lines.sort();
    Ok(lines.concat())
}

/// Whether the folder is a libtorch of the right version whose libraries have the recorded sizes.
fn is_whole(folder: &Path) -> bool {
    super::version_of(folder).as_deref() == Some(VERSION)
        && fs::read_to_string(folder.join(RECORD))
            .is_ok_and(|recorded| record(folder).is_ok_and(|found| found == recorded))
        && folder.join("lib/libtorch_cpu.so").is_file()
        && folder.join("include/torch").is_dir()
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} must be removable", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Has pip fetch the wheels: its configuration, index and cache are the user's.
fn download(work: &Path, wheels: &Path) -> Result<()> {
    let python = python()?;
    let list = work.join("requirements.txt");
    fs::write(&list, requirements()).context("requirements.txt")?;
    // pip keeps what it is fetching in the temporary folder: its size is the progress.
    let temporary = work.join("temporary");
    fs::create_dir_all(&temporary).context("a folder for pip")?;
    let messages = work.join("pip.log");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    pip.args(TAGS).arg("--requirement").arg(&list).arg("--dest").arg(wheels);
    pip.args(["--progress-bar", "off", "--disable-pip-version-check"]);
    pip.env("TMPDIR", &temporary).stdin(Stdio::null());
    let log = File::create(&messages).context("pip.log")?;
    pip.stdout(log.try_clone().context("pip.log")?).stderr(log);
    let mut child = pip.spawn().with_context(|| format!("{python} must run"))?;
    let bar = bar("downloading", WHEELS.iter().map(|wheel| wheel.bytes).sum());
    let status = loop {
        if let Some(status) = child.try_wait().context("pip must be waited for")? {
            break status;
        }
        bar.set_position(size_of(work));
        std::thread::sleep(Duration::from_millis(200));
    };
    bar.finish_and_clear();
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(&messages).unwrap_or_default();
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("ERROR") || line.contains("No space left"))
        .collect();
    let reason = match errors.as_slice() {
        [] => text.lines().last().unwrap_or("no message").to_owned(),
        errors => errors.join("; "),
    };
    bail!("pip must fetch the wheels of libtorch, got {status}: {reason}")
}

fn python() -> Result<String> {
    for program in ["python3", "python"] {
        let asked = Command::new(program).args(["-m", "pip", "--version"]).output();
        if asked.is_ok_and(|output| output.status.success()) {
            return Ok(program.to_owned());
        }
    }
    bail!("python3 with pip must be there to fetch the wheels of libtorch, got none")
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The same check as pip's, so that a truncated or exchanged file is found whoever fetched it.
fn check(path: &Path, wheel: &Wheel) -> Result<()> {
    let file = File::open(path).with_context(|| format!("{} must be there", wheel.file))?;
    let bytes = file.metadata().context("the size of a wheel")?.len();
    ensure!(bytes == wheel.bytes, "{} must have {} bytes, got {bytes}", wheel.file, wheel.bytes);
    let mut hasher = Sha256::new();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer).with_context(|| wheel.file.to_owned())?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == wheel.sha256, "{} must have sha256 {}, got {found}", wheel.file, wheel.sha256);
    Ok(())
}

fn unpack(path: &Path, tree: &Path, bar: &ProgressBar) -> Result<()> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let file = File::open(path).with_context(|| name.clone())?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).with_context(|| name.clone())?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).with_context(|| name.clone())?;
        let inside = entry.name().with_context(|| name.clone())?.into_owned();
        let Some(target) = place(&inside).map(|target| tree.join(target)) else { continue };
        write(&mut entry, &target, bar).with_context(|| format!("{inside} must be unpacked"))?;
    }
    Ok(())
}

fn write(from: &mut impl Read, target: &PathBuf, bar: &ProgressBar) -> Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut to = BufWriter::with_capacity(1 << 20, File::create(target)?);
    // The checksum of the archive is compared at the end of each entry.
    std::io::copy(&mut bar.wrap_read(from), &mut to)?;
    to.flush()?;
    Ok(())
}

/// A bar on a terminal; nothing in a pipe, where the line before it has said what happens.
fn bar(what: &'static str, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = "libtorch: {msg} {wide_bar} {bytes} of {total_bytes}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like an installed libtorch.
    fn installed() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("build-version", VERSION),
            ("lib/libtorch_cpu.so", "library"),
            ("include/torch/x.h", ""),
        ] {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        fs::write(folder.path().join(RECORD), record(folder.path()).unwrap()).unwrap();
        folder
    }

    #[test]
    fn a_damaged_folder_is_not_whole() {
        let folder = installed();
        assert!(is_whole(folder.path()));
        fs::write(folder.path().join("lib/libtorch_cpu.so"), "lib").unwrap();
        assert!(!is_whole(folder.path()));
        let folder = installed();
        fs::write(folder.path().join("build-version"), "2.5.1").unwrap();
        assert!(!is_whole(folder.path()));
        assert!(!is_whole(Path::new("/nowhere")));
    }

    #[test]
    fn a_truncated_or_exchanged_wheel_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.whl");
        fs::write(&path, "truncat").unwrap();
        let sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
        let wheel = Wheel { requirement: "w", file: "w.whl", sha256, bytes: 9 };
        let message = check(&path, &wheel).unwrap_err().to_string();
        assert_eq!(message, "w.whl must have 9 bytes, got 7");
        fs::write(&path, "exchanged").unwrap();
        let message = check(&path, &wheel).unwrap_err().to_string();
        assert!(message.starts_with("w.whl must have sha256 0000"), "{message}");
    }

    #[test]
    fn the_lock_is_exclusive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path).unwrap();
        assert!(File::create(&path).unwrap().try_lock().is_err());
        drop(held);
        assert!(File::create(&path).unwrap().try_lock().is_ok());
    }

    #[test]
    fn leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("unfinished");
        fs::create_dir_all(work.join("tree")).unwrap();
        remove(&work).unwrap();
        remove(&work).unwrap();
        assert!(!work.exists());
    }
}
