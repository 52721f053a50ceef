//! Keeps account of the time in which the observer itself was away.
//!
//! A stopped observer (SIGSTOP, a paused virtual machine, a long page fault)
//! must not blame its agents. So silence is measured on a clock that stands
//! still while the observer is away.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A pass that comes later than this after something was to be done shows
/// that the observer was away, nanoseconds. Below it lie timer slack, a busy
/// scheduler and the work of a pass.
pub(crate) const AWAY_NS: u64 = 20_000_000;

/// The observer's clocks.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub(crate) struct Attention {
    /// `CLOCK_MONOTONIC` when the observer started.
    started_ns: u64,
    /// How long it has been away since.
    away_ns: u64,
    /// When it last looked at its input, since the start.
    looked_ns: u64,
}

/// A moment on both clocks, in nanoseconds since the observer started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What is reported.
    pub observer_ns: u64,
    /// The same less the time in which the observer was away: what silence is
    /// measured by.
    pub attended_ns: u64,
}

impl Attention {
    pub(crate) fn start() -> Self {
        Self {
            started_ns: monotonic_ns(),
            away_ns: 0,
            looked_ns: 0,
        }
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Now {
        self.at(monotonic_ns().saturating_sub(self.started_ns))
    }

    /// How long the observer has been away in all, nanoseconds.
    pub(crate) fn away_ns(&self) -> u64 {
        self.away_ns
    }

    /// The observer looks at its input. `waited_ns` is how long the oldest
    /// datagram has waited, `deadline` (attended) when something was to be
    /// judged. What either shows of an absence is given back; the moment
    /// after that is returned, and how long the absence was.
    ///
    /// How long a datagram waited has to come from the kernel's own stamp: a
    /// record is an attempt, and one that never became a datagram, which a
    /// sender can arrange, shows nothing of an absence.
    ///
    /// An absence cannot reach back beyond the last look, whatever senders
    /// do: a flood that keeps the observer busy is no absence.
    pub(crate) fn look(
        &mut self,
        now: Now,
        waited_ns: Option<u64>,
        deadline: Option<u64>,
    ) -> (Now, u64) {
        let sent = waited_ns.map(|waited| now.observer_ns.saturating_sub(waited));
        let due = deadline.map(|due| due.saturating_add(self.away_ns));
        let since = [sent, due]
            .into_iter()
            .flatten()
            .min()
            .map_or(now.observer_ns, |since| since.max(self.looked_ns));
        self.looked_ns = now.observer_ns;
        let absence = now.observer_ns.saturating_sub(since);
        if absence < AWAY_NS {
            return (now, 0);
        }
        self.away_ns = self.away_ns.saturating_add(absence);
        (self.at(now.observer_ns), absence)
    }

    fn at(&self, observer_ns: u64) -> Now {
        Now {
            observer_ns,
            attended_ns: observer_ns.saturating_sub(self.away_ns),
        }
    }
}

/// How long ago a time of `CLOCK_REALTIME` was, nanoseconds; 0 if it is yet to
/// come. A clock that is set meanwhile makes one wrong absence, no longer than
/// the time since the last look.
pub(crate) fn since(stamp: Duration) -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let now = Duration::try_from(now).unwrap_or_default();
    u64::try_from(now.saturating_sub(stamp).as_nanos()).unwrap_or(u64::MAX)
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of `bpf_ktime_get_ns`.
fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
