//! What the wrong elements of a tensor have in common.

use crate::agreement::{Compared, Quantity, same};

/// What all wrong elements have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Likeness {
    /// They are as they were before the step, and should not be.
    Unchanged,
    /// They are NaN, and should not be.
    Nan,
    /// They are 0, and should not be.
    Zero,
    /// Each is so many times what is expected.
    Multiple(f64),
    /// Each has changed by so many times what is expected.
    Change(f64),
}

impl Likeness {
    /// What the elements at `wrong` have in common; `before` is the golden tensor before the step.
    pub(super) fn of(
        quantity: Quantity,
        wrong: &[usize],
        before: Option<&[f64]>,
        compared: &Compared<'_>,
    ) -> Option<Self> {
        let actual = |at: &usize| compared.actual[*at];
        let expected = |at: &usize| compared.expected[*at];
        if wrong.iter().all(|at| actual(at).is_nan()) {
            return Some(Self::Nan);
        }
        let is_before = |before: &[f64]| wrong.iter().all(|at| same(before[*at], actual(at)));
        if before.is_some_and(is_before) {
            return Some(Self::Unchanged);
        }
        if wrong.iter().all(|at| same(0.0, actual(at))) {
            return Some(Self::Zero);
        }
        match (quantity, before) {
            (Quantity::R | Quantity::C | Quantity::V, _) => {
                common(wrong.iter().map(|at| actual(at) / expected(at))).map(Self::Multiple)
            }
            (_, Some(before)) => {
                let change = |at: &usize| (actual(at) - before[*at]) / (expected(at) - before[*at]);
                common(wrong.iter().map(change)).map(Self::Change)
            }
            (_, None) => None,
        }
    }
}

/// The factor that all have, of two or more, if it is not nearly 1; rounding may change a quotient
/// of differences.
fn common(factors: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    const SLACK: f64 = 1e-3;
    let count = factors.clone().count();
    let first = factors.clone().next().filter(|first| first.is_finite() && count > 1)?;
    let mut near = factors.map(|factor| (factor - first).abs() <= SLACK * first.abs());
    (near.all(|near| near) && (first - 1.0).abs() > SLACK).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(quantity: Quantity, before: Option<&[f64]>, actual: &[f64]) -> Option<Likeness> {
        let expected = [2.0, 4.0, 6.0];
        let compared = Compared { expected: &expected, actual, anchors: [None; 3], scale: 0.0 };
        Likeness::of(quantity, &[0, 2], before, &compared)
    }

    #[test]
    fn what_is_common_to_the_wrong_ones_is_seen() {
        let before = [1.0, 1.0, 2.0];
        let variable = |actual: &[f64]| of(Quantity::Variable, Some(&before), actual);
        assert_eq!(variable(&[1.0, 4.0, 2.0]), Some(Likeness::Unchanged));
        assert_eq!(variable(&[f64::NAN, 4.0, f64::NAN]), Some(Likeness::Nan));
        assert_eq!(variable(&[0.0, 4.0, -0.0]), Some(Likeness::Zero));
        assert_eq!(variable(&[0.0, 4.0, -2.0]), Some(Likeness::Change(-1.0)));
        assert_eq!(variable(&[0.0, 4.0, 2.5]), None);
        assert_eq!(variable(&[2.0001, 4.0, 6.0004]), None);
        assert_eq!(of(Quantity::R, None, &[1.0, 4.0, 3.0]), Some(Likeness::Multiple(0.5)));
        assert_eq!(of(Quantity::R, None, &[1.0, 4.0, 3.1]), None);
        assert_eq!(of(Quantity::Variable, None, &[1.0, 4.0, 3.0]), None);
    }
}
