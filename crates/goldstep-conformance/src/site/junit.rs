//! JUnit XML, which every CI reads.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Dossier, Entry, Standing};
use crate::report::stale;
use crate::report::standing::{needs, skipped_by_need};
use crate::run::FamilyReport;

/// A suite per implementation, a test per family, and one for each reason why a run fails that
/// belongs to no family: a file without a failure comes from a command that succeeded.
pub(super) fn junit(dossier: &Dossier<'_>) -> Report {
    let mut junit = Report::new("goldstep");
    for entry in &dossier.entries {
        let report = entry.report;
        let mut suite = TestSuite::new(report.name.clone());
        suite.set_time(report.elapsed);
        let families = report.families.iter().map(|one| (one.id.clone(), family(entry, one)));
        for (name, status) in families.chain(beside_families(entry)) {
            let mut case = TestCase::new(name, status);
            case.set_classname(report.name.clone());
            case.set_time(Duration::ZERO);
            suite.add_test_case(case);
        }
        junit.add_test_suite(suite);
    }
    junit
}

fn family(entry: &Entry<'_>, family: &FamilyReport) -> TestCaseStatus {
    let standing = Standing::of(Some(family));
    match standing {
        Standing::Agrees => TestCaseStatus::success(),
        Standing::Skipped | Standing::Absent => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(needs(&family.skipped));
            status
        }
        Standing::Differs | Standing::Broken => {
            let first = family.broken.first().map(|(_, failure)| failure.to_string());
            let without = first.unwrap_or_else(|| "not tried".to_owned());
            let (bad, all) = (family.differ.len(), family.chosen);
            let (kind, message) = match standing {
                Standing::Differs => {
                    (NonSuccessKind::Failure, format!("{bad} of {all} differ from tf.keras"))
                }
                _ if bad == 0 => (NonSuccessKind::Error, without),
                _ => (NonSuccessKind::Error, format!("{without}; {bad} of {all} differ")),
            };
            let blocks = entry
                .causes
                .iter()
                .filter(|cause| cause.parts.iter().any(|part| part.family == family.id))
                .map(|cause| cause.block(&entry.report.name, &entry.report.invocation));
            let mut status = failed(kind, message);
            status.set_description(blocks.collect::<Vec<_>>().join("\n"));
            status
        }
    }
}

/// What fails without a family: known differences that are none, faults between cases, nothing
/// judged at all.
fn beside_families(entry: &Entry<'_>) -> Vec<(String, TestCaseStatus)> {
    let report = entry.report;
    let mut tests = Vec::new();
    if !report.stale.is_empty() {
        let status = failed(NonSuccessKind::Failure, stale(report));
        tests.push(("known differences".to_owned(), status));
    }
    if !report.incidents.is_empty() {
        let status = failed(NonSuccessKind::Error, report.incidents.join("\n"));
        tests.push(("between cases".to_owned(), status));
    }
    let is_skipped = |one: &FamilyReport| {
        matches!(Standing::of(Some(one)), Standing::Skipped | Standing::Absent)
    };
    if report.families.iter().all(is_skipped) {
        let message = format!("nothing was judged: {}", needs(&skipped_by_need(report)));
        tests.push(("anything".to_owned(), failed(NonSuccessKind::Error, message)));
    }
    tests
}

fn failed(kind: NonSuccessKind, message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    status
}
