//! Frames that are collected with others before they are sent.

use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process;

use nix::sys::socket::{MsgFlags, SockaddrIn6, sendto};
use observer_common::frame::FRAME_LEN;
use observer_testing::{connect_udp, frame};
use observer_tests::packet;
use observer_tests::process::in_child;
use observer_tests::socket::{send_segments, set_option};
use rustix::net::SendFlags;

/// How a child puts a frame into its parent's next send.
const WAYS: u32 = 4;
const FORGED: u64 = 1000;

/// An agent that beats, and a child on its socket that has it send a frame off
/// that it never made.
pub(crate) fn by_child(to: SocketAddr, way: u32) {
    assert!(way < WAYS);
    let own = process::id();
    let socket = connect_udp(to).expect("an address");
    socket.send(&frame(own, 1).encode()).expect("sends");
    let forged = frame(own, FORGED).encode();
    in_child(|| match way {
        0 => {
            let sent = send_segments(
                &socket,
                &forged,
                FRAME_LEN,
                MsgFlags::from_bits_retain(libc::MSG_MORE),
            );
            assert_eq!(sent, Ok(FRAME_LEN));
        }
        1 => {
            set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 32);
            more(&socket, &forged);
        }
        2 => more(&socket, &forged),
        _ => {
            set(&socket, libc::SOL_UDP, libc::UDP_CORK, 1);
            socket.send(&forged).expect("is kept");
        }
    });
    match way {
        0 | 1 => {
            socket.send(&frame(own, 2).encode()).expect("sends");
        }
        2 => {
            socket.send(&[]).expect("sends");
        }
        _ => set(&socket, libc::SOL_UDP, libc::UDP_CORK, 0),
    }
    set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0);
    socket.send(&frame(own, 3).encode()).expect("sends");
}

fn more(socket: &UdpSocket, bytes: &[u8]) {
    rustix::net::send(socket, bytes, SendFlags::MORE).expect("is kept");
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: i32) {
    set_option(socket, level, option, &value.to_ne_bytes());
}

/// A frame as the last segment, shorter than the others.
pub(crate) fn short_segment(to: SocketAddr, victim: u32) {
    let socket = connect_udp(to).expect("an address");
    let mut bytes = vec![0x5a; 48];
    bytes.extend(frame(victim, FORGED).encode());
    send_segments(&socket, &bytes, 48, MsgFlags::empty()).expect("sends");
}

/// A process with a raw socket, and a child on it that has it send a datagram
/// off that it never made.
pub(crate) fn raw_by_child(to: SocketAddr) {
    /// `IPV6_HDRINCL` (`include/uapi/linux/in6.h`)
    const HEADER_INCLUDED: i32 = 36;
    let SocketAddr::V6(to) = to else {
        panic!("IPv6 only");
    };
    let own = process::id();
    let socket = packet::raw_socket(libc::AF_INET6, libc::IPPROTO_RAW);
    let mut udp = packet::whole_udp(to.port(), &frame(own, FORGED).encode());
    packet::set_checksum(&mut udp, to.ip(), 40);
    // The port of a raw socket's address is the protocol.
    let address = SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 17, 0, 0));
    let send = |bytes: &[u8], flags| {
        let sent = sendto(socket.as_raw_fd(), bytes, &address, flags);
        assert_eq!(sent, Ok(bytes.len()));
    };
    in_child(|| {
        let off = 0_i32.to_ne_bytes();
        set_option(&socket, libc::IPPROTO_IPV6, HEADER_INCLUDED, &off);
        send(&udp, MsgFlags::from_bits_retain(libc::MSG_MORE));
    });
    send(&[0], MsgFlags::empty());
}
