//! What both ways in have.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;

use observer_common::frame::FRAME_LEN;
use observer_common::record::{Fate, Record};
use observer_events::event::Attestation;
use observer_events::{Evidence, Notice};

use super::Delivery;
use super::still_dropped::StillDropped;
use super::throttled::{Account, More};
use crate::clock::{Clock, Now};
use crate::ebpf::{Attestor, Reason, Throttled};
use crate::judge::Trust;

/// A route's program, and what has come of it.
pub(crate) struct Base {
    pub(crate) attestor: Attestor,
    /// Records of senders that the program drops datagrams of.
    pub(super) dropped: VecDeque<Record>,
    pub(super) throttled: Account,
    still_dropped: StillDropped,
    /// Records of attempts that the program dropped as too many.
    pub(super) attempts: VecDeque<Record>,
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
    /// Receives that failed.
    pub(crate) receive_failures: u64,
    /// Of these datagrams, not of a frame's length.
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
            still_dropped: StillDropped::default(),
            attempts: VecDeque::new(),
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

    /// Whether the program goes on dropping what an agent sends, since the agent
    /// was last asked for or, if that is new, since a moment of
    /// `CLOCK_MONOTONIC`. A system call.
    pub(crate) fn is_still_dropped(&mut self, agent: &Attestation, since_ns: u64) -> bool {
        let key = Attestor::budget_key(agent);
        let counted = key.and_then(|key| Some((key, self.attestor.dropped(key, Reason::Flood)?)));
        counted.is_some_and(|(key, dropped)| self.still_dropped.ask(key, since_ns, dropped))
    }

    /// An attempt to send, as a delivery that never came. It has a record, so
    /// what it would be worth without one is never asked.
    pub(super) fn attempt(&self, record: &Record) -> Delivery {
        Delivery {
            frame: record.frame,
            trust: Trust::SocketMode,
            sender: Some(self.attestor.attestation(record, None)),
            source: None,
            truncated: false,
            received: self.filled,
        }
    }

    /// Whether a record that was not read yet was written from one moment to
    /// another, in nanoseconds since the start.
    pub(super) fn was_recorded_within(&self, clock: &Clock, moments: &RangeInclusive<u64>) -> bool {
        let moments = clock.monotonic(*moments.start())..=clock.monotonic(*moments.end());
        let mut rings = self.attestor.rings();
        rings.any(|ring| ring.has_written_within(&moments))
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
            if record.fate == Fate::Throttled as u8 {
                self.attempts.push_back(record);
            }
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
