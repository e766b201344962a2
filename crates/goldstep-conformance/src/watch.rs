//! Runs that do not come back.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who is told of a run that takes longer than any run should. In process nothing can end an endless
/// loop; what is told may end the process.
pub struct Watch {
    /// The time that a run may take.
    pub limit: Duration,
    /// Is told the name of the first run that takes longer, once for each implementation.
    pub tell: Box<dyn Fn(&str) + Send + Sync>,
}

/// What each thread is busy with.
pub(crate) struct Running(Vec<Mutex<Option<Since>>>);

/// A run, as family and position, and when it began.
type Since = ((usize, usize), Instant);

impl Running {
    pub(crate) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Mutex::new(None)).collect())
    }

    /// Notes that a thread begins a run.
    pub(crate) fn begin(&self, thread: usize, run: (usize, usize)) {
        let mut slot = self.0[thread].lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some((run, Instant::now()));
    }

    /// Notes that a thread is done.
    pub(crate) fn end(&self, thread: usize) {
        *self.0[thread].lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Watches until all senders of `ended` are gone.
    pub(crate) fn watch(
        &self,
        watch: &Watch,
        ended: &Receiver<()>,
        name: impl Fn((usize, usize)) -> String,
    ) {
        let mut told = false;
        while ended.recv_timeout(watch.limit / 8) == Err(RecvTimeoutError::Timeout) {
            let late = self.0.iter().find_map(|slot| {
                let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                slot.filter(|(_, start)| start.elapsed() > watch.limit)
            });
            if let (Some((run, _)), false) = (late, told) {
                (watch.tell)(&name(run));
                told = true;
            }
        }
    }
}
