//! Many processes that send as fast as they can and wait for no room:
//! `crowd KIND SOCKET PROCESSES COUNT MILLISECONDS UID`.
//!
//! Each is a fork of this one, on the socket that this one connected, as the
//! user UID, or as UID and the users after it if that is written `UID+`. It
//! sends COUNT datagrams, or for as long as that. KIND: `honest`; `garbage`, 32
//! bytes of noise with its pid and a number in them.
//!
//! Its first line is its pid; once a line is written to it, it begins; its
//! second line is the number of sends that succeeded, its third that of those
//! that found no room.

use std::env;
use std::io::{self, ErrorKind, PipeReader, Read as _, Write as _, pipe};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgid, setgroups, setuid};
use observer_common::frame::{FRAME_LEN, Frame, Status};

/// How many sends there are between two looks at the clock.
const STRIDE: u64 = 16;

struct Job {
    socket: UnixDatagram,
    is_honest: bool,
    count: u64,
    end: Instant,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, path, processes, count, milliseconds, uid] = &arguments[..] else {
        panic!("crowd KIND SOCKET PROCESSES COUNT MILLISECONDS UID");
    };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    socket.set_nonblocking(true).expect("a flag");
    println!("{}", process::id());
    io::stdin().read_line(&mut String::new()).expect("a line");
    let job = Job {
        socket,
        is_honest: match kind.as_str() {
            "honest" => true,
            "garbage" => false,
            other => panic!("unknown kind {other}"),
        },
        count: number(count),
        end: Instant::now() + Duration::from_millis(number(milliseconds)),
    };
    let (first, step) = match uid.strip_suffix('+') {
        Some(first) => (number(first), 1),
        None => (number(uid), 0),
    };
    let (reader, writer) = pipe().expect("a pipe");
    let children: Vec<Pid> = (0..number(processes))
        .map(|index| {
            let uid = u32::try_from(first + index * step).expect("a user");
            start(&job, uid, &writer)
        })
        .collect();
    drop(writer);
    let (sent, refused) = sums(reader);
    for child in children {
        waitpid(child, None).expect("it is our child");
    }
    println!("{sent}\n{refused}");
}

/// One of them; a child of this process, which has no other thread.
fn start(job: &Job, uid: u32, mut results: &io::PipeWriter) -> Pid {
    // SAFETY: the process has one thread, so the child may do what it likes.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            setgroups(&[]).expect("root may");
            setgid(Gid::from_raw(uid)).expect("root may");
            setuid(Uid::from_raw(uid)).expect("root may");
            let (sent, refused) = send(job);
            let words = [sent.to_ne_bytes(), refused.to_ne_bytes()];
            results.write_all(words.as_flattened()).expect("it is read");
            process::exit(0);
        }
    }
}

/// How many sends succeeded, and how many found no room.
fn send(job: &Job) -> (u64, u64) {
    let (mut sent, mut refused) = (0, 0);
    for number in 1..=job.count {
        if number.is_multiple_of(STRIDE) && Instant::now() >= job.end {
            break;
        }
        match job.socket.send(&datagram(job.is_honest, number)) {
            Ok(_) => sent += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused += 1;
            }
        }
    }
    (sent, refused)
}

fn datagram(is_honest: bool, nonce: u64) -> [u8; FRAME_LEN] {
    let (status, timestamp, payload) = (Status::Ok, 0, 0);
    let frame = Frame {
        status,
        pid: process::id(),
        timestamp,
        nonce,
        payload,
    };
    let mut bytes = frame.encode();
    if !is_honest {
        bytes[0] = 0xa5;
    }
    bytes
}

/// What all of them have written, added up.
fn sums(mut results: PipeReader) -> (u64, u64) {
    let mut bytes = Vec::new();
    results.read_to_end(&mut bytes).expect("a pipe");
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let (pairs, _) = words.as_chunks::<2>();
    pairs
        .iter()
        .fold((0, 0), |(sent, refused), [a, b]| (sent + a, refused + b))
}
