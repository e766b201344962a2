//! The arguments of each group of parameters.

use std::collections::BTreeMap;

use goldstep_core::{AdafactorArguments, Error};

/// The arguments of groups without their own, and those of the others: groups differ in learning
/// rate and weight decay.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    default: AdafactorArguments,
    own: BTreeMap<usize, AdafactorArguments>,
}

impl Groups {
    pub(crate) const fn new(default: AdafactorArguments) -> Self {
        Self { default, own: BTreeMap::new() }
    }

    pub(crate) fn of(&self, group: usize) -> &AdafactorArguments {
        self.own.get(&group).unwrap_or(&self.default)
    }

    /// Changes the arguments of one group, or of all, those that come later included; of none
    /// where one refuses.
    pub(crate) fn assign(
        &mut self,
        group: Option<usize>,
        change: impl Fn(&mut AdafactorArguments) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut next = self.clone();
        match group {
            Some(group) => change(next.own.entry(group).or_insert_with(|| self.default.clone()))?,
            None => next.own.values_mut().chain([&mut next.default]).try_for_each(change)?,
        }
        *self = next;
        Ok(())
    }
}
