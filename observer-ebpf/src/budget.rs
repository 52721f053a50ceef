//! How much each process may send, and how much strangers may send together.

mod account;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use observer_common::budget::{
    Budget, BudgetKey, MAX_BUDGETS, MAX_SHARED_BUDGETS, MAX_VOUCHED, SharedBudgetKey, Strangers,
};
use observer_common::record::{Limit, Record};

use self::account::{Account, Rates};
use crate::constants::gate;

/// When the map is full, the kernel removes the process that sent the longest
/// ago.
#[map]
static BUDGETS: LruHashMap<BudgetKey, Budget> = LruHashMap::with_max_entries(MAX_BUDGETS, 0);

/// Likewise: what the strangers of a user, or of a cgroup, have left together.
#[map]
static SHARED_BUDGETS: LruHashMap<SharedBudgetKey, Budget> =
    LruHashMap::with_max_entries(MAX_SHARED_BUDGETS, 0);

/// The processes that userspace has accepted a beat of. The program only reads
/// it.
#[map]
static VOUCHED: LruHashMap<BudgetKey, u32> = LruHashMap::with_max_entries(MAX_VOUCHED, 0);

static FULL: Budget = Budget::FULL;

/// What part of the ring's free room the records of one process may take.
const PART_OF_ONE: u64 = 32;

/// What part of it those of one user's strangers, or one cgroup's, may take.
const PART_OF_STRANGERS: u64 = 4;

/// The root cgroup's id, which `kernfs_create_root` (`fs/kernfs/dir.c`) gives
/// to the first node.
const ROOT_CGROUP: u64 = 1;

/// What is charged.
pub(crate) struct Sent {
    /// How many datagrams it is; a send may hold several (`UDP_SEGMENT`).
    pub(crate) datagrams: u32,
    /// Whether it is one that claims to be critical.
    pub(crate) is_critical: bool,
    /// Whether its sender shares the ring, and its strangers their budgets,
    /// with senders of the observer's network namespace. What others send is
    /// let through even beyond their budgets, so they could use up what they
    /// shared at no cost: they have a ring and budgets of their own.
    pub(crate) is_own: bool,
}

/// What came of a charge.
pub(crate) enum Charge {
    /// The sender paid.
    Paid,
    /// The sender could not pay.
    Unpaid {
        /// How many of its datagrams that were so far, this one included.
        dropped: u64,
        /// Whether a record is to report this now.
        report: bool,
        /// What the send is beyond.
        limit: Limit,
    },
}

/// Charges a send to its sender.
///
/// A process pays from a budget of its own. A stranger (a process that no beat
/// has been accepted of yet) pays also from the budgets that the strangers of
/// its user and of its cgroup share: starting many processes gains a flooder
/// nothing, and costs other strangers of that user, but no agent.
///
/// Linux up to 6.13 runs the filter again for a send that had to wait for room
/// in the queue (the `restart` label of `unix_dgram_sendmsg`,
/// `net/unix/af_unix.c`), and each run is charged: the second run cannot be
/// told from another send of the same bytes.
///
/// A sender that a map has no room for passes. That happens only while all CPUs
/// insert at the same time, and budgets are about floods, not about whose claim
/// is believed.
#[inline(always)]
pub(crate) fn charge(record: &Record, sent: &Sent) -> Charge {
    if gate!(cost_ns) == 0 && gate!(shared_cost_ns) == 0 {
        return Charge::Paid;
    }
    let key = key(record);
    let Some(budget) = entry(&BUDGETS, &key) else {
        return Charge::Paid;
    };
    let account = Account::of(budget);
    match limit(record, &key, account, sent) {
        None => Charge::Paid,
        Some(limit) => Charge::Unpaid {
            dropped: account.count_dropped(),
            report: account.mark_dropped_reported(record.time_ns),
            limit,
        },
    }
}

/// Counts a datagram of this sender that is refused for its descriptors;
/// returns how many those are, if a record is to report them now.
#[inline(always)]
pub(crate) fn count_descriptors(record: &Record) -> Option<u64> {
    let account = Account::of(entry(&BUDGETS, &key(record))?);
    let refused = account.count_with_descriptors();
    account
        .mark_descriptors_reported(record.time_ns)
        .then_some(refused)
}

#[inline(always)]
fn key(record: &Record) -> BudgetKey {
    BudgetKey {
        start_ns: record.start_ns,
        host_pid: record.host_pid,
        task_kind: u32::from(record.task_kind),
    }
}

/// Charges the send wherever it is to be paid; the limit that it is beyond, if
/// any.
#[inline(always)]
fn limit(record: &Record, key: &BudgetKey, own: Account<'_>, sent: &Sent) -> Option<Limit> {
    let rates = Rates {
        routine: (gate!(cost_ns), gate!(burst_ns)),
        critical: (gate!(critical_cost_ns), gate!(critical_burst_ns)),
    };
    if !own.pay(record.time_ns, sent, rates) {
        return Some(Limit::Process);
    }
    if !own.take_room(sent, PART_OF_ONE) {
        return Some(Limit::Ring);
    }
    if gate!(shared_cost_ns) == 0 || own.check_vouched(key) {
        return None;
    }
    let (user, cgroup) = if sent.is_own {
        (Strangers::User, Strangers::Cgroup)
    } else {
        (Strangers::UserElsewhere, Strangers::CgroupElsewhere)
    };
    let user = SharedBudgetKey::new(user, record.uid.into());
    if !pay_together(&user, record.time_ns, sent) {
        return Some(Limit::User);
    }
    // The root cgroup has every process that nobody moved elsewhere, and 0
    // stands for an unknown one: neither is charged.
    if record.cgroup_id <= ROOT_CGROUP {
        return None;
    }
    let cgroup = SharedBudgetKey::new(cgroup, record.cgroup_id);
    (!pay_together(&cgroup, record.time_ns, sent)).then_some(Limit::Cgroup)
}

/// Charges a stranger's send to the budget that it shares with others; false
/// if that cannot pay.
#[inline(always)]
fn pay_together(key: &SharedBudgetKey, now: u64, sent: &Sent) -> bool {
    let Some(budget) = entry(&SHARED_BUDGETS, key) else {
        return true;
    };
    let account = Account::of(budget);
    let rates = Rates {
        routine: (gate!(shared_cost_ns), gate!(shared_burst_ns)),
        critical: (
            gate!(shared_critical_cost_ns),
            gate!(shared_critical_burst_ns),
        ),
    };
    account.pay(now, sent, rates) && account.take_room(sent, PART_OF_STRANGERS)
}

/// The budget of a key; a full one if there was none.
#[inline(always)]
fn entry<K>(map: &LruHashMap<K, Budget>, key: &K) -> Option<*mut Budget> {
    if let Some(budget) = map.get_ptr_mut(key) {
        return Some(budget);
    }
    // The insertion fails where another thread of the process was faster: its
    // entry is as good.
    let full: &Budget = &FULL;
    let _ = map.insert(key, full, u64::from(BPF_NOEXIST));
    map.get_ptr_mut(key)
}
