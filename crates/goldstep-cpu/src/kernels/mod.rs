//! The loops over elements: slices and scalars in, no allocation, no settings, no threads.
//!
//! Every kernel is one body over sixteen [`Lanes`], compiled per instruction set by
//! [`Isa::run`](crate::Isa). What it computes, and in which order, is a function of the shape that
//! it is given.

pub(crate) mod columns;
pub(crate) mod elements;
pub(crate) mod factors;
pub(crate) mod full;
pub(crate) mod literal;
mod narrow;
mod narrow_update;
pub(crate) mod rows;
pub(crate) mod small;
pub(crate) mod squares;
pub(crate) mod stream;
mod transpose;
pub(crate) mod update;

use goldstep_core::Element;

pub(crate) use self::narrow::NARROW;
use crate::lanes::{LANES, Lanes, Memory};
use crate::real::Real;

/// Sixteen values on cache lines of their own.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line<R>(pub(crate) [R; LANES]);

impl<R: Real> Line<R> {
    /// The values of lines, one after the other.
    #[inline(always)]
    #[expect(unsafe_code, reason = "as_flattened is for arrays only")]
    pub(crate) fn flatten(lines: &[Self]) -> &[R] {
        const { assert!(size_of::<Self>() == LANES * size_of::<R>(), "a line with padding") };
        // SAFETY: a line is sixteen values and nothing else.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
    }
}

/// How a running mean of squares takes up a new mean: `β·old + (1 − β)·(mean + ε₁)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<R> {
    pub(crate) beta_2: R,
    pub(crate) one_minus_beta_2: R,
    pub(crate) epsilon_1: R,
    /// Whether a product may fall below the normal range and show in the sum. Not where `ε₁` is large:
    /// `(1 − β₂)·ε₁` does not, and `β₂·old` only where it is less than half a digit of the other.
    pub(crate) flushes: bool,
}

impl<R: Real> Moment<R> {
    /// The new running means; what falls below the normal range on the way is zero, as in TensorFlow. The
    /// mean of the squares alone may do so: Keras adds `ε₁` to each square.
    #[inline(always)]
    pub(crate) fn blend<V: Lanes<Real = R>>(self, old: V, mean: V) -> V {
        let fresh = V::splat(self.one_minus_beta_2).mul(mean.add(V::splat(self.epsilon_1)));
        let kept = V::splat(self.beta_2).mul(old);
        if self.flushes { kept.flush().add(fresh.flush()).flush() } else { kept.add(fresh) }
    }

    /// The same for a single value.
    pub(crate) fn blend_one(self, old: R, mean: R) -> R {
        let fresh = (self.one_minus_beta_2 * (mean + self.epsilon_1)).flush();
        ((self.beta_2 * old).flush() + fresh).flush()
    }
}

/// Smallest and largest value and the sum of a factor.
///
/// NaN is found in the sum; the extremes may miss it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) least: f64,
    pub(crate) largest: f64,
    pub(crate) sum: f64,
}

impl Extent {
    /// The extent of nothing.
    pub(crate) const EMPTY: Self =
        Self { least: f64::INFINITY, largest: f64::NEG_INFINITY, sum: 0.0 };

    /// The extent of both, sums added in this order.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            largest: self.largest.max(other.largest),
            sum: self.sum + other.sum,
        }
    }
}

/// Additions to one accumulator after which it passes into a second level. In one long chain equal
/// values, as a constant parameter or a first gradient gives, round the same way at every
/// addition: 512 in a row cost 1.4e-6.
const CHAIN: usize = 32;

/// Extremes and sum of what is written, lane by lane.
struct Range<V> {
    least: V,
    largest: V,
    total: V,
    /// Vectors in `total`.
    count: usize,
    sum: f64,
}

impl<V: Lanes> Range<V> {
    #[inline(always)]
    fn new() -> Self {
        let (least, largest) = (V::splat(V::Real::MAX), V::zero());
        Self { least, largest, total: V::zero(), count: 0, sum: 0.0 }
    }

    /// The extent of a factor.
    #[inline(always)]
    fn of(factor: &[V::Real]) -> Extent {
        let mut range = Self::new();
        let (vectors, tail) = factor.as_chunks::<LANES>();
        for vector in vectors {
            range.take_up(V::load(vector));
        }
        if !tail.is_empty() {
            let mut lanes = [V::Real::ZERO; LANES];
            lanes[..tail.len()].copy_from_slice(tail);
            let values = V::load(&lanes);
            range.take_up_head(values, &mut lanes[..tail.len()]);
        }
        range.extent()
    }

    #[inline(always)]
    fn take_up(&mut self, values: V) {
        self.least = values.lesser(self.least);
        self.largest = values.greater(self.largest);
        self.add(values);
    }

    /// Writes the first lanes and takes up only those.
    #[inline(always)]
    fn take_up_head(&mut self, values: V, target: &mut [V::Real]) {
        let mut lanes = values.to_array();
        target.copy_from_slice(&lanes[..target.len()]);
        lanes[target.len()..].fill(V::Real::ZERO);
        self.add(V::load(&lanes));
        // A value twice changes no extreme.
        lanes[target.len()..].fill(target[0]);
        let values = V::load(&lanes);
        self.least = values.lesser(self.least);
        self.largest = values.greater(self.largest);
    }

    #[inline(always)]
    fn add(&mut self, values: V) {
        self.total = self.total.add(values);
        self.count += 1;
        if self.count == CHAIN {
            self.sum += self.total.total();
            self.total = V::zero();
            self.count = 0;
        }
    }

    #[inline(always)]
    fn extent(self) -> Extent {
        Extent {
            least: self.least.least().to_f64(),
            largest: self.largest.largest().to_f64(),
            sum: self.sum + self.total.total(),
        }
    }
}

/// What clipping does to each element of a gradient.
pub(crate) trait Clip<R: Real>: Copy + Send + Sync {
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V;

    /// The squares of what is applied.
    #[inline(always)]
    fn square<V: Lanes<Real = R>>(self, gradient: V) -> V {
        let g = self.apply(gradient);
        g.mul(g)
    }

    /// A sum and the squares of what is applied.
    #[inline(always)]
    fn add_square<V: Lanes<Real = R>>(self, sum: V, gradient: V) -> V {
        let g = self.apply(gradient);
        sum.plus_product(g, g)
    }

    /// Does something that is compiled for each kind of clipping.
    #[inline(always)]
    fn by_kind<V: Lanes<Real = R>>(self, work: impl ForClip<V>) {
        work.run(self);
    }
}

/// Something that clips, for [`Clip::by_kind`].
pub(crate) trait ForClip<V: Lanes> {
    fn run<C: Clip<V::Real>>(self, clip: C);
}

/// No clipping.
#[derive(Clone, Copy)]
pub(crate) struct Unclipped;

/// By a norm: every element times this.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<R>(pub(crate) R);

/// By value: into `[-bound, bound]`; NaN stays.
#[derive(Clone, Copy)]
pub(crate) struct Bounded<R>(pub(crate) R);

/// All that Keras does, with TensorFlow's flush to zero: `g·factor / divisor`, into
/// `[-bound, bound]`, and zero where `g`, the product or the square is below the normal range.
#[derive(Clone, Copy)]
pub(crate) struct LiteralClip<R> {
    pub(crate) factor: R,
    pub(crate) divisor: R,
    pub(crate) bound: R,
}

/// Clipping. Most kernels serve all kinds at once: a branch in them that always goes the same way costs
/// less than the arithmetic of another kind.
#[derive(Clone, Copy)]
pub(crate) enum Clipped<R> {
    Scale(Scaled<R>),
    Bound(Bounded<R>),
    Literal(LiteralClip<R>),
}

impl<R: Real> Clip<R> for Unclipped {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        gradient
    }
}

impl<R: Real> Clip<R> for Scaled<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        gradient.mul(V::splat(self.0))
    }
}

impl<R: Real> Clip<R> for Bounded<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        let below = V::splat(self.0).lesser(gradient);
        V::splat(R::ZERO - self.0).greater(below)
    }

    // The sign does not matter to a square, and rounding keeps the order: one bound for two.
    #[inline(always)]
    fn square<V: Lanes<Real = R>>(self, gradient: V) -> V {
        if self.0 > R::ZERO {
            return V::splat(self.0 * self.0).lesser(gradient.mul(gradient));
        }
        let g = self.apply(gradient);
        g.mul(g)
    }

    #[inline(always)]
    fn add_square<V: Lanes<Real = R>>(self, sum: V, gradient: V) -> V {
        sum.add(self.square(gradient))
    }
}

impl<R: Real> Clip<R> for LiteralClip<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        let product = gradient.flush().mul(V::splat(self.factor)).flush();
        Bounded(self.bound).apply(product.div(V::splat(self.divisor)).flush())
    }

    #[inline(always)]
    fn square<V: Lanes<Real = R>>(self, gradient: V) -> V {
        let g = self.apply(gradient);
        g.mul(g).flush()
    }

    #[inline(always)]
    fn add_square<V: Lanes<Real = R>>(self, sum: V, gradient: V) -> V {
        sum.add(self.square(gradient))
    }
}

impl<R: Real> Clip<R> for Clipped<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, gradient: V) -> V {
        match self {
            Self::Scale(clip) => clip.apply(gradient),
            Self::Bound(clip) => clip.apply(gradient),
            Self::Literal(clip) => clip.apply(gradient),
        }
    }

    #[inline(always)]
    fn square<V: Lanes<Real = R>>(self, gradient: V) -> V {
        match self {
            Self::Scale(clip) => clip.square(gradient),
            Self::Bound(clip) => clip.square(gradient),
            Self::Literal(clip) => clip.square(gradient),
        }
    }

    #[inline(always)]
    fn add_square<V: Lanes<Real = R>>(self, sum: V, gradient: V) -> V {
        match self {
            Self::Scale(clip) => clip.add_square(sum, gradient),
            Self::Bound(clip) => clip.add_square(sum, gradient),
            Self::Literal(clip) => clip.add_square(sum, gradient),
        }
    }

    #[inline(always)]
    fn by_kind<V: Lanes<Real = R>>(self, work: impl ForClip<V>) {
        match self {
            _ if !V::BY_KIND => work.run(self),
            Self::Scale(clip) => work.run(clip),
            Self::Bound(clip) => work.run(clip),
            Self::Literal(clip) => work.run(clip),
        }
    }
}

/// What weight decay does to each element of a parameter.
pub(crate) trait Decay<R: Real>: Copy + Send + Sync {
    fn apply<V: Lanes<Real = R>>(self, parameter: V) -> V;
}

/// No weight decay.
#[derive(Clone, Copy)]
pub(crate) struct Undecayed;

/// `x − x·weight_decay·learning_rate`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decayed<R> {
    pub(crate) weight_decay: R,
    pub(crate) learning_rate: R,
}

impl<R: Real> Decayed<R> {
    /// What becomes of a single element.
    pub(crate) fn of_one(self, parameter: R) -> R {
        parameter - parameter * self.weight_decay * self.learning_rate
    }
}

impl<R: Real> Decay<R> for Undecayed {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, parameter: V) -> V {
        parameter
    }
}

impl<R: Real> Decay<R> for Decayed<R> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, parameter: V) -> V {
        let part = parameter.mul(V::splat(self.weight_decay));
        parameter.sub(part.mul(V::splat(self.learning_rate)))
    }
}

/// For kernels that are rare: decided for every vector, and compiled once.
impl<R: Real> Decay<R> for Option<Decayed<R>> {
    #[inline(always)]
    fn apply<V: Lanes<Real = R>>(self, parameter: V) -> V {
        match self {
            Some(decayed) => decayed.apply(parameter),
            None => parameter,
        }
    }
}

/// The sum of a few vectors in a fixed tree; their number is a power of two.
#[inline(always)]
pub(crate) fn tree<V: Lanes, const K: usize>(mut sums: [V; K]) -> V {
    let mut width = K;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            sums[k] = sums[k].add(sums[k + width]);
        }
    }
    sums[0]
}

#[inline(always)]
fn add_to<V: Lanes>(sum: V, line: &mut Line<V::Real>) {
    V::load(&line.0).add(sum).store(&mut line.0);
}

/// Sixteen elements, or fewer and zeros.
#[inline(always)]
fn read_up_to<T, V: Memory<T>>(source: &[T]) -> V {
    match source.first_chunk::<LANES>() {
        Some(vector) => V::read(vector),
        // Nothing is nowhere, and a masked load from there took hundreds of cycles.
        None if source.is_empty() => V::zero(),
        None => V::read_head(source),
    }
}

/// Writes as many lanes as there are elements, at most sixteen, and returns them as they were
/// rounded to memory, the others zero.
#[inline(always)]
fn write_up_to<T, V: Memory<T>>(value: V, target: &mut [T]) -> V {
    if let Some(vector) = target.first_chunk_mut::<LANES>() {
        return value.write(vector);
    }
    value.write_head(target);
    V::read_head(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::ArrayLanes;

    #[test]
    fn squares_are_those_of_the_clipped_gradient() {
        let mut gradient = [0.0_f32; LANES];
        let some = [0.0, -0.0, 0.3, -0.3, 0.1, 1e-30, 1e30, f32::MAX, f32::INFINITY, f32::NAN];
        for (lane, &value) in gradient.iter_mut().zip(&some) {
            *lane = value;
        }
        let gradient = ArrayLanes::load(&gradient);
        for bound in [0.3, 0.1, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN, 0.0, -0.3] {
            let clip = Clipped::Bound(Bounded(bound));
            let clipped = clip.apply(gradient);
            let expected = clipped.mul(clipped).to_array().map(f32::to_bits);
            assert_eq!(clip.square(gradient).to_array().map(f32::to_bits), expected, "{bound}");
        }
    }
}
