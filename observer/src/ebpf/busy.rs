//! Ring entries that were still being written when the reader passed them.
//!
//! `bpf_ringbuf_output` (`kernel/bpf/ringbuf.c`) calls `bpf_ringbuf_reserve`
//! and then `bpf_ringbuf_commit`. A sender can lose the CPU between the two: to
//! another task on kernels that preempt fully, to a hypervisor on every kernel.
//! A reader that waited for it would hold up the records of all senders after
//! it. So the reader notes the position, goes on, and checks again with each
//! look.

use std::collections::VecDeque;

/// The positions of such entries, in the ring's order.
///
/// There are at most as many as the ring has room for. For each there is a task
/// that lost the CPU at just that moment, so there usually are none.
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

    /// Adds one, behind all others, that was just found busy.
    pub(super) fn push(&mut self, position: u64) {
        self.positions.push_back(position);
        self.keep();
    }

    /// The first of them: no room from here on can be given back.
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

    /// The look by whose end every entry has been found that is committed by
    /// now.
    pub(super) fn look_to_come(&self) -> u64 {
        if self.positions.is_empty() {
            self.completed
        } else {
            self.looks.wrapping_add(1)
        }
    }

    /// Whether a look has come to its end.
    pub(super) fn has_completed(&self, look: u64) -> bool {
        self.completed >= look
    }

    fn note_end(&mut self) {
        if self.checked >= self.positions.len() {
            self.completed = self.looks;
        }
    }
}
