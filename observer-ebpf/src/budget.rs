//! How much each process may send, and how much processes that nobody knows
//! may send together.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::map, maps::LruHashMap};
use observer_common::{
    gate::{Budget, Group, GroupKind, MAX_GROUPS, MAX_PAYERS, MAX_VOUCHED, Payer, TELL_EVERY_NS},
    record::{Limit, Record},
};

use crate::{atomic::Word, constants::gate, output};

/// The map makes room by itself: the process that sent the longest ago goes.
#[map]
static BUDGETS: LruHashMap<Payer, Budget> = LruHashMap::with_max_entries(MAX_PAYERS, 0);

/// Likewise: what the strangers of a user, or of a cgroup, have left together.
#[map]
static GROUPS: LruHashMap<Group, Budget> = LruHashMap::with_max_entries(MAX_GROUPS, 0);

/// The processes that userspace has accepted a beat of. The program only asks.
#[map]
static VOUCHED: LruHashMap<Payer, u32> = LruHashMap::with_max_entries(MAX_VOUCHED, 0);

static FULL: Budget = Budget::FULL;

/// How often an update is tried that another CPU got in the way of.
const TRIES: usize = 4;

/// As long as less than this part of the ring is unread, nobody's records in
/// it are counted.
const QUIET_PART: u64 = 4;

/// What part of the free room a process may take, beyond that.
const PART_OF_ONE: u64 = 32;

/// What part of it strangers of one user, or one cgroup, may take.
const PART_OF_STRANGERS: u64 = 4;

/// What a record takes up in the ring: its header, and itself.
const ENTRY: u64 = size_of::<Record>() as u64 + 8;

/// What is charged.
pub(crate) struct Sent {
    /// How many datagrams it is; a send may hold several (`UDP_SEGMENT`).
    pub(crate) datagrams: u32,
    /// Whether it is one that claims to be critical.
    pub(crate) is_critical: bool,
    /// Whether its sender shares the ring, and its strangers their budgets,
    /// with those of the observer's network namespace. The others have a ring
    /// and budgets of their own, for what they send is let through whatever it
    /// is: they could use up what is shared, and be none the worse for it.
    pub(crate) is_own: bool,
}

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
        /// What it was too much for.
        limit: Limit,
    },
}

/// Charges a send to its sender.
///
/// A process pays from a budget of its own. Who can start many processes has as
/// many of these, so a process that no beat has been accepted of yet, a
/// stranger, pays besides from one that its user's strangers share, and from
/// one that its cgroup's do: whoever sends much in their name takes that from
/// them, and from no agent.
///
/// Linux up to 6.13 runs the filter again for a send that had to wait for room
/// in the queue (the `restart` label of `unix_dgram_sendmsg`,
/// `net/unix/af_unix.c`), and each run is charged: nothing that a sender could
/// not imitate tells the second from another send of the same bytes.
///
/// Whom a map has no room for (it makes room, unless all CPUs are at it at the
/// same time) passes: this is about floods, and not about who is believed.
#[inline(always)]
pub(crate) fn charge(record: &Record, sent: &Sent) -> Verdict {
    if gate!(cost_ns) == 0 && gate!(group_cost_ns) == 0 {
        return Verdict::Within;
    }
    let payer = payer(record);
    let Some(budget) = entry(&BUDGETS, &payer) else {
        return Verdict::Within;
    };
    let account = Account::of(budget);
    match limit(record, &payer, account, sent) {
        None => Verdict::Within,
        Some(limit) => Verdict::Over {
            dropped: account.dropped.add(1),
            tell: is_due(account.told, record.time_ns),
            limit,
        },
    }
}

/// Counts a datagram of this sender's that is refused for its descriptors;
/// returns how many those are, if userspace is to be told now.
#[inline(always)]
pub(crate) fn note_descriptors(record: &Record) -> Option<u64> {
    let account = Account::of(entry(&BUDGETS, &payer(record))?);
    let refused = account.with_descriptors.add(1);
    is_due(account.descriptors_told, record.time_ns).then_some(refused)
}

#[inline(always)]
fn payer(record: &Record) -> Payer {
    Payer {
        start_ns: record.start_ns,
        host_pid: record.host_pid,
        task_kind: u32::from(record.task_kind),
    }
}

/// What a send is too much for, if it is.
#[inline(always)]
fn limit(record: &Record, payer: &Payer, own: Account<'_>, sent: &Sent) -> Option<Limit> {
    let rates = Rates {
        routine: (gate!(cost_ns), gate!(burst_ns)),
        critical: (gate!(critical_cost_ns), gate!(critical_burst_ns)),
    };
    if !own.pay(record.time_ns, sent, rates) {
        return Some(Limit::Process);
    }
    if !own.has_room(sent, PART_OF_ONE) {
        return Some(Limit::Ring);
    }
    if gate!(group_cost_ns) == 0 || own.is_vouched(payer) {
        return None;
    }
    let (user, cgroup) = if sent.is_own {
        (GroupKind::User, GroupKind::Cgroup)
    } else {
        (GroupKind::UserElsewhere, GroupKind::CgroupElsewhere)
    };
    let user = Group::new(user, record.uid.into());
    if !pay_together(&user, record.time_ns, sent) {
        return Some(Limit::User);
    }
    // Every process that nobody put elsewhere is in the root cgroup, or of no
    // known one.
    if record.cgroup_id <= ROOT_CGROUP {
        return None;
    }
    let cgroup = Group::new(cgroup, record.cgroup_id);
    (!pay_together(&cgroup, record.time_ns, sent)).then_some(Limit::Cgroup)
}

/// `kernfs_create_root` (`fs/kernfs/dir.c`) gives the root the first id.
const ROOT_CGROUP: u64 = 1;

/// Charges a stranger's send to those that it belongs to.
#[inline(always)]
fn pay_together(group: &Group, now: u64, sent: &Sent) -> bool {
    let Some(budget) = entry(&GROUPS, group) else {
        return true;
    };
    let account = Account::of(budget);
    let rates = Rates {
        routine: (gate!(group_cost_ns), gate!(group_burst_ns)),
        critical: (
            gate!(group_critical_cost_ns),
            gate!(group_critical_burst_ns),
        ),
    };
    account.pay(now, sent, rates) && account.has_room(sent, PART_OF_STRANGERS)
}

/// The budget of a key; a full one if there was none.
#[inline(always)]
fn entry<K>(map: &LruHashMap<K, Budget>, key: &K) -> Option<*mut Budget> {
    if let Some(budget) = map.get_ptr_mut(key) {
        return Some(budget);
    }
    // Another thread of the process may have been faster: its entry is as
    // good.
    let full: &Budget = &FULL;
    let _ = map.insert(key, full, u64::from(BPF_NOEXIST));
    map.get_ptr_mut(key)
}

/// What datagrams cost, and what can be saved up, in nanoseconds: of all, and
/// of critical ones beyond that.
#[derive(Clone, Copy)]
struct Rates {
    routine: (u64, u64),
    critical: (u64, u64),
}

/// The words of a budget.
#[derive(Clone, Copy)]
struct Account<'a> {
    routine: Word<'a>,
    critical: Word<'a>,
    dropped: Word<'a>,
    told: Word<'a>,
    with_descriptors: Word<'a>,
    descriptors_told: Word<'a>,
    vouched: Word<'a>,
    counted_from: Word<'a>,
    records: Word<'a>,
}

impl Account<'_> {
    /// `budget` is a map's value.
    #[inline(always)]
    fn of(budget: *mut Budget) -> Self {
        // SAFETY: fields of a map's value, all of them words, and aligned; only
        // this program changes them.
        unsafe {
            Self {
                routine: Word::at(&raw mut (*budget).spent_ns),
                critical: Word::at(&raw mut (*budget).critical_spent_ns),
                dropped: Word::at(&raw mut (*budget).dropped),
                told: Word::at(&raw mut (*budget).told_ns),
                with_descriptors: Word::at(&raw mut (*budget).with_descriptors),
                descriptors_told: Word::at(&raw mut (*budget).descriptors_told_ns),
                vouched: Word::at(&raw mut (*budget).vouched),
                counted_from: Word::at(&raw mut (*budget).counted_from),
                records: Word::at(&raw mut (*budget).records),
            }
        }
    }

    #[inline(always)]
    fn pay(self, now: u64, sent: &Sent, rates: Rates) -> bool {
        let (each, burst) = rates.routine;
        let cost = each.wrapping_mul(u64::from(sent.datagrams));
        spend(self.routine, now, (cost, burst))
            || sent.is_critical && spend(self.critical, now, rates.critical)
    }

    /// Whether userspace has accepted a beat of the process. It is asked for
    /// once: the answer stays with the budget.
    #[inline(always)]
    fn is_vouched(self, payer: &Payer) -> bool {
        if self.vouched.load() != 0 {
            return true;
        }
        let is_vouched = VOUCHED.get_ptr(payer).is_some();
        if is_vouched {
            self.vouched.swap(1);
        }
        is_vouched
    }

    /// Whether there may be so many more records of theirs in the ring.
    ///
    /// An observer that gets no CPU, or a record that is still being written,
    /// lets the ring fill up. The room that is left is shared by dynamic
    /// thresholds (Choudhury and Hahne, 1998): each may have so much as is a
    /// fixed part of what is free, so that there is always some left for who
    /// has sent little. What one has there is counted from a position on, anew
    /// once the observer has read beyond it.
    #[inline(always)]
    fn has_room(self, sent: &Sent, part: u64) -> bool {
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
}

/// Takes the cost from a budget that is spent up to some moment; false if that
/// would be in the future. What was saved up beyond the burst is forfeited.
///
/// Fails closed: whoever is in the way of its own threads for so long sends
/// too much.
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

/// Whether the last word of this sender's was long enough ago; of several
/// CPUs that ask at once, one is told so.
#[inline(always)]
fn is_due(told: Word<'_>, now: u64) -> bool {
    let last = told.load();
    (last == 0 || now.saturating_sub(last) >= TELL_EVERY_NS) && told.replace(last, now)
}
