//! A socket that beats come in by, with what was received and not yet judged.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::os::fd::{AsFd, BorrowedFd};

use observer_events::counters::count;

use super::backlog::Backlog;
use super::base::Base;
use super::reception::Reception;
use crate::clock::{Now, monotonic_ns, since};
use crate::transport::{Batch, BoundSocket, Datagram, Receiver, UdpSocket};

/// A socket, its last batch, and how much of its queue has been read.
#[derive(Debug)]
pub(super) struct SocketQueue<S> {
    socket: S,
    receiver: Receiver,
    /// How much of the last batch is still to be judged.
    unread: Range<usize>,
    backlog: Backlog,
    reception: Reception,
    /// What was received since [`SocketQueue::settle`]; `None`: nobody looked,
    /// or could.
    batch: Option<Batch>,
    /// How long the first of that had waited, nanoseconds.
    waited_ns: Option<u64>,
}

/// A socket that knows how much can wait in it.
pub(super) trait Bounded: AsFd {
    /// How many datagrams can wait at most.
    fn queue_limit(&self) -> usize;
}

impl Bounded for BoundSocket {
    fn queue_limit(&self) -> usize {
        self.queue_limit()
    }
}

impl Bounded for UdpSocket {
    fn queue_limit(&self) -> usize {
        self.queue_limit()
    }
}

impl<S: Bounded> SocketQueue<S> {
    pub(super) fn new(socket: S, receiver: Receiver) -> Self {
        Self {
            socket,
            receiver,
            unread: 0..0,
            backlog: Backlog::default(),
            reception: Reception::default(),
            batch: None,
            waited_ns: None,
        }
    }

    pub(super) fn get(&self) -> &S {
        &self.socket
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Finds out whether the socket can be received from.
    ///
    /// # Errors
    /// If it cannot.
    pub(super) fn try_receive(&mut self) -> io::Result<()> {
        self.receiver.try_receive(self.socket.as_fd())
    }

    /// Takes a batch, of which the last receive has left none; whether there is
    /// nothing more to be done for what is known to have come. A receive that
    /// failed did not read the socket, and is owed.
    pub(super) fn receive(&mut self, base: &mut Base) -> bool {
        if self.reception.is_paused() {
            return true;
        }
        self.unread = 0..0;
        match self.receiver.receive(self.socket.as_fd()) {
            Ok(batch) => {
                self.reception.note_received(batch.is_drained);
                self.unread = 0..batch.received;
                self.batch = Some(batch);
                self.waited_ns = self.receiver.first_queued().map(since);
                batch.is_drained
            }
            Err(error) => {
                count(&mut base.counts.receive_failures);
                if self.reception.note_failure(&error, monotonic_ns()) {
                    base.settled.push_back(Err(error));
                }
                true
            }
        }
    }

    /// What the last receives have shown.
    pub(super) fn reception(&self) -> &Reception {
        &self.reception
    }

    /// Why datagrams are received one by one, if they are.
    pub(super) fn one_by_one(&self) -> Option<&io::Error> {
        self.receiver.one_by_one()
    }

    /// What was received since [`SocketQueue::settle`].
    pub(super) fn batch(&self) -> Option<Batch> {
        self.batch
    }

    /// How long the first of that had waited, nanoseconds, where the kernel
    /// says so.
    pub(super) fn waited_ns(&self) -> Option<u64> {
        self.waited_ns
    }

    /// Whether one of that was sent from one moment to another, in nanoseconds
    /// since the start, where the kernel says so.
    pub(super) fn was_sent_within(&self, now: Now, moments: &RangeInclusive<u64>) -> bool {
        let mut queued = self.batch.iter().flat_map(|_| self.receiver.queued());
        queued.any(|at| moments.contains(&now.observer_ns.saturating_sub(since(at))))
    }

    /// The next datagram of the batch that is to be judged.
    pub(super) fn next(&mut self) -> Option<Datagram> {
        self.unread.next().and_then(|at| self.receiver.get(at))
    }

    /// Notes what the receive showed of the queue; it began at this attended
    /// moment. The socket's next turn may come.
    pub(super) fn settle(&mut self, at: u64) {
        self.waited_ns = None;
        if let Some(batch) = self.batch.take() {
            self.backlog.note(at, batch, self.socket.queue_limit());
        }
    }

    /// How many datagrams can wait at most.
    pub(super) fn queue_limit(&self) -> usize {
        self.socket.queue_limit()
    }

    /// The last moment of which it is known that all that waited then has
    /// been read, in attended nanoseconds.
    pub(super) fn read_as_of(&self) -> u64 {
        self.backlog.read_as_of()
    }
}
