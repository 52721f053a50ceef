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

mod hint;
mod socket;
mod table;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;

use observer_common::listener::LOOPBACK;
use rustix::fs::Uid;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use thiserror::Error;

pub use self::hint::address_hint;
pub use self::socket::{ClosedUdpSocket, UdpSocket};
use self::socket::{enlarge, queue_limit};
use crate::sockopt::attach_reuseport_filter;

/// Classic BPF `BPF_RET | BPF_K` (`include/uapi/linux/filter.h`): pass so many
/// bytes of the packet; 0 drops it.
const BPF_RET: u16 = 0x06;

/// Why a UDP listener cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on udp {address}: {error}{hint}")]
pub struct UdpError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
    /// What can be done about it.
    hint: &'static str,
}

impl UdpError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        Self {
            address,
            hint: address_hint(address, &error),
            error,
        }
    }
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
        bind().map_err(|error| UdpError::new(address, error))
    }

    /// Binds a socket for each way: the loopback device, those with these
    /// indices if there are any, and all others.
    ///
    /// # Errors
    /// If the system refuses, or another process has bound the port as well.
    pub(crate) fn bind_ways(address: SocketAddr, devices: &[u32]) -> Result<Self, UdpError> {
        Self::try_bind_ways(address, devices).map_err(|error| UdpError::new(address, error))
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
            .map_err(|error| UdpError::new(address, error))
    }
}

/// Owner of the sockets of a group. A number that no system gives to a user;
/// the kernel's own "no user" is one more (`INVALID_UID`).
const NOBODY_AT_ALL: u32 = u32::MAX - 1;

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

#[cfg(test)]
mod tests;
