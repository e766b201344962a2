//! Loops of the least traffic that a step can have, and hardly any arithmetic: what a step is
//! measured against. Vectorised like the kernels, with eight sums in flight.

use super::tree;
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};
use crate::tile::{Tile, TileMut};

/// Independent sums.
const SUMS: usize = 8;

/// `Σx` of a tile.
pub(crate) struct StreamSum<'a, T: CpuElement> {
    pub(crate) elements: Tile<'a, T>,
}

impl<T: CpuElement> Kernel for StreamSum<'_, T> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let mut sums = [V::zero(); SUMS];
        for i in 0..self.elements.rows() {
            let (vectors, tail) = self.elements.row(i).as_chunks::<LANES>();
            let (groups, few) = vectors.as_chunks::<SUMS>();
            for group in groups {
                for k in 0..SUMS {
                    sums[k] = sums[k].add(V::read(&group[k]));
                }
            }
            for vector in few {
                sums[0] = sums[0].add(V::read(vector));
            }
            if !tail.is_empty() {
                sums[1] = sums[1].add(V::read_head(tail));
            }
        }
        tree(sums).total()
    }
}

/// `p −= a·g`.
pub(crate) struct StreamUpdate<'a, T: CpuElement> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) rate: T::Real,
}

impl<T: CpuElement> Kernel for StreamUpdate<'_, T> {
    type Element = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) {
        let Self { mut parameter, gradient, rate } = self;
        let rate = V::splat(rate);
        for i in 0..gradient.rows() {
            let (p, p_tail) = parameter.row(i).as_chunks_mut::<LANES>();
            let (g, g_tail) = gradient.row(i).as_chunks::<LANES>();
            for (p, g) in p.iter_mut().zip(g) {
                V::read(p).sub(rate.mul(V::read(g))).write(p);
            }
            if !p_tail.is_empty() {
                let new = V::read_head(p_tail).sub(rate.mul(V::read_head(g_tail)));
                new.write_head(p_tail);
            }
        }
    }
}

/// `p −= min(v, a·g)`: what an update of a parameter reads and writes that keeps a second moment
/// for each element.
pub(crate) struct StreamFullUpdate<'a, T: CpuElement> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) second_moment: &'a [T::Real],
    pub(crate) rate: T::Real,
}

impl<T: CpuElement> Kernel for StreamFullUpdate<'_, T> {
    type Element = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) {
        let Self { mut parameter, gradient, second_moment, rate } = self;
        let rate = V::splat(rate);
        let (p, _) = parameter.row(0).as_chunks_mut::<LANES>();
        let (g, _) = gradient.row(0).as_chunks::<LANES>();
        let (v, _) = second_moment.as_chunks::<LANES>();
        for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
            // With a rate of 0 nothing, also where `v` is infinite or NaN.
            V::read(p).sub(V::load(v).lesser(rate.mul(V::read(g)))).write(p);
        }
    }
}

/// `s = b·s`: reading and writing a state.
pub(crate) struct StreamState<'a, R> {
    pub(crate) state: &'a mut [R],
    pub(crate) factor: R,
}

impl<R: Real> Kernel for StreamState<'_, R> {
    type Element = R;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) {
        let factor = V::splat(self.factor);
        let (vectors, tail) = self.state.as_chunks_mut::<LANES>();
        for vector in vectors {
            V::load(vector).mul(factor).store(vector);
        }
        for value in tail {
            *value = *value * self.factor;
        }
    }
}
