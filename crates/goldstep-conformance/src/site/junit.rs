//! JUnit XML, which every CI reads.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Dossier, Standing};
use crate::report::standing::needs;

/// A suite per implementation, a test per family.
pub(super) fn junit(dossier: &Dossier<'_>) -> Report {
    let mut junit = Report::new("goldstep");
    for entry in &dossier.entries {
        let report = entry.report;
        let mut suite = TestSuite::new(report.name.clone());
        suite.set_time(report.elapsed);
        for family in &report.families {
            let standing = Standing::of(Some(family));
            let status = match standing {
                Standing::Agrees => TestCaseStatus::success(),
                Standing::Skipped | Standing::Absent => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(needs(&family.skipped));
                    status
                }
                Standing::Differs => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    let (bad, all) = (family.differ.len(), family.chosen);
                    status.set_message(format!("{bad} of {all} differ from tf.keras"));
                    let blocks = entry
                        .causes
                        .iter()
                        .filter(|cause| cause.parts.iter().any(|part| part.family == family.id))
                        .map(|cause| cause.block(&report.name, &report.invocation));
                    status.set_description(blocks.collect::<Vec<_>>().join("\n"));
                    status
                }
                Standing::Broken => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                    let first = family.broken.first().map(|(_, failure)| failure.to_string());
                    status.set_message(first.unwrap_or_else(|| "not tried".to_owned()));
                    status
                }
            };
            let mut case = TestCase::new(family.id.clone(), status);
            case.set_classname(report.name.clone());
            case.set_time(Duration::ZERO);
            suite.add_test_case(case);
        }
        junit.add_test_suite(suite);
    }
    junit
}
