//! A UDP port that agents send to.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{io::Errno, net::sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use thiserror::Error;

use crate::sockopt::drops;

/// Memory that the kernel accounts for a waiting datagram, at least: a
/// `struct sk_buff` and its shared info (`SKB_TRUESIZE`,
/// `include/linux/skbuff.h`) are beyond this on every 64-bit kernel.
const LEAST_TRUESIZE: usize = 512;

/// Receive buffer that is asked for, bytes; the kernel doubles it, and has
/// room for some 2,700 datagrams in it then. A UDP sender is told nothing of a
/// full buffer: what does not fit is lost.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Classic BPF `BPF_RET | BPF_K` (`include/uapi/linux/filter.h`): pass so many
/// bytes of the packet; 0 drops it.
const BPF_RET: u16 = 0x06;

/// Why a UDP listener cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on udp {address}: {error}{}", hint(.error))]
pub struct UdpError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

/// A bound socket that takes nothing yet: whoever attests its senders is not
/// in place, and what came before that would have no record.
#[derive(Debug)]
pub struct ClosedUdpSocket(UdpSocket);

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    address: SocketAddr,
    queue_limit: usize,
    /// What was dropped while it was closed.
    dropped_closed: u32,
}

impl ClosedUdpSocket {
    /// Binds a socket; port 0 lets the system choose one. `[::]` takes IPv6
    /// only, whatever the system's default is: `0.0.0.0` can be had beside it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn bind(address: SocketAddr) -> Result<Self, UdpError> {
        Self::try_bind(address).map_err(|error| UdpError { address, error })
    }

    fn try_bind(address: SocketAddr) -> io::Result<Self> {
        let kind = Type::DGRAM.cloexec().nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        enlarge(&socket)?;
        socket.attach_filter(&[SockFilter::new(BPF_RET, 0, 0, 0)])?;
        socket.bind(&address.into())?;
        let bound = socket.local_addr()?.as_socket();
        Ok(Self(UdpSocket {
            address: bound.ok_or_else(|| io::Error::other("the socket has no IP address"))?,
            queue_limit: queue_limit(&socket)?,
            socket,
            dropped_closed: 0,
        }))
    }

    /// The address that it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Takes datagrams from now on. `filtered`: a filter of the caller's has
    /// taken the place of the one that dropped everything.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(self, filtered: bool) -> Result<UdpSocket, UdpError> {
        let Self(mut socket) = self;
        socket.dropped_closed = drops(socket.as_fd()).unwrap_or_default();
        if !filtered && let Err(error) = socket.socket.detach_filter() {
            let address = socket.address;
            return Err(UdpError { address, error });
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
        self.0.as_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Beyond `net.core.rmem_max` with `CAP_NET_ADMIN`, which attaching to a
/// cgroup needs anyhow; without it, as far as that allows.
fn enlarge(socket: &Socket) -> io::Result<()> {
    sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER)
        .map_err(io::Error::from)
        .or_else(|_| socket.set_recv_buffer_size(RECEIVE_BUFFER))
}

/// The kernel takes a datagram as long as what waits is below the buffer's
/// size (`__udp_enqueue_schedule_skb`, `net/ipv4/udp.c`), so one more fits.
fn queue_limit(socket: &Socket) -> io::Result<usize> {
    let bytes = socket.recv_buffer_size()?;
    Ok((bytes / LEAST_TRUESIZE).saturating_add(1))
}

fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => "; another process has the port, stop it or choose another",
        Some(Errno::ADDRNOTAVAIL) => "; no interface of this host has the address",
        Some(Errno::ACCESS) => "; a port below 1024 needs CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket as StdUdpSocket,
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::transport::{Datagram, Payload, Receiver};

    fn send(to: SocketAddr, byte: u8) -> SocketAddr {
        let local = SocketAddr::new(to.ip(), 0);
        let sender = StdUdpSocket::bind(local).expect("a socket");
        sender.send_to(&[byte; 32], to).expect("sends");
        sender.local_addr().expect("an address")
    }

    /// A busy kernel delivers after the send has returned (`ksoftirqd`).
    fn wait_until(condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(10), "it never was");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn receive(receiver: &mut Receiver, socket: &UdpSocket) -> usize {
        receiver.receive(socket.as_fd()).expect("receives")
    }

    #[test]
    fn nothing_comes_in_before_it_is_opened() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let closed = ClosedUdpSocket::bind(address.parse().unwrap()).expect("binds");
            send(closed.address(), 1);
            wait_until(|| drops(closed.as_fd()).expect("is counted") == 1);
            let open = closed.open(false).expect("opens");
            let source = send(open.address(), 2);
            let mut receiver = Receiver::for_udp();
            wait_until(|| open.socket.peek_sender().is_ok());
            assert_eq!(receive(&mut receiver, &open), 1);
            let expected = Datagram {
                payload: Payload::Frame([2; 32]),
                credentials: None,
                source: Some(source),
                truncated_control: false,
            };
            assert_eq!(receiver.get(0), Some(expected));
            // The time stamp of one IP socket would cost each packet that the
            // host receives a look at the clock (`net_enable_timestamp`).
            assert_eq!(receiver.first_queued(), None);
        }
    }

    #[test]
    fn a_taken_port_is_said_so() {
        let first = ClosedUdpSocket::bind("127.0.0.1:0".parse().unwrap()).expect("binds");
        let error = ClosedUdpSocket::bind(first.address()).expect_err("it is taken");
        assert!(error.to_string().contains("another process has the port"));
    }

    #[test]
    fn the_queue_never_holds_more_than_its_limit() {
        let closed = ClosedUdpSocket::bind("127.0.0.1:0".parse().unwrap()).expect("binds");
        let open = closed.open(false).expect("opens");
        let sender = StdUdpSocket::bind("127.0.0.1:0").expect("a socket");
        for _ in 0..2 * open.queue_limit() {
            sender.send_to(&[], open.address()).expect("sends");
        }
        wait_until(|| {
            let dropped = open.dropped();
            thread::sleep(Duration::from_millis(100));
            dropped > 0 && dropped == open.dropped()
        });
        let mut receiver = Receiver::for_udp();
        let mut waited = 0;
        while let more @ 1.. = receive(&mut receiver, &open) {
            waited += more;
        }
        assert!(waited <= open.queue_limit(), "{waited}");
        assert!(waited > 64, "{waited}");
        assert_eq!(open.dropped(), (2 * open.queue_limit() - waited) as u64);
    }
}
