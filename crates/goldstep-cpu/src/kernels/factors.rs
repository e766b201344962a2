//! Loops over the factors of a matrix: `O(rows + columns)`.

use super::{Extent, Line, Moment};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::Real;

/// Lines whose partial sums are added in the type of the lanes, before f64 takes over.
const GROUP: usize = 64;

/// Adds one array of lines to another.
pub(crate) struct AddLines<'a, R> {
    pub(crate) target: &'a mut [Line<R>],
    pub(crate) source: &'a [Line<R>],
}

impl<R: Real> Kernel for AddLines<'_, R> {
    type Element = R;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) {
        for (target, source) in self.target.iter_mut().zip(self.source) {
            V::load(&target.0).add(V::load(&source.0)).store(&mut target.0);
        }
    }
}

/// Finishes the column factor: `c = β₂ c + (1 − β₂)(C / m + ε₁)`, and `Σ_j W_j / c_j`.
pub(crate) struct FinishColumns<'a, R> {
    pub(crate) column_sums: &'a [Line<R>],
    pub(crate) weighted_sums: &'a [Line<R>],
    pub(crate) rows: R,
    pub(crate) moment: Moment<R>,
    pub(crate) column_factor: &'a mut [R],
}

impl<R: Real> Kernel for FinishColumns<'_, R> {
    type Element = R;
    /// The extent of `c`, and `Σ_j W_j / c_j`.
    type Output = (Extent, f64);

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) -> (Extent, f64) {
        let rows = V::splat(self.rows);
        let mut range = (V::splat(R::MAX), V::zero());
        let mut extent = Extent::EMPTY;
        let mut total = 0.0;
        let lines = self.column_sums.chunks(GROUP).zip(self.weighted_sums.chunks(GROUP));
        for ((sums, weighted), factors) in lines.zip(self.column_factor.chunks_mut(GROUP * LANES)) {
            let (mut sum, mut quotients) = (V::zero(), V::zero());
            let (vectors, tail) = factors.as_chunks_mut::<LANES>();
            for ((factor, sums), weighted) in vectors.iter_mut().zip(sums).zip(weighted) {
                let new = self.moment.blend(V::load(factor), V::load(&sums.0).div(rows));
                new.store(factor);
                sum = sum.add(new);
                range = (new.lesser(range.0), new.greater(range.1));
                quotients = quotients.add(V::load(&weighted.0).div(new));
            }
            extent.sum += sum.total();
            total += quotients.total();
            if let (Some(sums), Some(weighted)) =
                (sums.get(vectors.len()), weighted.get(vectors.len()))
                && !tail.is_empty()
            {
                let mut lanes = [R::ONE; LANES];
                lanes[..tail.len()].copy_from_slice(tail);
                let new = self.moment.blend(V::load(&lanes), V::load(&sums.0).div(rows));
                new.store(&mut lanes);
                tail.copy_from_slice(&lanes[..tail.len()]);
                let quotients = V::load(&weighted.0).div(new).to_array();
                for (factor, quotient) in tail.iter().zip(quotients) {
                    let factor = factor.to_f64();
                    extent = extent.join(Extent { least: factor, largest: factor, sum: factor });
                    total += quotient.to_f64();
                }
            }
        }
        if self.column_factor.len() >= LANES {
            for (least, largest) in range.0.to_array().into_iter().zip(range.1.to_array()) {
                extent.least = extent.least.min(least.to_f64());
                extent.largest = extent.largest.max(largest.to_f64());
            }
        }
        (extent, total)
    }
}

/// What a pass over a matrix needs of a factor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<R> {
    /// `scale / √(factor / divisor)`: a share of the update.
    InverseRoot { divisor: R, scale: R },
    /// The factor itself.
    Same,
}

impl<R: Real> Form<R> {
    #[inline(always)]
    fn of<V: Lanes<Real = R>>(self, factor: V) -> V {
        match self {
            Self::InverseRoot { divisor, scale } => {
                V::splat(scale).div(factor.div(V::splat(divisor)).sqrt())
            }
            Self::Same => factor,
        }
    }
}

/// Writes one form of a factor into lines, the last one padded with zeros.
pub(crate) struct Scales<'a, R> {
    pub(crate) factor: &'a [R],
    pub(crate) form: Form<R>,
    pub(crate) target: &'a mut [Line<R>],
}

impl<R: Real> Kernel for Scales<'_, R> {
    type Element = R;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) {
        let (vectors, tail) = self.factor.as_chunks::<LANES>();
        for (target, factor) in self.target.iter_mut().zip(vectors) {
            self.form.of(V::load(factor)).store(&mut target.0);
        }
        if let Some(target) = self.target.get_mut(vectors.len())
            && !tail.is_empty()
        {
            target.0 = [R::ZERO; LANES];
            let lanes = self.form.of(V::read_head(tail)).to_array();
            target.0[..tail.len()].copy_from_slice(&lanes[..tail.len()]);
        }
    }
}
