//! Many short rows at a time: sixteen of them, one in each lane.
//!
//! Sixteen rows of `n` elements lie in `n` vectors. [`to_lanes`] permutes those into `n` vectors
//! that hold one column each, and [`from_lanes`] does the reverse. [`repeated`] and [`spread`] say
//! which factor belongs to each element where sixteen matrices follow each other.

use crate::lanes::{LANES, Lanes};

/// Elements of a row at most.
pub(super) const LONGEST: usize = 8;

/// Lanes from which a vector is made.
type Index = [u32; LANES];
/// For each `n`, for each vector that comes out, for each but the first that goes in: where its
/// lanes come from, those of the vectors before or the new one.
type Steps = [[[Index; LONGEST]; LONGEST]; LONGEST + 1];

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

/// Puts column `j` of sixteen rows of `n` elements into vector `j`.
#[inline(always)]
pub(super) fn to_lanes<V: Lanes, const N: usize>(vectors: &[V; N], n: usize) -> [V; N] {
    permute(vectors, n, &TO_LANES[n])
}

/// The reverse of [`to_lanes`].
#[inline(always)]
pub(super) fn from_lanes<V: Lanes, const N: usize>(vectors: &[V; N], n: usize) -> [V; N] {
    permute(vectors, n, &FROM_LANES[n])
}

#[inline(always)]
fn permute<V: Lanes, const N: usize>(
    vectors: &[V; N],
    n: usize,
    steps: &[[Index; LONGEST]; LONGEST],
) -> [V; N] {
    let mut permuted = *vectors;
    for k in 0..n {
        let mut merged = vectors[0];
        for step in 1..n {
            merged = merged.merge(vectors[step], &steps[k][step]);
        }
        permuted[k] = merged;
    }
    permuted
}

/// For each `n`, for each of `n` vectors: its lanes if each of sixteen values stands in them `n`
/// times.
#[expect(clippy::cast_possible_truncation, reason = "below 16")]
static REPEATED: [[Index; LONGEST]; LONGEST + 1] = {
    let mut repeated = [[[0; LANES]; LONGEST]; LONGEST + 1];
    let mut n = 1;
    while n <= LONGEST {
        let mut at = 0;
        while at < n * LANES {
            repeated[n][at / LANES][at % LANES] = (at / n) as u32;
            at += 1;
        }
        n += 1;
    }
    repeated
};

/// The lanes of vector `k` of `n` in which each of sixteen values stands `n` times.
#[inline(always)]
pub(super) fn repeated(n: usize, k: usize) -> &'static Index {
    &REPEATED[n][k]
}

/// Vectors of sixteen matrices of all shapes.
const SPREAD_LENGTH: usize = {
    let all = LONGEST * (LONGEST + 1) / 2;
    all * all
};

/// Where the vectors of sixteen matrices of a shape begin in [`SPREAD`].
const fn spread_start(rows: usize, columns: usize) -> usize {
    let all = LONGEST * (LONGEST + 1) / 2;
    all * (rows * (rows - 1) / 2) + rows * (columns * (columns - 1) / 2)
}

/// The vector of column factors from which vector `k` of sixteen matrices takes its first.
const fn spread_first((rows, columns): (usize, usize), k: usize) -> usize {
    k * LANES / (rows * columns) * columns / LANES
}

#[expect(clippy::cast_possible_truncation, reason = "below 32")]
static SPREAD: [Index; SPREAD_LENGTH] = {
    let mut spread = [[0; LANES]; SPREAD_LENGTH];
    let mut shape = 0;
    while shape < LONGEST * LONGEST {
        let (rows, columns) = (shape / LONGEST + 1, shape % LONGEST + 1);
        let mut at = 0;
        while at < rows * columns * LANES {
            let (k, lane) = (at / LANES, at % LANES);
            let factor = at / (rows * columns) * columns + at % columns;
            let from = factor - spread_first((rows, columns), k) * LANES;
            assert!(from < 2 * LANES, "an element of a third vector");
            spread[spread_start(rows, columns) + k][lane] = from as u32;
            at += 1;
        }
        shape += 1;
    }
    spread
};

/// The column factors of the elements in vector `k` of sixteen matrices, from `factors` as they are
/// in memory.
#[inline(always)]
pub(super) fn spread<V: Lanes, const N: usize>(
    factors: &[V; N],
    (rows, columns): (usize, usize),
    k: usize,
) -> V {
    let first = spread_first((rows, columns), k);
    let next = (first + 1).min(columns - 1);
    factors[first].merge(factors[next], &SPREAD[spread_start(rows, columns) + k])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, Kernel};
    use crate::lanes::Memory;

    /// Writes what a function of vectors makes of vectors that count their lanes.
    struct Permuted<'a, F> {
        vectors: usize,
        function: F,
        lanes: &'a mut Vec<usize>,
    }

    /// A function of `n` vectors; no closure, which could not be generic.
    trait Function {
        fn of<V: Lanes>(&self, vectors: &[V; LONGEST]) -> Vec<V>;
    }

    impl<F: Function> Kernel for Permuted<'_, F> {
        type Element = f32;
        type Output = ();

        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small numbers"
        )]
        #[inline(always)]
        fn run<V: Lanes<Real = f32> + Memory<f32>>(self) {
            let vector = |k| std::array::from_fn(|lane| (k * LANES + lane) as f32);
            let zero = V::zero();
            let mut vectors = [zero; LONGEST];
            for (k, vector_k) in vectors.iter_mut().enumerate().take(self.vectors) {
                *vector_k = V::load(&vector(k));
            }
            for vector in self.function.of(&vectors) {
                self.lanes.extend(vector.to_array().map(|lane| lane as usize));
            }
        }
    }

    fn permuted(isa: Isa, vectors: usize, function: impl Function) -> Vec<usize> {
        let mut lanes = Vec::new();
        isa.run(Permuted { vectors, function, lanes: &mut lanes });
        lanes
    }

    struct ThereAndBack(usize);

    impl Function for ThereAndBack {
        fn of<V: Lanes>(&self, vectors: &[V; LONGEST]) -> Vec<V> {
            let columns = to_lanes(vectors, self.0);
            let back = from_lanes(&columns, self.0);
            columns.iter().take(self.0).chain(back.iter().take(self.0)).copied().collect()
        }
    }

    #[test]
    fn columns_come_out_and_rows_come_back() {
        for isa in Isa::available() {
            for n in 1..=LONGEST {
                let columns = (0..n).flat_map(|j| (0..LANES).map(move |row| row * n + j));
                let expected: Vec<_> = columns.chain(0..n * LANES).collect();
                let actual = permuted(isa, n, ThereAndBack(n));
                assert_eq!(actual, expected, "{} n {n}", isa.name());
            }
        }
    }

    struct Spread(usize, usize);

    impl Function for Spread {
        fn of<V: Lanes>(&self, vectors: &[V; LONGEST]) -> Vec<V> {
            (0..self.0 * self.1).map(|k| spread(vectors, (self.0, self.1), k)).collect()
        }
    }

    #[test]
    fn every_element_meets_its_column() {
        for isa in Isa::available() {
            for (rows, columns) in (1..=LONGEST).flat_map(|m| (1..=LONGEST).map(move |n| (m, n))) {
                let elements = (0..LANES).flat_map(|matrix| {
                    (0..rows * columns).map(move |at| matrix * columns + at % columns)
                });
                let actual = permuted(isa, columns, Spread(rows, columns));
                assert_eq!(
                    actual,
                    elements.collect::<Vec<_>>(),
                    "{} {rows} x {columns}",
                    isa.name()
                );
            }
        }
    }

    struct Repeated(usize);

    impl Function for Repeated {
        fn of<V: Lanes>(&self, vectors: &[V; LONGEST]) -> Vec<V> {
            (0..self.0).map(|k| vectors[0].permute(repeated(self.0, k))).collect()
        }
    }

    #[test]
    fn values_are_repeated() {
        for isa in Isa::available() {
            for n in 1..=LONGEST {
                let expected: Vec<_> = (0..n * LANES).map(|at| at / n).collect();
                assert_eq!(permuted(isa, 1, Repeated(n)), expected, "{} n {n}", isa.name());
            }
        }
    }
}
