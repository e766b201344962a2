//! Two things timed in turn.
//!
//! A shared machine slows down and speeds up by half within seconds. Two measurements that are
//! made minutes apart then say nothing about each other; the ratio of two that are made within
//! milliseconds does. So a round times both, in random order, and the median of the rounds' ratios
//! is the result.

use std::time::Instant;

/// The times of paired rounds, per call.
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    /// Nanoseconds of the first thing, by round.
    pub first_ns: Vec<f64>,
    /// Nanoseconds of the second thing, by round.
    pub second_ns: Vec<f64>,
}

/// Median and quartiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A quarter lies below.
    pub lower: f64,
    /// Half lies below.
    pub median: f64,
    /// Three quarters lie below.
    pub upper: f64,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// At least so many paired rounds.
    pub least_rounds: usize,
    /// At most so many.
    pub most_rounds: usize,
    /// Calls of each thing in a round take together about as long as this. On a busy machine it
    /// has to be short against the time slices of other programs, so that most rounds pass without
    /// an interruption.
    pub round_ns: f64,
    /// No further round begins after this.
    pub total_ns: f64,
}

impl Effort {
    /// For numbers that are published.
    pub const FULL: Self =
        Self { least_rounds: 31, most_rounds: 2001, round_ns: 0.3e6, total_ns: 3e9 };
    /// For a glance.
    pub const QUICK: Self =
        Self { least_rounds: 9, most_rounds: 501, round_ns: 0.3e6, total_ns: 0.3e9 };
}

/// Times `first` and `second` in paired rounds, after a warm-up of both.
///
/// Both get the same value, so that they can work on the same memory.
pub fn paired<C>(
    effort: Effort,
    common: &mut C,
    mut first: impl FnMut(&mut C),
    mut second: impl FnMut(&mut C),
) -> Paired {
    let mut time = |thing: &mut dyn FnMut(&mut C), calls: usize| {
        let start = Instant::now();
        (0..calls).for_each(|_| thing(common));
        nanoseconds(start) / to_f64(calls)
    };
    let warm_up = [time(&mut first, 2), time(&mut second, 2), time(&mut first, 1)];
    let slowest = warm_up.into_iter().fold(1.0, f64::max);
    let calls = to_usize((effort.round_ns / slowest).clamp(1.0, 1e6));
    let mut result = Paired { first_ns: Vec::new(), second_ns: Vec::new() };
    let mut order = 0x9e37_79b9_u32;
    let start = Instant::now();
    for round in 0..effort.most_rounds {
        if round >= effort.least_rounds && nanoseconds(start) > effort.total_ns {
            break;
        }
        order ^= order << 13;
        order ^= order >> 17;
        order ^= order << 5;
        if order & 1 == 0 {
            result.first_ns.push(time(&mut first, calls));
            result.second_ns.push(time(&mut second, calls));
        } else {
            result.second_ns.push(time(&mut second, calls));
            result.first_ns.push(time(&mut first, calls));
        }
    }
    result
}

impl Paired {
    /// The ratio first / second.
    #[must_use]
    pub fn ratio(&self) -> Spread {
        let pairs = self.first_ns.iter().zip(&self.second_ns);
        Spread::of(pairs.map(|(first, second)| first / second).collect())
    }

    /// The difference first − second, nanoseconds.
    #[must_use]
    pub fn difference_ns(&self) -> Spread {
        let pairs = self.first_ns.iter().zip(&self.second_ns);
        Spread::of(pairs.map(|(first, second)| first - second).collect())
    }

    /// Nanoseconds of the first thing.
    #[must_use]
    pub fn first(&self) -> Spread {
        Spread::of(self.first_ns.clone())
    }

    /// Nanoseconds of the second thing.
    #[must_use]
    pub fn second(&self) -> Spread {
        Spread::of(self.second_ns.clone())
    }
}

impl Spread {
    /// Median and quartiles of some values; NaN of none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = to_usize((to_f64(values.len().max(1) - 1) * share).round());
            values.get(index).copied().unwrap_or(f64::NAN)
        };
        Self { lower: at(0.25), median: at(0.5), upper: at(0.75) }
    }
}

fn nanoseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls and bytes, far below 2^53")]
pub(crate) fn to_f64(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn to_usize(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_around_the_median() {
        let spread = Spread::of((1..=101).rev().map(to_f64).collect());
        assert_eq!(spread, Spread { lower: 26.0, median: 51.0, upper: 76.0 });
        assert!(Spread::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn each_round_times_both() {
        let effort = Effort { least_rounds: 5, most_rounds: 5, round_ns: 1.0, total_ns: 0.0 };
        let mut counts = (0, 0);
        let paired = paired(effort, &mut counts, |c| c.0 += 1, |c| c.1 += 1);
        assert_eq!(counts, (3 + 5, 2 + 5));
        assert_eq!((paired.first_ns.len(), paired.second_ns.len()), (5, 5));
    }
}
