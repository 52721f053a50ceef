//! Much of something: junk, frames that reach nobody, forgeries.

use std::net::SocketAddr;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;
use nix::unistd::Pid;
use observer_common::frame::FRAME_LEN;
use observer_testing::{connect_udp, frame};
use observer_tests::process::{start_child, wait_for_child};
use observer_tests::socket::send_segments;

/// Many segments of junk a send, for a time, by many processes. Prints how many
/// this one sent.
pub(crate) fn junk(to: SocketAddr, milliseconds: u32, processes: u32) {
    let end = Instant::now() + Duration::from_millis(milliseconds.into());
    let start = |_| {
        start_child(|| {
            send_junk(to, end);
        })
    };
    let children: Vec<Pid> = (1..processes).map(start).collect();
    println!("{}", send_junk(to, end));
    children.into_iter().for_each(wait_for_child);
}

fn send_junk(to: SocketAddr, end: Instant) -> u64 {
    const SEGMENTS: usize = 64;
    let socket = connect_udp(to).expect("an address");
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

/// Frames that reach nobody, a burst every 2 ms.
pub(crate) fn unseen(to: SocketAddr, count: u32, burst: u32) {
    let socket = connect_udp(to).expect("an address");
    for nonce in 1..=count {
        // Fails where nobody listens.
        drop(socket.send(&frame(process::id(), nonce.into()).encode()));
        if nonce % burst == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Beats in another's name.
pub(crate) fn forge(to: SocketAddr, victim: u32, count: u32) {
    let socket = connect_udp(to).expect("an address");
    for nonce in 1..=count {
        // The kernel may drop what is too much.
        drop(socket.send(&frame(victim, (1000 + nonce).into()).encode()));
        thread::sleep(Duration::from_millis(5));
    }
}
