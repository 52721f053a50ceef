//! The rules of the programs on the send path: constants that userspace injects
//! when it loads them.

/// What a sender may send, and which datagrams the program takes off the Unix
/// socket.
///
/// The costs are those of a [`Budget`](crate::budget::Budget).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Gate {
    /// What a datagram costs its sender, nanoseconds; 0: no sender is limited.
    pub cost_ns: u64,
    /// What a process can save up, nanoseconds.
    pub burst_ns: u64,
    /// What a critical beat costs when the budget above is spent: it is paid
    /// from a second one.
    pub critical_cost_ns: u64,
    /// What a process can save up in the second budget.
    pub critical_burst_ns: u64,
    /// [`Gate::cost_ns`] of the budget that the strangers of a user, or of a
    /// cgroup, share; 0: these are not limited.
    pub shared_cost_ns: u64,
    /// [`Gate::burst_ns`] of that budget.
    pub shared_burst_ns: u64,
    /// [`Gate::critical_cost_ns`] of that budget.
    pub shared_critical_cost_ns: u64,
    /// [`Gate::critical_burst_ns`] of that budget.
    pub shared_critical_burst_ns: u64,
    /// Size of the ring, of which each sender has a share when it fills up; 0:
    /// there are no shares.
    pub ring_bytes: u64,
    /// The program takes datagrams off the socket while at most this many bytes
    /// of the ring are unread; the rest of the ring is kept for records of
    /// datagrams that go by the socket. 0: it takes none.
    pub take_below: u64,
    /// 1: forgeries, datagrams that claim another process than the sender, are
    /// taken off the socket. `u32` and not `bool`: no padding, no invalid
    /// value.
    pub refuse_forgeries: u32,
    /// 1: a process in a pid namespace below the observer's claims the pid that
    /// it has there; 0: whatever it claims is a forgery.
    pub translate: u32,
    /// 1: the socket refuses descriptors that are attached to datagrams, with
    /// an error to the sender; 0: the program drops such datagrams.
    pub socket_refuses_descriptors: u32,
    /// Zero; keeps the rules free of implicit padding.
    pub reserved: u32,
}

impl Gate {
    /// Everything passes, and nothing is taken off the socket.
    pub const OPEN: Self = Self {
        cost_ns: 0,
        burst_ns: 0,
        critical_cost_ns: 0,
        critical_burst_ns: 0,
        shared_cost_ns: 0,
        shared_burst_ns: 0,
        shared_critical_cost_ns: 0,
        shared_critical_burst_ns: 0,
        ring_bytes: 0,
        take_below: 0,
        refuse_forgeries: 0,
        translate: 0,
        socket_refuses_descriptors: 0,
        reserved: 0,
    };

    /// These rules with a budget for each process of `rate` datagrams a second,
    /// and a burst of twice as many; 0: no limit.
    ///
    /// A critical beat that finds this budget empty is paid from a second one:
    /// a hundredth of the rate, at least one a second, and at least ten at
    /// once. Routine beats cannot use that up, and being small it is no way
    /// around the limit.
    #[must_use]
    pub const fn with_rate(self, rate: u32) -> Self {
        let [cost_ns, burst_ns, critical_cost_ns, critical_burst_ns] = costs(rate);
        Self {
            cost_ns,
            burst_ns,
            critical_cost_ns,
            critical_burst_ns,
            ..self
        }
    }

    /// Likewise with a budget for the strangers of each user, and of each
    /// cgroup.
    #[must_use]
    pub const fn with_shared_rate(self, rate: u32) -> Self {
        let [
            shared_cost_ns,
            shared_burst_ns,
            shared_critical_cost_ns,
            shared_critical_burst_ns,
        ] = costs(rate);
        Self {
            shared_cost_ns,
            shared_burst_ns,
            shared_critical_cost_ns,
            shared_critical_burst_ns,
            ..self
        }
    }
}

/// Cost of a datagram and burst, then both of critical beats.
const fn costs(rate: u32) -> [u64; 4] {
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

/// Nanoseconds that one datagram costs at this rate, and at least 1.
const fn cost(rate: u32) -> u64 {
    match 1_000_000_000_u64.checked_div(rate as u64) {
        Some(0) | None => 1,
        Some(cost) => cost,
    }
}

const _: () = assert!(size_of::<Gate>() == 96);

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
    fn strangers_have_the_budget_of_their_rate() {
        let (one, shared) = (Gate::OPEN.with_rate(500), Gate::OPEN.with_shared_rate(500));
        assert_eq!(shared.shared_cost_ns, one.cost_ns);
        assert_eq!(shared.shared_burst_ns, one.burst_ns);
        assert_eq!(shared.shared_critical_cost_ns, one.critical_cost_ns);
        assert_eq!(shared.shared_critical_burst_ns, one.critical_burst_ns);
        assert_eq!((one.shared_cost_ns, shared.cost_ns), (0, 0));
        assert_eq!(Gate::OPEN.with_shared_rate(0), Gate::OPEN);
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Gate::OPEN.with_rate(0), Gate::OPEN);
        assert_eq!(Gate::OPEN.with_rate(u32::MAX).cost_ns, 1);
    }
}
