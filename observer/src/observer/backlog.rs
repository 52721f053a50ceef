//! Whether all input that waited when a silence became due has been read.

use crate::transport::BATCH;

/// What the receives so far show of the queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// The last receive took all there was.
    drained: bool,
    /// Datagrams read since a silence became due.
    read_since_due: usize,
}

impl Backlog {
    /// Takes down a receive, and whether a silence was due at its moment.
    pub(super) fn note(&mut self, received: usize, due: bool) {
        self.drained = received < BATCH;
        self.read_since_due = if due {
            self.read_since_due.saturating_add(received)
        } else {
            0
        };
    }

    /// Whether everything that waited when the silence became due has been
    /// read: the queue was seen empty, or more than it can hold was read
    /// since. A flood that never lets it be empty hides no silence.
    pub(super) fn is_read(&self, queue_limit: usize) -> bool {
        self.drained || self.read_since_due > queue_limit
    }
}

#[cfg(test)]
mod tests {
    use super::{BATCH, Backlog};

    #[test]
    fn an_empty_queue_has_been_read() {
        let mut backlog = Backlog::default();
        backlog.note(BATCH - 1, false);
        assert!(backlog.is_read(512));
    }

    #[test]
    fn a_flood_is_read_once_more_came_than_could_wait() {
        let mut backlog = Backlog::default();
        backlog.note(BATCH, false);
        for _ in 0..512 / BATCH {
            assert!(!backlog.is_read(512));
            backlog.note(BATCH, true);
        }
        assert!(!backlog.is_read(512));
        backlog.note(BATCH, true);
        assert!(backlog.is_read(512));
    }

    #[test]
    fn what_was_read_before_a_silence_was_due_does_not_count() {
        let mut backlog = Backlog::default();
        for _ in 0..100 {
            backlog.note(BATCH, false);
        }
        backlog.note(BATCH, true);
        assert!(!backlog.is_read(512));
    }
}
