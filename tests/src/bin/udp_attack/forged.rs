//! Forgeries by headers, options and pages of the attacker's own.

use std::io::IoSlice;
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::process;
use std::thread;
use std::time::Duration;

use nix::fcntl::{SpliceFFlags, splice, vmsplice};
use nix::sys::socket::SockaddrIn6;
use nix::unistd::pipe;
use observer_common::frame::FRAME_LEN;
use observer_testing::{connect_udp, frame, udp_socket, unspecified};
use observer_tests::packet;
use observer_tests::socket::set_option;

/// A nonce that no agent here has come to.
const FORGED: u64 = 1000;

/// One frame of any claim from a port of its choosing.
pub(crate) fn from_port(to: SocketAddr, port: u32, pid: u32, nonce: u64) {
    let port = u16::try_from(port).expect("a port");
    let socket = UdpSocket::bind((unspecified(to), port)).expect("a socket");
    socket
        .send_to(&frame(pid, nonce).encode(), to)
        .expect("sends");
}

/// A datagram with headers of its own, from a port that nobody bound.
pub(crate) fn hand_made(to: SocketAddr, victim: u32) {
    match to {
        SocketAddr::V4(to) => {
            let datagram = packet::whole_udp(to.port(), &frame(victim, FORGED).encode());
            packet::send_ipv4(&packet::ipv4(*to.ip(), *to.ip(), 0, &datagram), to);
        }
        SocketAddr::V6(to) => jumbo(to, victim),
    }
}

/// An IPv6 datagram whose UDP header says "as long as the packet".
fn jumbo(to: SocketAddrV6, victim: u32) {
    let mut udp = packet::udp(to.port(), 0, &frame(victim, FORGED).encode());
    let length = u16::try_from(udp.len()).expect("small");
    packet::set_checksum(&mut udp, to.ip(), length);
    let socket = packet::raw_socket(libc::AF_INET6, libc::IPPROTO_RAW);
    let anywhere = SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 0, 0, 0));
    packet::send(&socket, &packet::ipv6(to, &udp), &anywhere);
}

/// An IPv4 datagram in two pieces.
pub(crate) fn fragments(to: SocketAddr, victim: u32) {
    const FIRST: usize = 24;
    let SocketAddr::V4(to) = to else {
        panic!("IPv4 only");
    };
    let udp = packet::whole_udp(to.port(), &frame(victim, FORGED).encode());
    let (first, second) = udp.split_at(FIRST);
    for (bytes, fragment) in [(first, 0x2000), (second, 3)] {
        packet::send_ipv4(&packet::ipv4(*to.ip(), *to.ip(), fragment, bytes), to);
    }
}

/// To everybody on the link, this host included.
pub(crate) fn broadcast(to: SocketAddr, victim: u32) {
    let socket = udp_socket(to).expect("a socket");
    socket.set_broadcast(true).expect("sets");
    socket
        .send_to(&frame(victim, FORGED).encode(), to)
        .expect("sends");
}

/// Behind a segment routing header (RFC 8754), which takes no privilege: by
/// way of the destination to the destination.
pub(crate) fn routed(to: SocketAddr, victim: u32) {
    /// `IPV6_SRCRT_TYPE_4`
    const SEGMENT_ROUTING: u8 = 4;
    let SocketAddr::V6(address) = to else {
        panic!("IPv6 only");
    };
    let mut header = vec![0, 4, SEGMENT_ROUTING, 1, 1, 0, 0, 0];
    header.extend([0; 16]);
    header.extend(address.ip().octets());
    let socket = connect_udp(to).expect("an address");
    set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &header);
    socket.send(&frame(victim, FORGED).encode()).expect("sends");
}

/// An honest frame from a page that is changed once it is on its way.
pub(crate) fn changed(to: SocketAddr, victim: u32) {
    let socket = connect_udp(to).expect("an address");
    // The kernel looks at it for as long as a datagram waits.
    let page = Box::leak(Box::new([0_u8; 4096]));
    for nonce in 1..=200_u64 {
        page[..FRAME_LEN].copy_from_slice(&frame(process::id(), nonce).encode());
        let (read, write) = pipe().expect("a pipe");
        let slice = [IoSlice::new(&page[..FRAME_LEN])];
        vmsplice(&write, &slice, SpliceFFlags::SPLICE_F_GIFT).expect("is in the pipe");
        // It may be dropped for being too much.
        let _ = splice(&read, None, &socket, None, FRAME_LEN, SpliceFFlags::empty());
        page[..FRAME_LEN].copy_from_slice(&frame(victim, FORGED + nonce).encode());
        thread::sleep(Duration::from_millis(2));
    }
}
