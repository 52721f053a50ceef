//! Whether every send has a record.

use observer_common::loss::Loss;
use observer_events::Notice;

use crate::clock::Now;
use crate::route::{Route, Routes};

/// How often the program's counters of lost records are read at most,
/// nanoseconds: it takes system calls.
const CHECK_EVERY_NS: u64 = 1_000_000_000;

/// When they are read although nothing is received, nanoseconds after the last
/// time: where something is, that does it.
const CHECK_AFTER_NS: u64 = CHECK_EVERY_NS + CHECK_EVERY_NS / 4;

/// Compares the counters of lost records with what they were.
#[derive(Debug, Default)]
pub(super) struct AttestationWatch {
    lost: Lost,
    /// Records were lost when the counters were last read.
    is_lost: bool,
    /// The same of those of the Unix socket alone.
    unix_lost: u64,
    is_unix_lost: bool,
    /// When that was, in nanoseconds since the start.
    checked_ns: u64,
    /// Something was received since.
    is_open: bool,
}

/// Records that were lost since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    ring_full: u64,
    unreadable: u64,
}

impl Lost {
    fn read(routes: &Routes) -> Self {
        let each = routes.each().map(Self::of);
        each.fold(Self::default(), |sum, lost| Self {
            ring_full: sum.ring_full.saturating_add(lost.ring_full),
            unreadable: sum.unreadable.saturating_add(lost.unreadable),
        })
    }

    fn of(route: &dyn Route) -> Self {
        let attestor = &route.base().attestor;
        Self {
            ring_full: attestor.loss(Loss::RingFull),
            unreadable: attestor.loss(Loss::Unreadable),
        }
    }

    fn total(self) -> u64 {
        self.ring_full.saturating_add(self.unreadable)
    }
}

impl AttestationWatch {
    /// Notes a pass; returns whether the counters are to be read in it.
    pub(super) fn note_pass(&mut self, now: Now) -> bool {
        let since = now.observer_ns.saturating_sub(self.checked_ns);
        self.is_open = since < CHECK_EVERY_NS;
        !self.is_open
    }

    /// Whether records were lost when the counters were last read.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether records of the Unix socket were lost lately: when the counters were
    /// last read, or since. What is lost elsewhere, others can bring about.
    pub(super) fn has_unix_losses(&self, routes: &Routes) -> bool {
        self.is_unix_lost || Lost::of(&routes.unix).total() > self.unix_lost
    }

    /// Reads the counters: what was lost since, or that nothing was any more.
    pub(super) fn check(&mut self, routes: &Routes, now: Now) -> Option<Notice> {
        self.checked_ns = now.observer_ns;
        let unix_lost = Lost::of(&routes.unix).total();
        self.is_unix_lost = unix_lost > self.unix_lost;
        self.unix_lost = unix_lost;
        self.compare(Lost::read(routes), now)
    }

    fn compare(&mut self, lost: Lost, now: Now) -> Option<Notice> {
        let new = lost.total().saturating_sub(self.lost.total());
        self.lost = lost;
        let was_lost = std::mem::replace(&mut self.is_lost, new > 0);
        let Lost {
            ring_full,
            unreadable,
        } = lost;
        let observer_ns = now.observer_ns;
        match (was_lost, self.is_lost) {
            (false, true) => Some(Notice::AttestationLost {
                reason: format!(
                    "{new} records of sends, or of attempts, were lost: {ring_full} in all for a \
                     full ring, {unreadable} unreadable"
                ),
                observer_ns,
            }),
            (true, false) => Some(Notice::AttestationRegained {
                reason: "no record was lost for a second".into(),
                observer_ns,
            }),
            (false, false) | (true, true) => None,
        }
    }

    /// When the counters are to be read without further input, in nanoseconds
    /// since the start.
    pub(super) fn next_due(&self) -> Option<u64> {
        (self.is_open || self.is_lost).then(|| self.checked_ns.saturating_add(CHECK_AFTER_NS))
    }
}
