//! The worst that was observed, beside what is allowed.

use goldstep_core::DType;

use crate::agreement::{Allowance, Mode, Quantity};
use crate::judge::Check;

/// The worst errors of many runs, per mode and quantity.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observations {
    worst: [[Option<Worst>; Quantity::ALL.len()]; Mode::ALL.len()],
    compared: u64,
}

/// The worst error of a quantity, as a share of what is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worst {
    /// The error, in the allowance's unit.
    pub error: f64,
    /// What was allowed.
    pub allowance: Allowance,
    /// The element type.
    pub dtype: DType,
    /// The run's position in its family.
    pub position: usize,
    /// The 1-based step.
    pub step: usize,
    /// The variable's position.
    pub variable: Option<usize>,
}

impl Worst {
    /// The error as a share of what is allowed; infinite for an error where none is.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.error > 0.0 { self.error / self.allowance.figure() } else { 0.0 }
    }
}

impl Observations {
    /// The worst error of a quantity.
    #[must_use]
    pub const fn worst(&self, mode: Mode, quantity: Quantity) -> Option<&Worst> {
        self.worst[mode as usize][quantity as usize].as_ref()
    }

    /// The quantities that were compared in a mode, in causal order.
    pub fn iter(&self, mode: Mode) -> impl Iterator<Item = (Quantity, &Worst)> {
        let worst = move |quantity| self.worst(mode, quantity).map(|worst| (quantity, worst));
        Quantity::ALL.into_iter().filter_map(worst)
    }

    /// The number of values that were compared.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.compared
    }

    /// Adds what was observed elsewhere, whose runs stand in the same family.
    pub fn merge(&mut self, other: &Self) {
        self.compared += other.compared;
        for (own, other) in self.worst.iter_mut().flatten().zip(other.worst.iter().flatten()) {
            if let Some(other) = other {
                keep_worse(own, other);
            }
        }
    }

    pub(crate) const fn count(&mut self, values: usize) {
        self.compared += values as u64;
    }

    pub(crate) fn note(
        &mut self,
        mode: Mode,
        dtype: DType,
        check: Check,
        (position, step, variable): (usize, usize, Option<usize>),
    ) {
        let Check { quantity, error, allowance } = check;
        let own = &mut self.worst[mode as usize][quantity as usize];
        keep_worse(own, &Worst { error, allowance, dtype, position, step, variable });
    }
}

/// Of equally bad ones the first stays, whatever the order in which threads finish.
fn keep_worse(own: &mut Option<Worst>, other: &Worst) {
    let worse = own.as_ref().is_none_or(|own| {
        let place = |worst: &Worst| (worst.position, worst.step, worst.variable);
        match other.share().total_cmp(&own.share()) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => place(other) < place(own),
            std::cmp::Ordering::Less => false,
        }
    });
    if worse {
        *own = Some(*other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(observations: &mut Observations, error: f64, position: usize) {
        let check = Check { quantity: Quantity::V, error, allowance: Allowance::Relative(8.0) };
        observations.note(Mode::Forced, DType::Float32, check, (position, 1, Some(0)));
    }

    #[test]
    fn the_worst_and_first_one_stays_in_any_order() {
        let (mut left, mut right) = (Observations::default(), Observations::default());
        note(&mut left, 2.0, 7);
        note(&mut right, 2.0, 3);
        note(&mut right, 1.0, 1);
        let mut merged = left.clone();
        merged.merge(&right);
        right.merge(&left);
        assert_eq!(merged, right);
        let worst = merged.worst(Mode::Forced, Quantity::V).unwrap();
        assert_eq!((worst.position, worst.share().to_bits()), (3, 0.25_f64.to_bits()));
        assert_eq!(merged.worst(Mode::Free, Quantity::V), None);
    }

    #[test]
    fn comparisons_add_up_and_no_error_is_no_share() {
        let (mut left, mut right) = (Observations::default(), Observations::default());
        left.count(3);
        right.count(4);
        left.merge(&right);
        assert_eq!(left.compared(), 7);
        let exact =
            Check { quantity: Quantity::Iterations, error: 0.0, allowance: Allowance::Exact };
        left.note(Mode::Free, DType::Float32, exact, (0, 1, None));
        let worst = left.worst(Mode::Free, Quantity::Iterations).unwrap();
        assert_eq!(worst.share().to_bits(), 0.0_f64.to_bits());
        let compared: Vec<Quantity> = left.iter(Mode::Free).map(|(quantity, _)| quantity).collect();
        assert_eq!(compared, [Quantity::Iterations]);
    }
}
