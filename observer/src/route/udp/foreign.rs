//! What is known of datagrams that other network namespaces send.

use observer_common::loss::Loss;
use observer_common::record::Fate;

use crate::ebpf::{Attestor, Mark, Ring};
use crate::route::join::{Join, RECORD_LIFETIME_NS};

/// Records of datagrams that other network namespaces send, and of own ones
/// that left by another device than `lo`.
pub(super) struct Foreign {
    pub(super) join: Join,
    /// What left this one by another device: no record of it vouches for
    /// anything.
    pub(super) away: Join,
    /// How far their ring had been written when it was last looked at.
    pub(super) mark: Option<Mark>,
    /// Whether addresses are translated between them and this one.
    pub(super) is_translated: bool,
    pub(super) losses: Losses,
}

/// When records of theirs were last lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    counted: u64,
    /// When they were last counted: it takes system calls, and is done once
    /// for all that was received together.
    checked: Option<u64>,
    /// In attended nanoseconds.
    last: Option<u64>,
}

impl Foreign {
    pub(super) fn new(is_translated: bool) -> Self {
        Self {
            join: Join::new(),
            away: Join::new(),
            mark: None,
            is_translated,
            losses: Losses::default(),
        }
    }

    pub(super) fn expire(&mut self, read_as_of: u64) {
        self.join.expire(read_as_of);
        self.away.expire(read_as_of);
    }

    /// Reads the records that are there; returns how many.
    pub(super) fn read(&mut self, ring: &mut Ring, now: u64) -> u64 {
        let mark = ring.mark();
        ring.begin_look();
        let mut records = 0_u64;
        while let Some(record) = ring.peek(mark) {
            ring.advance();
            if record.fate == Fate::Away as u8 {
                self.away.record(&record, now);
            } else {
                self.join.record(&record, now);
            }
            records = records.saturating_add(1);
        }
        ring.release();
        self.mark = Some(mark);
        records
    }
}

impl Losses {
    /// Counts the losses anew, and says whether a datagram that comes now may
    /// have lost its record. An old loss that was not counted before counts as
    /// a new one.
    pub(super) fn check(&mut self, attestor: &Attestor, now: u64) -> bool {
        if self.checked.replace(now) != Some(now) {
            self.count(attestor, now);
        }
        self.last
            .is_some_and(|last| now.saturating_sub(last) <= RECORD_LIFETIME_NS)
    }

    fn count(&mut self, attestor: &Attestor, now: u64) {
        let lost = [Loss::RingFull, Loss::Unreadable, Loss::PassedOverBudget]
            .into_iter()
            .fold(0, |sum: u64, loss| sum.saturating_add(attestor.loss(loss)));
        if lost != self.counted {
            self.counted = lost;
            self.last = Some(now);
        }
    }
}
