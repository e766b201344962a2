//! The update as Keras writes it, with TensorFlow's flush to zero, for matrices whose factors may
//! leave the normal range.
//!
//! ```text
//! v_ij = flush(flush(r_i / mean(r)) · c_j)
//! u_ij = g_ij · (1 / √v_ij)
//! p   −= α · (u_ij / max(1, rms(u) / d))
//! ```
//!
//! With [`SecondMomentUnderflow::Finite`] an element with `v_ij = 0` takes its update from the
//! factors instead, or none where a factor is 0.

use goldstep_core::{Element, SecondMomentUnderflow};

use super::update::{Rule, each_vector};
use super::{CHAIN, Clip, Decay, Line};
use crate::isa::Kernel;
use crate::kernels::read_up_to;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::{CpuElement, Real};
use crate::tile::{Tile, TileMut};

/// The factors of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors<'a, R> {
    /// `r`, from the row at `first_row` on.
    pub(crate) row_factor: &'a [Line<R>],
    /// Where the tile's first row stands in `row_factor`.
    pub(crate) first_row: usize,
    /// `c`, padded to whole lines.
    pub(crate) column_factor: &'a [Line<R>],
    /// `mean(r)`.
    pub(crate) mean: R,
}

impl<R: Real> Factors<'_, R> {
    /// `r` of row `i`.
    #[inline(always)]
    fn row(&self, i: usize) -> R {
        Line::flatten(self.row_factor)[self.first_row + i]
    }

    /// `u` of sixteen elements with these factors.
    #[inline(always)]
    fn update<V: Lanes<Real = R>, C: Clip<R>>(
        &self,
        gradient: V,
        clip: C,
        underflow: SecondMomentUnderflow,
        (r, column): (V, &Line<R>),
    ) -> V {
        let c = V::load(&column.0);
        let share = r.div(V::splat(self.mean)).flush();
        if underflow == SecondMomentUnderflow::MatchKeras {
            return update_of(gradient, clip, share.mul(c).flush());
        }
        // Where all of r is 0 its mean is too, and the quotient is no number.
        let second_moment = r.select_zero(V::zero(), share).mul(c).flush();
        let u = update_of(gradient, clip, second_moment);
        let row_root = r.select_zero(V::zero(), V::splat(R::ONE).div(r.sqrt()));
        let column_root = V::splat(self.mean.root()).div(c.sqrt());
        let column_root = c.select_zero(V::zero(), column_root);
        let g = clip.apply(gradient).flush();
        second_moment.select_zero(g.mul(row_root).mul(column_root), u)
    }
}

/// `g / √v`.
#[inline(always)]
pub(super) fn update_of<V: Lanes, C: Clip<V::Real>>(gradient: V, clip: C, second_moment: V) -> V {
    let inverse_root = V::splat(V::Real::ONE).div(second_moment.sqrt());
    clip.apply(gradient).flush().mul(inverse_root)
}

/// `Σu²` of a tile.
pub(crate) struct LiteralSquares<'a, T: CpuElement, C> {
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) clip: C,
    pub(crate) factors: Factors<'a, T::Real>,
    pub(crate) underflow: SecondMomentUnderflow,
}

impl<T: CpuElement, C: Clip<T::Real>> Kernel for LiteralSquares<'_, T, C> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let mut total = 0.0;
        for i in 0..self.gradient.rows() {
            let r = V::splat(self.factors.row(i));
            let gradients = self.gradient.row(i).chunks(CHAIN * LANES);
            let columns = self.factors.column_factor.chunks(CHAIN);
            for (gradients, columns) in gradients.zip(columns) {
                let mut sum = V::zero();
                for (gradient, column) in gradients.chunks(LANES).zip(columns) {
                    let g = read_up_to::<T, V>(gradient);
                    let u = self.factors.update(g, self.clip, self.underflow, (r, column));
                    if gradient.len() == LANES {
                        sum = sum.add(u.mul(u));
                    } else {
                        // The padding has gradient 0 and factor 0, whose product is NaN.
                        let lanes = u.mul(u).to_array();
                        total += lanes[..gradient.len()].iter().fold(0.0, |t, x| t + x.to_f64());
                    }
                }
                total += sum.total();
            }
        }
        total
    }
}

/// Updates a tile and returns the sum of its new squares.
pub(crate) struct LiteralUpdate<'a, T: CpuElement, C, D> {
    pub(crate) parameter: TileMut<'a, T>,
    pub(crate) gradient: Tile<'a, T>,
    pub(crate) clip: C,
    pub(crate) decay: D,
    pub(crate) factors: Factors<'a, T::Real>,
    pub(crate) underflow: SecondMomentUnderflow,
    /// `max(1, rms(u) / d)`.
    pub(crate) divisor: T::Real,
    /// α.
    pub(crate) step_size: T::Real,
}

impl<T: CpuElement, C: Clip<T::Real>, D: Decay<T::Real>> Kernel for LiteralUpdate<'_, T, C, D> {
    type Element = T;
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes<Real = T::Real> + Memory<T>>(self) -> f64 {
        let Self { mut parameter, gradient, clip, decay, factors, underflow, .. } = self;
        let (divisor, step_size) = (self.divisor, self.step_size);
        let rule = Literal { clip, decay, factors, underflow, divisor, step_size };
        each_vector::<T, V>(&mut parameter, gradient, &rule)
    }
}

struct Literal<'a, R, C, D> {
    clip: C,
    decay: D,
    factors: Factors<'a, R>,
    underflow: SecondMomentUnderflow,
    divisor: R,
    step_size: R,
}

impl<R: Real, C: Clip<R>, D: Decay<R>> Rule<R> for Literal<'_, R, C, D> {
    type Column = Line<R>;

    #[inline(always)]
    fn row<V: Lanes<Real = R>>(&self, i: usize) -> V {
        V::splat(self.factors.row(i))
    }

    #[inline(always)]
    fn columns(&self) -> &[Line<R>] {
        self.factors.column_factor
    }

    #[inline(always)]
    fn new_value<V>(&self, old: V, gradient: V, row: V, column: &Line<R>) -> V
    where
        V: Lanes<Real = R>,
    {
        let u = self.factors.update(gradient, self.clip, self.underflow, (row, column));
        self.decay.apply(old).sub(u.div(V::splat(self.divisor)).mul(V::splat(self.step_size)))
    }
}
