//! Until when it is known what became of each attempt to send.
//!
//! A record is an attempt. Whether its datagram was sent is known once that has
//! come, or once all was received that had been sent when the record was read
//! ([`Join::next_missed`](super::join::Join::next_missed)). Before that nothing
//! may be concluded from its sender's silence.

use std::collections::VecDeque;

/// Looks at a ring whose records are not all settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The oldest first.
    looks: VecDeque<Look>,
}

/// One look at a ring.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// When it was, attended nanoseconds: its records are dated so.
    at: u64,
    /// Of all that the ring held at this moment the records had been read
    /// before.
    read_before: u64,
}

impl Settled {
    /// Notes that the ring is looked at. `fresh_since` is when the oldest record
    /// was read that is not settled.
    pub(super) fn note(&mut self, at: u64, read_before: u64, fresh_since: Option<u64>) {
        let is_settled = |look: &Look| fresh_since.is_none_or(|since| look.at < since);
        while self.looks.front().is_some_and(is_settled) {
            self.looks.pop_front();
        }
        self.looks.push_back(Look { at, read_before });
    }

    /// The last moment of which it is known what became of each attempt until
    /// then, attended nanoseconds. `read_as_of`: all that the ring held at this
    /// moment has been read.
    pub(super) fn as_of(&self, read_as_of: u64, fresh_since: Option<u64>) -> u64 {
        let Some(since) = fresh_since else {
            return read_as_of;
        };
        let first = self.looks.iter().find(|look| look.at >= since);
        first.map_or(0, |look| look.read_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_of_records_that_are_not_settled() {
        let mut settled = Settled::default();
        settled.note(10, 0, None);
        assert_eq!(settled.as_of(10, None), 10);
        assert_eq!(settled.as_of(10, Some(10)), 0);
        settled.note(20, 10, Some(10));
        assert_eq!(settled.as_of(20, Some(10)), 0);
        assert_eq!(settled.as_of(20, Some(20)), 10);
        assert_eq!(settled.as_of(20, None), 20);
    }

    #[test]
    fn a_flood_that_leaves_something_fresh_each_time_is_followed() {
        let mut settled = Settled::default();
        for at in 1..1000 {
            settled.note(at * 10, (at - 1) * 10, Some((at - 1) * 10));
            assert_eq!(settled.as_of(at * 10, Some(at * 10)), (at - 1) * 10);
            assert!(settled.looks.len() <= 2);
        }
    }
}
