//! The gradient of one parameter in one step.

/// A borrowed gradient in the element type of its parameter.
///
/// A parameter without a gradient is expressed by `None` in the list of a step, not here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gradient<'a, T> {
    /// One value per element of the parameter, row-major, in the parameter's shape.
    Dense(&'a [T]),
    /// Rows of the parameter, as TensorFlow's `IndexedSlices`.
    ///
    /// Rows that occur more than once are summed (after clipping, as in Keras), rows that do not
    /// occur have gradient zero, and negative indices are dropped.
    Sparse {
        /// Row numbers along the first axis, unsorted, duplicates allowed.
        indices: &'a [i64],
        /// Values of shape `[indices.len()] + shape[1..]`, row-major.
        values: &'a [T],
    },
}
