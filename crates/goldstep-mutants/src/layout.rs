//! Which elements share a row factor and which a column factor.

use goldstep_core::Parameter;

use crate::Mistake;

/// A tensor seen as `[batches, rows, columns]`.
#[derive(Debug, Clone)]
pub(crate) struct Factoring {
    pub(crate) batches: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The flat position of each element of the view, in the view's order.
    pub(crate) positions: Vec<usize>,
}

impl Factoring {
    /// The last two axes as rows and columns; `None` below rank 2.
    pub(crate) fn keras(parameter: &Parameter) -> Option<Self> {
        let rank = parameter.shape().len();
        (rank >= 2).then(|| Self::over(parameter.shape(), rank - 2, rank - 1))
    }

    /// What an implementation with this mistake factors.
    pub(crate) fn of(parameter: &Parameter, mistake: Mistake) -> Option<Self> {
        let shape = parameter.shape();
        let rank = shape.len();
        if rank < 2 {
            return None;
        }
        match mistake {
            Mistake::NothingFactored => None,
            Mistake::OnlyRank2Factored if rank > 2 => None,
            Mistake::TwoLargestAxes => {
                let mut axes: Vec<usize> = (0..rank).collect();
                axes.sort_by_key(|axis| shape[*axis]);
                let (row, column) = (axes[rank - 2], axes[rank - 1]);
                Some(Self::over(shape, row.min(column), row.max(column)))
            }
            Mistake::FirstTwoAxes => Some(Self::over(shape, 0, 1)),
            Mistake::RowsAndColumnsSwapped => Some(Self::over(shape, rank - 1, rank - 2)),
            Mistake::UnitAxesSqueezed => {
                let wide: Vec<usize> = (0..rank).filter(|axis| shape[*axis] != 1).collect();
                match wide[..] {
                    [.., row, column] => Some(Self::over(shape, row, column)),
                    _ => None,
                }
            }
            Mistake::LeadingAxesFlattened => {
                let (rows, columns) = (shape[..rank - 1].iter().product(), shape[rank - 1]);
                Some(Self::over(&[rows, columns], 0, 1))
            }
            _ => Self::keras(parameter),
        }
    }

    fn over(shape: &[usize], row: usize, column: usize) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let mut starts = vec![0];
        for axis in (0..shape.len()).filter(|axis| ![row, column].contains(axis)) {
            let shifted = |start: usize| (0..shape[axis]).map(move |k| (start, k));
            let next = starts.iter().flat_map(|start| shifted(*start));
            starts = next.map(|(start, k)| start + k * strides[axis]).collect();
        }
        let (rows, columns) = (shape[row], shape[column]);
        let mut positions = Vec::with_capacity(starts.len() * rows * columns);
        for start in &starts {
            for i in 0..rows {
                let line = start + i * strides[row];
                positions.extend((0..columns).map(|j| line + j * strides[column]));
            }
        }
        Self { batches: starts.len(), rows, columns, positions }
    }

    /// Flat positions of row `i` of batch `b`.
    pub(crate) fn row(&self, b: usize, i: usize) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let start = (b * self.rows + i) * self.columns;
        self.positions[start..start + self.columns].iter().copied()
    }

    /// Flat positions of column `j` of batch `b`.
    pub(crate) fn column(&self, b: usize, j: usize) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let start = b * self.rows * self.columns + j;
        (0..self.rows).map(move |i| self.positions[start + i * self.columns])
    }
}
