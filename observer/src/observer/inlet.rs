//! A socket that beats come in by, with what was received and not yet judged.

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use super::backlog::Backlog;
use crate::{
    judge::{Channel, Network},
    transport::{BoundSocket, Datagram, Receiver, UdpSocket, Way},
};

/// A socket, its last batch, and how much of its queue has been read.
pub(crate) struct Inlet {
    pub(super) channel: Channel,
    /// By which way the datagrams of a UDP socket come, where it has but one.
    pub(super) way: Option<Way>,
    socket: Socket,
    receiver: Receiver,
    /// How much of the last batch is still to be judged.
    unread: Range<usize>,
    backlog: Backlog,
}

/// A bound socket of either kind.
enum Socket {
    Unix(BoundSocket),
    Udp(UdpSocket),
}

impl Inlet {
    /// The Unix socket.
    pub(crate) fn unix(socket: BoundSocket) -> Self {
        Self::new(
            Channel::Unix,
            None,
            Socket::Unix(socket),
            Receiver::for_unix(),
        )
    }

    /// A socket of a UDP listener.
    pub(crate) fn udp(socket: UdpSocket, network: Network, way: Option<Way>) -> Self {
        let channel = Channel::Udp(network);
        Self::new(channel, way, Socket::Udp(socket), Receiver::for_udp())
    }

    fn new(channel: Channel, way: Option<Way>, socket: Socket, receiver: Receiver) -> Self {
        Self {
            channel,
            way,
            socket,
            receiver,
            unread: 0..0,
            backlog: Backlog::default(),
        }
    }

    /// Takes a batch, of which the last receive has left none; returns how
    /// many datagrams there were.
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        self.unread = 0..0;
        let received = self.receiver.receive(self.socket.as_fd())?;
        self.unread = 0..received;
        Ok(received)
    }

    /// When the first datagram of the last batch began to wait, by
    /// `CLOCK_REALTIME`.
    pub(super) fn first_queued(&self) -> Option<Duration> {
        self.receiver.first_queued()
    }

    /// The next datagram of the batch that is to be judged.
    pub(super) fn next(&mut self) -> Option<Datagram> {
        self.unread.next().and_then(|at| self.receiver.get(at))
    }

    /// How many datagrams can wait at most.
    pub(super) fn queue_limit(&self) -> usize {
        match &self.socket {
            Socket::Unix(socket) => socket.queue_limit(),
            Socket::Udp(socket) => socket.queue_limit(),
        }
    }

    /// Notes what a receive shows of the queue: when it began, in attended
    /// nanoseconds, and how many datagrams it took.
    pub(super) fn note_backlog(&mut self, at: u64, received: usize) {
        self.backlog.note(at, received, self.queue_limit());
    }

    /// The last moment of which it is known that all that waited then has
    /// been read, in attended nanoseconds.
    pub(super) fn read_as_of(&self) -> u64 {
        self.backlog.read_as_of()
    }

    /// Datagrams that a UDP listener dropped.
    pub(super) fn dropped(&self) -> u64 {
        match &self.socket {
            Socket::Unix(_) => 0,
            Socket::Udp(socket) => socket.dropped(),
        }
    }

    /// The address of a UDP listener.
    pub(super) fn udp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Unix(_) => None,
            Socket::Udp(socket) => Some(socket.address()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

impl AsFd for Inlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
