//! Beats that the ring delivers, and when to look for them.

use std::{os::fd::BorrowedFd, time::Duration};

use observer_events::Report;

use super::{Inlet, Observer, Pass, conclude::Delivery};
use crate::{attention::Now, attest::Taken, judge::Channel};

impl Observer {
    /// What is readable once the ring has something that it announced.
    pub(crate) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.attestors.unix.wakeup()
    }

    /// What is readable once a ring of UDP fills up.
    pub(crate) fn udp_rings(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.attestors.udp.rings()
    }

    /// How long until the ring is to be looked at by the clock; `None`: it is
    /// announced when there is something.
    pub(crate) fn until_look(&self) -> Option<Duration> {
        let next = self.moderation.next_ns()?;
        let now = self.attention.now().observer_ns;
        Some(Duration::from_nanos(next.saturating_sub(now)))
    }

    /// Time between two looks by the clock.
    pub(crate) fn look_interval(&self) -> Duration {
        self.moderation.interval()
    }

    /// Asks to be woken for the next thing in the ring; false if there is
    /// something by now.
    pub(crate) fn arm_wakeup(&self) -> bool {
        self.attestors.unix.arm_wakeup()
    }

    /// How long the oldest datagram has waited that the ring delivers. A
    /// record of one that was taken is no mere attempt: it cannot lie.
    pub(super) fn waited_in_ring(&self, now: Now) -> Option<u64> {
        let sent_ns = self.attestors.unix.oldest_taken_ns()?;
        Some(self.attention.since_monotonic(now, sent_ns))
    }

    /// Reads the ring of the Unix socket; returns how many datagrams it
    /// delivered.
    ///
    /// While they come fast the ring is looked at by the clock, and not as
    /// often as this is called; but what was received by the socket has its
    /// record, and who is to be judged silent has not been heard of by either.
    pub(super) fn read_ring(&mut self, pass: &Pass, is_due: bool) -> usize {
        // The Unix socket is the first of the inlets.
        let [received, ..] = pass.batches;
        let limit = self.inlets.first().map_or(0, Inlet::queue_limit);
        let now_ns = self.now.observer_ns;
        let is_look = self.moderation.is_due(now_ns);
        let is_fresh = is_look || is_due || received.is_some_and(|received| received > 0);
        let unix = &mut self.attestors.unix;
        if let Some(received) = received {
            unix.note_received(received, limit);
        }
        let before = unix.taken();
        let records = unix.absorb(self.now.attended_ns, is_fresh);
        self.counters.records = self.counters.records.saturating_add(records);
        let delivered = unix.taken().saturating_sub(before);
        self.counters.taken = self.counters.taken.saturating_add(delivered as u64);
        if is_look {
            self.moderation.note(now_ns, delivered);
            if self.moderation.next_ns().is_some() {
                unix.disarm_wakeup();
            }
        }
        self.is_ring_read_in_part =
            unix.is_socket_first() || records > 0 && !unix.is_read_to_mark();
        delivered.max(usize::from(self.is_ring_read_in_part))
    }

    /// Judges the next datagram that the ring delivered, and takes down whom
    /// the program dropped datagrams of. An event that is to be told next goes
    /// past the line.
    pub(super) fn take_from_ring(&mut self) -> Option<Found> {
        while let Some(told) = self.attestors.unix.next_throttled() {
            self.tell_throttled(told);
        }
        let Taken { frame, sender } = self.attestors.unix.next_taken()?;
        let delivery = Delivery {
            bytes: frame,
            channel: Channel::Unix,
            sender: Some(sender),
            source: None,
            truncated: false,
            now: self.now,
        };
        Some(match self.find(&delivery) {
            Some(event) if self.ready.is_empty() => Found::Next(delivery.report(event)),
            Some(event) => {
                self.emit(event, &delivery);
                Found::Other
            }
            None => Found::Other,
        })
    }

    /// Whether there is more to read in the ring without waiting for it.
    pub(crate) fn is_ring_read_in_part(&self) -> bool {
        self.is_ring_read_in_part
    }
}

/// What became of a datagram.
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the common one; a box would be an allocation for each beat"
)]
pub(super) enum Found {
    /// This is to be reported next.
    Next(Report),
    /// Nothing, or something that is in line.
    Other,
}
