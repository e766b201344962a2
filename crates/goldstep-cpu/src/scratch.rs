//! Scratch lines, taken by tasks and given back: `O(threads × columns)`.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::kernels::Line;
use crate::lanes::LANES;
use crate::real::Real;

/// Arrays of lines of one length.
#[derive(Debug)]
pub(crate) struct Scratch<R> {
    free: Mutex<Vec<Vec<Line<R>>>>,
    lines: usize,
}

/// An array of lines; its contents are left over from another task.
#[derive(Debug)]
pub(crate) struct Slot<'a, R> {
    lines: Vec<Line<R>>,
    scratch: &'a Scratch<R>,
}

impl<R: Real> Scratch<R> {
    /// `slots` arrays of `lines` lines each.
    pub(crate) fn new(slots: usize, lines: usize) -> Self {
        let free = (0..slots).map(|_| vec![Line([R::ZERO; LANES]); lines]).collect();
        Self { free: Mutex::new(free), lines }
    }

    /// Takes an array; makes one only when more are in use than were foreseen.
    pub(crate) fn slot(&self) -> Slot<'_, R> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let lines = free.unwrap_or_else(|| vec![Line([R::ZERO; LANES]); self.lines]);
        Slot { lines, scratch: self }
    }

    /// Bytes of all arrays that are not in use.
    pub(crate) fn bytes(&self) -> usize {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.iter().map(|lines| lines.len() * size_of::<Line<R>>()).sum()
    }
}

impl<R: Real> Clone for Scratch<R> {
    fn clone(&self) -> Self {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { free: Mutex::new(free), lines: self.lines }
    }
}

impl<R> Deref for Slot<'_, R> {
    type Target = [Line<R>];

    fn deref(&self) -> &[Line<R>] {
        &self.lines
    }
}

impl<R> DerefMut for Slot<'_, R> {
    fn deref_mut(&mut self) -> &mut [Line<R>] {
        &mut self.lines
    }
}

impl<R> Drop for Slot<'_, R> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.scratch.free.lock().unwrap_or_else(PoisonError::into_inner).push(lines);
    }
}
