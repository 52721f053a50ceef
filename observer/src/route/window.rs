//! What of the ring is read, and after what of the socket.

use super::join::Join;
use crate::ebpf::Mark;
use crate::transport::Batch;

/// All that was in the ring at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) mark: Mark,
    /// When it was looked at, in attended nanoseconds.
    pub(super) at: u64,
    /// Datagrams received from the socket since.
    received: usize,
    /// All that waited in the socket at that moment has been received.
    is_drained: bool,
}

impl Window {
    pub(super) fn new(mark: Mark, at: u64) -> Self {
        Self {
            mark,
            at,
            received: 0,
            is_drained: false,
        }
    }

    /// Notes a receive from the socket since. What waited in it has been
    /// received once it was seen empty, or once more came than can wait.
    pub(super) fn note_received(&mut self, batch: Batch, limit: usize) {
        self.received = self.received.saturating_add(batch.received);
        self.is_drained |= batch.is_drained || self.received > limit;
    }

    /// Whether datagrams of this window that the ring delivers may be judged.
    ///
    /// One that went to the socket has a record, which waits in the join until
    /// the datagram has been received. If none waits, nothing in the socket is
    /// older than what is in the ring. If one does, its sender's next datagram
    /// was recorded after that one was queued, and before this window's end:
    /// so it waited in the socket at that moment, or will never come.
    pub(super) fn may_take(&self, join: &Join) -> bool {
        self.is_drained || join.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use observer_common::record::Record;

    use super::*;
    use crate::transport::BATCH;

    const LIMIT: usize = 11;
    const FULL: Batch = Batch {
        received: BATCH,
        is_drained: false,
    };
    const NOT_FULL: Batch = Batch {
        received: BATCH - 1,
        is_drained: true,
    };

    /// A join in which a record waits, of a datagram that went to the socket.
    fn waiting() -> Join {
        let mut join = Join::new();
        join.record(&Record::UNKNOWN, 0);
        join
    }

    #[test]
    fn with_nothing_in_the_socket_the_ring_is_read_at_once() {
        assert!(Window::new(Mark::START, 0).may_take(&Join::new()));
    }

    #[test]
    fn what_went_to_the_socket_before_is_received_before() {
        let join = waiting();
        let mut window = Window::new(Mark::START, 0);
        assert!(!window.may_take(&join));
        window.note_received(FULL, 10 * BATCH);
        assert!(!window.may_take(&join));
        window.note_received(NOT_FULL, 10 * BATCH);
        assert!(window.may_take(&join));
    }

    #[test]
    fn a_socket_that_is_never_empty_holds_nothing_up() {
        let join = waiting();
        let mut window = Window::new(Mark::START, 0);
        window.note_received(FULL, LIMIT);
        assert!(window.may_take(&join));
        let mut window = Window::new(Mark::START, 0);
        for _ in 0..2 {
            window.note_received(FULL, 2 * BATCH);
            assert!(!window.may_take(&join));
        }
        window.note_received(FULL, 2 * BATCH);
        assert!(window.may_take(&join));
    }
}
