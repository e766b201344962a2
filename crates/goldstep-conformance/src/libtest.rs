//! One named test per golden family and per case that stands alone.

use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::explain::explain;
use crate::golden::{Golden, GoldenError, Traces};
use crate::judge::Focus;
use crate::report::{failures, not_answered};
use crate::run::run;
use crate::selection::Selection;
use crate::subject::Subject;

/// A test: its name, and what runs it. The error is the failure block.
pub type NamedTest = (String, Box<dyn FnOnce() -> Result<(), String> + Send>);

/// Tests that hold `subject` against every golden below `directory`: one per packed family, one
/// per case with a file of its own. The runs of a family are spread over all processors.
///
/// # Errors
/// Golden files that cannot be used.
pub fn tests(directory: &Path, subject: Subject) -> Result<Vec<NamedTest>, GoldenError> {
    let golden = Arc::new(Golden::load(directory)?);
    let subject = Arc::new(subject);
    let mut tests = Vec::new();
    let mut add = |name: String, family: &str, cases: Vec<String>| {
        let (golden, subject) = (Arc::clone(&golden), Arc::clone(&subject));
        let family = family.to_owned();
        let test = move || verify(&golden, &subject, family, &cases);
        tests.push((name, Box::new(test) as Box<dyn FnOnce() -> _ + Send>));
    };
    for family in golden.families() {
        match &family.traces {
            Traces::Cases(cases) if !family.packed => {
                for case in cases {
                    let name = format!("{}/{}", family.id, case.id);
                    add(name.clone(), &family.id, vec![name]);
                }
            }
            _ => add(family.id.clone(), &family.id, Vec::new()),
        }
    }
    Ok(tests)
}

fn verify(
    golden: &Golden,
    subject: &Subject,
    family: String,
    cases: &[String],
) -> Result<(), String> {
    let selection = Selection::new(golden, &[family], cases, Focus::default())
        .map_err(|error| error.to_string())?;
    let threads = available_parallelism().map_or(1, usize::from);
    let report = run(golden, &selection, subject, threads, &|_| {})
        .map_err(|failure| failure.to_string())?;
    if report.agrees() && !report.is_broken() {
        return Ok(());
    }
    let causes = explain(golden, &report, subject, None, &[]);
    let blocks = failures(&report, &causes);
    Err(format!("{blocks}{}", not_answered(golden, &report)))
}
