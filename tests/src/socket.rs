//! The socket that a helper sends by: a Unix socket's, or a UDP listener's.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use observer_testing::{connect, connect_udp};

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// To a path.
    Unix(UnixDatagram),
    /// To an address.
    Udp(UdpSocket),
}

impl Socket {
    /// One that sends to a path, or to an address of UDP.
    ///
    /// # Panics
    /// If the observer is not there.
    #[must_use]
    pub fn connect(target: &str) -> Self {
        match target.parse::<SocketAddr>() {
            Ok(address) => Self::Udp(connect_udp(address).expect("an address")),
            Err(_) => Self::Unix(unix(target)),
        }
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// As the kernel reports them.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.send(bytes),
            Self::Udp(socket) => socket.send(bytes),
        }
    }

    /// Sends a datagram.
    ///
    /// # Panics
    /// If that fails.
    pub fn send(&self, bytes: &[u8]) {
        self.try_send(bytes).expect("sends");
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Unix(socket) => socket.into(),
            Socket::Udp(socket) => socket.into(),
        }
    }
}

/// A socket that sends to a path.
///
/// # Panics
/// If the observer is not there.
#[must_use]
pub fn unix(path: &str) -> UnixDatagram {
    connect(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One send of several datagrams of a size, of which the last may be shorter
/// (`UDP_SEGMENT`).
///
/// # Errors
/// As the kernel reports them.
///
/// # Panics
/// If a datagram cannot have that size.
pub fn send_segments(
    socket: &UdpSocket,
    bytes: &[u8],
    size: usize,
    flags: MsgFlags,
) -> nix::Result<usize> {
    let size = u16::try_from(size).expect("small");
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::UdpGsoSegments(&size)],
        flags,
        None,
    )
}

/// Sets an option of a socket.
///
/// # Panics
/// If it cannot be set.
pub fn set_option(socket: &impl AsRawFd, level: i32, option: i32, value: &[u8]) {
    let length = libc::socklen_t::try_from(value.len()).expect("small");
    // SAFETY: pointer and length are those of the slice.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            length,
        )
    };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}
