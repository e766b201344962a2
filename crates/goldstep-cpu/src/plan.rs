//! How a parameter is cut into tasks: plain data, a function of its shape alone.
//!
//! Sums are folded along this cut, so it decides the bits. It must not depend on the number of
//! threads, the instruction set, the alignment of memory or the other parameters.

use goldstep_core::Layout;

use crate::kernels::NARROW;
use crate::kernels::small::{BATCH, is_small};
use crate::lanes::LANES;

/// Elements of a task in a large matrix. From 2048² about this many were best: tasks of 32 rows
/// cost 0.016 ns per parameter in the merging of column sums, tasks of 512 K elements 0.004.
const LARGE_CHUNK: usize = 512 * 1024;
/// Elements of a task in a matrix of medium size. 512² takes 0.97 of what it took in tasks of 64 K
/// elements: each clears, merges and finishes sums of its own.
const MEDIUM_CHUNK: usize = 128 * 1024;
/// Elements of a task in a vector, or in a stack of small matrices: they take about as long as it does
/// to hand them to another thread.
const SMALL_CHUNK: usize = 64 * 1024;
/// Tasks that a parameter of medium size should have, so that a few threads end together.
const TASKS: usize = 8;
/// Rows that are summed in one accumulator of a column before a fold: by blocks of at least four, so
/// that a chain has at most 66 additions. Equal squares, as clipped gradients may have, round the
/// same way at each: 128 cost 15 times epsilon, where 16 are allowed.
const ROWS_PER_SUM: usize = 256;
/// The same for few columns, whose rows are summed in segments.
const NARROW_ROWS_PER_SUM: usize = 4096;
/// Elements of a run in which the update works before its sum of squares passes into f64.
pub(crate) const BLOCK: usize = 32 * 1024;
/// Elements from which on a list of parameters, or a short matrix, and its gradients are taken to lie
/// in no cache.
pub(crate) const LARGE: usize = 4 * 1024 * 1024;
/// Elements below which a parameter is not split over threads: a fork and a join cost as much as
/// a step of 256². The updates of a vector of fewer are kept between its two passes, within a
/// second-level cache: 4,000 vectors of 512 took 0.77 of the time so, one of 20,000 to 65,536 0.50,
/// one of 70,000 to 131,000 0.61 to 0.69.
pub(crate) const SPLIT: usize = 128 * 1024;
/// Columns from which on a short matrix is read by columns: sixteen of its rows no longer fit
/// into a second-level cache.
const WIDE_COLUMNS: usize = 16 * 1024;
/// Rows up to which it is.
const SHORT_ROWS: usize = 256;

/// The axis along which a tile is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Rows,
    Columns,
}

/// How a matrix is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Along which axis.
    pub(crate) axis: Axis,
    /// Rows or columns of a task.
    pub(crate) chunk: usize,
    /// Rows or columns of a run inside a task.
    pub(crate) block: usize,
}

/// How a parameter is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Below rank 2: one row of all elements.
    Full { elements: usize, cut: Cut },
    /// From rank 2.
    Factored {
        batches: usize,
        rows: usize,
        columns: usize,
        /// Matrices of a task.
        group: usize,
        /// Whether matrices are taken sixteen at a time, one in each lane.
        small: bool,
        cut: Cut,
    },
}

impl Plan {
    /// The plan for a shape.
    pub(crate) fn new(layout: Layout) -> Self {
        match layout {
            Layout::Full { elements } => {
                let cut = Cut { axis: Axis::Columns, chunk: SMALL_CHUNK, block: BLOCK };
                Self::Full { elements, cut }
            }
            Layout::Factored { batches, rows, columns } => {
                let size = (rows * columns).max(1);
                let small = is_small(rows, columns) && batches >= LANES;
                let group = (SMALL_CHUNK / size).max(1);
                let group = if small { group.next_multiple_of(BATCH * LANES) } else { group };
                let cut = Cut::new(rows, columns);
                Self::Factored { batches, rows, columns, group, small, cut }
            }
        }
    }

    /// Elements of the parameter.
    pub(crate) const fn elements(&self) -> usize {
        match self {
            Self::Full { elements, .. } => *elements,
            Self::Factored { batches, rows, columns, .. } => *batches * *rows * *columns,
        }
    }

    /// Matrices that share a summary.
    pub(crate) const fn matrices_per_summary(&self) -> usize {
        if let Self::Factored { small: true, .. } = self { BATCH * LANES } else { 1 }
    }

    /// Summaries of the parameter.
    pub(crate) const fn summaries(&self) -> usize {
        match self {
            Self::Full { .. } => 0,
            Self::Factored { batches, .. } => batches.div_ceil(self.matrices_per_summary()),
        }
    }

    /// The largest number of tasks of one tree.
    pub(crate) fn tasks(&self) -> usize {
        match *self {
            Self::Full { elements, cut } => elements.div_ceil(cut.chunk).max(1),
            Self::Factored { batches, rows, columns, group, cut, .. } => {
                let length = match cut.axis {
                    Axis::Rows => rows,
                    Axis::Columns => columns,
                };
                batches.div_ceil(group).max(1) * length.div_ceil(cut.chunk).max(1)
            }
        }
    }

    /// Lines of scratch that one task needs.
    pub(crate) fn scratch_lines(&self) -> usize {
        let of_task = match self {
            Self::Full { .. } => 0,
            Self::Factored { rows, columns, cut, .. } => match cut.axis {
                Axis::Rows => (2 * vectors(*columns)).max(vectors(*rows.min(&cut.chunk))),
                Axis::Columns => (2 * rows).max(vectors(cut.block)),
            },
        };
        of_task.max(self.lines_of_one_task())
    }

    /// Lines in which the updates of a vector are kept between its passes; 0 for another parameter.
    pub(crate) const fn update_lines(&self) -> usize {
        match *self {
            Self::Full { elements, .. } if elements < SPLIT => vectors(elements),
            _ => 0,
        }
    }

    /// Lines of scratch with which both passes over a matrix are one task: its column sums and then
    /// its scales; 0 for another parameter.
    pub(crate) fn lines_of_one_task(&self) -> usize {
        match *self {
            Self::Factored { batches: 1, rows, columns, cut, .. }
                if cut.axis == Axis::Rows && rows <= cut.chunk =>
            {
                vectors(columns) + vectors(columns).max(vectors(rows))
            }
            _ => 0,
        }
    }
}

/// Vectors of so many values.
const fn vectors(length: usize) -> usize {
    length.div_ceil(LANES)
}

impl Cut {
    /// The cut of a matrix.
    fn new(rows: usize, columns: usize) -> Self {
        let (rows, columns) = (rows.max(1), columns.max(1));
        let target = (rows * columns / TASKS).clamp(MEDIUM_CHUNK, LARGE_CHUNK);
        if columns > WIDE_COLUMNS && rows <= SHORT_ROWS {
            // Long pieces of each row where they come from memory: 1.89 -> 1.72 of the bound at
            // 8 × 1,000,000. Out of a cache they are no better.
            // Not longer than there, so that sums stay short and scales in a cache.
            let columns_per_block = match rows * columns {
                ..LARGE => BLOCK / rows,
                LARGE.. => (16 * BLOCK / rows).min(2 * BLOCK),
            };
            Self {
                axis: Axis::Columns,
                chunk: (target / rows).next_multiple_of(64),
                block: columns_per_block.next_multiple_of(64),
            }
        } else {
            let most = if columns <= NARROW { NARROW_ROWS_PER_SUM } else { ROWS_PER_SUM };
            Self {
                axis: Axis::Rows,
                // Tasks of about the same size, so that two threads end together.
                chunk: rows
                    .div_ceil((rows * columns).div_ceil(target))
                    .next_multiple_of(16)
                    .clamp(16, most),
                // Whole lines of row scales, if not a part of one.
                block: match (BLOCK / columns).clamp(1, most) {
                    few @ ..LANES => few,
                    many => many / LANES * LANES,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(rows: usize, columns: usize) -> Cut {
        Cut::new(rows, columns)
    }

    #[test]
    fn tasks_are_neither_too_few_nor_too_small() {
        assert_eq!(cut(256, 256).chunk, 256);
        assert_eq!(cut(384, 384).chunk, 192);
        assert_eq!(cut(512, 512).chunk, 256);
        assert_eq!(cut(1024, 1024).chunk, 128);
        assert_eq!(cut(4096, 4096).chunk, 128);
        assert_eq!(cut(8192, 8192).chunk, 64);
        assert_eq!(cut(1_000_000, 8).chunk, 4096);
        for (rows, chunk) in [(8, 65536), (1, 524_288)] {
            let cut = cut(rows, 16_000_000 / rows);
            assert_eq!(cut, Cut { axis: Axis::Columns, chunk, block: 65536 });
        }
    }

    #[test]
    fn every_chunk_holds_something() {
        for (rows, columns) in [(0, 3), (3, 0), (1, 1), (1, 1 << 20), (1 << 20, 1), (300, 17000)] {
            let cut = cut(rows, columns);
            assert!(cut.chunk > 0 && cut.block > 0, "{rows} x {columns}: {cut:?}");
        }
    }
}
