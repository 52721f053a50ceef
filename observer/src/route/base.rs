//! What both ways in have.

use std::collections::VecDeque;
use std::io;

use observer_common::frame::FRAME_LEN;
use observer_common::record::{Fate, Record};
use observer_events::{Evidence, Notice};

use super::Delivery;
use super::throttled::{Account, More};
use crate::clock::Now;
use crate::ebpf::{Attestor, Reason, Throttled};

/// A route's program, and what has come of it.
pub(crate) struct Base {
    pub(crate) attestor: Attestor,
    /// Records of senders that the program drops datagrams of.
    pub(super) dropped: VecDeque<Record>,
    pub(super) throttled: Account,
    /// Settled since the route was last filled, and receives that failed.
    pub(super) settled: VecDeque<io::Result<Delivery>>,
    /// When the route was last filled: what was received then is dated so.
    pub(super) filled: Now,
    pub(super) counts: RouteCounts,
}

/// What a route counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteCounts {
    /// Datagrams received from sockets.
    pub(crate) datagrams: u64,
    /// Of these, not of a frame's length.
    pub(crate) wrong_length: u64,
    /// Records read.
    pub(crate) records: u64,
    /// Of these, deliveries.
    pub(crate) taken: u64,
    /// Frames that had to wait for their records.
    pub(crate) parked: u64,
}

impl Base {
    pub(super) fn new(attestor: Attestor) -> Self {
        Self {
            attestor,
            dropped: VecDeque::new(),
            throttled: Account::default(),
            settled: VecDeque::new(),
            filled: Now::default(),
            counts: RouteCounts::default(),
        }
    }

    /// The next frame that was settled when the route was filled, or a receive
    /// that failed.
    pub(crate) fn next_settled(&mut self) -> Option<io::Result<Delivery>> {
        self.settled.pop_front()
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> RouteCounts {
        self.counts
    }

    /// Keeps a record of a datagram that the program dropped; false if it is
    /// none.
    pub(super) fn take_dropped(dropped: &mut VecDeque<Record>, record: &Record) -> bool {
        let fate = Fate::try_from(record.fate);
        let is_dropped = matches!(fate, Ok(Fate::Throttled | Fate::Descriptors));
        if is_dropped {
            dropped.push_back(*record);
        }
        is_dropped
    }

    pub(super) fn next_throttled(&mut self, now: Now, all: bool) -> Option<Notice> {
        let more = self.next_dropped(now).or_else(|| {
            let Self {
                attestor,
                throttled,
                ..
            } = self;
            throttled.settle(now.observer_ns, all, |key, reason| {
                attestor.dropped(key, reason)
            })
        })?;
        Some(self.notice(&more, now))
    }

    fn next_dropped(&mut self, now: Now) -> Option<More> {
        while let Some(record) = self.dropped.pop_front() {
            let more = self
                .throttled
                .note(Throttled::from(&record), now.observer_ns);
            if more.is_some() {
                return more;
            }
        }
        None
    }

    fn notice(&self, more: &More, now: Now) -> Notice {
        let More {
            sender:
                Throttled {
                    reason,
                    limit,
                    record,
                    ..
                },
            count,
        } = *more;
        let observer_ns = now.observer_ns;
        // Zeros: it was no frame by its length.
        let frame = (record.frame != [0; FRAME_LEN]).then_some(record.frame);
        let evidence = Evidence::new(Some(self.attestor.attestation(&record, None)), None, frame);
        match reason {
            Reason::Flood => Notice::ThrottledSender {
                count,
                limit,
                observer_ns,
                evidence,
            },
            Reason::Descriptors => Notice::DescriptorsRefused {
                count,
                observer_ns,
                evidence,
            },
        }
    }
}
