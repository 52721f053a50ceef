//! A process that sends too much, or what is no frame: `flood WHAT SOCKET N`.

use std::env;
use std::fs::File;
use std::io::{self, BufRead as _, ErrorKind, IoSlice};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::parent_id;
use std::process;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use observer_common::frame::{FRAME_LEN, Frame, Status};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, path, number] = &arguments[..] else {
        panic!("flood WHAT SOCKET N");
    };
    let number: u64 = number.parse().expect("a number");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    match what.as_str() {
        "lengths" => lengths(&socket, number),
        "hex" => hex(&socket),
        "descriptors" => descriptors(&socket, number, 253),
        "descriptor" => descriptors(&socket, number, 1),
        "nonblocking" => nonblocking(&socket, number),
        "blocking" => blocking(&socket, number, process::id()),
        "forging" => blocking(&socket, number, parent_id()),
        "junk" => junk(&socket, number),
        "for-ever" => for_ever(&socket),
        "stale-for-ever" => stale_for_ever(&socket),
        "garbage-for-ever" => garbage_for_ever(&socket),
        other => panic!("unknown flood {other}"),
    }
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

/// Datagrams of every length up to a bound; what is as long as a frame is
/// none.
fn lengths(socket: &UnixDatagram, longest: u64) {
    for length in 0..=longest {
        let length = usize::try_from(length).expect("small");
        socket.send(&vec![0xa5; length]).expect("sends");
    }
}

/// What stdin says in hexadecimal digits, a line a datagram.
fn hex(socket: &UnixDatagram) {
    for line in io::stdin().lock().lines() {
        let line = line.expect("text");
        let digits: Vec<u8> = line
            .chars()
            .map(|digit| u8::try_from(digit.to_digit(16).expect("a digit")).expect("small"))
            .collect();
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect();
        socket.send(&bytes).expect("sends");
    }
}

/// Honest frames with descriptors attached; prints how many were refused.
fn descriptors(socket: &UnixDatagram, count: u64, each: usize) {
    // Nobody else has this one open: it would be seen in who took it.
    let program = env::current_exe().expect("a path");
    let file = File::open(program).expect("it runs");
    let attached = vec![file.as_raw_fd(); each];
    let mut refused = 0;
    for nonce in 1..=count {
        let bytes = frame(process::id(), nonce);
        let control = [ControlMessage::ScmRights(&attached)];
        let payload = [IoSlice::new(&bytes)];
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &payload,
            &control,
            MsgFlags::empty(),
            None,
        );
        refused += u64::from(sent == Err(Errno::EPERM));
        assert!(matches!(sent, Ok(_) | Err(Errno::EPERM)), "{sent:?}");
    }
    println!("{refused}");
}

/// Honest frames without waiting; prints which of them were sent.
fn nonblocking(socket: &UnixDatagram, count: u64) {
    socket.set_nonblocking(true).expect("a flag");
    for nonce in 1..=count {
        match socket.send(&frame(process::id(), nonce)) {
            Ok(_) => println!("{nonce}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// Frames, each when there is room.
fn blocking(socket: &UnixDatagram, count: u64, claimed: u32) {
    for nonce in 1..=count {
        socket.send(&frame(claimed, nonce)).expect("sends");
    }
}

/// One byte, 300 times a second, like a program that took the wrong socket.
fn junk(socket: &UnixDatagram, count: u64) {
    socket.set_nonblocking(true).expect("a flag");
    for _ in 0..count {
        match socket.send(b"x") {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        thread::sleep(Duration::from_micros(3333));
    }
}

/// Honest frames as fast as they go, until killed.
fn for_ever(socket: &UnixDatagram) {
    println!("{}", process::id());
    blocking(socket, u64::MAX, process::id());
}

/// What is as long as a frame and is none, as fast as it goes, until killed.
fn garbage_for_ever(socket: &UnixDatagram) {
    println!("{}", process::id());
    loop {
        socket.send(&[0xa5; FRAME_LEN]).expect("sends");
    }
}

/// The same frame over and over: counted, and no event after the first.
fn stale_for_ever(socket: &UnixDatagram) {
    println!("{}", process::id());
    loop {
        socket.send(&frame(process::id(), 2)).expect("sends");
    }
}
