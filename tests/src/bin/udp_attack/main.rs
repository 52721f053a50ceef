//! A process that attacks a UDP listener: `udp_attack HOW ADDRESS [NUMBER]...`.
//!
//! It prints its pid, then what the test has to know, as lines on stdout, and
//! stays until its stdin is closed.

use std::env;
use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{SpliceFFlags, vmsplice};
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, sendmsg, sendto,
};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe};
use observer_common::frame::FRAME_LEN;
use observer_tests::frame::frame;
use rustix::net::SendFlags;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [how, address, rest @ ..] = &arguments[..] else {
        panic!("udp_attack HOW ADDRESS [NUMBER]...");
    };
    let to: SocketAddr = address.parse().expect("an address");
    let numbers: Vec<u32> = rest
        .iter()
        .map(|number| number.parse().expect("a number"))
        .collect();
    println!("{}", process::id());
    match (how.as_str(), &numbers[..]) {
        ("from-port", &[port, pid, nonce]) => from_port(to, port, pid, nonce.into()),
        ("junk", &[milliseconds, processes]) => junk(to, milliseconds, processes),
        ("unseen", &[count, burst]) => unseen(to, count, burst),
        ("forge", &[victim, count]) => forge(to, victim, count),
        ("corked-by-child", &[way]) => corked_by_child(to, way),
        ("short-segment", &[victim]) => short_segment(to, victim),
        ("jumbo", &[victim]) => jumbo(to, victim),
        ("hand-made", &[victim]) => hand_made(to, victim),
        ("raw-corked-by-child", &[]) => raw_corked_by_child(to),
        ("broadcast", &[victim]) => broadcast(to, victim),
        ("fragments", &[victim]) => fragments(to, victim),
        ("routed", &[victim]) => routed(to, victim),
        ("changed", &[victim]) => changed(to, victim),
        other => panic!("unknown way {other:?}"),
    }
    println!("done");
    io::stdout().flush().expect("a pipe");
    for line in io::stdin().lock().lines() {
        drop(line);
    }
}

fn any(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    }
}

fn connect(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((any(to), 0)).expect("a socket");
    socket.connect(to).expect("an address");
    socket
}

/// One frame of any claim from a port of its choosing.
fn from_port(to: SocketAddr, port: u32, pid: u32, nonce: u64) {
    let port = u16::try_from(port).expect("a port");
    let socket = UdpSocket::bind((any(to), port)).expect("a socket");
    socket.send_to(&frame(pid, nonce), to).expect("sends");
}

/// Many segments of junk a send, for a time, by many processes.
fn junk(to: SocketAddr, milliseconds: u32, processes: u32) {
    let end = Instant::now() + Duration::from_millis(milliseconds.into());
    let mut children = Vec::new();
    for _ in 1..processes {
        // SAFETY: the process has one thread.
        match unsafe { fork() }.expect("forks") {
            ForkResult::Parent { child } => children.push(child),
            ForkResult::Child => {
                flood(to, end);
                process::exit(0);
            }
        }
    }
    println!("{}", flood(to, end));
    for child in children {
        waitpid(child, None).expect("a child");
    }
}

fn flood(to: SocketAddr, end: Instant) -> u64 {
    const SEGMENTS: usize = 64;
    let socket = connect(to);
    let bytes = [0x5a; SEGMENTS * FRAME_LEN];
    let mut sent = 0;
    while Instant::now() < end {
        // Fails where nobody listens, once it is known.
        if send_segments(&socket, &bytes, FRAME_LEN, MsgFlags::empty()).is_ok() {
            sent += SEGMENTS as u64;
        }
    }
    sent
}

fn send_segments(
    socket: &UdpSocket,
    bytes: &[u8],
    size: usize,
    flags: MsgFlags,
) -> nix::Result<usize> {
    let size = u16::try_from(size).expect("small");
    let control = [ControlMessage::UdpGsoSegments(&size)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &control,
        flags,
        None,
    )
}

/// Frames that reach nobody, a burst every 2 ms.
fn unseen(to: SocketAddr, count: u32, burst: u32) {
    let socket = connect(to);
    for nonce in 1..=count {
        // Fails where nobody listens.
        drop(socket.send(&frame(process::id(), nonce.into())));
        if nonce % burst == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Beats in another's name.
fn forge(to: SocketAddr, victim: u32, count: u32) {
    let socket = connect(to);
    for nonce in 1..=count {
        // The kernel may drop what is too much.
        drop(socket.send(&frame(victim, (1000 + nonce).into())));
        thread::sleep(Duration::from_millis(5));
    }
}

/// How a child puts a frame into its parent's next send.
const WAYS: u32 = 4;
const FORGED: u64 = 1000;

/// An agent that beats, and a child on its socket that has it send a frame off
/// that it never made.
fn corked_by_child(to: SocketAddr, way: u32) {
    assert!(way < WAYS);
    let own = process::id();
    let socket = connect(to);
    socket.send(&frame(own, 1)).expect("sends");
    let forged = frame(own, FORGED);
    // SAFETY: the process has one thread.
    match unsafe { fork() }.expect("forks") {
        ForkResult::Child => {
            match way {
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
            }
            process::exit(0);
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).expect("a child");
        }
    }
    match way {
        0 | 1 => {
            socket.send(&frame(own, 2)).expect("sends");
        }
        2 => {
            socket.send(&[]).expect("sends");
        }
        _ => set(&socket, libc::SOL_UDP, libc::UDP_CORK, 0),
    }
    set(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0);
    socket.send(&frame(own, 3)).expect("sends");
}

fn more(socket: &UdpSocket, bytes: &[u8]) {
    rustix::net::send(socket, bytes, SendFlags::MORE).expect("is kept");
}

fn set(socket: &UdpSocket, level: i32, option: i32, value: i32) {
    set_bytes(socket, level, option, &value.to_ne_bytes());
}

fn set_bytes(socket: &UdpSocket, level: i32, option: i32, value: &[u8]) {
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

/// A frame as the last segment, shorter than the others.
fn short_segment(to: SocketAddr, victim: u32) {
    let socket = connect(to);
    let mut bytes = vec![0x5a; 48];
    bytes.extend(frame(victim, FORGED));
    send_segments(&socket, &bytes, 48, MsgFlags::empty()).expect("sends");
}

/// A raw socket, for headers of our own.
fn open(family: i32) -> OwnedFd {
    // SAFETY: a plain call without pointers.
    let socket = unsafe {
        libc::socket(
            family,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::IPPROTO_RAW,
        )
    };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel just made it for us, and nothing else knows of it.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

fn send_raw(socket: &OwnedFd, packet: &[u8], to: &dyn SockaddrLike) {
    // SAFETY: buffer and address are ours, with their own lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            to.as_ptr(),
            to.len(),
        )
    };
    assert!(sent > 0, "{}", io::Error::last_os_error());
}

/// A UDP header from port 4242 with a length of its own, no checksum, and the
/// payload.
fn datagram(port: u16, length: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = 4242_u16.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// An IPv6 datagram whose UDP header says "as long as the packet".
fn jumbo(to: SocketAddr, victim: u32) {
    let SocketAddr::V6(to) = to else {
        panic!("IPv6 only");
    };
    let mut udp = datagram(to.port(), 0, &frame(victim, FORGED));
    let length = u16::try_from(udp.len()).expect("small");
    let sum = checksum(&pseudo_header(to.ip(), length), &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([17, 64]);
    packet.extend(to.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(udp);
    let anywhere = SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 0, 0, 0));
    send_raw(&open(libc::AF_INET6), &packet, &anywhere);
}

/// What the checksum covers beside the datagram (RFC 8200), of one to oneself.
fn pseudo_header(address: &Ipv6Addr, length: u16) -> Vec<u8> {
    let mut bytes = address.octets().to_vec();
    bytes.extend(address.octets());
    bytes.extend(u32::from(length).to_be_bytes());
    bytes.extend([0, 0, 0, 17]);
    bytes
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

/// A process with a raw socket, and a child on it that has it send a datagram
/// off that it never made.
fn raw_corked_by_child(to: SocketAddr) {
    /// `IPV6_HDRINCL` (`include/uapi/linux/in6.h`)
    const HEADER_INCLUDED: i32 = 36;
    let SocketAddr::V6(to) = to else {
        panic!("IPv6 only");
    };
    let own = process::id();
    let socket = open(libc::AF_INET6);
    let mut udp = datagram(to.port(), 40, &frame(own, FORGED));
    let sum = checksum(&pseudo_header(to.ip(), 40), &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    // The port of a raw socket's address is the protocol.
    let address = SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 17, 0, 0));
    let send = |bytes: &[u8], flags| {
        let sent = sendto(socket.as_raw_fd(), bytes, &address, flags);
        assert_eq!(sent, Ok(bytes.len()));
    };
    // SAFETY: the process has one thread.
    match unsafe { fork() }.expect("forks") {
        ForkResult::Child => {
            let socket = UdpSocket::from(socket.try_clone().expect("a descriptor"));
            set(&socket, libc::IPPROTO_IPV6, HEADER_INCLUDED, 0);
            send(&udp, MsgFlags::from_bits_retain(libc::MSG_MORE));
            process::exit(0);
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).expect("a child");
        }
    }
    send(&[0], MsgFlags::empty());
}

/// To everybody on the link, this host included.
fn broadcast(to: SocketAddr, victim: u32) {
    let socket = UdpSocket::bind((any(to), 0)).expect("a socket");
    socket.set_broadcast(true).expect("sets");
    socket.send_to(&frame(victim, FORGED), to).expect("sends");
}

/// A datagram with headers of its own, from a port that nobody bound.
fn hand_made(to: SocketAddr, victim: u32) {
    let SocketAddr::V4(v4) = to else {
        return jumbo(to, victim);
    };
    let udp = datagram(v4.port(), 40, &frame(victim, FORGED));
    send_ipv4(&open(libc::AF_INET), v4, 0, &udp);
}

/// An IPv4 datagram in two pieces.
fn fragments(to: SocketAddr, victim: u32) {
    const FIRST: usize = 24;
    let SocketAddr::V4(to) = to else {
        panic!("IPv4 only");
    };
    let udp = datagram(to.port(), 40, &frame(victim, FORGED));
    let (first, second) = udp.split_at(FIRST);
    let socket = open(libc::AF_INET);
    for (bytes, fragment) in [(first, 0x2000), (second, 3)] {
        send_ipv4(&socket, to, fragment, bytes);
    }
}

/// A packet from an address to itself, a fragment or not.
fn send_ipv4(socket: &OwnedFd, to: SocketAddrV4, fragment: u16, bytes: &[u8]) {
    let length = u16::try_from(20 + bytes.len()).expect("small");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend(77_u16.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 17, 0, 0]);
    packet.extend(to.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(bytes);
    send_raw(socket, &packet, &SockaddrIn::from(to));
}

/// Behind a segment routing header (RFC 8754), which takes no privilege: by
/// way of the destination to the destination.
fn routed(to: SocketAddr, victim: u32) {
    /// `IPV6_SRCRT_TYPE_4`
    const SEGMENT_ROUTING: u8 = 4;
    let SocketAddr::V6(address) = to else {
        panic!("IPv6 only");
    };
    let mut header = vec![0, 4, SEGMENT_ROUTING, 1, 1, 0, 0, 0];
    header.extend([0; 16]);
    header.extend(address.ip().octets());
    let socket = connect(to);
    set_bytes(&socket, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &header);
    socket.send(&frame(victim, FORGED)).expect("sends");
}

/// An honest frame from a page that is changed once it is on its way.
fn changed(to: SocketAddr, victim: u32) {
    let socket = connect(to);
    // The kernel looks at it for as long as a datagram waits.
    let page = Box::leak(Box::new([0_u8; 4096]));
    for nonce in 1..=200_u64 {
        page[..FRAME_LEN].copy_from_slice(&frame(process::id(), nonce));
        let (read, write) = pipe().expect("a pipe");
        let slice = [IoSlice::new(&page[..FRAME_LEN])];
        vmsplice(&write, &slice, SpliceFFlags::SPLICE_F_GIFT).expect("is in the pipe");
        // It may be dropped for being too much.
        let _ = nix::fcntl::splice(&read, None, &socket, None, FRAME_LEN, SpliceFFlags::empty());
        page[..FRAME_LEN].copy_from_slice(&frame(victim, FORGED + nonce));
        thread::sleep(Duration::from_millis(2));
    }
}
