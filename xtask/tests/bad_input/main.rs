//! Command lines and golden files that cannot be used, given to the command as a user gives them:
//! a named test for each. Each ends with code 2 (3 for the lint) and names what, the rule and the
//! value; none panics, takes longer than [`LONGEST`] or asks for more than [`MEMORY_KIB`].

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod command_lines;
mod files;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial, run};

/// Far more than any of them takes, on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);
/// Address space of the command; most of it are the stacks of its threads.
const MEMORY_KIB: u64 = 4 << 20;

fn main() -> ExitCode {
    let lines = command_lines::COMMAND_LINES.iter().map(|(name, line, code, message)| {
        Trial::test(format!("command-lines/{name}"), move || {
            let arguments: Vec<&str> = line.split_whitespace().collect();
            refused(&arguments, *code, message)
        })
    });
    let files = files::FILES.iter().map(|(name, spoil, message)| {
        Trial::test(format!("files/{name}"), move || {
            let directory = tempfile::tempdir()?;
            files::write(directory.path());
            spoil(directory.path());
            refused(&verify(directory.path()), 2, message)
        })
    });
    let whole = Trial::test("files/untouched-ones-are-read", || {
        let directory = tempfile::tempdir()?;
        files::write(directory.path());
        let (code, said) = answer(&verify(directory.path()))?;
        // The expectation is invented: it is read, judged and contradicted.
        if code == Some(1) { Ok(()) } else { Err(format!("code {code:?}: {said}").into()) }
    });
    run(&Arguments::from_args(), lines.chain(files).chain([whole]).collect()).exit_code()
}

fn verify(directory: &Path) -> [&str; 5] {
    ["verify", "--backend", "reference", "--golden", directory.to_str().unwrap()]
}

fn refused(arguments: &[&str], code: i32, message: &str) -> Result<(), Failed> {
    let (got, said) = answer(arguments)?;
    if got == Some(code) && said.contains(message) && !said.contains("panicked") {
        Ok(())
    } else {
        Err(format!("expected code {code} and {message:?}, got code {got:?} and {said:?}").into())
    }
}

/// The exit code, and everything that was said.
fn answer(arguments: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // What is said fits into a pipe.
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > LONGEST {
            child.kill()?;
            return Err(format!("{arguments:?} must end within {LONGEST:?}, got none").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}
