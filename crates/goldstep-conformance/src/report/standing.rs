//! How a family came out, in one word.

use std::collections::BTreeMap;

use super::numbers::thousands;
use crate::run::{FamilyReport, Report};

/// Reasons that are named before they are only counted.
const MOST_REASONS: usize = 3;

/// How a family came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// What was judged agrees.
    Agrees,
    /// A run differs.
    Differs,
    /// A run has no usable answer.
    Broken,
    /// No run was judged: each needs what the implementation does not do. This is no pass.
    Skipped,
    /// No run was chosen.
    Absent,
}

impl Standing {
    pub(crate) fn of(family: Option<&FamilyReport>) -> Self {
        let Some(family) = family.filter(|family| family.chosen > 0) else { return Self::Absent };
        if !family.broken.is_empty() || family.given_up > 0 {
            Self::Broken
        } else if !family.differ.is_empty() {
            Self::Differs
        } else if skipped(family) == family.chosen {
            Self::Skipped
        } else {
            Self::Agrees
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::Broken => "no usable answer",
            Self::Skipped => "skipped",
            Self::Absent => "not judged",
        }
    }

    pub(crate) const fn is_bad(self) -> bool {
        matches!(self, Self::Differs | Self::Broken)
    }
}

/// Runs that were not tried.
pub(crate) fn skipped(family: &FamilyReport) -> usize {
    family.skipped.values().sum()
}

/// `needs ema`, or with counts where runs need different things.
pub(crate) fn needs<'a>(skipped: impl IntoIterator<Item = (&'a String, &'a usize)>) -> String {
    let mut reasons: Vec<(&String, &usize)> = skipped.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let one = reasons.len() == 1;
    let named = reasons.iter().take(MOST_REASONS).map(|(reason, count)| match one {
        true => (*reason).clone(),
        false => format!("{reason} ({})", thousands(**count)),
    });
    let named = named.collect::<Vec<_>>().join(", ");
    match reasons.len().saturating_sub(MOST_REASONS) {
        0 => format!("needs {named}"),
        more => format!("needs {named} and {more} more"),
    }
}

/// The families of which nothing was judged, those that need the same together, and what they need.
pub(crate) fn skipped_whole(report: &Report) -> Vec<(Vec<&str>, String)> {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    let whole = report.families.iter().filter(|one| Standing::of(Some(one)) == Standing::Skipped);
    for family in whole {
        let need = needs(&family.skipped);
        match groups.iter_mut().find(|(_, known)| *known == need) {
            Some((ids, _)) => ids.push(&family.id),
            None => groups.push((vec![&family.id], need)),
        }
    }
    groups
}

/// Skipped runs over all families, by what they need.
pub(crate) fn skipped_by_need(report: &Report) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for (reason, count) in report.families.iter().flat_map(|family| &family.skipped) {
        *reasons.entry(reason.clone()).or_default() += count;
    }
    reasons
}
