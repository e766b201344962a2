//! Which runs are judged.

use std::collections::BTreeMap;

use crate::golden::{Family, Golden, Trial};
use crate::judge::Focus;

/// Which runs of a golden directory are wanted.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Positions by family, ascending; families in the order of the directory.
    pub(crate) runs: Vec<(usize, Vec<usize>)>,
    /// What is looked at in each run.
    pub focus: Focus,
    complete: bool,
}

/// A selection that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// A family that is not there.
    #[error("family must be one of {known}, got {name}")]
    Family {
        /// The families that are there.
        known: String,
        /// The name that was given.
        name: String,
    },
    /// A run that is not there, or not in the chosen families.
    #[error("case must be family/id of a run in {families}, got {name}")]
    Case {
        /// The chosen families.
        families: String,
        /// The name that was given.
        name: String,
    },
    /// A variable that no chosen run has.
    #[error("variable must occur in a chosen run, which have {known}, got {name}")]
    Variable {
        /// The variables that occur.
        known: String,
        /// The name that was given.
        name: String,
    },
    /// A step that no chosen run compares.
    #[error("step must be compared in a chosen run, of which the longest has {most}, got {step}")]
    Step {
        /// The length of the longest run.
        most: usize,
        /// The 1-based step that was given.
        step: usize,
    },
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all(golden: &Golden) -> Self {
        let families = golden.families().iter().enumerate();
        let runs = families.map(|(index, family)| (index, (0..family.len()).collect()));
        Self { runs: runs.collect(), focus: Focus::default(), complete: true }
    }

    /// The runs of `families` (none: all) whose names are `cases` (none: all), looked at through
    /// `focus`. A case is `family/id`, or an id alone; several may stand in one string, with commas
    /// between them.
    ///
    /// # Errors
    /// A name, a variable or a step that nothing matches.
    pub fn new(
        golden: &Golden,
        families: &[String],
        cases: &[String],
        focus: Focus,
    ) -> Result<Self, SelectionError> {
        let known = golden.families();
        if let Some(name) = families.iter().find(|name| known.iter().all(|one| one.id != **name)) {
            return Err(SelectionError::Family {
                known: listed(known.iter().map(|family| family.id.as_str())),
                name: name.clone(),
            });
        }
        let chosen = |family: &Family| families.is_empty() || families.contains(&family.id);
        let candidates: Vec<(usize, &Family)> =
            known.iter().enumerate().filter(|(_, family)| chosen(family)).collect();
        let mut runs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        if cases.is_empty() {
            runs.extend(
                candidates.iter().map(|(index, family)| (*index, (0..family.len()).collect())),
            );
        }
        let of_name = |name: &str| -> Vec<(usize, usize)> {
            let found = candidates.iter().filter_map(|(index, family)| {
                let own = name.strip_prefix(&family.id).and_then(|rest| rest.strip_prefix('/'));
                let by_name = own.and_then(|id| family.position(id));
                by_name.or_else(|| family.position(name)).map(|position| (*index, position))
            });
            found.collect()
        };
        for names in cases {
            // The id of a case that stands alone may itself hold a comma.
            let whole = !of_name(names).is_empty();
            let names = if whole { vec![names.as_str()] } else { names.split(',').collect() };
            for name in names {
                let found = of_name(name);
                if found.is_empty() {
                    let families = listed(candidates.iter().map(|(_, family)| family.id.as_str()));
                    return Err(SelectionError::Case { families, name: name.to_owned() });
                }
                for (index, position) in found {
                    runs.entry(index).or_default().push(position);
                }
            }
        }
        for positions in runs.values_mut() {
            positions.sort_unstable();
            positions.dedup();
        }
        let complete = families.is_empty() && cases.is_empty() && focus == Focus::default();
        let selection = Self { runs: runs.into_iter().collect(), focus, complete };
        selection.check_focus(golden)?;
        Ok(selection)
    }

    /// The number of runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(_, positions)| positions.len()).sum()
    }

    /// Whether it is everything, looked at as a whole.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether there is no run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check_focus(&self, golden: &Golden) -> Result<(), SelectionError> {
        let trials = || {
            let family = |index: &usize| &golden.families()[*index];
            self.runs.iter().flat_map(move |(index, positions)| {
                positions.iter().map(move |position| family(index).trial(*position))
            })
        };
        if let Some(name) = &self.focus.variable
            && !trials().any(|trial| trial.variables.iter().any(|one| one.name == *name))
        {
            let mut names: Vec<&str> = trials()
                .flat_map(|trial| trial.variables.iter().map(|one| one.name.as_str()))
                .collect();
            names.sort_unstable();
            names.dedup();
            let known = listed(names.into_iter());
            return Err(SelectionError::Variable { known, name: name.clone() });
        }
        if let Some(step) = self.focus.step {
            let compares = |trial: &Trial<'_>| {
                let index = step.checked_sub(1);
                let steps = &trial.expectation.steps;
                index.and_then(|index| steps.get(index)).is_some_and(Option::is_some)
            };
            if !trials().any(|trial| compares(&trial)) {
                let most = trials().map(|trial| trial.steps.len()).max().unwrap_or_default();
                return Err(SelectionError::Step { most, step });
            }
        }
        Ok(())
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let names: Vec<&str> = names.collect();
    let shown = names[..names.len().min(MOST)].join(", ");
    if names.len() > MOST { format!("{shown}, and {} more", names.len() - MOST) } else { shown }
}
