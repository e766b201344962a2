//! The only place with threads: recursive halving along a plan.
//!
//! [`fold`] halves a share of work until one chunk is left, and joins the results on the way back.
//! The tree is a function of the number of chunks, so the same sums are added in the same order
//! whether the halves run one after the other or on different threads.

use crate::isa::Isa;
use crate::plan::Axis;
use crate::real::Real;
use crate::scratch::{Scratch, Slot};
use crate::tile::{Tile, TileMut};

/// What a task needs from its surroundings.
pub struct Context<'a, R> {
    pub(crate) isa: Isa,
    /// Whether halves may run on different threads.
    pub(crate) parallel: bool,
    pub(crate) scratch: &'a Scratch<R>,
    /// Where the updates of vectors are kept.
    pub(crate) updates: &'a Scratch<R>,
    /// Whether parameters and gradients are taken to come from beyond the caches. It decides what
    /// is asked for ahead, and no bit.
    pub(crate) far: bool,
}

impl<R: Real> Context<'_, R> {
    /// Runs both, on two threads if that is allowed and one is idle.
    pub(crate) fn join<A: Send, B: Send>(
        &self,
        left: impl FnOnce() -> A + Send,
        right: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        if self.parallel { rayon::join(left, right) } else { (left(), right()) }
    }

    /// The same, for work that is too small to be split.
    pub(crate) fn serial(&self) -> Self {
        Self { parallel: false, ..*self }
    }

    /// Lines of scratch for one task.
    pub(crate) fn slot(&self) -> Slot<'_, R> {
        self.scratch.slot()
    }
}

/// Something that can be cut along both axes.
pub(crate) trait Split: Sized + Send {
    fn length(&self, axis: Axis) -> usize;
    /// The part before `at` and the part from it.
    fn split(self, axis: Axis, at: usize) -> (Self, Self);
}

impl<T: Sync> Split for Tile<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        match axis {
            Axis::Rows => self.rows(),
            Axis::Columns => self.columns(),
        }
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        match axis {
            Axis::Rows => self.split_rows(at),
            Axis::Columns => self.split_columns(at),
        }
    }
}

impl<T: Send> Split for TileMut<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        match axis {
            Axis::Rows => self.rows(),
            Axis::Columns => self.columns(),
        }
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        match axis {
            Axis::Rows => self.split_rows(at),
            Axis::Columns => self.split_columns(at),
        }
    }
}

/// Runs `leaf` over chunks of `chunk` rows or columns and joins the results in a fixed tree.
pub(crate) fn fold<R: Real, S: Split, O: Send>(
    context: &Context<'_, R>,
    cut: (Axis, usize),
    share: S,
    leaf: &(impl Fn(S) -> O + Sync),
    join: &(impl Fn(O, O) -> O + Sync),
) -> O {
    fold_in::<false, _, _, _>(context, cut, share, leaf, join)
}

/// The same, from the last chunk to the first: a second pass begins with what the first has left in
/// the caches.
pub(crate) fn fold_back<R: Real, S: Split, O: Send>(
    context: &Context<'_, R>,
    cut: (Axis, usize),
    share: S,
    leaf: &(impl Fn(S) -> O + Sync),
    join: &(impl Fn(O, O) -> O + Sync),
) -> O {
    fold_in::<true, _, _, _>(context, cut, share, leaf, join)
}

fn fold_in<const BACK: bool, R: Real, S: Split, O: Send>(
    context: &Context<'_, R>,
    (axis, chunk): (Axis, usize),
    share: S,
    leaf: &(impl Fn(S) -> O + Sync),
    join: &(impl Fn(O, O) -> O + Sync),
) -> O {
    let chunks = share.length(axis).div_ceil(chunk);
    if chunks <= 1 {
        return leaf(share);
    }
    let (left, right) = share.split(axis, chunks / 2 * chunk);
    let left = || fold_in::<BACK, _, _, _>(context, (axis, chunk), left, leaf, join);
    let right = || fold_in::<BACK, _, _, _>(context, (axis, chunk), right, leaf, join);
    let (left, right) = if BACK {
        let (right, left) = context.join(right, left);
        (left, right)
    } else {
        context.join(left, right)
    };
    join(left, right)
}

/// Runs `step` over blocks of `block` rows or columns, in order.
pub(crate) fn each_block<S: Split>(
    (axis, block): (Axis, usize),
    share: S,
    mut step: impl FnMut(S),
) {
    let mut rest = share;
    while rest.length(axis) > block {
        let (first, after) = rest.split(axis, block);
        step(first);
        rest = after;
    }
    step(rest);
}

/// The same, from the last block to the first: a second pass begins with what the first has left in
/// the caches.
pub(crate) fn each_block_back<S: Split>(
    (axis, block): (Axis, usize),
    share: S,
    mut step: impl FnMut(S),
) {
    let mut rest = share;
    while rest.length(axis) > block {
        let last = (rest.length(axis) - 1) / block * block;
        let (before, last) = rest.split(axis, last);
        step(last);
        rest = before;
    }
    step(rest);
}
