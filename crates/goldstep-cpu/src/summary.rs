//! What is known of a matrix after its statistics, and the proof that the algebra of `rms(u)` and of
//! the update agrees with the literal formula.
//!
//! In real arithmetic both are the same. In floating point Keras forms `r / mean(r)` and then `v`
//! in the parameter's type, where either can underflow to zero or overflow, and the update becomes
//! infinite or NaN; the algebra would stay finite. The proof takes the extremes of both factors.

use crate::kernels::Extent;
use crate::kernels::small::{Limits, SmallFinding};
use crate::real::Real;
use crate::scalars::UpdateScale;

/// What the update needs to know of one matrix, or of a batch of small ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary<R> {
    /// `mean(r)` of one matrix.
    pub(crate) mean: R,
    /// Of a batch a bit for each sixteen that the other fields describe.
    pub(crate) sixteens: u64,
    /// Between which squares of `α / max(1, rms(u) / d)` the algebra agrees with the literal
    /// formula.
    least_square: f64,
    largest_square: f64,
}

impl<R: Real> Summary<R> {
    /// The summary of a matrix that has none yet: literal.
    pub(crate) const UNKNOWN: Self = Self::literal(R::ZERO);

    /// The summary of a matrix of which only `mean(r)` is known.
    pub(crate) const fn literal(mean: R) -> Self {
        Self { mean, sixteens: 0, least_square: f64::INFINITY, largest_square: 0.0 }
    }

    /// Leaves everything to the literal formula.
    pub(crate) const fn make_literal(&mut self) {
        *self = Self::literal(self.mean);
    }

    /// Room for intermediate results at both ends of the normal range.
    const MARGIN: f64 = 16.0;

    /// The ends of the range that intermediate results keep to.
    fn range() -> (f64, f64) {
        (R::MIN_POSITIVE.to_f64() * Self::MARGIN, R::MAX.to_f64() / Self::MARGIN)
    }

    /// `least_kept` is [`StepScalars::least_second_moment`].
    pub(crate) fn new(mean: R, row: Extent, column: Extent, least_kept: f64) -> Self {
        let (low, high) = Self::range();
        let divisor = mean.to_f64();
        let (least_share, largest_share) = (row.least / divisor, row.largest / divisor);
        let (least, largest) = (least_share * column.least, largest_share * column.largest);
        // A comparison with NaN is false, and a NaN among the factors shows in their sum.
        let inside = |value: f64| value > low && value < high;
        let in_range = [row.least, row.largest, row.sum, divisor, least_share, largest_share]
            .into_iter()
            .chain([column.least, column.largest, column.sum, least, largest])
            .all(inside)
            // 1 / r is a factor of the inner loop.
            && inside(1.0 / row.largest)
            && inside(1.0 / row.least)
            && inside(1.0 / column.least)
            && inside(1.0 / column.largest);
        let is_kept = [least, column.least / divisor, least_share, 1.0 / divisor]
            .into_iter()
            .all(|quotient| quotient > least_kept);
        if in_range && is_kept {
            // The scales with which `scale²`, `scale²·mean(r)`, `s_i²` and `(s_i·t_j)²` stay in the
            // normal range, for the smallest and the largest of each.
            Self {
                mean,
                sixteens: 0,
                least_square: low * (1.0 / divisor).max(largest_share).max(largest).max(1.0),
                largest_square: high * (1.0 / divisor).min(least_share).min(least).min(1.0),
            }
        } else {
            Self::literal(mean)
        }
    }

    /// What has to hold for each of some small matrices, so that [`of_batch`](Self::of_batch)
    /// describes it. The same conditions as for one.
    pub(crate) fn limits(least_kept: f64) -> Limits<R> {
        let (low, high) = Self::range();
        let low = low.max(least_kept);
        let high = high.min(1.0 / low);
        Limits {
            low: R::round_from(low),
            high: R::round_from(high),
            inverse_low: R::round_from(1.0 / low),
        }
    }

    /// The summary of a batch of small matrices: `scale²`, `s_i²` and `(s_i·t_j)²` of those within
    /// the limits stay in the normal range.
    pub(crate) fn of_batch(finding: SmallFinding) -> Self {
        let (low, high) = Self::range();
        Self {
            mean: R::ZERO,
            sixteens: finding.regular,
            least_square: low * finding.highest,
            largest_square: high * finding.lowest,
        }
    }

    /// Whether the algebra agrees with the literal formula for some scale.
    pub(crate) const fn is_ever_regular(&self) -> bool {
        self.least_square < self.largest_square
    }

    /// The scale if the algebra agrees with the literal formula: if all intermediate results stay
    /// in the normal range, or are exactly zero.
    pub(crate) fn regular_scale(&self, scale: UpdateScale<R>) -> Option<f64> {
        let quotient = scale.quotient?;
        let square = quotient * quotient;
        let is_regular = self.is_ever_regular()
            && square < self.largest_square
            && (square > self.least_square || quotient.to_bits() == 0);
        is_regular.then_some(quotient)
    }
}

/// What one read of a gradient finds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) row: Extent,
    pub(crate) column: Extent,
    /// `Σ_j W_j / c_j`, or `Σ_i V_i / r_i`.
    pub(crate) quotients: f64,
}

impl Finding {
    /// `mean(r)`.
    pub(crate) fn mean<R: Real>(&self, rows: usize) -> R {
        #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
        let rows = R::round_from(rows as f64);
        (R::round_from(self.row.sum) / rows).flush()
    }

    /// The summary and `Σu²`, if the algebra agrees with the literal formula.
    pub(crate) fn regular<R: Real>(
        &self,
        rows: usize,
        least_kept: f64,
    ) -> Option<(Summary<R>, f64)> {
        let mean: R = self.mean(rows);
        let summary = Summary::new(mean, self.row, self.column, least_kept);
        let squares = mean.to_f64() * self.quotients;
        (summary.is_ever_regular() && squares.is_finite()).then_some((summary, squares))
    }
}

/// `mean(r)` of a matrix.
pub(crate) fn mean_of<R: Real>(row_factor: &[R]) -> R {
    #[expect(clippy::cast_precision_loss, reason = "a length far below 2^53")]
    let rows = R::round_from(row_factor.len() as f64);
    (R::round_from(sum_of(row_factor)) / rows).flush()
}

/// The sum, in halves: in one chain of 100,000 equal values 5,000 times epsilon were lost.
pub(crate) fn sum_of<R: Real>(values: &[R]) -> f64 {
    if values.len() <= 8 {
        return values.iter().fold(0.0, |sum, value| sum + value.to_f64());
    }
    let (left, right) = values.split_at(values.len() / 2);
    sum_of(left) + sum_of(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::kernels::small::SmallStatistics;
    use crate::kernels::{Moment, Unclipped};
    use crate::lanes::LANES;

    /// A gradient of zeros gives factors of `ε₁`, far below those of its neighbours.
    #[test]
    fn a_dead_filter_leaves_its_neighbours_regular() {
        let (shape, mut gradient) = ((3, 3), [0.1_f32; 2 * LANES * 9]);
        gradient[..9].fill(0.0);
        for isa in Isa::available() {
            let (mut row_factor, mut column_factor) = ([0.0; 2 * LANES * 3], [0.0; 2 * LANES * 3]);
            let finding = isa.run(SmallStatistics {
                shape,
                gradient: &gradient,
                clip: Unclipped,
                moment: Moment {
                    beta_2: 0.0,
                    one_minus_beta_2: 1.0,
                    epsilon_1: 1e-30,
                    flushes: false,
                },
                row_factor: &mut row_factor,
                column_factor: &mut column_factor,
                limits: Summary::limits(1e-38),
            });
            assert_eq!(finding.regular, 0b11, "{}", isa.name());
            let scale = UpdateScale::<f32>::new(1e-5, 1.0);
            let summary = Summary::of_batch(finding);
            assert!(summary.regular_scale(scale).is_some(), "{}: {summary:?}", isa.name());
            assert_eq!(row_factor[0].to_bits(), 1e-30_f32.to_bits(), "{}", isa.name());
        }
    }
}
