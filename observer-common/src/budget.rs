//! The budgets that the eBPF programs keep of senders.
//!
//! A budget is counted in time: a process earns a nanosecond a nanosecond, may
//! save up a burst, and pays for each datagram (the virtual scheduling form of
//! the generic cell rate algorithm, ITU-T I.371). So a budget is one word, and
//! one atomic operation changes it: the threads of a process may do so on all
//! CPUs at once.

/// Whose budget a datagram is paid from: the key of the `BUDGETS` map.
///
/// What io_uring's kernel threads send is paid apart from what a process sends
/// itself. A process that holds an inherited io_uring sends in its creator's
/// name, and must not be able to use up the creator's own budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::FromBytes)
)]
#[repr(C)]
pub struct BudgetKey {
    /// When the process started; 0: unknown.
    pub start_ns: u64,
    /// The process in the initial pid namespace.
    pub host_pid: u32,
    /// [`TaskKind`](crate::record::TaskKind) of the sending task as a number.
    pub task_kind: u32,
}

/// Which strangers share a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Strangers {
    /// Those of a user. Without BTF no record names the user: all strangers
    /// are of [`UNKNOWN_ID`](crate::record::UNKNOWN_ID) then.
    User = 1,
    /// Those in a cgroup.
    Cgroup = 2,
    /// Those of a user whose datagrams come from another network namespace
    /// than the observer's, or leave it by another device than `lo`. What they
    /// send uses up nothing that strangers here need.
    UserElsewhere = 3,
    /// Likewise of a cgroup.
    CgroupElsewhere = 4,
}

/// Whose strangers share a budget: the key of the `SHARED_BUDGETS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SharedBudgetKey {
    /// User id, or cgroup id.
    id: u64,
    /// [`Strangers`] as a number; a whole word, so that there is no padding.
    strangers: u64,
}

impl SharedBudgetKey {
    /// The strangers of the user, or of the cgroup, with this id.
    #[must_use]
    pub const fn new(strangers: Strangers, id: u64) -> Self {
        Self {
            id,
            strangers: strangers as u64,
        }
    }
}

/// What a process has left, or strangers together: the value of the `BUDGETS`
/// and `SHARED_BUDGETS` maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::FromBytes)
)]
#[repr(C)]
pub struct Budget {
    /// The moment up to which the process's time is spent
    /// (`CLOCK_MONOTONIC`).
    pub spent_ns: u64,
    /// The same of the second budget, for critical beats.
    pub critical_spent_ns: u64,
    /// Datagrams that were dropped.
    pub dropped: u64,
    /// When a record last reported them.
    pub reported_ns: u64,
    /// Datagrams with descriptors that were refused.
    pub with_descriptors: u64,
    /// When a record last reported these.
    pub descriptors_reported_ns: u64,
    /// 1: userspace has accepted a beat of the process.
    pub vouched: u64,
    /// Position in the ring from which on the records are counted.
    pub counted_from: u64,
    /// Records written since, while the ring was filling up.
    pub records: u64,
}

impl Budget {
    /// That of a process that has not sent yet: all that can be saved up.
    pub const FULL: Self = Self {
        spent_ns: 0,
        critical_spent_ns: 0,
        dropped: 0,
        reported_ns: 0,
        with_descriptors: 0,
        descriptors_reported_ns: 0,
        vouched: 0,
        counted_from: 0,
        records: 0,
    };
}

/// How often a record reports a sender's dropped datagrams, nanoseconds.
pub const REPORT_EVERY_NS: u64 = 1_000_000_000;

/// Processes whose budgets are known at the same time. A new one replaces the
/// one that sent the longest ago, which has a full budget when it sends again.
pub const MAX_BUDGETS: u32 = 16_384;

/// The same for users and cgroups.
pub const MAX_SHARED_BUDGETS: u32 = 4096;

/// Processes that the observer can vouch for at the same time. The program
/// looks once for each, when the process next sends.
pub const MAX_VOUCHED: u32 = 65_536;

const _: () = {
    assert!(size_of::<BudgetKey>() == 16);
    assert!(size_of::<SharedBudgetKey>() == 16);
    assert!(size_of::<Budget>() == 72);
};
