//! Many short rows at a time: sixteen of them, one in each lane.
//!
//! Sixteen rows of `n` elements lie in `n` vectors. [`to_lanes`] permutes those into `n` vectors
//! that hold one column each, and [`from_lanes`] does the reverse.

use super::Line;
use crate::lanes::{LANES, Lanes};

/// Elements of a row at most.
pub(super) const LONGEST: usize = 8;

/// For each `n`, for each vector that comes out, for each but the first that goes in: where its
/// lanes come from, those of the vectors before or the new one.
type Steps = [[[[u32; LANES]; LONGEST]; LONGEST]; LONGEST + 1];

static TO_LANES: Steps = steps(true);
static FROM_LANES: Steps = steps(false);

#[expect(clippy::cast_possible_truncation, reason = "indices below 32")]
const fn steps(to_lanes: bool) -> Steps {
    let mut steps = [[[[0; LANES]; LONGEST]; LONGEST]; LONGEST + 1];
    let mut n = 1;
    while n <= LONGEST {
        // Counters and `while`: constants are not computed with iterators.
        let mut at = 0;
        while at < n * LANES * n {
            let (lane, vector, step) = (at % LANES, at / LANES % n, at / LANES / n);
            // Which vector the lane's value is in, and in which lane of it.
            let (source, from) = if to_lanes {
                let element = lane * n + vector;
                (element / LANES, element % LANES)
            } else {
                let element = vector * LANES + lane;
                (element % n, element / n)
            };
            steps[n][vector][step][lane] = if source == step {
                (LANES + from) as u32
            } else if source == 0 && step == 1 {
                from as u32
            } else {
                lane as u32
            };
            at += 1;
        }
        n += 1;
    }
    steps
}

/// Puts column `j` of sixteen rows of `n` elements into line `j·stride`.
#[inline(always)]
pub(super) fn to_lanes<V: Lanes>(lines: &mut [Line<V::Real>], n: usize, stride: usize) {
    permute::<V>(lines, n, stride, &TO_LANES[n]);
}

/// The reverse of [`to_lanes`].
#[inline(always)]
pub(super) fn from_lanes<V: Lanes>(lines: &mut [Line<V::Real>], n: usize, stride: usize) {
    permute::<V>(lines, n, stride, &FROM_LANES[n]);
}

// Unrolled for the rows of 3 × 3 convolutions only: for each length it would be machine code of
// which most is never run.
#[inline(always)]
fn permute<V: Lanes>(
    lines: &mut [Line<V::Real>],
    n: usize,
    stride: usize,
    steps: &[[[u32; LANES]; LONGEST]; LONGEST],
) {
    match n {
        1 => {}
        3 => permute_first::<V, 3>(lines, 3, stride, steps),
        _ => permute_first::<V, LONGEST>(lines, n, stride, steps),
    }
}

/// Permutes the first `n` of at most `N` vectors.
#[inline(always)]
fn permute_first<V: Lanes, const N: usize>(
    lines: &mut [Line<V::Real>],
    n: usize,
    stride: usize,
    steps: &[[[u32; LANES]; LONGEST]; LONGEST],
) {
    let mut vectors = [V::zero(); N];
    for k in 0..n {
        vectors[k] = V::load(&lines[k * stride].0);
    }
    for k in 0..n {
        let mut merged = vectors[0];
        for step in 1..n {
            merged = merged.merge(vectors[step], &steps[k][step]);
        }
        merged.store(&mut lines[k * stride].0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, Kernel};
    use crate::lanes::Memory;

    struct ThereAndBack<'a> {
        lines: &'a mut [Line<f32>],
        n: usize,
        columns: &'a mut Vec<[f32; LANES]>,
    }

    impl Kernel for ThereAndBack<'_> {
        type Element = f32;
        type Output = ();

        #[inline(always)]
        fn run<V: Lanes<Real = f32> + Memory<f32>>(self) {
            to_lanes::<V>(self.lines, self.n, 1);
            self.columns.extend(self.lines.iter().map(|line| line.0));
            from_lanes::<V>(self.lines, self.n, 1);
        }
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn columns_come_out_and_rows_come_back() {
        for isa in Isa::available() {
            for n in 1..=LONGEST {
                let value = |at: usize| at as f32;
                let mut lines: Vec<Line<f32>> = (0..n)
                    .map(|k| Line(std::array::from_fn(|lane| value(k * LANES + lane))))
                    .collect();
                let bits = |lines: &[Line<f32>]| -> Vec<_> {
                    lines.iter().map(|line| line.0.map(f32::to_bits)).collect()
                };
                let before = bits(&lines);
                let mut columns = Vec::new();
                isa.run(ThereAndBack { lines: &mut lines, n, columns: &mut columns });
                for (j, column) in columns.iter().enumerate() {
                    let expected = std::array::from_fn(|row| value(row * n + j).to_bits());
                    assert_eq!(
                        column.map(f32::to_bits),
                        expected,
                        "{} n {n} column {j}",
                        isa.name()
                    );
                }
                assert_eq!(before, bits(&lines), "{} n {n}", isa.name());
            }
        }
    }
}
