//! The flooder: `flood KIND SOCKET [NAME=VALUE]...`, with a KIND of
//! [`Flood`] by its name in lower case. A flooder forges in its parent's name.
//!
//! | setting | meaning | without it |
//! |---|---|---|
//! | `count=N` | it ends after so many sends | it goes on |
//! | `milliseconds=N` | it ends after that time | it goes on |
//! | `room=skip` | it does not wait for room in the queue | it waits |
//! | `pause_us=N` | it waits between two sends | it sends as fast as it can |
//! | `processes=N` | so many children send, on its socket | it sends itself |
//! | `uid=N` | the children's user; `N+`: N, N + 1 and so on | its own |
//! | `begin=line` | it begins once a line is written to it | it begins at once |
//!
//! Its first line is its pid, its second the number of sends that succeeded,
//! its third that of those that found no room.

use std::env;
use std::io::{self, ErrorKind, PipeReader, Read as _, Write as _, pipe};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::parent_id;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use observer_testing::flood::Flood;
use observer_tests::process::{become_user, number, start_child, wait_for_child};
use observer_tests::socket::unix;

/// How many sends there are between two looks at the clock.
const STRIDE: u64 = 16;

/// What to send, and for how long.
struct Job {
    socket: UnixDatagram,
    kind: Flood,
    victim: u32,
    count: u64,
    end: Option<Instant>,
    pause: Duration,
}

/// Who sends.
struct Crowd {
    processes: u64,
    /// The first one's user, and how far the next one's is from it.
    users: Option<(u32, u32)>,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, path, settings @ ..] = &arguments[..] else {
        panic!("flood KIND SOCKET [NAME=VALUE]...");
    };
    let mut job = Job {
        socket: unix(path),
        kind: kind.parse().unwrap_or_else(|error| panic!("{error}")),
        victim: parent_id(),
        count: u64::MAX,
        end: None,
        pause: Duration::ZERO,
    };
    let mut crowd = Crowd {
        processes: 0,
        users: None,
    };
    let (mut time, mut waits_for_line) = (None, false);
    for setting in settings {
        let (name, value) = setting.split_once('=').expect("NAME=VALUE");
        match name {
            "count" => job.count = number(value),
            "milliseconds" => time = Some(Duration::from_millis(number(value))),
            "room" if value == "skip" => job.socket.set_nonblocking(true).expect("a flag"),
            "pause_us" => job.pause = Duration::from_micros(number(value)),
            "processes" => crowd.processes = number(value),
            "uid" => crowd.users = Some(users(value)),
            "begin" if value == "line" => waits_for_line = true,
            _ => panic!("unknown setting {setting}"),
        }
    }
    println!("{}", process::id());
    if waits_for_line {
        io::stdin().read_line(&mut String::new()).expect("a line");
    }
    job.end = time.map(|time| Instant::now() + time);
    let (sent, refused) = if crowd.processes > 0 {
        crowd.flood(&job)
    } else {
        job.flood()
    };
    println!("{sent}\n{refused}");
}

fn users(value: &str) -> (u32, u32) {
    match value.strip_suffix('+') {
        Some(first) => (number(first), 1),
        None => (number(value), 0),
    }
}

impl Job {
    /// How many sends succeeded, and how many found no room.
    fn flood(&self) -> (u64, u64) {
        let own = process::id();
        let (mut sent, mut refused) = (0, 0);
        for number in 1..=self.count {
            if number.is_multiple_of(STRIDE) && self.end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
            let datagram = self.kind.datagram(own, self.victim, number);
            match self.socket.send(datagram.bytes()) {
                Ok(_) => sent += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    refused += 1;
                }
            }
            if !self.pause.is_zero() {
                thread::sleep(self.pause);
            }
        }
        (sent, refused)
    }
}

impl Crowd {
    /// Has each process do the job; their counts, added up.
    fn flood(&self, job: &Job) -> (u64, u64) {
        let (reader, writer) = pipe().expect("a pipe");
        let children: Vec<Pid> = (0..self.processes)
            .map(|index| {
                start_child(|| {
                    if let Some((first, step)) = self.users {
                        become_user(first + u32::try_from(index).expect("small") * step);
                    }
                    let (sent, refused) = job.flood();
                    let words = [sent.to_ne_bytes(), refused.to_ne_bytes()];
                    let written = (&writer).write_all(words.as_flattened());
                    written.expect("it is read");
                })
            })
            .collect();
        drop(writer);
        let sums = sums(reader);
        children.into_iter().for_each(wait_for_child);
        sums
    }
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
