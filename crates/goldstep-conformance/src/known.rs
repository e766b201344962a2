//! Differences that an implementation has on purpose: a list of what must differ.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::agreement::Quantity;
use crate::golden::{Family, Golden};

/// Where an implementation differs from tf.keras on purpose. An entry that agrees after all in
/// every run that it names is an error, so that the list cannot rot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDifference {
    /// The family.
    pub family: String,
    /// The id of the run; `None` for any run of the family.
    pub case: Option<String>,
    /// What differs.
    pub quantity: Quantity,
    /// Why.
    pub reason: String,
}

impl KnownDifference {
    /// Whether it is about a run that is there.
    #[must_use]
    pub fn names_a_run_of(&self, golden: &Golden) -> bool {
        let own = golden.families().iter().filter(|family| family.id == self.family);
        let named = |family: &Family| match &self.case {
            Some(case) => family.position(case).is_some(),
            None => !family.is_empty(),
        };
        own.into_iter().any(named)
    }
}

/// The known differences of an implementation, and which of them were seen.
#[derive(Debug)]
pub(crate) struct Register<'a> {
    entries: &'a [KnownDifference],
    seen: Vec<AtomicBool>,
}

/// The known differences of one run.
#[derive(Debug)]
pub struct Known<'a> {
    entries: Vec<(&'a KnownDifference, &'a AtomicBool)>,
}

impl<'a> Register<'a> {
    pub(crate) fn new(entries: &'a [KnownDifference]) -> Self {
        Self { entries, seen: entries.iter().map(|_| AtomicBool::new(false)).collect() }
    }

    /// The entries of one run.
    pub(crate) fn of(&self, family: &str, id: &str) -> Known<'_> {
        let matches = |entry: &&KnownDifference| {
            entry.family == family && entry.case.as_ref().is_none_or(|case| case == id)
        };
        let pairs = self.entries.iter().zip(&self.seen);
        Known { entries: pairs.filter(|(entry, _)| matches(entry)).collect() }
    }

    /// The entries that were not seen, of those that name a run of `golden`: other traces than the
    /// project's say nothing about the rest.
    pub(crate) fn stale(&self, golden: &Golden) -> Vec<&'a KnownDifference> {
        let pairs = self.entries.iter().zip(&self.seen);
        let unseen = pairs.filter(|(_, seen)| !seen.load(Ordering::Relaxed));
        unseen.map(|(entry, _)| entry).filter(|entry| entry.names_a_run_of(golden)).collect()
    }
}

impl Known<'_> {
    /// No known difference.
    #[must_use]
    pub const fn none() -> Self {
        Self { entries: Vec::new() }
    }

    /// Whether a difference of this quantity is on the list.
    pub(crate) fn covers(&self, quantity: Quantity) -> bool {
        self.entries.iter().any(|(entry, _)| entry.quantity == quantity)
    }

    /// Notes that it differed.
    pub(crate) fn seen(&self, quantity: Quantity) {
        for (entry, seen) in &self.entries {
            if entry.quantity == quantity {
                seen.store(true, Ordering::Relaxed);
            }
        }
    }
}
