//! Loops over elements that follow the update.

use goldstep_core::{Constraint, Element};

use crate::isa::Kernel;
use crate::kernels::read_up_to;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};
use crate::tile::TileMut;

/// Moves averages towards a tile: `average = momentum·average + (1 − momentum)·p`, and zero below the
/// normal range, where it would otherwise stay for good.
pub(crate) struct Blend<'a, T: CpuElement> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) average: TileMut<'a, T::Real>,
    pub(crate) momentum: T::Real,
    pub(crate) one_minus_momentum: T::Real,
    /// Whether the tile becomes its average.
    pub(crate) overwrite: bool,
}

impl<T: CpuElement> Kernel for Blend<'_, T> {
    type Element = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) {
        let Self { mut parameter, mut average, overwrite, .. } = self;
        let (keep, take) = (V::splat(self.momentum), V::splat(self.one_minus_momentum));
        for i in 0..parameter.rows() {
            let (p, p_tail) = parameter.row(i).as_chunks_mut::<LANES>();
            let (averages, average_tail) = average.row(i).as_chunks_mut::<LANES>();
            for (p, average) in p.iter_mut().zip(averages) {
                let new = keep.mul(V::load(average)).add(take.mul(V::read(p))).flush();
                new.store(average);
                if overwrite {
                    new.write(p);
                }
            }
            if !p_tail.is_empty() {
                let mut lanes = [T::Real::ZERO; LANES];
                lanes[..p_tail.len()].copy_from_slice(average_tail);
                let new = keep.mul(V::load(&lanes)).add(take.mul(V::read_head(p_tail))).flush();
                new.store(&mut lanes);
                average_tail.copy_from_slice(&lanes[..p_tail.len()]);
                if overwrite {
                    new.write_head(p_tail);
                }
            }
        }
    }
}

/// Whether all elements are zero or below the normal range.
pub(crate) struct IsFlushed<'a, T> {
    pub(crate) elements: &'a [T],
}

impl<T: CpuElement> Kernel for IsFlushed<'_, T> {
    type Element = T;
    type Output = bool;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> bool {
        // A look now and then, since what is not zero is usually seen soon.
        self.elements.chunks(64 * LANES).all(|some| {
            let (mut least, mut largest) = (V::zero(), V::zero());
            for vector in some.chunks(LANES) {
                let g = read_up_to::<T, V>(vector).flush();
                (least, largest) = (least.lesser(g), largest.greater(g));
            }
            least.to_array() == largest.to_array()
        })
    }
}

/// Applies a constraint to every element, as Keras does: a NaN stays.
pub(crate) fn constrain<T: CpuElement>(parameter: &mut [T], constraint: Constraint) {
    let mut apply = |rule: &dyn Fn(T::Real) -> T::Real| {
        for element in parameter.iter_mut() {
            *element = T::from_real(rule(element.to_real()));
        }
    };
    match constraint {
        // Keras multiplies by the comparison, so an infinite negative element becomes NaN.
        Constraint::NonNegative => {
            apply(&|x| x * if x >= T::Real::ZERO { T::Real::ONE } else { T::Real::ZERO });
        }
        Constraint::Clip { minimum, maximum } => {
            let (minimum, maximum) = (T::Real::round_from(minimum), T::Real::round_from(maximum));
            apply(&|x| {
                let below = if maximum < x { maximum } else { x };
                if minimum > below { minimum } else { below }
            });
        }
        _ => {}
    }
}
