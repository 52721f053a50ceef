//! The observer's clock, which stands still while the observer is away.
//!
//! A stopped observer (SIGSTOP, a paused virtual machine, a long page fault)
//! must not blame its agents, so how long an agent has been silent is measured
//! by this clock.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A pass that comes later than this after something was to be done shows
/// that the observer was away, nanoseconds. Below it lie timer slack, a busy
/// scheduler and the work of a pass.
const AWAY_NS: u64 = 20_000_000;

/// A deadline that is missed by more than this shows that the observer was
/// away, and not since when, nanoseconds.
const LONG_AWAY_NS: u64 = 10 * AWAY_NS;

/// Both clocks of the observer's: time since its start, and of that the time in
/// which it was there.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub(crate) struct Clock {
    /// `CLOCK_MONOTONIC` when the observer started.
    started_ns: u64,
    /// How long it has been away since.
    away_ns: u64,
    /// When it last looked at its input, since the start.
    looked_ns: u64,
}

/// A time in which the observer was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absence {
    /// How long it was at most, nanoseconds: what is given back.
    pub(crate) away_ns: u64,
    /// Who sent in this time, in nanoseconds since the start, was not frozen
    /// together with the observer. It begins once what was to be done before
    /// shows that the observer was away already, and ends some time before the
    /// end: in a thaw one comes after the other.
    pub(crate) witnesses: RangeInclusive<u64>,
}

/// A moment on both clocks, in nanoseconds since the observer started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What is reported.
    pub observer_ns: u64,
    /// The same less the time in which the observer was away: what silence
    /// is measured by.
    pub attended_ns: u64,
}

impl Clock {
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
    /// after that is returned, and the absence.
    ///
    /// How long a datagram waited has to come from the kernel's own stamp: a
    /// record is an attempt, and one that never became a datagram, which a
    /// sender can arrange, shows nothing of an absence.
    ///
    /// A deadline shows no more than that nobody was there when it passed: the
    /// observer may have been stopped long before, and its agents with it, as
    /// when a container or a slice of services is frozen. Who missed one by
    /// much gives all the time since the last look back. The tracker bounds what
    /// that comes to in one silence.
    ///
    /// An absence cannot reach back beyond the last look, whatever senders
    /// do: a flood that keeps the observer busy is no absence.
    pub(crate) fn look(
        &mut self,
        now: Now,
        waited_ns: Option<u64>,
        deadline: Option<u64>,
    ) -> (Now, Option<Absence>) {
        let sent = waited_ns.map(|waited| now.observer_ns.saturating_sub(waited));
        let due = deadline.map(|due| self.observed(due));
        let began = due.map(|due| match now.observer_ns.saturating_sub(due) {
            ..=LONG_AWAY_NS => due,
            _ => self.looked_ns,
        });
        let earliest = |moments: [Option<u64>; 2]| {
            let first = moments.into_iter().flatten().min();
            first.map_or(now.observer_ns, |first| first.max(self.looked_ns))
        };
        let (since, shown) = (earliest([sent, began]), earliest([sent, due]));
        self.looked_ns = now.observer_ns;
        let absence = now.observer_ns.saturating_sub(since);
        if absence < AWAY_NS {
            return (now, None);
        }
        // A nanosecond passes: what was seen before is told from what is now.
        self.away_ns = self.away_ns.saturating_add(absence.saturating_sub(1));
        let absence = Absence {
            away_ns: absence,
            witnesses: shown.saturating_add(AWAY_NS)
                ..=now.observer_ns.saturating_sub(AWAY_NS.max(absence / 4)),
        };
        (self.at(now.observer_ns), Some(absence))
    }

    /// The observer looks at its input, part of which it could not read since the
    /// last time: all of that time is given back. Returns the moment after that.
    pub(crate) fn stand_still(&mut self, now: Now) -> Now {
        let since = now.observer_ns.saturating_sub(self.looked_ns);
        self.looked_ns = now.observer_ns;
        self.away_ns = self.away_ns.saturating_add(since);
        self.at(now.observer_ns)
    }

    /// The moment of `CLOCK_MONOTONIC` that the observer's clock shows as this,
    /// nanoseconds.
    pub(crate) fn monotonic(&self, observer_ns: u64) -> u64 {
        self.started_ns.saturating_add(observer_ns)
    }

    /// When an attended moment comes, if the observer is not away again,
    /// nanoseconds since the start.
    pub(crate) fn observed(&self, attended_ns: u64) -> u64 {
        attended_ns.saturating_add(self.away_ns)
    }

    /// How long before `now` a moment of `CLOCK_MONOTONIC` was, nanoseconds; 0
    /// if it was after it.
    pub(crate) fn since_monotonic(&self, now: Now, moment_ns: u64) -> u64 {
        self.monotonic(now.observer_ns).saturating_sub(moment_ns)
    }

    fn at(&self, observer_ns: u64) -> Now {
        Now {
            observer_ns,
            attended_ns: observer_ns.saturating_sub(self.away_ns),
        }
    }
}

/// Says at most once in some time that it is time for something.
#[derive(Debug)]
pub(crate) struct AtMostEvery {
    every_ns: u64,
    /// When it last said so, in nanoseconds since the start.
    last_ns: Option<u64>,
}

impl AtMostEvery {
    pub(crate) fn new(every_ns: u64) -> Self {
        Self {
            every_ns,
            last_ns: None,
        }
    }

    /// Whether it is time; the next time is counted from now on then.
    pub(crate) fn take(&mut self, now: Now) -> bool {
        let is_time = self
            .last_ns
            .is_none_or(|last| now.observer_ns.saturating_sub(last) >= self.every_ns);
        if is_time {
            self.last_ns = Some(now.observer_ns);
        }
        is_time
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
pub(crate) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test works with small numbers"
)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// An observer that last looked at 1 s.
    fn clock() -> Clock {
        Clock {
            started_ns: 0,
            away_ns: 0,
            looked_ns: 1000 * MS,
        }
    }

    /// What it gives back for a look at this time, milliseconds.
    fn given_back(at: u64, waited: Option<u64>, due: Option<u64>) -> u64 {
        let mut clock = clock();
        let now = clock.at(at * MS);
        let [waited, due] = [waited, due].map(|time| time.map(|time| time * MS));
        let (after, absence) = clock.look(now, waited, due);
        let absence = absence.map_or(0, |absence| absence.away_ns);
        assert_eq!(after.observer_ns, now.observer_ns);
        let given_back = absence.saturating_sub(1);
        assert_eq!(after.attended_ns, now.observer_ns - given_back);
        assert_eq!(clock.away_ns(), given_back);
        assert_eq!(clock.looked_ns, now.observer_ns);
        absence / MS
    }

    #[test]
    fn what_comes_too_often_is_left_out() {
        let mut limit = AtMostEvery::new(1000);
        let clock = clock();
        let taken = [5, 6, 1004, 1005, 1006, 2005].map(|ns| limit.take(clock.at(ns)));
        assert_eq!(taken, [true, false, false, true, false, true]);
    }

    #[test]
    fn a_quiet_time_is_no_absence() {
        assert_eq!(given_back(5000, None, None), 0);
        assert_eq!(given_back(5000, Some(19), None), 0);
        assert_eq!(given_back(5000, None, Some(4981)), 0);
        assert_eq!(given_back(5000, None, Some(6000)), 0);
    }

    #[test]
    fn a_datagram_that_waited_shows_how_long_it_was() {
        assert_eq!(given_back(5000, Some(20), None), 20);
        assert_eq!(given_back(5000, Some(3000), Some(4900)), 3000);
        // It may have waited in a flood that the last looks did not get to.
        assert_eq!(given_back(5000, Some(4500), None), 4000);
    }

    #[test]
    fn a_deadline_missed_by_much_does_not_show_since_when() {
        assert_eq!(given_back(5000, None, Some(4800)), 200);
        assert_eq!(given_back(5000, None, Some(4799)), 4000);
    }
}
