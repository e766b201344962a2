//! `Σp²` of a parameter: carried from the last update, or one read.
//!
//! Both, and what is put together from runs of rows of which only some were read, have the same bits.

use goldstep_core::Layout;

use crate::execute::{Context, Split, each_block, each_block_back, fold, fold_back};
use crate::kernels::small::{BATCH, SmallSquareSum};
use crate::kernels::squares::{NormSquares, SquareRuns, SquareSum, rows_per_run};
use crate::kernels::{Line, NARROW};
use crate::lanes::LANES;
use crate::plan::{Axis, Cut, Plan, SPLIT};
use crate::real::{CpuElement, Real};
use crate::tile::Tile;
use crate::variable::add;

/// `Σp²` as of the end of the last step, unless something may have changed the parameter since.
#[derive(Debug, Clone)]
pub(crate) struct CarriedSum<R> {
    whole: Option<f64>,
    /// For a matrix in which sparse gradients change few rows its blocks; empty for others.
    blocks: Vec<Block>,
    /// `Σp²` of the runs of each block, in sixteen parts.
    runs: Vec<Line<R>>,
}

/// What is known of a block of rows.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    sum: Option<f64>,
    /// A bit for each run whose sum is known.
    known: u32,
}

/// How a matrix is cut down to runs.
#[derive(Clone, Copy)]
struct Runs {
    cut: Cut,
    blocks_per_chunk: usize,
    rows_per_run: usize,
    /// None in a narrow matrix, whose blocks are read as a whole.
    runs_per_block: usize,
}

impl Runs {
    /// Those of a parameter that is one matrix, read by rows.
    fn new(plan: &Plan) -> Option<Self> {
        let Plan::Factored { batches: 1, columns, cut, .. } = *plan else { return None };
        let (rows_per_run, runs_per_block) = if columns <= NARROW {
            (cut.block, 0)
        } else {
            (rows_per_run(columns), cut.block.div_ceil(rows_per_run(columns)))
        };
        let blocks_per_chunk = cut.chunk.div_ceil(cut.block);
        let runs = Self { cut, blocks_per_chunk, rows_per_run, runs_per_block };
        (cut.axis == Axis::Rows && runs_per_block <= u32::BITS as usize).then_some(runs)
    }

    /// The block that a row belongs to, and the run in it.
    const fn place(&self, row: usize) -> (usize, usize) {
        let Cut { chunk, block, .. } = self.cut;
        let (in_chunk, chunk) = (row % chunk, row / chunk);
        let run = in_chunk % block / self.rows_per_run;
        (chunk * self.blocks_per_chunk + in_chunk / block, run)
    }
}

impl<R: Real> CarriedSum<R> {
    pub(crate) const fn new() -> Self {
        Self { whole: None, blocks: Vec::new(), runs: Vec::new() }
    }

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
        if let (Some(runs), false) = (Runs::new(plan), self.blocks.is_empty()) {
            for &row in rows {
                let (block, run) = runs.place(row);
                let block = &mut self.blocks[block];
                *block = Block { sum: None, known: block.known & !(1 << run) };
            }
        }
    }

    /// The sum, read as far as it is not known. `by_runs` keeps those of runs for the next time.
    pub(crate) fn get<T: CpuElement<Real = R>>(
        &mut self,
        context: &Context<'_, R>,
        plan: &Plan,
        elements: &[T],
        by_runs: bool,
    ) -> f64 {
        if let Some(whole) = self.whole {
            return whole;
        }
        match (plan, Runs::new(plan)) {
            (&Plan::Factored { rows, columns, .. }, Some(runs))
                if by_runs || !self.blocks.is_empty() =>
            {
                let blocks = rows.div_ceil(runs.cut.chunk) * runs.blocks_per_chunk;
                self.blocks.resize(blocks, Block::default());
                self.runs.resize(blocks * runs.runs_per_block, Line([R::ZERO; LANES]));
                let (blocks, sums) = (&mut self.blocks[..], &mut self.runs[..]);
                let parameter = Tile::new(elements, columns);
                sum_of_runs(context, Blocks { parameter, runs, blocks, sums })
            }
            _ => square_sum(context, plan, elements),
        }
    }
}

/// Whole chunks of a matrix, and what is known of their blocks.
struct Blocks<'a, T: CpuElement> {
    parameter: Tile<'a, T>,
    runs: Runs,
    blocks: &'a mut [Block],
    sums: &'a mut [Line<T::Real>],
}

impl<T: CpuElement> Split for Blocks<'_, T> {
    fn length(&self, axis: Axis) -> usize {
        self.parameter.length(axis)
    }

    fn split(self, axis: Axis, at: usize) -> (Self, Self) {
        let (parameter, rest) = self.parameter.split(axis, at);
        let count = at / self.runs.cut.chunk * self.runs.blocks_per_chunk;
        let (blocks, other) = self.blocks.split_at_mut(count);
        let (sums, more) = self.sums.split_at_mut(count * self.runs.runs_per_block);
        let rest = Self { parameter: rest, blocks: other, sums: more, ..self };
        (Self { parameter, blocks, sums, ..self }, rest)
    }
}

/// [`square_sum`] of a matrix, of which only runs without a sum are read.
fn sum_of_runs<T: CpuElement>(context: &Context<'_, T::Real>, all: Blocks<'_, T>) -> f64 {
    let Runs { cut, runs_per_block, rows_per_run, .. } = all.runs;
    let leaf = |share: Blocks<'_, T>| {
        let (mut total, mut index) = (0.0, share.parameter.rows().div_ceil(cut.block));
        each_block_back((Axis::Rows, cut.block), share.parameter, |parameter| {
            index -= 1;
            let Block { sum, known } = &mut share.blocks[index];
            let own = &mut share.sums[index * runs_per_block..][..runs_per_block];
            total += *sum.get_or_insert_with(|| {
                let runs = parameter.rows().div_ceil(rows_per_run).min(runs_per_block);
                context.isa.run(SquareRuns { parameter, known, sums: &mut own[..runs] })
            });
        });
        total
    };
    fold(context, (Axis::Rows, cut.chunk), all, &leaf, &add)
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

/// `Σg²` of a run of elements, from the last chunk to the first: the statistics then begin with what
/// is left in the caches.
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
    let leaf = |part: Tile<'_, T>| {
        let mut total = 0.0;
        each_block((cut.axis, cut.block), part, |block| {
            total += context.isa.run(NormSquares { elements: block.row(0) });
        });
        total
    };
    fold_back(context, (cut.axis, cut.chunk), Tile::new(elements, length), &leaf, &add)
}

/// `Σx²` of a part of a parameter, in the order of its update.
fn sum_in_blocks<T: CpuElement>(
    context: &Context<'_, T::Real>,
    cut: Cut,
    part: Tile<'_, T>,
) -> f64 {
    let mut total = 0.0;
    let add = |block| total += context.isa.run(SquareSum { parameter: block });
    match cut.axis {
        Axis::Rows => each_block_back((cut.axis, cut.block), part, add),
        Axis::Columns => each_block((cut.axis, cut.block), part, add),
    }
    total
}
