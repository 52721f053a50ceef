//! One budget, which the program may change on all CPUs at the same time.

use observer_common::budget::{Budget, BudgetKey, REPORT_EVERY_NS};
use observer_common::record::Record;

use super::{Sent, VOUCHED};
use crate::atomic::Word;
use crate::constants::gate;
use crate::output;

/// How often an update is tried that other CPUs interfere with.
const TRIES: usize = 4;

/// While less than this part of the ring is unread, no records in it are
/// counted.
const QUIET_PART: u64 = 4;

/// What a record takes up in the ring: its header, and itself.
const ENTRY: u64 = size_of::<Record>() as u64 + 8;

/// What datagrams cost, and what can be saved up, in nanoseconds: of all
/// datagrams, and of critical ones beyond that.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    pub(super) routine: (u64, u64),
    pub(super) critical: (u64, u64),
}

/// The words of a budget.
#[derive(Clone, Copy)]
pub(super) struct Account<'a> {
    routine: Word<'a>,
    critical: Word<'a>,
    dropped: Word<'a>,
    reported: Word<'a>,
    with_descriptors: Word<'a>,
    descriptors_reported: Word<'a>,
    vouched: Word<'a>,
    counted_from: Word<'a>,
    records: Word<'a>,
}

impl Account<'_> {
    /// `budget` is a map's value.
    #[inline(always)]
    pub(super) fn of(budget: *mut Budget) -> Self {
        // SAFETY: fields of a map's value, all of them words, and aligned; only
        // this program changes them.
        unsafe {
            Self {
                routine: Word::at(&raw mut (*budget).spent_ns),
                critical: Word::at(&raw mut (*budget).critical_spent_ns),
                dropped: Word::at(&raw mut (*budget).dropped),
                reported: Word::at(&raw mut (*budget).reported_ns),
                with_descriptors: Word::at(&raw mut (*budget).with_descriptors),
                descriptors_reported: Word::at(&raw mut (*budget).descriptors_reported_ns),
                vouched: Word::at(&raw mut (*budget).vouched),
                counted_from: Word::at(&raw mut (*budget).counted_from),
                records: Word::at(&raw mut (*budget).records),
            }
        }
    }

    /// Pays for a send; false if there is not enough left.
    #[inline(always)]
    pub(super) fn pay(self, now: u64, sent: &Sent, rates: Rates) -> bool {
        let (each, burst) = rates.routine;
        let cost = each.wrapping_mul(u64::from(sent.datagrams));
        spend(self.routine, now, (cost, burst))
            || sent.is_critical && spend(self.critical, now, rates.critical)
    }

    /// Counts the send's records into the room that theirs may take up in the
    /// ring; false if that is exceeded. `part`: what part of the free room.
    ///
    /// The ring fills up while the observer gets no CPU, or while an old record
    /// is still being written. The free room is then shared by dynamic
    /// thresholds (Choudhury and Hahne, 1998): each may take a fixed part of
    /// what is free at the moment, so that some is always left for senders of
    /// few datagrams. Records are counted from a position of the ring on, and
    /// anew once the observer has read up to it.
    #[inline(always)]
    pub(super) fn take_room(self, sent: &Sent, part: u64) -> bool {
        let size = gate!(ring_bytes);
        if size == 0 {
            return true;
        }
        let (read, written) = output::positions(sent.is_own);
        let unread = written.wrapping_sub(read);
        if unread <= size / QUIET_PART {
            return true;
        }
        if read >= self.counted_from.load() {
            self.counted_from.swap(written);
            self.records.swap(0);
        }
        let records = self.records.add(u64::from(sent.datagrams));
        let taken = records.wrapping_mul(ENTRY);
        let free = size.saturating_sub(unread);
        taken <= free.checked_div(part).unwrap_or_default()
    }

    /// Finds out whether userspace has accepted a beat of the process, and
    /// remembers if so.
    #[inline(always)]
    pub(super) fn check_vouched(self, key: &BudgetKey) -> bool {
        if self.vouched.load() != 0 {
            return true;
        }
        let is_vouched = VOUCHED.get_ptr(key).is_some();
        if is_vouched {
            self.vouched.swap(1);
        }
        is_vouched
    }

    /// Counts a dropped datagram; returns how many there are.
    #[inline(always)]
    pub(super) fn count_dropped(self) -> u64 {
        self.dropped.add(1)
    }

    /// Counts a datagram that is refused for its descriptors; returns how many
    /// there are.
    #[inline(always)]
    pub(super) fn count_with_descriptors(self) -> u64 {
        self.with_descriptors.add(1)
    }

    /// See [`mark_reported`].
    #[inline(always)]
    pub(super) fn mark_dropped_reported(self, now: u64) -> bool {
        mark_reported(self.reported, now)
    }

    /// See [`mark_reported`].
    #[inline(always)]
    pub(super) fn mark_descriptors_reported(self, now: u64) -> bool {
        mark_reported(self.descriptors_reported, now)
    }
}

/// Takes the cost from a budget that is spent up to some moment; false if it
/// would then be spent up to a moment in the future. What was saved up beyond
/// the burst is lost.
///
/// Fails closed if it loses every try: then the sender's own threads send too
/// much.
#[inline(always)]
fn spend(spent: Word<'_>, now: u64, (cost, burst): (u64, u64)) -> bool {
    for _ in 0..TRIES {
        let old = spent.load();
        let new = old.max(now.saturating_sub(burst)).wrapping_add(cost);
        if new > now {
            return false;
        }
        if spent.replace(old, new) {
            return true;
        }
    }
    false
}

/// Notes that a record reports the sender now, if the last one is long enough
/// ago; false if it is not, or if another CPU was faster.
#[inline(always)]
fn mark_reported(reported: Word<'_>, now: u64) -> bool {
    let last = reported.load();
    (last == 0 || now.saturating_sub(last) >= REPORT_EVERY_NS) && reported.replace(last, now)
}
