//! Scratch lines, taken by tasks and given back: `O(threads × columns)`, and for vectors that are not
//! split `O(threads)` of the longest of them.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::kernels::Line;
use crate::lanes::LANES;
use crate::real::Real;

/// Arrays of lines of one length, some for each thread: what another one has written has to come
/// from its caches, and 4,000 small matrices took longer on two threads than on one when both used
/// one stack of arrays.
#[derive(Debug)]
pub(crate) struct Scratch<R> {
    stacks: Vec<Stack<R>>,
    lines: usize,
}

/// Free arrays, on cache lines that no other thread writes.
#[derive(Debug)]
#[repr(align(128))]
struct Stack<R>(Mutex<Vec<Vec<Line<R>>>>);

/// An array of lines; its contents are left over from another task.
#[derive(Debug)]
pub(crate) struct Slot<'a, R> {
    lines: Vec<Line<R>>,
    scratch: &'a Scratch<R>,
}

impl<R: Real> Scratch<R> {
    /// `slots` arrays of `lines` lines each, for so many threads.
    pub(crate) fn new(threads: usize, slots: usize, lines: usize) -> Self {
        let stacks = (0..threads.max(1)).map(|thread| {
            let own = (thread..slots).step_by(threads.max(1));
            // Room for all, since a thread may give back what another has taken.
            let mut free = Vec::with_capacity(slots);
            free.extend(own.map(|_| vec![Line([R::ZERO; LANES]); lines]));
            Stack(Mutex::new(free))
        });
        Self { stacks: stacks.collect(), lines }
    }

    /// Takes an array; makes one only when more are in use than were foreseen.
    pub(crate) fn slot(&self) -> Slot<'_, R> {
        let own = self.own();
        let (before, from) = self.stacks.split_at(own);
        let free = from.iter().chain(before).find_map(|stack| stack.lock().pop());
        let lines = free.unwrap_or_else(|| vec![Line([R::ZERO; LANES]); self.lines]);
        Slot { lines, scratch: self }
    }

    /// Bytes of all arrays that are not in use.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |lines: &Vec<Line<R>>| lines.len() * size_of::<Line<R>>();
        self.stacks.iter().map(|stack| stack.lock().iter().map(bytes).sum::<usize>()).sum()
    }
}

impl<R> Scratch<R> {
    /// The stack of this thread.
    fn own(&self) -> usize {
        rayon::current_thread_index().unwrap_or(0) % self.stacks.len()
    }
}

impl<R> Stack<R> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<Line<R>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Real> Clone for Scratch<R> {
    fn clone(&self) -> Self {
        let copy = |stack: &Stack<R>| Stack(Mutex::new(stack.lock().clone()));
        Self { stacks: self.stacks.iter().map(copy).collect(), lines: self.lines }
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
        self.scratch.stacks[self.scratch.own()].lock().push(lines);
    }
}
