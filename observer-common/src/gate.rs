//! What the filter on the Unix socket lets through, and what it takes itself:
//! constants that userspace injects when it loads the program, and the budgets
//! that the program keeps of senders.

/// The rules of the filter.
///
/// A budget is counted in time: a process earns a nanosecond a nanosecond, may
/// save up a burst, and pays for each datagram (the virtual scheduling form of
/// the generic cell rate algorithm, ITU-T I.371). One word a budget can be
/// changed by one atomic operation, by the threads of a process on all CPUs at
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Gate {
    /// What a datagram costs its sender, nanoseconds; 0: nothing is limited.
    pub cost_ns: u64,
    /// What a process can save up, nanoseconds.
    pub burst_ns: u64,
    /// What a critical beat costs that the budget above does not cover: it is
    /// paid from a second one.
    pub critical_cost_ns: u64,
    /// What a process can save up in the second budget.
    pub critical_burst_ns: u64,
    /// The first of these four, of all processes of a user or of a cgroup
    /// together that no beat has been accepted of yet; 0: these are not
    /// limited.
    pub group_cost_ns: u64,
    /// ... the second.
    pub group_burst_ns: u64,
    /// ... the third.
    pub group_critical_cost_ns: u64,
    /// ... the fourth.
    pub group_critical_burst_ns: u64,
    /// Size of the ring, of which each sender has a share when it fills up; 0:
    /// who comes first has it.
    pub ring_bytes: u64,
    /// The program takes datagrams off the socket as long as no more than so
    /// many bytes of the ring are unread; the rest of it is kept for records
    /// of datagrams that go by the socket. 0: it takes none.
    pub take_below: u64,
    /// 1: datagrams that claim to be from another process than the sender are
    /// taken off the socket. `u32` and not `bool`: no padding, no invalid
    /// value.
    pub refuse_lies: u32,
    /// 1: a process in a pid namespace below the observer's is to claim the
    /// pid that it has there; 0: it has no honest claim.
    pub translate: u32,
    /// 1: the socket refuses descriptors that are attached to datagrams, with
    /// an error to the sender; 0: the program drops such datagrams.
    pub socket_refuses_descriptors: u32,
    /// Zero; keeps the rules free of implicit padding.
    pub reserved: u32,
}

impl Gate {
    /// Lets everything through, and takes nothing.
    pub const OPEN: Self = Self {
        cost_ns: 0,
        burst_ns: 0,
        critical_cost_ns: 0,
        critical_burst_ns: 0,
        group_cost_ns: 0,
        group_burst_ns: 0,
        group_critical_cost_ns: 0,
        group_critical_burst_ns: 0,
        ring_bytes: 0,
        take_below: 0,
        refuse_lies: 0,
        translate: 0,
        socket_refuses_descriptors: 0,
        reserved: 0,
    };

    /// The same with a budget of `rate` datagrams a second and a burst of
    /// twice as many; 0: no limit.
    ///
    /// A critical beat that finds this budget empty has a second one of a
    /// hundredth of it, at least one a second and ten at once: routine beats
    /// cannot use it up, and it is no way around the limit.
    #[must_use]
    pub const fn with_rate(self, rate: u32) -> Self {
        let [cost_ns, burst_ns, critical_cost_ns, critical_burst_ns] = budget(rate);
        Self {
            cost_ns,
            burst_ns,
            critical_cost_ns,
            critical_burst_ns,
            ..self
        }
    }

    /// The same for what the strangers of a user, or of a cgroup, share.
    #[must_use]
    pub const fn with_group_rate(self, rate: u32) -> Self {
        let [
            group_cost_ns,
            group_burst_ns,
            group_critical_cost_ns,
            group_critical_burst_ns,
        ] = budget(rate);
        Self {
            group_cost_ns,
            group_burst_ns,
            group_critical_cost_ns,
            group_critical_burst_ns,
            ..self
        }
    }
}

/// What a datagram costs and what can be saved up, then the same of critical
/// ones.
const fn budget(rate: u32) -> [u64; 4] {
    if rate == 0 {
        return [0; 4];
    }
    let critical = if rate < 100 { 1 } else { rate / 100 };
    let (each, critical_each) = (cost(rate), cost(critical));
    let burst = each.saturating_mul(rate as u64).saturating_mul(2);
    let at_once = if critical < 10 { 10 } else { critical };
    let critical_burst = critical_each.saturating_mul(at_once as u64);
    [each, burst, critical_each, critical_burst]
}

/// What one of so many a second costs. A rate beyond one a nanosecond is none.
const fn cost(rate: u32) -> u64 {
    match 1_000_000_000_u64.checked_div(rate as u64) {
        Some(0) | None => 1,
        Some(cost) => cost,
    }
}

/// Whose budget a datagram is paid from: the key of the `BUDGETS` map.
///
/// What io_uring's kernel threads send is paid apart from what a process sends
/// itself: whoever holds an inherited ring sends in its creator's name, and
/// must not be able to use up the creator's own budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::FromBytes)
)]
#[repr(C)]
pub struct Payer {
    /// When the process started; 0: unknown.
    pub start_ns: u64,
    /// The process in the initial pid namespace.
    pub host_pid: u32,
    /// [`TaskKind`](crate::record::TaskKind) of the sending task as a number.
    pub task_kind: u32,
}

/// Which processes share a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum GroupKind {
    /// Those of a user. Without BTF no record names one: all are of
    /// [`UNKNOWN_ID`](crate::record::UNKNOWN_ID) then.
    User = 1,
    /// Those in a cgroup.
    Cgroup = 2,
    /// Those of a user in other network namespaces than the observer's, and
    /// what goes elsewhere: they use up nothing that newcomers here need.
    UserElsewhere = 3,
    /// Likewise of a cgroup.
    CgroupElsewhere = 4,
}

/// Whose strangers share a budget: the key of the `GROUPS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Group {
    /// User id, or cgroup id.
    id: u64,
    /// [`GroupKind`] as a number; a whole word, so that there is no padding.
    kind: u64,
}

impl Group {
    /// A user's strangers, or a cgroup's.
    #[must_use]
    pub const fn new(kind: GroupKind, id: u64) -> Self {
        Self {
            id,
            kind: kind as u64,
        }
    }
}

/// What a process, or a group of strangers, has left: the value of the
/// `BUDGETS` and `GROUPS` maps.
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
    /// When a record last told of them.
    pub told_ns: u64,
    /// Datagrams with descriptors that were refused.
    pub with_descriptors: u64,
    /// When a record last told of these.
    pub descriptors_told_ns: u64,
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
        told_ns: 0,
        with_descriptors: 0,
        descriptors_told_ns: 0,
        vouched: 0,
        counted_from: 0,
        records: 0,
    };
}

/// How often a record tells of a sender's dropped datagrams, nanoseconds.
pub const TELL_EVERY_NS: u64 = 1_000_000_000;

/// Processes whose budgets are known at the same time; the one that sent the
/// longest ago makes room, and begins anew with a full one.
pub const MAX_PAYERS: u32 = 16_384;

/// The same for users and cgroups.
pub const MAX_GROUPS: u32 = 4096;

/// Accepted processes that the program is told of at the same time. It asks
/// once for each, when the process next sends.
pub const MAX_VOUCHED: u32 = 65_536;

const _: () = {
    assert!(size_of::<Gate>() == 96);
    assert!(size_of::<Payer>() == 16);
    assert!(size_of::<Group>() == 16);
    assert!(size_of::<Budget>() == 72);
};

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn a_burst_is_twice_the_rate() {
        let gate = Gate::OPEN.with_rate(1000);
        assert_eq!((gate.cost_ns, gate.burst_ns), (1_000_000, 2_000_000_000));
        assert_eq!(gate.critical_cost_ns, 100_000_000);
        assert_eq!(gate.critical_burst_ns, 1_000_000_000);
    }

    #[test]
    fn critical_beats_always_have_some() {
        let gate = Gate::OPEN.with_rate(1);
        assert_eq!(gate.critical_cost_ns, 1_000_000_000);
        assert_eq!(gate.critical_burst_ns, 10_000_000_000);
    }

    #[test]
    fn a_group_has_the_budget_of_its_rate() {
        let (one, group) = (Gate::OPEN.with_rate(500), Gate::OPEN.with_group_rate(500));
        assert_eq!(group.group_cost_ns, one.cost_ns);
        assert_eq!(group.group_burst_ns, one.burst_ns);
        assert_eq!(group.group_critical_cost_ns, one.critical_cost_ns);
        assert_eq!(group.group_critical_burst_ns, one.critical_burst_ns);
        assert_eq!((one.group_cost_ns, group.cost_ns), (0, 0));
        assert_eq!(Gate::OPEN.with_group_rate(0), Gate::OPEN);
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Gate::OPEN.with_rate(0), Gate::OPEN);
        assert_eq!(Gate::OPEN.with_rate(u32::MAX).cost_ns, 1);
    }
}
