//! A process that sends frames by UDP, honestly or not:
//! `udp HOW ADDRESS [NUMBER]...`.
//!
//! It prints its pid, then what the test has to know, as lines on stdout.

use std::env;
use std::io::{self, BufRead as _, IoSlice};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process;
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrStorage, sendmmsg, sendmsg, sendto,
};
use nix::unistd::Pid;
use observer_common::frame::{FRAME_LEN, Frame, Status};
use rustix::net::SendFlags;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [how, address, rest @ ..] = &arguments[..] else {
        panic!("udp HOW ADDRESS [NUMBER]...");
    };
    let to: SocketAddr = address.parse().expect("an address");
    let numbers: Vec<u32> = rest
        .iter()
        .map(|number| number.parse().expect("a number"))
        .collect();
    println!("{}", process::id());
    let own = process::id();
    match (how.as_str(), &numbers[..]) {
        ("connected", &[]) => connected(to, own, 1),
        ("claim", &[pid]) => connected(to, pid, 1),
        ("unconnected", &[]) => unconnected(to),
        ("many-at-once", &[]) => many_at_once(to),
        ("corked", &[]) => corked(to),
        ("with-options", &[]) => with_options(to),
        ("segmented", &[pid, segments]) => segmented(to, pid, segments),
        ("raw", &[pid]) => raw(to, pid),
        ("packet", &[pid, nonce]) => packet(to, pid, nonce.into()),
        ("paced", &[count, burst]) => paced(to, count, burst),
        ("pulse", &[interval_ms, count]) => pulse(to, interval_ms, count),
        ("lengths", &[longest]) => lengths(to, longest),
        ("each-line", &[]) => each_line(to),
        ("volleys", &[]) => volleys(to),
        other => panic!("unknown way {other:?}"),
    }
    wait_for_end();
}

fn frame(pid: u32, nonce: u64) -> [u8; FRAME_LEN] {
    let (status, timestamp, payload) = (Status::Ok, 0, 0);
    Frame {
        status,
        pid,
        timestamp,
        nonce,
        payload,
    }
    .encode()
}

fn bound(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    };
    UdpSocket::bind((any, 0)).expect("a socket")
}

fn connect(to: SocketAddr) -> UdpSocket {
    let socket = bound(to);
    socket.connect(to).expect("an address");
    println!("{}", socket.local_addr().expect("bound"));
    socket
}

fn connected(to: SocketAddr, pid: u32, nonce: u64) {
    connect(to).send(&frame(pid, nonce)).expect("sends");
}

fn unconnected(to: SocketAddr) {
    let socket = bound(to);
    socket.send_to(&frame(process::id(), 1), to).expect("sends");
}

/// Three frames with one `sendmmsg`.
fn many_at_once(to: SocketAddr) {
    let socket = bound(to);
    let frames = [1, 2, 3].map(|nonce| frame(process::id(), nonce));
    let buffers = frames.each_ref().map(|frame| [IoSlice::new(frame)]);
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(frames.len(), None);
    let addresses = [Some(SockaddrStorage::from(to)); 3];
    let sent = sendmmsg(
        socket.as_raw_fd(),
        &mut headers,
        &buffers,
        addresses,
        [],
        MsgFlags::empty(),
    )
    .expect("sends");
    assert_eq!(sent.count(), frames.len());
}

/// One frame in two halves: only the second call sends.
fn corked(to: SocketAddr) {
    let socket = connect(to);
    let bytes = frame(process::id(), 1);
    let (first, second) = bytes.split_at(FRAME_LEN / 2);
    rustix::net::send(&socket, first, SendFlags::MORE).expect("waits");
    rustix::net::send(&socket, second, SendFlags::empty()).expect("sends");
}

/// One frame behind an IP header that is longer than usual.
fn with_options(to: SocketAddr) {
    /// `IPOPT_NOOP` (RFC 791), to a whole word.
    const OPTIONS: [u8; 4] = [1; 4];
    let socket = connect(to);
    // SAFETY: pointer and length are those of the array.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            OPTIONS.as_ptr().cast(),
            4,
        )
    };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
    socket.send(&frame(process::id(), 1)).expect("sends");
}

/// Many frames in one send that the kernel cuts up (`UDP_SEGMENT`).
fn segmented(to: SocketAddr, pid: u32, segments: u32) {
    let socket = connect(to);
    let bytes: Vec<u8> = (1..=segments)
        .flat_map(|nonce| frame(pid, nonce.into()))
        .collect();
    let size = u16::try_from(FRAME_LEN).expect("small");
    let control = [ControlMessage::UdpGsoSegments(&size)];
    let sent = sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        &control,
        MsgFlags::empty(),
        None,
    )
    .expect("sends");
    assert_eq!(sent, bytes.len());
}

/// A UDP datagram made by hand, from an address and a port of the sender's
/// choosing.
fn raw(to: SocketAddr, pid: u32) {
    let SocketAddr::V4(to) = to else {
        panic!("IPv4 only");
    };
    let socket = open(libc::AF_INET, libc::IPPROTO_RAW);
    let packet = ip_packet(to, &frame(pid, 1));
    let sent = sendto(
        socket.as_raw_fd(),
        &packet,
        &SockaddrIn::from(to),
        MsgFlags::empty(),
    );
    assert_eq!(sent, Ok(packet.len()));
}

/// The same past the IP layer: an Ethernet frame to everyone on the first
/// interface that is not the loopback one. It goes by no cgroup.
fn packet(to: SocketAddr, pid: u32, nonce: u64) {
    let SocketAddr::V4(to) = to else {
        panic!("IPv4 only");
    };
    let protocol = u16::try_from(libc::ETH_P_IP).expect("16 bits").to_be();
    let socket = open(libc::AF_PACKET, protocol.into());
    let mut bytes = vec![0xff; 6];
    bytes.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    bytes.extend(ip_packet(to, &frame(pid, nonce)));
    let interface = nix::net::if_::if_nametoindex("agents0").expect("the test's interface");
    // SAFETY: all zero is a valid address of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("small");
    address.sll_ifindex = i32::try_from(interface).expect("small");
    address.sll_halen = 6;
    address.sll_addr[..6].fill(0xff);
    let length = u32::try_from(size_of_val(&address)).expect("small");
    // SAFETY: buffer and address are ours, with their own lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            (&raw const address).cast(),
            length,
        )
    };
    assert!(sent > 0, "{}", io::Error::last_os_error());
}

/// A raw socket, for headers of our own.
fn open(family: i32, protocol: i32) -> OwnedFd {
    // SAFETY: a plain call without pointers.
    let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    assert!(socket >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel just made it for us, and nothing else knows of it.
    unsafe { OwnedFd::from_raw_fd(socket) }
}

/// IP and UDP header with a source of nobody's, and the payload.
fn ip_packet(to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut source = to.ip().octets();
    source[3] = 77;
    let udp_len = u16::try_from(8 + payload.len()).expect("small");
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source);
    packet.extend(to.ip().octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(4242_u16.to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    // No checksum: IPv4 allows it.
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// Many honest beats, with a pause after each burst.
fn paced(to: SocketAddr, count: u32, burst: u32) {
    stay_on_this_cpu();
    let socket = connect(to);
    for nonce in 1..=count {
        socket
            .send(&frame(process::id(), nonce.into()))
            .expect("sends");
        if nonce % burst == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What is sent on loopback waits in a queue of the sending CPU's
/// (`enqueue_to_backlog`, `net/core/dev.c`): a sender that is moved from a
/// busy CPU to an idle one is overtaken by itself, and its nonces are stale.
fn stay_on_this_cpu() {
    let cpu = sched_getcpu().expect("it is on one");
    let mut set = CpuSet::new();
    set.set(cpu).expect("the set has room");
    sched_setaffinity(Pid::from_raw(0), &set).expect("it is on that one already");
}

/// An honest agent, until its stdin is closed or the count is reached.
fn pulse(to: SocketAddr, interval_ms: u32, count: u32) {
    let socket = connect(to);
    for nonce in 1..=count {
        // Fails only while nobody listens.
        drop(socket.send(&frame(process::id(), nonce.into())));
        thread::sleep(Duration::from_millis(interval_ms.into()));
    }
}

fn lengths(to: SocketAddr, longest: u32) {
    let socket = connect(to);
    for length in 0..=longest {
        let length = usize::try_from(length).expect("small");
        socket.send(&vec![0xa5; length]).expect("sends");
    }
}

/// One beat for each line; a number in it is the pid to claim.
fn each_line(to: SocketAddr) {
    let socket = connect(to);
    for (nonce, line) in (1..).zip(io::stdin().lock().lines()) {
        let claimed = line.ok().and_then(|line| line.parse().ok());
        let pid = claimed.unwrap_or_else(process::id);
        socket.send(&frame(pid, nonce)).expect("sends");
    }
}

/// For each line `CLAIMED COUNT`, so many frames that claim to be of that
/// process. Says when they are sent.
fn volleys(to: SocketAddr) {
    let socket = connect(to);
    for line in io::stdin().lock().lines() {
        let line = line.expect("text");
        let (claimed, count) = line.split_once(' ').expect("two numbers");
        let claimed = claimed.parse().expect("a number");
        for nonce in 1..=count.parse().expect("a number") {
            socket.send(&frame(claimed, nonce)).expect("sends");
        }
        println!("sent");
    }
}

/// Stays until stdin is closed.
fn wait_for_end() {
    for line in io::stdin().lock().lines() {
        drop(line);
    }
}
