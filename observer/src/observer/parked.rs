//! Frames whose records are still being written.

use std::collections::VecDeque;

use observer_common::frame::FRAME_LEN;

use super::{Observer, conclude::Delivery};
use crate::{
    attention::Now,
    attest::{Finding, Pending},
    counters::count,
    judge::Channel,
    transport::Datagram,
};

/// How long a frame waits for a record that is still being written,
/// nanoseconds. The writer is a sender that was preempted while the kernel
/// copied its record (`bpf_ringbuf_output`, `kernel/bpf/ringbuf.c`); after
/// this its record counts as lost.
pub(super) const PARK_NS: u64 = 100_000_000;

/// How often the ring is looked at while a frame waits, nanoseconds.
pub(super) const PARK_RETRY_NS: u64 = 1_000_000;

/// How many frames wait at most; beyond it the oldest is decided at once.
const MAX_PARKED: usize = 1024;

/// Frames that wait, longest first.
pub(super) type Queue = VecDeque<Parked>;

/// A frame whose record is still being written.
pub(super) struct Parked {
    frame: [u8; FRAME_LEN],
    datagram: Datagram,
    channel: Channel,
    received: Now,
    pending: Pending,
}

impl Observer {
    pub(super) fn park(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        channel: Channel,
        pending: Pending,
    ) {
        count(&mut self.counters.parked);
        if self.parked.len() >= MAX_PARKED
            && let Some(oldest) = self.parked.pop_front()
        {
            self.decide(oldest, true);
        }
        self.parked.push_back(Parked {
            frame: *frame,
            datagram: *datagram,
            channel,
            received: self.now,
            pending,
        });
    }

    /// Decides the frame that has waited longest, if it can be.
    pub(super) fn take_parked(&mut self) -> bool {
        let Some(oldest) = self.parked.pop_front() else {
            return false;
        };
        let waited = self
            .now
            .observer_ns
            .saturating_sub(oldest.received.observer_ns);
        self.decide(oldest, waited > PARK_NS)
    }

    fn decide(&mut self, parked: Parked, give_up: bool) -> bool {
        let Parked {
            frame,
            datagram,
            channel,
            received,
            pending,
        } = &parked;
        let attestor = self.attestors.of(*channel);
        match attestor.identify_again(frame, datagram, *pending, give_up) {
            Finding::Known(sender) => {
                self.conclude(
                    frame,
                    &Delivery {
                        channel: *channel,
                        sender,
                        source: datagram.source,
                        truncated: datagram.truncated_control,
                        now: *received,
                    },
                );
                true
            }
            Finding::Pending(_) => {
                self.parked.push_front(parked);
                false
            }
        }
    }

    /// Whether a silence may yet be broken by a frame that waits for its
    /// record. It postpones no silence for longer than a frame may wait.
    pub(super) fn is_waiting_for_records(&self) -> bool {
        let overdue = self
            .tracker
            .next_deadline()
            .is_some_and(|deadline| deadline.saturating_add(PARK_NS) <= self.now.attended_ns);
        !self.parked.is_empty() && !overdue
    }
}
