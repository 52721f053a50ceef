//! Packets that are made by hand, and the sockets to send them by.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::sys::socket::{MsgFlags, SockaddrIn, SockaddrLike, sendto};

/// The port that they come from, which nobody has bound.
pub const SOURCE_PORT: u16 = 4242;

/// A raw socket, for headers of one's own.
///
/// # Panics
/// If the process may not have one.
#[must_use]
pub fn raw_socket(family: i32, protocol: i32) -> OwnedFd {
    // SAFETY: a plain call without pointers.
    let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel just made it for us, and nothing else knows of it.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

/// Sends a packet.
///
/// # Panics
/// If that fails.
pub fn send(socket: &OwnedFd, packet: &[u8], to: &impl SockaddrLike) {
    let sent = sendto(socket.as_raw_fd(), packet, to, MsgFlags::empty());
    assert_eq!(sent, Ok(packet.len()));
}

/// Sends an IPv4 packet with headers of its own.
///
/// # Panics
/// If that fails.
pub fn send_ipv4(packet: &[u8], to: SocketAddrV4) {
    let socket = raw_socket(libc::AF_INET, libc::IPPROTO_RAW);
    send(&socket, packet, &SockaddrIn::from(to));
}

/// A UDP header with a length of its own and no checksum, and the payload.
#[must_use]
pub fn udp(port: u16, length: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = SOURCE_PORT.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    // No checksum: IPv4 allows it.
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// The same with its true length.
///
/// # Panics
/// If that is no length of a datagram.
#[must_use]
pub fn whole_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("small");
    udp(port, length, payload)
}

/// An IPv4 packet with a datagram, or with the fragment of one that `fragment`
/// says.
///
/// # Panics
/// If it is too long.
#[must_use]
pub fn ipv4(source: Ipv4Addr, to: Ipv4Addr, fragment: u16, datagram: &[u8]) -> Vec<u8> {
    /// All fragments of a datagram have the same.
    const IDENTIFICATION: u16 = 77;
    let length = u16::try_from(20 + datagram.len()).expect("small");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend(IDENTIFICATION.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(to.octets());
    let sum = checksum(&[], &packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(datagram);
    packet
}

/// An IPv6 packet with a datagram, from an address to itself.
///
/// # Panics
/// If it is too long.
#[must_use]
pub fn ipv6(address: SocketAddrV6, datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(datagram.len()).expect("small");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([17, 64]);
    packet.extend(address.ip().octets());
    packet.extend(address.ip().octets());
    packet.extend(datagram);
    packet
}

/// Writes the checksum that IPv6 demands into a datagram from an address to
/// itself, which says that it has this length (RFC 8200).
pub fn set_checksum(datagram: &mut [u8], address: &Ipv6Addr, length: u16) {
    let mut header = address.octets().to_vec();
    header.extend(address.octets());
    header.extend(u32::from(length).to_be_bytes());
    header.extend([0, 0, 0, 17]);
    let sum = checksum(&header, datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8], rest: &[u8]) -> u16 {
    let mut sum: u32 = [header, rest]
        .concat()
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}
