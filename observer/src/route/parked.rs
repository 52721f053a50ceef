//! Frames whose records are still to be read.
//!
//! Where the ring delivers datagrams it is read in parts
//! ([`OwnRing`](super::own_ring::OwnRing)), and a frame that went by the socket
//! may come before its record. Elsewhere every received frame's record is read
//! by the time that it is judged, whatever else in the ring is still being
//! written (`Ring::mark`).
//!
//! They are decided before anything is judged that was received later: then no
//! frame overtakes an older one of its sender, whose records lie in the ring in
//! the order in which they were sent.

use std::collections::VecDeque;

use observer_common::frame::FRAME_LEN;
use observer_events::event::Attestation;

use super::Delivery;
use crate::clock::Now;
use crate::ebpf::Mark;
use crate::judge::Trust;
use crate::transport::Datagram;

/// How long a frame waits for its record, attended nanoseconds; after this it
/// counts as lost.
pub(crate) const PARK_NS: u64 = 100_000_000;

/// How often the ring is looked at while a frame waits, nanoseconds.
pub(crate) const PARK_RETRY_NS: u64 = 1_000_000;

/// How many frames may wait at least; beyond the bound the oldest is decided at
/// once.
const MAX_PARKED: usize = 1024;

/// How many times what the socket's queue holds may wait. Where the ring
/// delivers and leaves datagrams to the socket when it fills up, a queue full
/// may have to be received for each of two windows of the ring before the
/// records of the first are read. As much again may wait by then: beyond half
/// of the bound nothing is received that need not be ([`Parked::has_room`]).
const QUEUES_PARKED: usize = 6;

/// Frames that wait, longest first, and the place up to which the ring has to be
/// read before it is certain that one has no record.
#[derive(Debug)]
pub(super) struct Parked<C> {
    waiting: VecDeque<(Arrived<C>, Mark)>,
    limit: usize,
}

/// A frame that was received. `C` is what its route has to know beside the
/// datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<C> {
    pub(super) frame: [u8; FRAME_LEN],
    pub(super) datagram: Datagram,
    pub(super) context: C,
    pub(super) received: Now,
}

impl<C> Parked<C> {
    /// For what comes from a socket in which so many datagrams can wait.
    pub(super) fn new(queue_limit: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            limit: queue_limit.saturating_mul(QUEUES_PARKED).max(MAX_PARKED),
        }
    }

    /// Has a frame wait; returns the one that has waited the longest, and is to
    /// be decided at once, if these are too many.
    pub(super) fn push(&mut self, arrived: Arrived<C>, mark: Mark) -> Option<Arrived<C>> {
        let is_full = self.waiting.len() >= self.limit;
        let oldest = is_full.then(|| self.waiting.pop_front()).flatten();
        self.waiting.push_back((arrived, mark));
        oldest.map(|(oldest, _)| oldest)
    }

    /// Whether there is room for frames that could as well stay in the socket
    /// for now. A frame that is decided at once for want of room would be taken
    /// for a forgery.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < self.limit / 2
    }

    /// All that wait, each to be decided or to be kept.
    pub(super) fn take(&mut self) -> VecDeque<(Arrived<C>, Mark)> {
        std::mem::take(&mut self.waiting)
    }

    /// Has one wait on that was taken.
    pub(super) fn keep(&mut self, arrived: Arrived<C>, mark: Mark) {
        self.waiting.push_back((arrived, mark));
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl<C> Arrived<C> {
    /// Its delivery, now that its sender is settled.
    pub(super) fn delivery(&self, trust: Trust, sender: Option<Attestation>) -> Delivery {
        let Self {
            frame,
            datagram,
            context: _,
            received,
        } = self;
        Delivery {
            frame: *frame,
            trust,
            sender,
            source: datagram.source,
            truncated: datagram.truncated_control,
            received: *received,
        }
    }

    /// Whether its record counts as lost: not for the time in which the
    /// observer did not look for it.
    pub(super) fn is_overdue(&self, now: Now) -> bool {
        let waited = now.attended_ns.saturating_sub(self.received.attended_ns);
        waited > PARK_NS
    }
}
