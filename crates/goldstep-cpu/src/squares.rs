//! `Σp²` of a parameter: carried from the last update, or one read.
//!
//! Both, and what is put together from blocks of which only some were read, have the same bits.

use goldstep_core::Layout;

use crate::execute::{Context, Split, each_block, fold, fold_back};
use crate::kernels::small::{BATCH, SmallSquareSum};
use crate::kernels::update::SquareSum;
use crate::lanes::LANES;
use crate::plan::{Axis, Cut, Plan};
use crate::real::CpuElement;
use crate::tile::Tile;
use crate::variable::{SPLIT, add};

/// `Σp²` as of the end of the last step, unless something may have changed the parameter since.
#[derive(Debug, Clone, Default)]
pub(crate) struct CarriedSum {
    whole: Option<f64>,
    /// For a matrix in which sparse gradients change few rows the sums of its blocks, where nothing
    /// has changed them; empty for others.
    blocks: Vec<Option<f64>>,
}

impl CarriedSum {
    /// Something may have changed all of the parameter.
    pub(crate) fn forget(&mut self) {
        self.whole = None;
        self.blocks.clear();
    }

    /// An update of all of it has returned this sum.
    pub(crate) fn carry(&mut self, square_sum: f64) {
        self.whole = Some(square_sum);
        self.blocks.clear();
    }

    /// An update has changed these rows, and no others.
    pub(crate) fn touch(&mut self, plan: &Plan, rows: &[usize]) {
        self.whole = None;
        if let (Some(cut), false) = (cut_of_rows(plan), self.blocks.is_empty()) {
            for row in rows {
                let place = row / cut.chunk * blocks_per_chunk(cut) + row % cut.chunk / cut.block;
                self.blocks[place] = None;
            }
        }
    }

    /// The sum, read as far as it is not known. `by_blocks` keeps those of blocks for the next time.
    pub(crate) fn get<T: CpuElement>(
        &mut self,
        context: &Context<'_, T::Real>,
        plan: &Plan,
        elements: &[T],
        by_blocks: bool,
    ) -> f64 {
        if let Some(whole) = self.whole {
            return whole;
        }
        match (plan, cut_of_rows(plan)) {
            (&Plan::Factored { rows, columns, .. }, Some(cut))
                if by_blocks || !self.blocks.is_empty() =>
            {
                self.blocks.resize(rows.div_ceil(cut.chunk) * blocks_per_chunk(cut), None);
                let parameter = Tile::new(elements, columns);
                sum_of_blocks(context, cut, Blocks { parameter, cut, sums: &mut self.blocks })
            }
            _ => square_sum(context, plan, elements),
        }
    }
}

/// How a parameter is cut that is one matrix, read by rows.
const fn cut_of_rows(plan: &Plan) -> Option<Cut> {
    match *plan {
        Plan::Factored { batches: 1, cut, .. } if matches!(cut.axis, Axis::Rows) => Some(cut),
        _ => None,
    }
}

const fn blocks_per_chunk(cut: Cut) -> usize {
    cut.chunk.div_ceil(cut.block)
}

/// Whole chunks of a matrix and the sums of their blocks.
struct Blocks<'a, T> {
    parameter: Tile<'a, T>,
    cut: Cut,
    sums: &'a mut [Option<f64>],
}

impl<T: CpuElement> Split for Blocks<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.parameter.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (parameter, rest) = self.parameter.split(axis, at);
        let (sums, more) = self.sums.split_at_mut(at / self.cut.chunk * blocks_per_chunk(self.cut));
        (Self { parameter, sums, ..self }, Self { parameter: rest, sums: more, ..self })
    }
}

/// [`square_sum`] of a matrix, of which only blocks without a sum are read.
fn sum_of_blocks<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    blocks: Blocks<'_, T>,
) -> f64 {
    let leaf = |blocks: Blocks<'_, T>| {
        let (mut total, mut sums) = (0.0, blocks.sums.iter_mut());
        each_block((Axis::Rows, cut.block), blocks.parameter, |parameter| {
            let read = || context.isa.run(SquareSum { parameter });
            total += sums.next().map_or_else(read, |sum| *sum.get_or_insert_with(read));
        });
        total
    };
    fold(context, (Axis::Rows, cut.chunk), blocks, &leaf, &add)
}

/// `Σp²` of a parameter, to the bit what its last update has returned.
fn square_sum<T: CpuElement>(context: &Context<'_, T::Real>, plan: &Plan, elements: &[T]) -> f64 {
    let inner = |cut: Cut, matrix: Tile<'_, T>| {
        let leaf = |part: Tile<'_, T>| sum_in_blocks(context, cut, part);
        fold(context, (cut.axis, cut.chunk), matrix, &leaf, &add)
    };
    match *plan {
        Plan::Full { cut, elements: length } => inner(cut, Tile::new(elements, length)),
        Plan::Factored { rows, columns, group, small: true, .. } => {
            let leaf = |matrices| {
                let mut total = 0.0;
                each_block((Axis::Rows, BATCH * LANES), matrices, |batch: Tile<'_, T>| {
                    let (shape, parameter) = ((rows, columns), batch.elements());
                    total += context.isa.run(SmallSquareSum { shape, parameter });
                });
                total
            };
            fold(context, (Axis::Rows, group), Tile::new(elements, rows * columns), &leaf, &add)
        }
        Plan::Factored { rows, columns, group, cut, .. } => {
            let leaf = |matrices: Tile<'_, T>| {
                let matrix = |b| inner(cut, Tile::new(matrices.row(b), columns));
                (0..matrices.rows()).fold(0.0, |total, b| total + matrix(b))
            };
            fold(context, (Axis::Rows, group), Tile::new(elements, rows * columns), &leaf, &add)
        }
    }
}

/// `Σg²` of a run of elements, from the last to the first: the statistics then begin with what is
/// left in the caches.
pub(crate) fn flat_square_sum<T: CpuElement>(
    context: &Context<'_, T::Real>,
    elements: &[T],
) -> f64 {
    let Plan::Full { cut, elements: length @ 1.. } =
        Plan::new(Layout::Full { elements: elements.len() })
    else {
        return 0.0;
    };
    let serial = context.serial();
    let context = if length < SPLIT { &serial } else { context };
    let leaf = |part: Tile<'_, T>| sum_in_blocks(context, cut, part);
    fold_back(context, (cut.axis, cut.chunk), Tile::new(elements, length), &leaf, &add)
}

/// `Σx²` of a part of a parameter.
fn sum_in_blocks<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    part: Tile<'_, T>,
) -> f64 {
    let mut total = 0.0;
    each_block((cut.axis, cut.block), part, |block| {
        total += context.isa.run(SquareSum { parameter: block });
    });
    total
}
