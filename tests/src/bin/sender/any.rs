//! What is sent to either kind of socket.

use std::env;
use std::io::{self, BufRead as _};
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use observer_common::frame::{Frame, Status};
use observer_testing::frame;
use observer_tests::process::number;
use observer_tests::socket::Socket;

/// One honest beat.
pub(crate) fn beat(socket: &Socket) {
    claim(socket, process::id());
}

/// One frame that claims to be of a process.
pub(crate) fn claim(socket: &Socket, pid: u32) {
    socket.send(&frame(pid, 1).encode());
}

/// Becomes the program that `NEXT` names, which is another copy of this one.
pub(crate) fn execute(to: &str) -> ! {
    let next = env::var_os("NEXT").expect("a path");
    let error = Command::new(next).args(["each-line", to]).exec();
    panic!("{error}");
}

/// One honest beat for each line; a number in it is the pid to claim.
pub(crate) fn each_line(socket: &Socket) {
    for (nonce, line) in (1..).zip(io::stdin().lock().lines()) {
        let claimed = line.ok().and_then(|line| line.parse().ok());
        let pid = claimed.unwrap_or_else(process::id);
        socket.send(&frame(pid, nonce).encode());
    }
}

/// What stdin has in hexadecimal digits, a line a datagram.
pub(crate) fn hex(socket: &Socket) {
    for line in io::stdin().lock().lines() {
        socket.send(&hex::decode(line.expect("text")).expect("digits"));
    }
}

/// Datagrams of every length up to a bound; what is as long as a frame is
/// none.
pub(crate) fn lengths(socket: &Socket, longest: u32) {
    for length in 0..=longest {
        let length = usize::try_from(length).expect("small");
        socket.send(&vec![0xa5; length]);
    }
}

/// An honest agent, until the count is reached.
pub(crate) fn pulse(socket: &Socket, interval_ms: u32, count: u32) {
    for nonce in 1..=count {
        // Fails only while nobody listens.
        drop(socket.try_send(&frame(process::id(), nonce.into()).encode()));
        thread::sleep(Duration::from_millis(interval_ms.into()));
    }
}

/// As fast as they go: so many beats that are routine, and as many that are
/// not.
pub(crate) fn routine_then_critical(socket: &Socket, each: u64) {
    let own = process::id();
    for nonce in 1..=each {
        socket.send(&frame(own, nonce).encode());
    }
    for nonce in each + 1..=2 * each {
        let critical = Frame {
            status: Status::Critical,
            ..frame(own, nonce)
        };
        socket.send(&critical.encode());
    }
}

/// For each line `CLAIMED COUNT`, so many frames that claim to be of that
/// process. Prints `sent` after each line.
pub(crate) fn volleys(socket: &Socket) {
    each_volley(|bytes| socket.send(bytes));
}

/// Sends what each line asks for.
pub(crate) fn each_volley(send: impl Fn(&[u8])) {
    for line in io::stdin().lock().lines() {
        let line = line.expect("text");
        let (claimed, count) = line.split_once(' ').expect("CLAIMED COUNT");
        let (claimed, count): (u32, u64) = (number(claimed), number(count));
        for nonce in 1..=count {
            // As clients put the time there: what two processes send differs.
            let bytes = Frame {
                timestamp: process::id().into(),
                ..frame(claimed, nonce)
            };
            send(&bytes.encode());
        }
        println!("sent");
    }
}
