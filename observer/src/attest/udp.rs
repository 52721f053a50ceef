//! Who sent a UDP datagram: what its way demands, and which records may serve.
//!
//! | it came by | it needs | without |
//! |---|---|---|
//! | the loopback device | a record of this network namespace | it is denied |
//! | a declared device | a record of another namespace | the listener's word counts, unless records were lost |
//! | another device | nothing | the listener's word counts |
//!
//! The last two rows have an exception: a process of this host is no network
//! that the operator vouched for. Where a record of another namespace, or of an
//! own datagram that left by another device, has the bytes of a datagram to a
//! trusted listener, it is denied.

use observer_common::{
    frame::FRAME_LEN,
    loss::Loss,
    record::{Fate, Record},
};

use super::{
    Attestor, Finding, Pending,
    join::{Hint, Join, Otherwise, RECORD_LIFETIME_NS},
    program::LoadedProgram,
    ring::{Mark, Ring},
};
use crate::{
    judge::Network,
    transport::{Datagram, Way},
};

/// What is known of datagrams that other network namespaces send.
pub(super) struct Others {
    join: Join,
    /// What left this one by another device than `lo`: no record of it vouches
    /// for anything.
    away: Join,
    /// How far their ring had been written when it was last looked at.
    mark: Option<Mark>,
    /// Whether addresses are translated between them and this one.
    is_translated: bool,
    losses: Losses,
}

/// When records of theirs were last lost.
#[derive(Default)]
struct Losses {
    counted: u64,
    /// When they were last counted: it takes system calls, and is done once
    /// for all that was received together.
    checked: Option<u64>,
    /// In attended nanoseconds.
    last: Option<u64>,
}

/// Which records may serve a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Those of this network namespace.
    Own,
    /// Those of others.
    Others,
    /// Those of others, and only to deny it.
    Denial,
}

impl Others {
    pub(super) fn new() -> Self {
        Self {
            join: Join::new(),
            away: Join::new(),
            mark: None,
            is_translated: false,
            losses: Losses::default(),
        }
    }

    pub(super) fn expire(&mut self, read_as_of: u64) {
        self.join.expire(read_as_of);
        self.away.expire(read_as_of);
    }

    /// Reads the records that are there; returns how many.
    pub(super) fn absorb(&mut self, ring: &mut Ring, now: u64) -> u64 {
        let mark = ring.mark();
        ring.begin_look();
        let mut records = 0_u64;
        while let Some(record) = ring.next(mark, |_| true) {
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
    /// Whether a datagram that comes now may have lost its record. An old loss
    /// that nobody asked about before counts as a new one.
    fn is_recent(&mut self, kernel: &LoadedProgram, now: u64) -> bool {
        if self.checked.replace(now) != Some(now) {
            self.count(kernel, now);
        }
        self.last
            .is_some_and(|last| now.saturating_sub(last) <= RECORD_LIFETIME_NS)
    }

    fn count(&mut self, kernel: &LoadedProgram, now: u64) {
        let lost = [Loss::RingFull, Loss::Unreadable, Loss::PassedOverBudget]
            .into_iter()
            .fold(0, |sum: u64, loss| sum.saturating_add(kernel.loss(loss)));
        if lost != self.counted {
            self.counted = lost;
            self.last = Some(now);
        }
    }
}

impl Attestor {
    /// Says that addresses are translated between other network namespaces and
    /// this one.
    pub(crate) fn expect_translation(&mut self, is_translated: bool) {
        self.others.is_translated = is_translated;
    }

    /// Who sent a datagram that was received before the last
    /// [`Attestor::absorb`].
    pub(super) fn identify_udp(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        (way, network): (Option<Way>, Network),
        (pending, give_up): (Option<Pending>, bool),
    ) -> Finding {
        let wanted = match (way, network) {
            (Some(Way::Loopback), _) => Wanted::Own,
            (Some(Way::Declared), _) => Wanted::Others,
            (Some(Way::Other), Network::Trusted) => Wanted::Denial,
            (Some(Way::Other) | None, _) => return Finding::Known(None),
        };
        if self.kernel.is_none() {
            return Finding::Known(None);
        }
        if let Some(record) = self.claim_udp(frame, datagram, wanted) {
            let sender = Some(self.attestation(&record, None));
            return match wanted {
                Wanted::Own | Wanted::Others => Finding::Known(sender),
                Wanted::Denial => Finding::Denied(sender),
            };
        }
        if let Some(record) = self.claim_away(frame, wanted, network) {
            return Finding::Denied(Some(self.attestation(&record, None)));
        }
        if let Some(mark) = self.unread_mark(wanted, pending).filter(|_| !give_up) {
            return Finding::Pending(Pending(mark));
        }
        if self.is_denied_without(wanted) {
            Finding::Denied(None)
        } else {
            Finding::Known(None)
        }
    }

    fn claim_udp(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        wanted: Wanted,
    ) -> Option<Record> {
        let token = datagram.mark.unwrap_or_default();
        let hint = datagram
            .source
            .map(|address| Hint::Source { address, token });
        let Self { join, others, .. } = self;
        match wanted {
            Wanted::Own => join.claim(frame, hint, Otherwise::None),
            Wanted::Others if !others.is_translated => {
                others.join.claim(frame, hint, Otherwise::None)
            }
            Wanted::Others | Wanted::Denial => others.join.claim(frame, hint, Otherwise::Oldest),
        }
    }

    /// The record of an own datagram that came back by a device that is not `lo`,
    /// where that is more than the network's word.
    fn claim_away(
        &mut self,
        frame: &[u8; FRAME_LEN],
        wanted: Wanted,
        network: Network,
    ) -> Option<Record> {
        let is_asked = wanted != Wanted::Own && network == Network::Trusted;
        let away = is_asked.then_some(&mut self.others.away)?;
        away.claim(frame, None, Otherwise::Oldest)
    }

    /// The place up to which a ring has to be read before it is certain that a
    /// datagram has no record; `None`: it has been.
    fn unread_mark(&self, wanted: Wanted, pending: Option<Pending>) -> Option<Mark> {
        let kernel = self.kernel.as_ref()?;
        let (ring, mark) = match wanted {
            Wanted::Own => (&kernel.ring, self.window.map(|window| window.mark)),
            Wanted::Others | Wanted::Denial => (&kernel.others, self.others.mark),
        };
        let mark = pending.map_or(mark, |Pending(mark)| Some(mark));
        mark.filter(|&mark| !ring.is_read_up_to(mark))
    }

    /// By `lo` nothing honest comes without a record: where none can be written
    /// the datagram is dropped, so what has none was sent past the program, or
    /// changed after it was seen.
    fn is_denied_without(&mut self, wanted: Wanted) -> bool {
        let Self {
            kernel,
            others,
            read_as_of,
            ..
        } = self;
        match (wanted, kernel) {
            (Wanted::Own, _) => true,
            (Wanted::Others, Some(kernel)) => others.losses.is_recent(kernel, *read_as_of),
            (Wanted::Others, None) | (Wanted::Denial, _) => false,
        }
    }
}
