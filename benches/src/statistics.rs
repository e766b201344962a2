//! Medians, and how sure they are.

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// A median with its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Half of the values lie below.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Of some values; `None` of none. The same values always give the same interval.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut state = 0x2545_f491_u32;
        let mut medians: Vec<f64> = Vec::with_capacity(RESAMPLES);
        let mut sample = vec![0.0; values.len()];
        for _ in 0..RESAMPLES {
            for slot in &mut sample {
                *slot = values[random_below(values.len(), &mut state)];
            }
            medians.push(median_of(&mut sample));
        }
        medians.sort_by(f64::total_cmp);
        let cut = RESAMPLES / 40;
        Some(Self { median: median(values), low: medians[cut], high: medians[RESAMPLES - 1 - cut] })
    }

    /// Whether the interval is so wide that the median says little: beyond a sixth to each side.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        self.high / self.low > 4.0 / 3.0
    }
}

/// The median; NaN of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    median_of(&mut values.to_vec())
}

fn median_of(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

/// Ratios of pairs.
#[must_use]
pub fn ratios(upper: &[f64], lower: &[f64]) -> Vec<f64> {
    upper.iter().zip(lower).map(|(upper, lower)| upper / lower).collect()
}

/// A pseudo-random number below `limit`, by xorshift.
pub(crate) fn random_below(limit: usize, state: &mut u32) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    usize::try_from(*state).unwrap_or(0) % limit.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::to_f64;

    #[test]
    fn medians_and_intervals() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        assert!(median(&[]).is_nan() && Estimate::of(&[]).is_none());
        let values: Vec<f64> = (0..101).map(to_f64).collect();
        let estimate = Estimate::of(&values).unwrap();
        assert!((estimate.median - 50.0).abs() < 1e-12);
        // The interval of a uniform median: 50 ± 1.96 · 101 / (2 √101) ≈ 50 ± 10.
        assert!((35.0..46.0).contains(&estimate.low), "{estimate:?}");
        assert!((54.0..65.0).contains(&estimate.high), "{estimate:?}");
        assert_eq!(Estimate::of(&values), Some(estimate));
        assert!(estimate.is_noisy() && !Estimate::of(&[1.0; 9]).unwrap().is_noisy());
    }

    #[test]
    fn pairs_have_ratios() {
        assert_eq!(ratios(&[2.0, 6.0], &[1.0, 2.0]), [2.0, 3.0]);
    }
}
