//! Lists of shapes.

/// A named list of shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name in tables.
    pub name: String,
    /// The shape of each parameter.
    pub shapes: Vec<Vec<usize>>,
}

impl Workload {
    /// One matrix.
    #[must_use]
    pub fn matrix(rows: usize, columns: usize) -> Self {
        let name =
            if rows == columns { format!("{rows}²") } else { format!("{rows} × {columns}") };
        Self { name, shapes: vec![vec![rows, columns]] }
    }

    /// One parameter of any shape.
    #[must_use]
    pub fn one(shape: &[usize]) -> Self {
        let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        Self { name: axes.join(" × "), shapes: vec![shape.to_vec()] }
    }

    /// Many small parameters: half vectors of 512, half matrices of 16 × 32.
    #[must_use]
    pub fn many_small(count: usize) -> Self {
        let shape = |index: usize| if index.is_multiple_of(2) { vec![512] } else { vec![16, 32] };
        Self { name: format!("{count} small"), shapes: (0..count).map(shape).collect() }
    }

    /// Elements of all parameters.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shapes.iter().map(|shape| shape.iter().product::<usize>()).sum()
    }
}
