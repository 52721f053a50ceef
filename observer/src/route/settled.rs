//! Until when it is known what became of each attempt to send.
//!
//! A record is an attempt. Whether its datagram was sent is known once that has
//! come, or once all was received that had been sent when the record was read
//! ([`Join::next_missed`](super::join::Join::next_missed)). Before that nothing
//! may be concluded from its sender's silence.

use std::collections::VecDeque;

use super::join::Join;

/// How many looks are told apart. Records wait for long only where nobody's
/// deadline comes near: else the sockets are read.
const MOST: usize = 256;

/// Looks at a ring whose records are not all settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The oldest first.
    looks: VecDeque<Look>,
}

/// One look at a ring that found records.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// When it was, attended nanoseconds: its records are dated so.
    at: u64,
    /// Of all that the ring held at this moment the records had been read
    /// before.
    read_before: u64,
}

impl Settled {
    /// Notes a look at the ring, after which the join holds its records.
    pub(super) fn note_look(&mut self, join: &Join, at: u64, read_before: u64) {
        if let Some(since) = join.fresh_since().filter(|_| join.has_read_at(at)) {
            self.note(at, read_before, since);
        }
    }

    /// Notes one that found records. `fresh_since` is when the oldest record was
    /// read that is not settled.
    fn note(&mut self, at: u64, read_before: u64, fresh_since: u64) {
        while self.looks.front().is_some_and(|look| look.at < fresh_since) {
            self.looks.pop_front();
        }
        // While a socket is deaf, attended time stands still: the first of several
        // looks at one moment is the one before which all had been read.
        let is_noted = self.looks.back().is_some_and(|look| look.at == at);
        if !is_noted && self.looks.len() < MOST {
            self.looks.push_back(Look { at, read_before });
        }
    }

    /// The last moment of which it is known what became of each attempt until
    /// then, attended nanoseconds. `read_as_of`: all that the ring held at this
    /// moment has been read.
    pub(super) fn as_of(&self, read_as_of: u64, fresh_since: Option<u64>) -> u64 {
        let Some(since) = fresh_since else {
            return read_as_of;
        };
        // Where too many were noted it is an earlier one, and so less is known.
        let mut latest_first = self.looks.iter().rev();
        let look = latest_first.find(|look| look.at <= since);
        look.map_or(0, |look| look.read_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_of_records_that_are_not_settled() {
        let mut settled = Settled::default();
        settled.note(10, 0, 10);
        assert_eq!(settled.as_of(10, None), 10);
        assert_eq!(settled.as_of(10, Some(10)), 0);
        settled.note(20, 10, 10);
        assert_eq!(settled.as_of(20, Some(10)), 0);
        assert_eq!(settled.as_of(20, Some(20)), 10);
        assert_eq!(settled.as_of(20, None), 20);
    }

    #[test]
    fn a_flood_that_leaves_something_fresh_each_time_is_followed() {
        let mut settled = Settled::default();
        for at in 1..1000 {
            settled.note(at * 10, (at - 1) * 10, (at - 1) * 10);
            assert_eq!(settled.as_of(at * 10, Some(at * 10)), (at - 1) * 10);
            assert!(settled.looks.len() <= 2);
        }
    }

    #[test]
    fn of_looks_at_one_moment_the_first_counts() {
        let mut settled = Settled::default();
        settled.note(10, 5, 10);
        settled.note(10, 10, 10);
        assert_eq!(settled.as_of(10, Some(10)), 5);
    }

    #[test]
    fn records_that_wait_for_ever_take_no_more_room() {
        let mut settled = Settled::default();
        for at in 1..10_000 {
            settled.note(at * 10, (at - 1) * 10, 10);
        }
        assert_eq!(settled.looks.len(), MOST);
        assert_eq!(settled.as_of(100_000, Some(10)), 0);
        // Less is known of later ones, until those before are settled.
        assert!(settled.as_of(100_000, Some(90_000)) < 10_000);
        settled.note(100_000, 99_990, 95_000);
        assert_eq!(settled.as_of(100_000, Some(100_000)), 99_990);
    }
}
