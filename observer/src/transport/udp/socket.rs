//! The sockets of a UDP listener.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use socket2::Socket;

use super::{UdpError, Way};
use crate::sockopt::{drops, switch_on};

/// Memory that the kernel accounts for a waiting datagram, at least: a
/// `struct sk_buff` and its shared info (`SKB_TRUESIZE`,
/// `include/linux/skbuff.h`) are beyond this on every 64-bit kernel.
const LEAST_TRUESIZE: usize = 512;

/// Receive buffer that is asked for, bytes; the kernel doubles it, and has
/// room for some 2,700 datagrams in it then. A UDP sender learns nothing of a
/// full buffer: what does not fit is lost.
const RECEIVE_BUFFER: usize = 1 << 20;

/// How long a datagram to oneself may take: a busy kernel delivers after the
/// send has returned (`ksoftirqd`).
const TO_SELF: Duration = Duration::from_secs(5);

/// `SO_RCVMARK` (`include/uapi/asm-generic/socket.h`), which libc lacks.
const SO_RCVMARK: libc::c_int = 75;

/// A bound socket that takes nothing yet.
#[derive(Debug)]
pub struct ClosedUdpSocket {
    pub(super) socket: UdpSocket,
    pub(super) way: Option<Way>,
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    pub(super) socket: Socket,
    pub(super) address: SocketAddr,
    pub(super) queue_limit: usize,
    /// What was dropped while it was closed.
    pub(super) dropped_closed: u32,
}

impl ClosedUdpSocket {
    /// By which way its datagrams come; `None`: by all.
    pub(crate) fn way(&self) -> Option<Way> {
        self.way
    }

    /// Asks for the mark that each datagram carries (`SO_RCVMARK`, Linux 5.19).
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn ask_for_marks(&self) -> Result<(), UdpError> {
        switch_on(self.as_fd(), SO_RCVMARK)
            .map_err(|error| UdpError::new(self.socket.address, error))
    }

    pub(super) fn wait_for_drop(&self) -> io::Result<()> {
        let start = Instant::now();
        while drops(self.as_fd())? == 0 {
            if start.elapsed() > TO_SELF {
                return Err(io::Error::other(
                    "a datagram to itself came by another way than the loopback device, or not \
                     at all; does a firewall drop it?",
                ));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Takes datagrams from now on. `filtered`: a filter of the caller's has
    /// taken the place of the one that dropped everything.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(self, filtered: bool) -> Result<UdpSocket, UdpError> {
        let Self { mut socket, .. } = self;
        socket.dropped_closed = drops(socket.as_fd()).unwrap_or_default();
        if !filtered && let Err(error) = socket.socket.detach_filter() {
            return Err(UdpError::new(socket.address, error));
        }
        Ok(socket)
    }
}

impl UdpSocket {
    /// The address that it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams were dropped since it was opened: no room, a bad
    /// checksum, or a filter. Counted in 32 bits, and from 0 again after that.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let drops = drops(self.as_fd()).unwrap_or(self.dropped_closed);
        drops.wrapping_sub(self.dropped_closed).into()
    }

    /// How many datagrams can wait at most: more than that never fit into the
    /// receive buffer.
    #[must_use]
    pub fn queue_limit(&self) -> usize {
        self.queue_limit
    }
}

impl AsFd for ClosedUdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Beyond `net.core.rmem_max` with `CAP_NET_ADMIN`, which attaching to a
/// cgroup needs anyhow; without it, as far as that allows.
pub(super) fn enlarge(socket: &Socket) -> io::Result<()> {
    sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER)
        .map_err(io::Error::from)
        .or_else(|_| socket.set_recv_buffer_size(RECEIVE_BUFFER))
}

/// The kernel takes a datagram as long as what waits is below the buffer's
/// size (`__udp_enqueue_schedule_skb`, `net/ipv4/udp.c`), so one more fits.
pub(super) fn queue_limit(socket: &Socket) -> io::Result<usize> {
    let bytes = socket.recv_buffer_size()?;
    Ok((bytes / LEAST_TRUESIZE).saturating_add(1))
}
