//! How much each process may send.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::map, maps::LruHashMap};
use observer_common::{
    gate::{Budget, MAX_PAYERS, Payer, TELL_EVERY_NS},
    record::Record,
};

use crate::{atomic::Word, constants::gate};

/// The map makes room by itself: the process that sent the longest ago goes.
#[map]
static BUDGETS: LruHashMap<Payer, Budget> = LruHashMap::with_max_entries(MAX_PAYERS, 0);

static FULL: Budget = Budget::FULL;

/// How often an update is tried that another CPU got in the way of.
const TRIES: usize = 4;

/// What became of a charge.
pub(crate) enum Verdict {
    /// It was paid.
    Within,
    /// It was not.
    Over {
        /// How many of the sender's were not, this one included.
        dropped: u64,
        /// Whether userspace is to be told now.
        tell: bool,
    },
}

/// Charges datagrams, most often one, to their sender.
///
/// Linux up to 6.13 runs the filter again for a send that had to wait for room
/// in the queue (the `restart` label of `unix_dgram_sendmsg`,
/// `net/unix/af_unix.c`), and each run is charged: nothing that a sender could
/// not imitate tells the second from another send of the same bytes.
///
/// Whom the map has no room for (it makes room, unless all CPUs are at it at
/// the same time) passes: this is about floods, and not about who is believed.
#[inline(always)]
pub(crate) fn charge(record: &Record, datagrams: u32, is_critical: bool) -> Verdict {
    if gate!(cost_ns) == 0 {
        return Verdict::Within;
    }
    let Some(budget) = budget_of(&payer(record)) else {
        return Verdict::Within;
    };
    let now = record.time_ns;
    // SAFETY: fields of a map's value, all of them words, and aligned; only
    // this program changes them.
    let (routine, critical, dropped, told) = unsafe {
        (
            Word::at(&raw mut (*budget).spent_ns),
            Word::at(&raw mut (*budget).critical_spent_ns),
            Word::at(&raw mut (*budget).dropped),
            Word::at(&raw mut (*budget).told_ns),
        )
    };
    let cost_ns = gate!(cost_ns).wrapping_mul(u64::from(datagrams));
    if spend(routine, now, cost_ns, gate!(burst_ns)) {
        return Verdict::Within;
    }
    if is_critical
        && spend(
            critical,
            now,
            gate!(critical_cost_ns),
            gate!(critical_burst_ns),
        )
    {
        return Verdict::Within;
    }
    Verdict::Over {
        dropped: dropped.increase(),
        tell: is_due(told, now),
    }
}

/// Counts a datagram of this sender's that is refused for its descriptors;
/// returns how many those are, if userspace is to be told now.
#[inline(always)]
pub(crate) fn note_descriptors(record: &Record) -> Option<u64> {
    let budget = budget_of(&payer(record))?;
    // SAFETY: as above.
    let (refused, told) = unsafe {
        (
            Word::at(&raw mut (*budget).with_descriptors),
            Word::at(&raw mut (*budget).descriptors_told_ns),
        )
    };
    let refused = refused.increase();
    is_due(told, record.time_ns).then_some(refused)
}

#[inline(always)]
fn payer(record: &Record) -> Payer {
    Payer {
        start_ns: record.start_ns,
        host_pid: record.host_pid,
        task_kind: u32::from(record.task_kind),
    }
}

#[inline(always)]
fn budget_of(payer: &Payer) -> Option<*mut Budget> {
    if let Some(budget) = BUDGETS.get_ptr_mut(payer) {
        return Some(budget);
    }
    // Another thread of the process may have been faster: its entry is as
    // good.
    let full: &Budget = &FULL;
    let _ = BUDGETS.insert(payer, full, u64::from(BPF_NOEXIST));
    BUDGETS.get_ptr_mut(payer)
}

/// Takes `cost` from a budget that is spent up to some moment; false if that
/// would be in the future. What was saved up beyond `burst` is forfeited.
///
/// Fails closed: whoever is in the way of its own threads for so long sends
/// too much.
#[inline(always)]
fn spend(spent: Word<'_>, now: u64, cost: u64, burst: u64) -> bool {
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

/// Whether the last word of this sender's was long enough ago; of several
/// CPUs that ask at once, one is told so.
#[inline(always)]
fn is_due(told: Word<'_>, now: u64) -> bool {
    let last = told.load();
    (last == 0 || now.saturating_sub(last) >= TELL_EVERY_NS) && told.replace(last, now)
}
