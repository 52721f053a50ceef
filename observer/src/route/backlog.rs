//! How much of what was sent has been read.
//!
//! Two things may be concluded only from input that was read in full: that an
//! agent is silent, and that a record's datagram will not come. What counts is
//! not the present moment but the last one of which it is known that all that
//! waited then has been read since.

use crate::transport::Batch;

/// What the receives so far show of a socket's queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// All that waited at this moment has been read.
    read_as_of: u64,
    /// A later moment of which that is not known yet.
    next: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    at: u64,
    /// Datagrams read since.
    read: usize,
}

impl Backlog {
    /// Notes a receive: when it began, in attended nanoseconds, and what it
    /// took. The queue never holds more than `limit`.
    ///
    /// It is read when it was seen empty, and also when more was read than
    /// can have waited: a flood that never lets it be empty hides nothing.
    pub(super) fn note(&mut self, at: u64, batch: Batch, limit: usize) {
        if batch.is_drained {
            self.read_as_of = at;
            self.next = None;
            return;
        }
        let mut next = self.next.unwrap_or(Moment { at, read: 0 });
        next.read = next.read.saturating_add(batch.received);
        if next.read > limit {
            self.read_as_of = next.at;
            self.next = None;
        } else {
            self.next = Some(next);
        }
    }

    /// The last moment of which it is known that all that waited then has
    /// been read, in attended nanoseconds.
    pub(super) fn read_as_of(&self) -> u64 {
        self.read_as_of
    }
}

#[cfg(test)]
mod tests {
    use super::{Backlog, Batch};
    use crate::transport::BATCH;

    const LIMIT: usize = 512;
    const FULL: Batch = Batch {
        received: BATCH,
        is_drained: false,
    };
    const NOT_FULL: Batch = Batch {
        received: BATCH - 1,
        is_drained: true,
    };

    #[test]
    fn an_empty_queue_has_been_read() {
        let mut backlog = Backlog::default();
        backlog.note(5, FULL, LIMIT);
        assert_eq!(backlog.read_as_of(), 0);
        backlog.note(6, NOT_FULL, LIMIT);
        assert_eq!(backlog.read_as_of(), 6);
        backlog.note(7, FULL, LIMIT);
        assert_eq!(backlog.read_as_of(), 6);
    }

    #[test]
    fn a_flood_is_read_once_more_came_than_could_wait() {
        let mut backlog = Backlog::default();
        let receives = u64::try_from(LIMIT / BATCH).unwrap();
        for at in 1..=receives {
            backlog.note(at, FULL, LIMIT);
            assert_eq!(backlog.read_as_of(), 0);
        }
        backlog.note(100, FULL, LIMIT);
        assert_eq!(backlog.read_as_of(), 1);
        // What waited at a moment in between may still do so.
        for at in 101..=100 + receives {
            backlog.note(at, FULL, LIMIT);
            assert_eq!(backlog.read_as_of(), 1);
        }
        backlog.note(200, FULL, LIMIT);
        assert_eq!(backlog.read_as_of(), 101);
    }
}
