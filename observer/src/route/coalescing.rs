//! When to look at the ring, where it delivers datagrams.
//!
//! As network cards coalesce interrupts: while little happens the program wakes
//! the observer for each datagram, at once. Once they come faster than the poll
//! interval, the program is silent and the observer looks by itself, once an
//! interval, until one passes without a datagram.

use std::time::Duration;

/// How the observer waits for the ring.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub(super) struct Coalescing {
    interval_ns: u64,
    /// When it last had something, in nanoseconds since the start.
    busy_ns: Option<u64>,
    /// When to look next; `None`: when the program says so.
    next_ns: Option<u64>,
}

impl Coalescing {
    /// With so long a time between two looks.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval_ns: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            busy_ns: None,
            next_ns: None,
        }
    }

    /// When to look next, in nanoseconds since the start; `None`: when the
    /// program says so.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.next_ns
    }

    /// Whether the ring is to be looked at: always, unless it is looked at by
    /// the clock and its time has not nearly come. Nearly, for the clock that
    /// wakes the observer keeps time by itself: a look that was a little late
    /// does not make the next one too early.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        let nearly = now_ns.saturating_add(self.interval_ns / 4);
        self.next_ns.is_none_or(|next| next <= nearly)
    }

    /// Has the next look come at once.
    pub(super) fn expedite(&mut self) {
        self.next_ns = self.next_ns.map(|_| 0);
    }

    /// Notes a look, and how many datagrams it found.
    pub(super) fn note(&mut self, now_ns: u64, found: usize) {
        let before = self.busy_ns;
        if found > 0 {
            self.busy_ns = Some(now_ns);
        }
        let soon = |last: u64| now_ns.saturating_sub(last) < self.interval_ns;
        let is_fast = self.next_ns.is_some() || before.is_some_and(soon);
        self.next_ns = (found > 0 && is_fast).then(|| now_ns.saturating_add(self.interval_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn coalescing() -> Coalescing {
        Coalescing::new(Duration::from_millis(1))
    }

    #[test]
    fn what_comes_rarely_wakes_the_observer() {
        let mut coalescing = coalescing();
        for beat in 1..10 {
            coalescing.note(beat * 100 * MS, 1);
            assert_eq!(coalescing.next_ns(), None);
            assert!(coalescing.is_due(beat * 100 * MS));
        }
    }

    #[test]
    fn what_comes_often_is_looked_for() {
        let mut coalescing = coalescing();
        coalescing.note(10 * MS, 1);
        coalescing.note(10 * MS + MS / 2, 1);
        assert_eq!(coalescing.next_ns(), Some(11 * MS + MS / 2));
        assert!(!coalescing.is_due(11 * MS));
        assert!(coalescing.is_due(11 * MS + MS / 4));
        assert!(coalescing.is_due(12 * MS));
        coalescing.note(12 * MS, 40);
        assert_eq!(coalescing.next_ns(), Some(13 * MS));
    }

    #[test]
    fn an_interval_without_any_ends_it() {
        let mut coalescing = coalescing();
        coalescing.note(10 * MS, 1);
        coalescing.note(10 * MS, 1);
        coalescing.note(11 * MS, 0);
        assert_eq!(coalescing.next_ns(), None);
        // Nothing is no reason to begin either.
        coalescing.note(11 * MS, 0);
        assert_eq!(coalescing.next_ns(), None);
    }
}
