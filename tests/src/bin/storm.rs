//! A process that sends as fast as it can, and says how often it did:
//! `storm KIND SOCKET COUNT MILLISECONDS`, whichever bound is reached first.
//!
//! KIND: one `byte`; 32 bytes of `garbage` that end with its pid, so that no
//! two such processes send the same; the same `stale` frame over and
//! over; `spoofed`, its parent's pid; `honest`; `critical`, honest and in need
//! of help. Its first line is its pid, its second the number of sends that
//! succeeded.

use std::env;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::parent_id;
use std::process;
use std::time::{Duration, Instant};

use observer_common::frame::{FRAME_LEN, Frame, Status};

/// How many sends there are between two looks at the clock.
const STRIDE: u64 = 16;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, path, count, milliseconds] = &arguments[..] else {
        panic!("storm KIND SOCKET COUNT MILLISECONDS");
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let end = Instant::now() + Duration::from_millis(number(milliseconds));
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    println!("{}", process::id());
    let datagram = datagrams(kind);
    let mut sent = 0_u64;
    while sent < number(count) {
        if sent.is_multiple_of(STRIDE) && Instant::now() >= end {
            break;
        }
        sent += 1;
        socket.send(&datagram(sent)).expect("sends");
    }
    println!("{sent}");
}

/// What the datagram of a number is.
fn datagrams(kind: &str) -> impl Fn(u64) -> Vec<u8> {
    let of = |status, pid, nonce| {
        Frame {
            status,
            pid,
            timestamp: 0,
            nonce,
            payload: 0,
        }
        .encode()
        .to_vec()
    };
    let me = process::id();
    let make: Box<dyn Fn(u64) -> Vec<u8>> = match kind {
        "byte" => Box::new(|_| vec![0xa5]),
        "garbage" => Box::new(move |_| {
            let mut garbage = vec![0xa5; FRAME_LEN - size_of_val(&me)];
            garbage.extend(me.to_le_bytes());
            garbage
        }),
        "stale" => Box::new(move |_| of(Status::Ok, me, 2)),
        "spoofed" => Box::new(move |number| of(Status::Ok, parent_id(), number)),
        "honest" => Box::new(move |number| of(Status::Ok, me, number)),
        "critical" => Box::new(move |number| of(Status::Critical, me, number + 1_000_000)),
        other => panic!("unknown kind {other}"),
    };
    make
}
