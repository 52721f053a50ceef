//! What is sent by UDP in ways that a Unix socket does not have.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process;
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use nix::unistd::Pid;
use observer_common::frame::{FRAME_LEN, Frame};
use observer_testing::{connect_udp, frame, udp_socket};
use observer_tests::packet;
use observer_tests::socket::{send_segments, set_option};
use rustix::net::SendFlags;

/// Sends in one of these ways.
pub(crate) fn run(how: &str, to: SocketAddr, numbers: &[u32]) {
    match (how, numbers) {
        ("unconnected", []) => unconnected(to),
        ("many-at-once", []) => many_at_once(to),
        ("corked", []) => corked(to),
        ("with-options", []) => with_options(to),
        ("segmented", &[pid, segments]) => segmented(to, pid, segments),
        ("raw", &[pid]) => raw(to, pid),
        ("ethernet", &[pid, nonce]) => ethernet(to, pid, nonce.into()),
        ("paced", &[count, burst]) => paced(to, count, burst),
        other => panic!("unknown scenario {other:?}"),
    }
}

fn beat(nonce: u64) -> [u8; FRAME_LEN] {
    frame(process::id(), nonce).encode()
}

fn connect(to: SocketAddr) -> UdpSocket {
    let socket = connect_udp(to).expect("an address");
    println!("{}", socket.local_addr().expect("it is bound"));
    socket
}

fn unconnected(to: SocketAddr) {
    let socket = udp_socket(to).expect("a socket");
    socket.send_to(&beat(1), to).expect("sends");
}

/// Three frames with one `sendmmsg`.
fn many_at_once(to: SocketAddr) {
    let socket = udp_socket(to).expect("a socket");
    let frames = [1, 2, 3].map(beat);
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
    let bytes = beat(1);
    let (first, second) = bytes.split_at(FRAME_LEN / 2);
    rustix::net::send(&socket, first, SendFlags::MORE).expect("waits");
    rustix::net::send(&socket, second, SendFlags::empty()).expect("sends");
}

/// One frame behind an IP header that is longer than usual.
fn with_options(to: SocketAddr) {
    /// `IPOPT_NOOP` (RFC 791), to a whole word.
    const OPTIONS: [u8; 4] = [1; 4];
    let socket = connect(to);
    set_option(&socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &OPTIONS);
    socket.send(&beat(1)).expect("sends");
}

/// Many frames in one send that the kernel cuts up (`UDP_SEGMENT`).
fn segmented(to: SocketAddr, pid: u32, segments: u32) {
    let socket = connect(to);
    let bytes: Vec<u8> = (1..=segments)
        .flat_map(|nonce| frame(pid, nonce.into()).encode())
        .collect();
    let sent = send_segments(&socket, &bytes, FRAME_LEN, MsgFlags::empty()).expect("sends");
    assert_eq!(sent, bytes.len());
}

/// A UDP datagram made by hand, from an address and a port of the sender's
/// choosing.
fn raw(to: SocketAddr, pid: u32) {
    let to = ipv4(to);
    packet::send_ipv4(&from_nobody(to, &frame(pid, 1)), to);
}

/// The same past the IP layer: an Ethernet frame to everyone on the first
/// interface that is not the loopback one. It goes by no cgroup.
fn ethernet(to: SocketAddr, pid: u32, nonce: u64) {
    let protocol = u16::try_from(libc::ETH_P_IP).expect("16 bits").to_be();
    let socket = packet::raw_socket(libc::AF_PACKET, protocol.into());
    let mut bytes = vec![0xff; 6];
    bytes.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    bytes.extend(from_nobody(ipv4(to), &frame(pid, nonce)));
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

fn ipv4(to: SocketAddr) -> SocketAddrV4 {
    let SocketAddr::V4(to) = to else {
        panic!("IPv4 only");
    };
    to
}

/// A packet with a source of nobody's.
fn from_nobody(to: SocketAddrV4, frame: &Frame) -> Vec<u8> {
    let mut source = to.ip().octets();
    source[3] = 77;
    let datagram = packet::whole_udp(to.port(), &frame.encode());
    packet::ipv4(source.into(), *to.ip(), 0, &datagram)
}

/// Many honest beats, with a pause after each burst.
fn paced(to: SocketAddr, count: u32, burst: u32) {
    stay_on_this_cpu();
    let socket = connect(to);
    for nonce in 1..=count {
        socket.send(&beat(nonce.into())).expect("sends");
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
