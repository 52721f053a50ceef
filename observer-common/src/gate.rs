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
        if rate == 0 {
            return self;
        }
        let critical = if rate < 100 { 1 } else { rate / 100 };
        let (cost_ns, critical_cost_ns) = (cost(rate), cost(critical));
        Self {
            cost_ns,
            burst_ns: cost_ns.saturating_mul(rate as u64).saturating_mul(2),
            critical_cost_ns,
            critical_burst_ns: critical_cost_ns.saturating_mul(if critical < 10 {
                10
            } else {
                critical as u64
            }),
            ..self
        }
    }
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

/// What a process has left: the value of the `BUDGETS` map.
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
    };
}

/// How often a record tells of a sender's dropped datagrams, nanoseconds.
pub const TELL_EVERY_NS: u64 = 1_000_000_000;

/// Processes whose budgets are known at the same time; the one that sent the
/// longest ago makes room, and begins anew with a full one.
pub const MAX_PAYERS: u32 = 16_384;

const _: () = {
    assert!(size_of::<Gate>() == 56);
    assert!(size_of::<Payer>() == 16);
    assert!(size_of::<Budget>() == 48);
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
    fn no_rate_is_no_limit() {
        assert_eq!(Gate::OPEN.with_rate(0), Gate::OPEN);
        assert_eq!(Gate::OPEN.with_rate(u32::MAX).cost_ns, 1);
    }
}
