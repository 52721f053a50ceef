//! A UDP port that agents send to.
//!
//! A listener has a socket for each way that datagrams may come by: a process
//! of this network namespace sends by the loopback device, everyone else by
//! another. The sockets are a group (`SO_REUSEPORT`) over which a program of
//! ours spreads the datagrams by their device.
//!
//! To a loopback address there is no other way, and one socket is enough.
//!
//! Nobody else may join the group, and only processes of the user that the
//! sockets belong to can (`udp_lib_lport_inuse`, `net/ipv4/udp.c`, read in 6.1,
//! 6.12 and 6.18). So they are given to a user that nobody is, which takes
//! `CAP_CHOWN`; and `SO_REUSEPORT` is taken off again, but for the one that
//! look-ups find first: they ask that one only whether it is of a group
//! (`udp4_lib_lookup2`, `udp6_lib_lookup2`). Who joined before that is found
//! out in the kernel's table of sockets.

mod table;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    thread,
    time::{Duration, Instant},
};

use observer_common::listener::LOOPBACK;
use rustix::{fs::Uid, io::Errno, net::sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use thiserror::Error;

use crate::sockopt::{attach_reuseport_filter, drops, switch_on};

/// Memory that the kernel accounts for a waiting datagram, at least: a
/// `struct sk_buff` and its shared info (`SKB_TRUESIZE`,
/// `include/linux/skbuff.h`) are beyond this on every 64-bit kernel.
const LEAST_TRUESIZE: usize = 512;

/// Receive buffer that is asked for, bytes; the kernel doubles it, and has
/// room for some 2,700 datagrams in it then. A UDP sender learns nothing of a
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

/// By which way datagrams come to a socket of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the loopback device: a process of this network namespace sent them.
    Loopback,
    /// By a device that the operator declared.
    Declared,
    /// By any other.
    Other,
}

/// Bound sockets that take nothing yet: whoever attests their senders is not
/// in place, and what came before that would have no record.
#[derive(Debug)]
pub struct ClosedUdpListener {
    address: SocketAddr,
    sockets: Vec<ClosedUdpSocket>,
    /// Processes of the observer's own user could join.
    is_joinable: bool,
}

/// A bound socket that takes nothing yet.
#[derive(Debug)]
pub struct ClosedUdpSocket {
    socket: UdpSocket,
    way: Option<Way>,
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    address: SocketAddr,
    queue_limit: usize,
    /// What was dropped while it was closed.
    dropped_closed: u32,
}

impl ClosedUdpListener {
    /// Binds one socket for all ways. Port 0 lets the system choose one. `[::]`
    /// takes IPv6 only, whatever the system's default is: `0.0.0.0` can be had
    /// beside it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn bind(address: SocketAddr) -> Result<Self, UdpError> {
        let bind = || {
            let socket = closed(address)?;
            socket.bind(&address.into())?;
            Self::new(vec![(socket, None)], false)
        };
        bind().map_err(|error| UdpError { address, error })
    }

    /// Binds a socket for each way: the loopback device, those with these
    /// indices if there are any, and all others.
    ///
    /// # Errors
    /// If the system refuses, or another process has bound the port as well.
    pub(crate) fn bind_ways(address: SocketAddr, devices: &[u32]) -> Result<Self, UdpError> {
        Self::try_bind_ways(address, devices).map_err(|error| UdpError { address, error })
    }

    fn try_bind_ways(address: SocketAddr, devices: &[u32]) -> io::Result<Self> {
        let ways = order(address, devices);
        let mut bound: Vec<(Socket, Option<Way>)> = Vec::new();
        let mut to = address;
        for &way in &ways {
            let socket = closed(address)?;
            if let Some((first, _)) = bound.first() {
                first.set_reuse_port(true)?;
                socket.set_reuse_port(true)?;
            }
            socket.bind(&to.into())?;
            to = ip_address(&socket)?;
            bound.push((socket, Some(way)));
        }
        let [(first, _), _, ..] = bound.as_slice() else {
            return Self::new(bound, false);
        };
        attach_reuseport_filter(first.as_fd(), &spread(&ways, devices))?;
        let mut is_joinable = false;
        for (socket, way) in &bound {
            socket.set_reuse_port(*way == Some(Way::Loopback))?;
            let owner = Some(Uid::from_raw(NOBODY_AT_ALL));
            is_joinable |= rustix::fs::fchown(socket, owner, None).is_err();
        }
        let sockets = bound.iter().map(|(socket, _)| socket);
        table::check_alone(to, sockets)?;
        Self::new(bound, is_joinable)
    }

    fn new(bound: Vec<(Socket, Option<Way>)>, is_joinable: bool) -> io::Result<Self> {
        let sockets: io::Result<Vec<_>> = bound
            .into_iter()
            .map(|(socket, way)| {
                let socket = UdpSocket {
                    address: ip_address(&socket)?,
                    queue_limit: queue_limit(&socket)?,
                    socket,
                    dropped_closed: 0,
                };
                Ok(ClosedUdpSocket { socket, way })
            })
            .collect();
        let sockets = sockets?;
        let first = sockets.first().map(|first| first.socket.address);
        Ok(Self {
            address: first.ok_or(io::ErrorKind::InvalidInput)?,
            sockets,
            is_joinable,
        })
    }

    /// The address that it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a process of the observer's own user could bind the same port
    /// and get some of its datagrams.
    pub(crate) fn is_joinable(&self) -> bool {
        self.is_joinable
    }

    /// Its sockets, each with the way that it is for.
    #[must_use]
    pub fn into_sockets(self) -> Vec<ClosedUdpSocket> {
        self.sockets
    }

    /// Sends to itself, and sees whether that came to the socket for the
    /// loopback device: the order in which the kernel looks sockets up is
    /// nothing that it promises.
    ///
    /// # Errors
    /// If it did not.
    pub(crate) fn check_spread(&self) -> Result<(), UdpError> {
        let address = self.address;
        let by_lo = self
            .sockets
            .iter()
            .find(|closed| closed.way == Some(Way::Loopback));
        let Some(by_lo) = by_lo else { return Ok(()) };
        send_to_self(address)
            .and_then(|()| by_lo.wait_for_drop())
            .map_err(|error| UdpError { address, error })
    }
}

/// Owner of the sockets of a group. A number that no system gives to a user;
/// the kernel's own "no user" is one more (`INVALID_UID`).
const NOBODY_AT_ALL: u32 = u32::MAX - 1;

/// How long a datagram to oneself may take: a busy kernel delivers after the
/// send has returned (`ksoftirqd`).
const TO_SELF: Duration = Duration::from_secs(5);

fn send_to_self(address: SocketAddr) -> io::Result<()> {
    let (any, loopback): (IpAddr, IpAddr) = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
    };
    let mut to = address;
    if to.ip().is_unspecified() {
        to.set_ip(loopback);
    }
    std::net::UdpSocket::bind((any, 0))?.send_to(&[], to)?;
    Ok(())
}

/// The ways in the order in which their sockets are to be bound, so that
/// look-ups find the one for the loopback device first: what is bound last
/// comes first for IPv4, and last for a group of IPv6 (`udp_lib_get_port`,
/// `net/ipv4/udp.c`).
fn order(address: SocketAddr, devices: &[u32]) -> Vec<Way> {
    if address.ip().is_loopback() && devices.is_empty() {
        return vec![Way::Loopback];
    }
    let mut ways = vec![Way::Other];
    if !devices.is_empty() {
        ways.push(Way::Declared);
    }
    let first = if address.is_ipv6() { 0 } else { ways.len() };
    ways.insert(first, Way::Loopback);
    ways
}

/// The program that says which socket of the group a datagram is for: its
/// number is that of its way.
fn spread(ways: &[Way], devices: &[u32]) -> Vec<libc::sock_filter> {
    let number = |wanted: Way| {
        ways.iter()
            .position(|&way| way == wanted)
            .unwrap_or_default()
    };
    let number = |way| u32::try_from(number(way)).unwrap_or_default();
    let mut program = vec![instruction(LOAD_DEVICE, AD_IFINDEX)];
    let known = devices.iter().map(|&device| (device, Way::Declared));
    for (device, way) in std::iter::once((LOOPBACK, Way::Loopback)).chain(known) {
        program.push(libc::sock_filter {
            jf: 1,
            ..instruction(JUMP_IF_EQUAL, device)
        });
        program.push(instruction(BPF_RET, number(way)));
    }
    program.push(instruction(BPF_RET, number(Way::Other)));
    program
}

fn instruction(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// `SO_RCVMARK` (`include/uapi/asm-generic/socket.h`), which libc lacks.
const SO_RCVMARK: libc::c_int = 75;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD_DEVICE: u16 = 0x20;

/// `SKF_AD_OFF + SKF_AD_IFINDEX` (`include/uapi/linux/filter.h`): the index of
/// the device that the packet came by.
const AD_IFINDEX: u32 = 0xffff_f008;

/// `BPF_JMP | BPF_JEQ | BPF_K`
const JUMP_IF_EQUAL: u16 = 0x15;

/// A socket that drops everything, and is not bound yet.
fn closed(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.cloexec().nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    enlarge(&socket)?;
    socket.attach_filter(&[SockFilter::new(BPF_RET, 0, 0, 0)])?;
    Ok(socket)
}

fn ip_address(socket: &Socket) -> io::Result<SocketAddr> {
    let bound = socket.local_addr()?.as_socket();
    bound.ok_or_else(|| io::Error::other("the socket has no IP address"))
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
        switch_on(self.as_fd(), SO_RCVMARK).map_err(|error| UdpError {
            address: self.socket.address,
            error,
        })
    }

    fn wait_for_drop(&self) -> io::Result<()> {
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

    const LOOPBACK: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

    /// One socket for all ways.
    fn bind(address: &str) -> ClosedUdpSocket {
        let listener = ClosedUdpListener::bind(address.parse().unwrap()).expect("binds");
        listener.into_sockets().pop().expect("one")
    }

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
        let batch = receiver.receive(socket.as_fd()).expect("receives");
        batch.received
    }

    #[test]
    fn nothing_comes_in_before_it_is_opened() {
        for address in LOOPBACK {
            let closed = bind(address);
            send(closed.socket.address(), 1);
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
                mark: None,
            };
            assert_eq!(receiver.get(0), Some(expected));
            // The time stamp of one IP socket would cost each packet that the
            // host receives a look at the clock (`net_enable_timestamp`).
            assert_eq!(receiver.first_queued(), None);
        }
    }

    #[test]
    fn a_taken_port_is_said_so() {
        let first = ClosedUdpListener::bind(LOOPBACK[0].parse().unwrap()).expect("binds");
        let error = ClosedUdpListener::bind(first.address()).expect_err("it is taken");
        assert!(error.to_string().contains("another process has the port"));
    }

    #[test]
    fn the_queue_never_holds_more_than_its_limit() {
        let open = bind(LOOPBACK[0]).open(false).expect("opens");
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

    /// Wherever the sockets stand in the kernel's lists, the loopback device's
    /// gets what comes by it, a hundred times of a hundred.
    #[test]
    fn what_comes_by_lo_comes_to_its_socket() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            for devices in [&[][..], &[77]] {
                let listener = ClosedUdpListener::bind_ways(address.parse().unwrap(), devices);
                let listener = listener.expect("binds");
                listener.check_spread().expect("it is spread");
                for _ in 1..100 {
                    send_to_self(listener.address()).expect("sends");
                }
                for closed in &listener.sockets {
                    let expected = if closed.way == Some(Way::Loopback) {
                        100
                    } else {
                        0
                    };
                    let counted = || drops(closed.as_fd()).expect("is counted");
                    wait_until(|| counted() == expected);
                }
            }
        }
    }

    /// Not even a process of the same user joins the group, whatever it asks
    /// for, and binds whatever address of the port.
    #[test]
    fn nobody_joins_the_group() {
        for (address, others) in [
            ("127.0.0.1:0", &["127.0.0.1", "0.0.0.0"][..]),
            ("0.0.0.0:0", &["127.0.0.1", "0.0.0.0", "127.0.0.2"]),
            ("[::1]:0", &["::1", "::"]),
            ("[::]:0", &["::1", "::"]),
        ] {
            for devices in [&[][..], &[77]] {
                let listener = ClosedUdpListener::bind_ways(address.parse().unwrap(), devices);
                let port = listener.as_ref().expect("binds").address().port();
                for other in others {
                    let other = SocketAddr::new(other.parse().unwrap(), port);
                    for device in [None, Some(&b"lo"[..])] {
                        let socket = closed(other).expect("a socket");
                        socket.set_reuse_port(true).expect("sets");
                        socket.set_reuse_address(true).expect("sets");
                        // Needs no privilege for a socket that has none yet.
                        socket.bind_device(device).expect("sets");
                        let error = socket.bind(&other.into()).expect_err("it is taken");
                        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{other}");
                    }
                }
            }
        }
    }

    /// Who got in while the group was being made.
    #[test]
    fn one_who_joined_before_is_found_out() {
        let first = closed("127.0.0.1:0".parse().unwrap()).expect("a socket");
        first.set_reuse_port(true).expect("sets");
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        first.bind(&any.into()).expect("binds");
        let address = ip_address(&first).expect("bound");
        let intruder = closed(address).expect("a socket");
        intruder.set_reuse_port(true).expect("sets");
        intruder.bind(&address.into()).expect("joins");
        let error = table::check_alone(address, [&first].into_iter()).expect_err("two are there");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
