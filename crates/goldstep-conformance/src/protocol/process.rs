//! A running adapter: its three pipes, waited for together, and its process group.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::command::{AdapterCommand, Limits, Transcript};
use crate::Failure;

/// Bytes moved by one system call.
const CHUNK: usize = 1 << 16;

/// How long a process may take to end after it has closed its pipes.
const GRACE: Duration = Duration::from_millis(500);

/// Lines of standard error that a failure shows.
const SHOWN_LINES: usize = 12;

/// The process groups of all adapters that run.
static GROUPS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Ends every adapter that this process has started, with everything that it has started itself.
///
/// An adapter is in a process group of its own, which an interruption at the terminal does not
/// reach: whoever handles one calls this and exits.
pub fn end_adapters() {
    groups().iter().for_each(|id| kill_group(*id));
}

/// A child process and what came from it. Killed with its process group when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Whether its exit status was taken.
    reaped: bool,
    limits: Limits,
    transcript: Option<Transcript>,
    /// `None` once the adapter has closed it.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    /// Bytes of standard output; those before `consumed` belong to lines that were returned.
    incoming: Vec<u8>,
    consumed: usize,
    /// The end of standard error.
    errors: Vec<u8>,
    chunk: Box<[u8]>,
}

/// What can be read. Whether something can be written is found by trying.
struct Ready {
    stdout: bool,
    stderr: bool,
}

impl Process {
    pub(super) fn spawn(command: &AdapterCommand) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Crash {
            status: format!("no process ({command}: {error})"),
            stderr: String::new(),
        };
        let mut child = command.to_std().spawn().map_err(failed)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(failed(io::Error::other("pipes are missing")));
        };
        // A write to an adapter that does not read must not block beyond its time.
        rustix::io::ioctl_fionbio(&stdin, true).map_err(|error| failed(error.into()))?;
        groups().insert(child.id());
        Ok(Self {
            child,
            reaped: false,
            limits: *command.limits(),
            transcript: command.transcript().cloned(),
            stdin: Some(stdin),
            stdout,
            stderr,
            incoming: Vec::new(),
            consumed: 0,
            errors: Vec::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
        })
    }

    /// The bytes of a line that [`exchange`](Self::exchange) returned; valid until its next call.
    pub(super) fn line(&self, line: Range<usize>) -> &[u8] {
        &self.incoming[line]
    }

    /// Whether something came that no line accounted for.
    pub(super) fn has_unread(&mut self) -> bool {
        if self.consumed == self.incoming.len() && self.wait(false, Instant::now()).stdout {
            // An end of the stream is found by the next exchange, with its status.
            let _end = self.receive();
        }
        self.consumed < self.incoming.len()
    }

    /// Writes `outgoing`, which may be nothing, and waits for the next line, the answer to `message`,
    /// within `time` for both.
    pub(super) fn exchange(
        &mut self,
        outgoing: &[u8],
        message: &str,
        time: Duration,
    ) -> Result<Range<usize>, Failure> {
        self.incoming.drain(..self.consumed);
        self.consumed = 0;
        let deadline = Instant::now() + time;
        if let Some(transcript) = &self.transcript {
            transcript.add(false, outgoing);
        }
        let mut written = 0;
        let mut searched = 0;
        loop {
            if let Some(stdin) = self.stdin.as_mut().filter(|_| written < outgoing.len()) {
                match stdin.write(&outgoing[written..]) {
                    Ok(bytes) => written += bytes,
                    Err(error) if is_temporary(&error) => {}
                    // It may have answered before it closed its end: read on.
                    Err(_) => self.stdin = None,
                }
            }
            let pending = self.stdin.is_some() && written < outgoing.len();
            if !pending && let Some(line) = self.take_line(&mut searched) {
                if let Some(transcript) = &self.transcript {
                    transcript.add(true, &self.incoming[line.clone()]);
                }
                return Ok(line);
            }
            let ready = self.wait(pending, deadline);
            // What is here already counts, should this process itself have been stopped meanwhile;
            // standard error does not, or a program that never ceases to complain would have for ever.
            if !ready.stdout && Instant::now() >= deadline {
                return Err(self.time_out(message, time));
            }
            if ready.stderr {
                self.receive_errors();
            }
            if ready.stdout && self.receive()? == 0 {
                return Err(self.crash(message));
            }
        }
    }

    /// Marks everything received so far as read.
    fn take_line(&mut self, searched: &mut usize) -> Option<Range<usize>> {
        let found = self.incoming[*searched..].iter().position(|byte| *byte == b'\n');
        match found {
            Some(length) => {
                let end = *searched + length;
                self.consumed = end + 1;
                Some(0..end)
            }
            None => {
                *searched = self.incoming.len();
                None
            }
        }
    }

    /// Waits until one of the pipes is ready, a signal comes, or the deadline.
    fn wait(&self, writing: bool, deadline: Instant) -> Ready {
        let input = self.stdin.as_ref().filter(|_| writing).map(AsFd::as_fd);
        let errors = self.stderr.as_ref().map(AsFd::as_fd);
        let mut fds = vec![PollFd::new(&self.stdout, PollFlags::IN)];
        fds.extend(errors.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(input.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        // An interruption by a signal leaves nothing ready: the caller looks again.
        let _number = poll(&mut fds, Some(&timeout));
        let is_ready = |position: usize| !fds[position].revents().is_empty();
        Ready { stdout: is_ready(0), stderr: errors.is_some() && is_ready(1) }
    }

    /// Reads once from standard output; 0 at its end.
    fn receive(&mut self) -> Result<usize, Failure> {
        let read = match self.stdout.read(&mut self.chunk) {
            Ok(read) => read,
            Err(error) if is_temporary(&error) => return Ok(1),
            Err(_) => 0,
        };
        let length = self.incoming.len() - self.consumed;
        let has_line = || self.chunk[..read].contains(&b'\n');
        let limit = self.limits.line_bytes;
        // While a message is still being written lines gather unread: those count together.
        if length + read > limit && (!has_line() || length > limit) {
            return Err(self.fault(format!("a line must have at most {limit} bytes, got more")));
        }
        // Doubled, but never far beyond the limit.
        if self.incoming.capacity() - self.incoming.len() < read {
            let wanted = (2 * self.incoming.len()).min(self.limits.line_bytes + CHUNK);
            self.incoming.reserve_exact(wanted.saturating_sub(self.incoming.len()).max(read));
        }
        self.incoming.extend_from_slice(&self.chunk[..read]);
        Ok(read)
    }

    /// Reads once from standard error and keeps its end.
    fn receive_errors(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        match stderr.read(&mut self.chunk) {
            Ok(0) => self.stderr = None,
            Ok(read) => {
                self.errors.extend_from_slice(&self.chunk[..read]);
                let excess = self.errors.len().saturating_sub(self.limits.stderr_bytes);
                self.errors.drain(..excess);
            }
            Err(error) if is_temporary(&error) => {}
            Err(_) => self.stderr = None,
        }
    }

    /// A protocol fault, with the end of standard error.
    pub(super) fn fault(&mut self, reason: impl Into<String>) -> Failure {
        let mut reason = reason.into();
        let stderr = self.last_errors();
        if !stderr.is_empty() {
            reason.push_str("; standard error: ");
            reason.push_str(&stderr);
        }
        Failure::Protocol { reason }
    }

    fn time_out(&mut self, message: &str, time: Duration) -> Failure {
        let (message, seconds) = (message.to_owned(), time.as_secs_f64());
        Failure::TimeOut { message, seconds, stderr: self.last_errors() }
    }

    /// The stream has ended in the place of an answer to `message`: how the process did.
    fn crash(&mut self, message: &str) -> Failure {
        let status = if self.has_exited_within(GRACE) {
            match self.reap() {
                Ok(status) => status.to_string(),
                Err(error) => format!("an unknown status ({error})"),
            }
        } else {
            "standard output closed while the process ran on".to_owned()
        };
        Failure::Crash { status: format!("{status} on {message}"), stderr: self.last_errors() }
    }

    /// The last lines of standard error, what has not been read yet included.
    fn last_errors(&mut self) -> String {
        // Bounded, since a program may write faster than this reads.
        for _ in 0..64 {
            if !self.wait(false, Instant::now()).stderr {
                break;
            }
            self.receive_errors();
        }
        let text = String::from_utf8_lossy(&self.errors);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    /// Whether the process ends within `time`. It is not reaped, so that its number, which is also
    /// that of its group, stays taken.
    fn has_exited_within(&self, time: Duration) -> bool {
        let Some(pid) = pid(self.child.id()) else { return false };
        let deadline = Instant::now() + time;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let mut pause = Duration::from_micros(50);
        loop {
            match waitid(WaitId::Pid(pid), options) {
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(Duration::from_millis(5));
                }
                Ok(Some(_)) => return true,
                _ => return false,
            }
        }
    }

    /// Kills the group and takes the exit status of its leader.
    ///
    /// # Errors
    /// A leader that does not end: one of another user, say, which may not be killed.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        // Before the leader is reaped: afterwards its number might belong to something else.
        let mut groups = groups();
        kill_group(self.child.id());
        // It may have left its group.
        let _gone = self.child.kill();
        groups.remove(&self.child.id());
        drop(groups);
        self.reaped = true;
        // What may not be killed can still find the end of its input.
        self.stdin = None;
        if !self.has_exited_within(GRACE) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
        }
        self.child.wait()
    }

    /// Asks the adapter to stop and gives it a moment; whether it did. Drop ends it in any case.
    pub(super) fn stop(&mut self, time: Duration) -> bool {
        if let Some(mut stdin) = self.stdin.take() {
            let _closed = stdin.write(b"{\"command\":\"stop\"}\n");
        }
        self.has_exited_within(time)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            let _status = self.reap();
        }
    }
}

fn groups() -> MutexGuard<'static, BTreeSet<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

fn kill_group(id: u32) {
    if let Some(pid) = pid(id) {
        // An error means that nothing of the group is left, or that none of it may be killed.
        let _gone = kill_process_group(pid, Signal::KILL);
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
