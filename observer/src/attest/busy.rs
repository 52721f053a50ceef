//! Ring entries that were still being written when the reader passed them.
//!
//! A sender can lose the CPU between `bpf_ringbuf_reserve` and
//! `bpf_ringbuf_commit`, which `bpf_ringbuf_output` (`kernel/bpf/ringbuf.c`)
//! calls one after the other: kernels that preempt fully allow it anywhere, and
//! a hypervisor on each. A reader that stopped there would hand all senders
//! behind it to whoever is not scheduled. So it notes the position, goes on,
//! and comes back with each look.

use std::collections::VecDeque;

/// The positions of such entries, in the ring's order.
///
/// The ring itself is the bound: there is at most one for each entry that it
/// has room for. To have one a task has to be off the CPU in this very moment,
/// so that as a rule there is none.
#[derive(Debug, Default)]
pub(super) struct BusyList {
    positions: VecDeque<u64>,
    /// How many of them this look has found still busy.
    checked: usize,
    /// Looks begun.
    looks: u64,
    /// The last look that came to the end of the list.
    completed: u64,
}

impl BusyList {
    /// Begins a look: each entry is to be checked again.
    pub(super) fn begin_look(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        self.checked = 0;
        self.note_end();
    }

    /// The next entry to be checked in this look.
    pub(super) fn unchecked(&self) -> Option<u64> {
        self.positions.get(self.checked).copied()
    }

    /// All that are still to be checked in this look.
    pub(super) fn unchecked_positions(&self) -> impl Iterator<Item = u64> + '_ {
        self.positions.iter().skip(self.checked).copied()
    }

    /// The unchecked entry is busy still.
    pub(super) fn keep(&mut self) {
        self.checked = self.checked.saturating_add(1);
        self.note_end();
    }

    /// The unchecked entry has been read.
    pub(super) fn remove(&mut self) {
        self.positions.remove(self.checked);
        self.note_end();
    }

    /// One more, behind all others, that was just found busy.
    pub(super) fn push(&mut self, position: u64) {
        self.positions.push_back(position);
        self.keep();
    }

    /// The first of them: nothing from here on can be given back.
    pub(super) fn first(&self) -> Option<u64> {
        self.positions.front().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// All of them.
    pub(super) fn positions(&self) -> impl Iterator<Item = u64> + '_ {
        self.positions.iter().copied()
    }

    /// The look in which an entry that has been committed by now is found.
    pub(super) fn look_to_come(&self) -> u64 {
        if self.positions.is_empty() {
            self.completed
        } else {
            self.looks.wrapping_add(1)
        }
    }

    /// Whether such a look has come to its end.
    pub(super) fn has_completed(&self, look: u64) -> bool {
        self.completed >= look
    }

    fn note_end(&mut self) {
        if self.checked >= self.positions.len() {
            self.completed = self.looks;
        }
    }
}
