//! Golden traces: what tf.keras did, read from disk and proved whole.
//!
//! `golden/README.md` describes the packed families, `golden/schema` every record. A directory may
//! hold a `manifest.json` with packed families, self-contained cases, or both.

mod case;
mod error;
mod file;
mod grid;
mod load;
mod numbers;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use goldstep_core::DType;
use serde_json::{Map, Value};

pub use case::{CASE_FORMAT, Case, Expectation, Expected, ExpectedError, Step};
pub use error::GoldenError;
pub use grid::{Axis, Grid, TRACE_FORMAT};
pub use numbers::Tensor;

use crate::implementation::Variable;

/// All golden traces below one directory.
#[derive(Debug, Clone)]
pub struct Golden {
    directory: PathBuf,
    generated: Option<Map<String, Value>>,
    families: Vec<Family>,
}

/// Traces that belong together.
#[derive(Debug, Clone)]
pub struct Family {
    /// Its name.
    pub id: String,
    /// The mistakes that it is there to catch; empty where no manifest says so.
    pub purpose: String,
    /// Whether a manifest lists it; otherwise its cases have files of their own.
    pub packed: bool,
    /// How it was made, where that differs from the rest of the manifest.
    pub generated: Option<Map<String, Value>>,
    /// Its traces.
    pub traces: Traces,
}

/// The traces of a family.
#[derive(Debug, Clone)]
pub enum Traces {
    /// Combinations of arguments over shared inputs.
    Grid(Grid),
    /// Cases that stand alone.
    Cases(Vec<Case>),
}

/// One run: its inputs and what it has to give.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// The family's name.
    pub family: &'a str,
    /// The combination's number with leading zeros, or the case's id.
    pub id: Cow<'a, str>,
    /// The element type.
    pub dtype: DType,
    /// The constructor's arguments.
    pub arguments: Cow<'a, Map<String, Value>>,
    /// Regular expressions over variable names.
    pub exclude_from_weight_decay: &'a [String],
    /// The variables.
    pub variables: &'a [Variable],
    /// The steps' inputs.
    pub steps: &'a [Step],
    /// What the project expects.
    pub expectation: &'a Expectation,
    /// What is expected of implementations that are known to differ.
    pub(crate) expected_in: Option<&'a BTreeMap<String, Expectation>>,
}

impl<'a> Trial<'a> {
    /// `family/id`, the name under which a trial is selected.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.family, self.id)
    }

    /// What is expected of an implementation that claims `claimed`.
    #[must_use]
    pub fn expectation_for(&self, claimed: &str) -> &'a Expectation {
        let other = self.expected_in.and_then(|expected_in| expected_in.get(claimed));
        other.unwrap_or(self.expectation)
    }

    /// The same run with nothing but what is expected of an implementation that claims `claimed`.
    pub(crate) fn expecting(self, claimed: &str) -> Self {
        Self { expectation: self.expectation_for(claimed), expected_in: None, ..self }
    }
}

impl Golden {
    /// Reads every trace below `directory`: the families that manifests list, and each other
    /// `*.json` that is no schema as a self-contained case. All sums are proved.
    ///
    /// # Errors
    /// The first file that cannot be used, with the rule that it breaks; a directory without
    /// traces.
    pub fn load(directory: &Path) -> Result<Self, GoldenError> {
        load::load(directory)
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How the packed families were made.
    #[must_use]
    pub const fn generated(&self) -> Option<&Map<String, Value>> {
        self.generated.as_ref()
    }

    /// The families, those of the manifest first.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Whether an implementation may claim this expectation: the project's, or one that a case has.
    #[must_use]
    pub fn knows_expectation(&self, name: &str) -> bool {
        let has = |family: &Family| match &family.traces {
            Traces::Cases(cases) => cases.iter().any(|case| case.expected_in.contains_key(name)),
            Traces::Grid(_) => false,
        };
        name == "goldstep" || self.families.iter().any(has)
    }
}

impl Family {
    /// The number of runs: combinations or cases.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.traces {
            Traces::Grid(grid) => grid.len(),
            Traces::Cases(cases) => cases.len(),
        }
    }

    /// Whether there is no run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of runs that end with an error.
    #[must_use]
    pub fn errors(&self) -> usize {
        (0..self.len()).filter(|position| self.expectation(*position).error.is_some()).count()
    }

    /// The number of distinct trajectories, where they are shared.
    #[must_use]
    pub const fn trajectories(&self) -> Option<usize> {
        match &self.traces {
            Traces::Grid(grid) => Some(grid.trajectories()),
            Traces::Cases(_) => None,
        }
    }

    /// The run at a position below [`len`](Self::len).
    #[must_use]
    pub fn trial(&self, position: usize) -> Trial<'_> {
        match &self.traces {
            Traces::Grid(grid) => Trial {
                family: &self.id,
                id: Cow::Owned(format!("{:05}", grid.number(position))),
                dtype: grid.dtype(),
                arguments: Cow::Owned(grid.arguments(grid.number(position))),
                exclude_from_weight_decay: &[],
                variables: grid.variables(),
                steps: grid.steps(),
                expectation: grid.expectation(position),
                expected_in: None,
            },
            Traces::Cases(cases) => cases[position].trial(&self.id),
        }
    }

    /// The position of a run by its id: a combination's number or a case's id.
    #[must_use]
    pub fn position(&self, id: &str) -> Option<usize> {
        match &self.traces {
            Traces::Grid(grid) => id.parse().ok().and_then(|number| grid.position(number)),
            Traces::Cases(cases) => cases.iter().position(|case| case.id == id),
        }
    }

    fn expectation(&self, position: usize) -> &Expectation {
        match &self.traces {
            Traces::Grid(grid) => grid.expectation(position),
            Traces::Cases(cases) => &cases[position].expectation,
        }
    }
}

impl Case {
    /// Reads one self-contained case from its JSON text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Golden::load`].
    pub fn from_json(name: &Path, text: &str) -> Result<Self, GoldenError> {
        load::case_from_json(name, text)
    }

    /// This case as a run of a family.
    #[must_use]
    pub fn trial<'a>(&'a self, family: &'a str) -> Trial<'a> {
        Trial {
            family,
            id: Cow::Borrowed(&self.id),
            dtype: self.dtype,
            arguments: Cow::Borrowed(&self.arguments),
            exclude_from_weight_decay: &self.exclude_from_weight_decay,
            variables: &self.variables,
            steps: &self.steps,
            expectation: &self.expectation,
            expected_in: Some(&self.expected_in),
        }
    }
}
