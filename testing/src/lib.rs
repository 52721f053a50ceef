//! What the tests and benchmarks of all crates send, and by which sockets.
//!
//! A crate of its own because each of them needs it and none may depend on the
//! end-to-end tests, which need the whole observer.

pub mod btf;
pub mod flood;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use observer_common::frame::{Frame, Status};

/// A frame that claims to be of a process, and that all is well with it.
#[must_use]
pub const fn frame(pid: u32, nonce: u64) -> Frame {
    Frame {
        status: Status::Ok,
        pid,
        timestamp: 0,
        nonce,
        payload: 0,
    }
}

/// A socket that sends to an observer's Unix socket.
///
/// # Errors
/// If there is none.
pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

/// A socket that can send to an address by UDP.
///
/// # Errors
/// If the host has no such addresses.
pub fn udp_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((unspecified(to), 0))
}

/// A socket that sends to an address by UDP.
///
/// # Errors
/// If the address cannot be reached.
pub fn connect_udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp_socket(to)?;
    socket.connect(to)?;
    Ok(socket)
}

/// The address that stands for all addresses of another's family.
#[must_use]
pub const fn unspecified(other: SocketAddr) -> IpAddr {
    match other {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}
