//! Sums of squares, in the steps in which an update goes through a tile: they are part of the bits.

use super::narrow::NARROW;
use super::narrow_update::ROWS;
use super::{CHAIN, Line, tree};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory, Routine};
use crate::real::CpuElement;
use crate::tile::Tile;

/// Independent sums.
pub(super) const SUMS: usize = 4;
/// Elements that go into them at a time.
pub(super) const GROUP: usize = SUMS * LANES;

/// A sum of squares in three levels: chains, runs of rows, all.
pub(super) struct Squares<V> {
    sums: [V; SUMS],
    groups: usize,
    tails: V,
    run: V,
    total: V,
}

/// Rows whose squares are summed from nothing: a chain of groups, or one row of more.
pub(crate) const fn rows_per_run(columns: usize) -> usize {
    match (columns / GROUP, CHAIN) {
        (0, chain) => chain,
        (groups, chain) if groups < chain => chain / groups,
        _ => 1,
    }
}

impl<V: Lanes> Squares<V> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let zero = V::zero();
        Self { sums: [zero; SUMS], groups: 0, tails: zero, run: zero, total: zero }
    }

    /// Adds vector `k` of a group.
    #[inline(always)]
    pub(super) fn add(&mut self, k: usize, x: V) {
        self.sums[k] = self.sums[k].plus_product(x, x);
    }

    /// Adds a vector that belongs to no group.
    #[inline(always)]
    pub(super) fn add_tail(&mut self, x: V) {
        self.tails = self.tails.plus_product(x, x);
    }

    /// Adds a run of elements, in chains of at most so many groups.
    #[inline(always)]
    fn add_all<T>(&mut self, elements: &[T], chain: usize)
    where
        V: Memory<T>,
    {
        let (vectors, tail) = elements.as_chunks::<LANES>();
        let (groups, few) = vectors.as_chunks::<SUMS>();
        for groups in groups.chunks(chain.max(1)) {
            for group in groups {
                for (k, vector) in group.iter().enumerate() {
                    self.add(k, V::read(vector));
                }
            }
            self.pass(groups.len());
        }
        for vector in few {
            self.add_tail(V::read(vector));
        }
        if !tail.is_empty() {
            self.add_tail(V::read_head(tail));
        }
    }

    /// Ends a number of groups.
    #[inline(always)]
    pub(super) fn pass(&mut self, groups: usize) {
        self.groups += groups;
        if self.groups >= CHAIN {
            self.run = self.run.add(tree(self.sums));
            self.sums = [V::zero(); SUMS];
            self.groups = 0;
        }
    }

    /// Ends a run of rows.
    #[inline(always)]
    pub(super) fn end_run(&mut self) {
        let total = self.total.add(self.of_run());
        *self = Self { total, ..Self::new() };
    }

    /// The sum of the rows since the last run has ended.
    #[inline(always)]
    fn of_run(&self) -> V {
        self.run.add(tree(self.sums)).add(self.tails)
    }

    #[inline(always)]
    pub(super) fn total(self) -> f64 {
        self.total.add(self.of_run()).total()
    }
}

/// Whether a tile is updated without regard to its rows: one vector of a row would be mostly empty,
/// and a row of 8 took 10 ns. A function of the shape, since only parts of rows are not contiguous.
#[inline(always)]
pub(super) fn is_narrow<T>(tile: Tile<'_, T>) -> bool {
    tile.columns() <= NARROW && tile.is_contiguous()
}

/// `Σp²` of a tile, to the bit what an update of this tile would have returned.
pub(crate) struct SquareSum<'a, T: CpuElement> {
    pub(crate) parameter: Tile<'a, T>,
}

impl<T: CpuElement> Kernel for SquareSum<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        if is_narrow(self.parameter) {
            let columns = self.parameter.columns();
            return V::call(FlatSquares { elements: self.parameter.elements(), columns });
        }
        let (mut total, mut rest) = (V::zero(), self.parameter);
        while rest.rows() > 0 {
            let (rows, after) = rest.split_rows(rows_per_run(rest.columns()));
            total = total.add(of_run::<T, V>(rows));
            rest = after;
        }
        total.total()
    }
}

/// [`SquareSum`] of a tile of which the sums of some runs are known; the others become so.
pub(crate) struct SquareRuns<'a, T: CpuElement> {
    pub(crate) parameter: Tile<'a, T>,
    /// A bit for each run.
    pub(crate) known: &'a mut u32,
    /// One for each run, none for a narrow matrix.
    pub(crate) sums: &'a mut [Line<T::Real>],
}

impl<T: CpuElement> Kernel for SquareRuns<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let Self { parameter, known, sums } = self;
        if is_narrow(parameter) {
            let columns = parameter.columns();
            return V::call(FlatSquares { elements: parameter.elements(), columns });
        }
        let (mut total, mut rest) = (V::zero(), parameter);
        for (k, sum) in sums.iter_mut().enumerate() {
            let (rows, after) = rest.split_rows(rows_per_run(rest.columns()));
            if *known >> k & 1 == 0 {
                of_run::<T, V>(rows).store(&mut sum.0);
            }
            total = total.add(V::load(&sum.0));
            rest = after;
        }
        *known = u32::MAX;
        total.total()
    }
}

/// Places in memory that are read at the same time.
const PLACES: usize = 4;
/// Vectors that are read at each of them at a time.
const AT_ONCE: usize = 2;

/// `Σx²` of elements that no update goes through, as of a gradient for its norm. It is read at four
/// places at once: a processor reads ahead further at four than at one, and 16 Mi elements took 0.90
/// of the time.
pub(crate) struct NormSquares<'a, T> {
    pub(crate) elements: &'a [T],
}

impl<T: CpuElement> Kernel for NormSquares<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let groups = self.elements.len() / (PLACES * AT_ONCE * LANES);
        let (places, rest) = self.elements.split_at(groups * PLACES * AT_ONCE * LANES);
        let (places, _) = places.as_chunks::<LANES>().0.as_chunks::<AT_ONCE>();
        let (front, back) = places.split_at(2 * groups);
        let (first, second) = front.split_at(groups);
        let (third, fourth) = back.split_at(groups);
        let mut total = V::zero();
        let mut start = 0;
        while start < groups {
            let run = start..groups.min(start + CHAIN);
            let mut sums = [V::zero(); PLACES * AT_ONCE];
            let groups = first[run.clone()].iter().zip(&second[run.clone()]);
            for ((a, b), (c, d)) in groups.zip(third[run.clone()].iter().zip(&fourth[run.clone()]))
            {
                for (p, group) in [a, b, c, d].into_iter().enumerate() {
                    for (k, vector) in group.iter().enumerate() {
                        let (sum, x) = (&mut sums[p * AT_ONCE + k], V::read(vector));
                        *sum = sum.plus_product(x, x);
                    }
                }
            }
            total = total.add(tree(sums));
            start = run.end;
        }
        let (vectors, tail) = rest.as_chunks::<LANES>();
        for vector in vectors {
            let x = V::read(vector);
            total = total.plus_product(x, x);
        }
        if !tail.is_empty() {
            let x = V::read_head(tail);
            total = total.plus_product(x, x);
        }
        total.total()
    }
}

/// The squares of a run of rows, summed into sixteen lanes.
#[inline(always)]
fn of_run<T: CpuElement, V: Lanes<Real = T::Real> + Memory<T>>(rows: Tile<'_, T>) -> V {
    let mut squares = Squares::<V>::new();
    for i in 0..rows.rows() {
        squares.add_all(rows.row(i), CHAIN);
    }
    squares.of_run()
}

/// The squares of a narrow tile of `columns`, in the steps of [`narrow`](super::narrow_update::narrow).
pub(super) struct FlatSquares<'a, T> {
    pub(super) elements: &'a [T],
    pub(super) columns: usize,
}

impl<T, V: Lanes + Memory<T>> Routine<V> for FlatSquares<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut squares = Squares::<V>::new();
        for part in self.elements.chunks(ROWS * self.columns) {
            squares.add_all(part, part.len());
        }
        squares.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn a_norm_takes_up_every_element_once() {
        // Whole numbers, so that every order of additions gives the same.
        let elements: Vec<f32> = (0..20_u8).cycle().take(9_000).map(f32::from).collect();
        for length in [0, 1, 15, 16, 17, 127, 128, 129, 255, 4_095, 4_096, 4_225, 9_000] {
            let elements = &elements[..length];
            let expected = elements.iter().fold(0.0, |sum, x| sum + x * x);
            for isa in Isa::available() {
                let squares = isa.run(NormSquares { elements });
                assert_eq!(squares.to_bits(), f64::from(expected).to_bits(), "{length} {isa:?}");
            }
        }
    }
}
