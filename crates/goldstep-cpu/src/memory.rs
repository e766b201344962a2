//! Buffers that begin on a cache line and hold exactly their elements.
#![expect(unsafe_code, reason = "an allocation with an alignment of its own")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use goldstep_core::Element;

/// A fixed number of elements from an address that is a multiple of [`ALIGNMENT`].
///
/// Rows of a matrix then begin on cache lines when their length allows it: a 512-bit access that
/// straddles two lines costs twice.
#[derive(Debug)]
pub struct AlignedBuffer<T> {
    start: NonNull<T>,
    length: usize,
}

/// Bytes of a cache line.
pub const ALIGNMENT: usize = 64;

// SAFETY: the buffer owns its elements.
unsafe impl<T: Send> Send for AlignedBuffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for AlignedBuffer<T> {}

impl<T: Element> AlignedBuffer<T> {
    /// As many zeros.
    #[must_use]
    pub fn zeros(length: usize) -> Self {
        let layout = Self::layout(length);
        if layout.size() == 0 {
            return Self { start: NonNull::dangling(), length };
        }
        // SAFETY: the size of the layout is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start.cast::<T>()) {
            // All bits zero are the element zero in each of the four element types.
            Some(start) => Self { start, length },
            None => handle_alloc_error(layout),
        }
    }

    /// A copy of a slice.
    #[must_use]
    pub fn from_slice(elements: &[T]) -> Self {
        let mut buffer = Self::zeros(elements.len());
        buffer.copy_from_slice(elements);
        buffer
    }
}

impl<T> AlignedBuffer<T> {
    fn layout(length: usize) -> Layout {
        let layout = Layout::array::<T>(length).and_then(|layout| layout.align_to(ALIGNMENT));
        // A parameter's size was checked when its shape was: this is no caller's mistake.
        layout.unwrap_or_else(|_| handle_alloc_error(Layout::new::<T>()))
    }
}

impl<T> Drop for AlignedBuffer<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.length);
        if layout.size() != 0 {
            // SAFETY: `start` came from `alloc_zeroed` with this layout.
            unsafe { dealloc(self.start.as_ptr().cast::<u8>(), layout) };
        }
    }
}

impl<T: Element> Clone for AlignedBuffer<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl<T> Deref for AlignedBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `length` initialised elements lie behind `start`, owned by this buffer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for AlignedBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the buffer is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_zero_and_its_own() {
        for length in [0, 1, 15, 16, 17, 1000] {
            let mut buffer = AlignedBuffer::<f32>::zeros(length);
            assert!(buffer.iter().all(|x| x.to_bits() == 0));
            assert!(length == 0 || buffer.as_ptr().addr().is_multiple_of(ALIGNMENT));
            buffer.fill(2.5);
            assert_eq!(&*buffer.clone(), vec![2.5; length]);
        }
    }
}
