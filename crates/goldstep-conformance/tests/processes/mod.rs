//! What became of processes.

use std::time::{Duration, Instant};

/// Whether the process has ended, within a second.
pub(crate) fn is_gone(pid: &str) -> bool {
    let alive = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let check = std::process::Command::new("kill").args(["-0", pid]).output();
        check.is_ok_and(|output| output.status.success()) && !state.contains(") Z ")
    };
    let begin = Instant::now();
    while alive() && begin.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    !alive()
}
