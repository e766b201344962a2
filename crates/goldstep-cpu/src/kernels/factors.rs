//! Loops over the factors of a matrix: `O(rows + columns)`.

use super::{CHAIN, Extent, Line, Moment, Range};
use crate::isa::Kernel;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::Real;

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
        let count = V::splat(self.rows);
        let mut range = Range::<V>::new();
        let mut total = 0.0;
        let lines = self.column_sums.chunks(CHAIN).zip(self.weighted_sums.chunks(CHAIN));
        for ((sums, weighted), factors) in lines.zip(self.column_factor.chunks_mut(CHAIN * LANES)) {
            let mut quotients = V::zero();
            let (vectors, tail) = factors.as_chunks_mut::<LANES>();
            for ((factor, sums), weighted) in vectors.iter_mut().zip(sums).zip(weighted) {
                let new = self.moment.blend(V::load(factor), V::load(&sums.0).div(count));
                new.store(factor);
                range.take_up(new);
                quotients = quotients.add(V::load(&weighted.0).div(new));
            }
            total += quotients.total();
            if let (Some(sums), Some(weighted)) =
                (sums.get(vectors.len()), weighted.get(vectors.len()))
                && !tail.is_empty()
            {
                let mut lanes = [R::ONE; LANES];
                lanes[..tail.len()].copy_from_slice(tail);
                let new = self.moment.blend(V::load(&lanes), V::load(&sums.0).div(count));
                range.take_up_head(new, tail);
                let quotients = V::load(&weighted.0).div(new).to_array();
                total += quotients[..tail.len()].iter().fold(0.0, |sum, q| sum + q.to_f64());
            }
        }
        (range.extent(), total)
    }
}

/// Takes up a gradient of zeros: `β₂ s + (1 − β₂) ε₁`.
pub(crate) struct Rest<'a, R> {
    pub(crate) factor: &'a mut [R],
    pub(crate) moment: Moment<R>,
}

impl<R: Real> Kernel for Rest<'_, R> {
    type Element = R;
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) {
        let (vectors, tail) = self.factor.as_chunks_mut::<LANES>();
        for vector in vectors {
            self.moment.blend(V::load(vector), V::zero()).store(vector);
        }
        for factor in tail {
            *factor = self.moment.blend_one(*factor, R::ZERO);
        }
    }
}

/// The extent of a factor.
pub(crate) struct ExtentOf<'a, R> {
    pub(crate) factor: &'a [R],
}

impl<R: Real> Kernel for ExtentOf<'_, R> {
    type Element = R;
    type Output = Extent;

    #[inline(always)]
    fn run<V: Lanes<Real = R> + Memory<R>>(self) -> Extent {
        Range::<V>::of(self.factor)
    }
}

/// What a pass over a matrix needs of a factor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<R> {
    /// `√(square / factor)`: a share of the update.
    InverseRoot { square: R },
    /// The factor itself.
    Same,
}

impl<R: Real> Form<R> {
    #[inline(always)]
    fn of<V: Lanes<Real = R>>(self, factor: V) -> V {
        match self {
            Self::InverseRoot { square } => V::splat(square).div(factor).sqrt(),
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
