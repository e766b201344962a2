//! Rectangles of a row-major matrix, which tasks on different threads may own at the same time.
#![expect(unsafe_code, reason = "disjoint column ranges of one slice cannot be borrowed safely")]

use std::marker::PhantomData;

use crate::lanes::LANES;

/// A shared view of `rows × columns` elements.
#[derive(Debug)]
pub(crate) struct Tile<'a, T> {
    base: *const T,
    rows: usize,
    columns: usize,
    stride: usize,
    borrow: PhantomData<&'a [T]>,
}

/// An exclusive view of `rows × columns` elements.
#[derive(Debug)]
pub(crate) struct TileMut<'a, T> {
    base: *mut T,
    rows: usize,
    columns: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Tile<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Tile<'_, T> {}

// SAFETY: a tile is a shared borrow of its elements.
unsafe impl<T: Sync> Send for Tile<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Tile<'_, T> {}
// SAFETY: a mutable tile is an exclusive borrow of its elements.
unsafe impl<T: Send> Send for TileMut<'_, T> {}

impl<'a, T> Tile<'a, T> {
    /// A whole matrix of rows of `columns` elements, at least 1; a last, shorter row is left out.
    pub(crate) fn new(elements: &'a [T], columns: usize) -> Self {
        let rows = elements.len() / columns;
        Self { base: elements.as_ptr(), rows, columns, stride: columns, borrow: PhantomData }
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    /// Row `index`.
    #[inline(always)]
    pub(crate) fn row(&self, index: usize) -> &'a [T] {
        assert!(index < self.rows, "row outside of its tile");
        // SAFETY: `index < rows`, and the constructors keep `(rows - 1) * stride + columns`
        // elements behind `base` inside the borrowed slice.
        let start = unsafe { self.base.add(index * self.stride) };
        // SAFETY: as above; the elements are borrowed for `'a`.
        unsafe { std::slice::from_raw_parts(start, self.columns) }
    }

    /// The first `R` rows, to be read a vector of columns at a time.
    #[inline(always)]
    pub(crate) fn band<const R: usize>(&self) -> Band<'a, T, R> {
        assert!(R <= self.rows, "rows outside of their tile");
        let vectors = self.columns / LANES;
        Band { base: self.base, vectors, stride: self.stride, borrow: PhantomData }
    }

    /// Whether the rows lie one behind the other.
    pub(crate) const fn is_contiguous(&self) -> bool {
        self.columns == self.stride || self.rows <= 1
    }

    /// All elements, row by row; the tile must be contiguous.
    pub(crate) fn elements(&self) -> &'a [T] {
        assert!(self.is_contiguous(), "tile of parts of rows");
        // SAFETY: the rows lie one behind the other, `rows * columns` elements from `base`.
        unsafe { std::slice::from_raw_parts(self.base, self.rows * self.columns) }
    }

    /// The rows before `at` and those from it.
    pub(crate) fn split_rows(self, at: usize) -> (Self, Self) {
        let at = at.min(self.rows);
        let base = self.base.wrapping_add(at * self.stride);
        (Self { rows: at, ..self }, Self { base, rows: self.rows - at, ..self })
    }

    /// The columns before `at` and those from it.
    pub(crate) fn split_columns(self, at: usize) -> (Self, Self) {
        let at = at.min(self.columns);
        let base = self.base.wrapping_add(at);
        (Self { columns: at, ..self }, Self { base, columns: self.columns - at, ..self })
    }
}

/// The whole vectors of `R` rows: one base and one stride, where `R` slices would be more than a
/// processor has registers.
#[derive(Debug)]
pub(crate) struct Band<'a, T, const R: usize> {
    base: *const T,
    vectors: usize,
    stride: usize,
    borrow: PhantomData<&'a [T]>,
}

impl<T, const R: usize> Clone for Band<'_, T, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const R: usize> Copy for Band<'_, T, R> {}

impl<'a, T, const R: usize> Band<'a, T, R> {
    /// Whole vectors of a row.
    #[inline(always)]
    pub(crate) const fn vectors(&self) -> usize {
        self.vectors
    }

    /// Vector `q` of row `k`.
    #[inline(always)]
    pub(crate) fn vector(&self, k: usize, q: usize) -> &'a [T; LANES] {
        assert!(k < R && q < self.vectors, "vector outside of its band");
        // SAFETY: the tile has `R` rows of `vectors * LANES` elements or more, `stride` apart.
        let start = unsafe { self.base.add(k * self.stride + q * LANES) };
        // SAFETY: as above; the elements are borrowed for `'a`.
        unsafe { &*start.cast() }
    }

    /// Group `q` of `N` vectors of row `k`.
    #[inline(always)]
    pub(crate) fn group<const N: usize>(&self, k: usize, q: usize) -> &'a [[T; LANES]; N] {
        assert!(k < R && q < self.vectors / N, "group outside of its band");
        // SAFETY: the tile has `R` rows of `vectors * LANES` elements or more, `stride` apart.
        let start = unsafe { self.base.add(k * self.stride + q * (N * LANES)) };
        // SAFETY: as above; the elements are borrowed for `'a`.
        unsafe { &*start.cast() }
    }

    /// Where what is so many elements behind the first one lies, which may not exist.
    #[inline(always)]
    pub(crate) fn ahead(&self, elements: usize) -> *const T {
        self.base.wrapping_add(elements)
    }
}

impl<'a, T> TileMut<'a, T> {
    /// A whole matrix of rows of `columns` elements, at least 1; a last, shorter row is left out.
    pub(crate) fn new(elements: &'a mut [T], columns: usize) -> Self {
        let rows = elements.len() / columns;
        Self { base: elements.as_mut_ptr(), rows, columns, stride: columns, borrow: PhantomData }
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    /// The same tile, for a shorter time.
    pub(crate) fn reborrow(&mut self) -> TileMut<'_, T> {
        TileMut { borrow: PhantomData, ..*self }
    }

    /// Row `index`.
    #[inline(always)]
    pub(crate) fn row(&mut self, index: usize) -> &mut [T] {
        assert!(index < self.rows, "row outside of its tile");
        // SAFETY: `index < rows`, and the constructors keep `(rows - 1) * stride + columns`
        // elements behind `base` inside the borrowed slice.
        let start = unsafe { self.base.add(index * self.stride) };
        // SAFETY: as above; no other tile holds these elements, since tiles are split, not copied.
        unsafe { std::slice::from_raw_parts_mut(start, self.columns) }
    }

    /// Whether the rows lie one behind the other.
    const fn is_contiguous(&self) -> bool {
        self.columns == self.stride || self.rows <= 1
    }

    /// All elements, row by row; the tile must be contiguous.
    pub(crate) fn elements(&mut self) -> &mut [T] {
        assert!(self.is_contiguous(), "tile of parts of rows");
        // SAFETY: the rows lie one behind the other, `rows * columns` elements from `base`, and
        // no other tile holds them.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.rows * self.columns) }
    }

    /// The rows before `at` and those from it.
    pub(crate) fn split_rows(self, at: usize) -> (Self, Self) {
        let at = at.min(self.rows);
        let base = self.base.wrapping_add(at * self.stride);
        (Self { rows: at, ..self }, Self { base, rows: self.rows - at, ..self })
    }

    /// The columns before `at` and those from it.
    pub(crate) fn split_columns(self, at: usize) -> (Self, Self) {
        let at = at.min(self.columns);
        let base = self.base.wrapping_add(at);
        (Self { columns: at, ..self }, Self { base, columns: self.columns - at, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_matrix_once() {
        let mut elements: Vec<u32> = vec![0; 5 * 7];
        let (upper, lower) = TileMut::new(&mut elements, 7).split_rows(2);
        let (mut left, mut right) = lower.split_columns(3);
        let mut upper = upper;
        for (mark, tile) in [(1, &mut upper), (2, &mut left), (3, &mut right)] {
            for row in 0..tile.rows() {
                tile.row(row).iter_mut().for_each(|element| *element += mark);
            }
        }
        let expected: Vec<u32> =
            (0..35).map(|i| if i < 14 { 1 } else { 2 + u32::from(i % 7 >= 3) }).collect();
        assert_eq!(elements, expected);
        assert_eq!(Tile::new(&elements, 7).split_columns(3).1.row(4), [3; 4]);
    }
}
