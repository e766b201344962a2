//! What the wrong elements of a tensor have in common.

use goldstep_core::DType;

use crate::agreement::{Allowance, Compared, errors, same};

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
    /// Each has changed by so many times what is expected, weight decay aside.
    Change(f64),
}

/// What a tensor is held against.
pub(super) struct Suspected<'a> {
    pub(super) dtype: DType,
    pub(super) allowance: Allowance,
    /// The positions of the wrong elements.
    pub(super) wrong: &'a [usize],
    /// The golden tensor before the step, where there is one that changes.
    pub(super) before: Option<&'a [f64]>,
    /// What weight decay alone makes of an element.
    pub(super) decay: f64,
}

impl Likeness {
    /// What the wrong elements have in common.
    pub(super) fn of(suspected: &Suspected<'_>, compared: &Compared<'_>) -> Option<Self> {
        let Suspected { wrong, before, decay, .. } = *suspected;
        let actual = |at: &usize| compared.actual[*at];
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
        let Some(before) = before else {
            let zeros = vec![0.0; compared.expected.len()];
            return suspected.factor(&zeros, compared).map(Self::Multiple);
        };
        let decayed: Vec<f64> = before.iter().map(|before| before * decay).collect();
        suspected.factor(&decayed, compared).map(Self::Change)
    }
}

impl Suspected<'_> {
    /// The factor by which the wrong elements, two or more, differ from `base` by more than they
    /// should: where it comes in, all of them agree.
    fn factor(&self, base: &[f64], compared: &Compared<'_>) -> Option<f64> {
        let change = |at: usize| compared.expected[at] - base[at];
        let largest = self
            .wrong
            .iter()
            .max_by(|one, other| change(**one).abs().total_cmp(&change(**other).abs()));
        let at = *largest.filter(|_| self.wrong.len() > 1)?;
        let factor = (compared.actual[at] - base[at]) / change(at);
        let predicted = |at: &usize| base[*at] + factor * change(*at);
        let predicted: Vec<f64> = self.wrong.iter().map(predicted).collect();
        let pick = |values: &[f64]| self.wrong.iter().map(|at| values[*at]).collect::<Vec<f64>>();
        let anchors = compared.anchors.map(|anchor| anchor.map(pick));
        let scaled = Compared {
            expected: &predicted,
            actual: &pick(compared.actual),
            anchors: anchors.each_ref().map(Option::as_deref),
            scale: compared.scale,
        };
        let mut errors = errors(self.allowance, self.dtype, &scaled);
        (factor.is_finite() && errors.all(|error| error <= self.allowance.figure()))
            .then_some(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: Option<&[f64]>, decay: f64, actual: &[f64]) -> Option<Likeness> {
        let expected = [2.0, 4.0, 6.0];
        let compared = Compared { expected: &expected, actual, anchors: [None; 3], scale: 0.0 };
        let suspected = Suspected {
            dtype: DType::Float32,
            allowance: Allowance::Relative(16.0),
            wrong: &[0, 2],
            before,
            decay,
        };
        Likeness::of(&suspected, &compared)
    }

    #[test]
    fn what_is_common_to_the_wrong_ones_is_seen() {
        let before = [1.0, 1.0, 2.0];
        let variable = |actual: &[f64]| of(Some(&before), 1.0, actual);
        assert_eq!(variable(&[1.0, 4.0, 2.0]), Some(Likeness::Unchanged));
        assert_eq!(variable(&[f64::NAN, 4.0, f64::NAN]), Some(Likeness::Nan));
        assert_eq!(variable(&[0.0, 4.0, -0.0]), Some(Likeness::Zero));
        assert_eq!(variable(&[0.0, 4.0, -2.0]), Some(Likeness::Change(-1.0)));
        assert_eq!(variable(&[0.0, 4.0, 2.5]), None);
        assert_eq!(variable(&[1.5, 4.0, 4.001]), None);
        // From 0.5 and 1, what decay leaves of 1 and 2.
        assert_eq!(of(Some(&before), 0.5, &[3.5, 4.0, 11.0]), Some(Likeness::Change(2.0)));
        assert_eq!(of(None, 1.0, &[1.0, 4.0, 3.0]), Some(Likeness::Multiple(0.5)));
        assert_eq!(of(None, 1.0, &[1.0, 4.0, 3.1]), None);
    }
}
