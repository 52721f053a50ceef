//! Frames whose records are still to be read.
//!
//! Where the ring delivers datagrams, it is read in parts
//! ([`Attestor::absorb`](crate::attest::Attestor::absorb)), and a frame that
//! went by the socket may come before its record. Elsewhere every received
//! frame's record is read by the time that it is judged, whatever else in the
//! ring is still being written (`Ring::mark`).

use std::collections::VecDeque;

use observer_common::frame::FRAME_LEN;
use observer_events::counters::count;

use super::{Inlet, Observer, conclude::Delivery};
use crate::{
    attention::Now,
    attest::{Finding, Pending},
    judge::{Channel, Network},
    transport::{Datagram, Way},
};

/// How long a frame waits for its record, nanoseconds; after this it counts as
/// lost.
pub(super) const PARK_NS: u64 = 100_000_000;

/// How often the ring is looked at while a frame waits, nanoseconds.
pub(super) const PARK_RETRY_NS: u64 = 1_000_000;

/// How many frames may wait at least; beyond the bound the oldest is decided at
/// once.
const MAX_PARKED: usize = 1024;

/// How many times what the socket's queue holds may wait. Where the ring
/// delivers and leaves datagrams to the socket when it fills up, a queue full
/// may be received for each of two windows of the ring before the records of
/// the first are read (`attest::window`).
const QUEUES_PARKED: usize = 4;

/// Frames that wait, longest first.
pub(super) type Queue = VecDeque<Parked>;

/// A frame whose record is still to be read.
pub(super) struct Parked {
    frame: [u8; FRAME_LEN],
    datagram: Datagram,
    channel: Channel,
    way: Option<Way>,
    received: Now,
    pending: Pending,
}

impl Observer {
    pub(super) fn park(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        (channel, way): (Channel, Option<Way>),
        pending: Pending,
    ) {
        count(&mut self.counters.parked);
        let queue = self.inlets.first().map_or(0, Inlet::queue_limit);
        if self.parked.len() >= queue.saturating_mul(QUEUES_PARKED).max(MAX_PARKED)
            && let Some(oldest) = self.parked.pop_front()
        {
            self.decide(oldest, true);
        }
        self.parked.push_back(Parked {
            frame: *frame,
            datagram: *datagram,
            channel,
            way,
            received: self.now,
            pending,
        });
    }

    /// Decides all frames whose records have been read by now.
    ///
    /// To be called before anything is judged that was received later: then
    /// no frame overtakes an older one of its sender, whose records lie in
    /// the ring in the order in which they were sent.
    pub(super) fn retry_parked(&mut self) {
        for parked in std::mem::take(&mut self.parked) {
            let received = parked.received.observer_ns;
            let waited = self.now.observer_ns.saturating_sub(received);
            if let Some(still) = self.decide(parked, waited > PARK_NS) {
                self.parked.push_back(still);
            }
        }
    }

    /// Concludes what can be; returns the frame if it has to wait on.
    fn decide(&mut self, parked: Parked, give_up: bool) -> Option<Parked> {
        let Parked {
            frame,
            datagram,
            channel,
            way,
            received,
            pending,
        } = &parked;
        let route = (*channel, *way);
        let finding = self
            .attestors
            .identify_again(frame, datagram, route, *pending, give_up);
        let (channel, sender) = match finding {
            Finding::Known(sender) => (*channel, sender),
            Finding::Denied(sender) => (Channel::Udp(Network::Denied), sender),
            Finding::Pending(_) => return Some(parked),
        };
        let delivery = Delivery {
            bytes: *frame,
            channel,
            sender,
            source: datagram.source,
            truncated: datagram.truncated_control,
            now: *received,
        };
        self.conclude(&delivery);
        None
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
