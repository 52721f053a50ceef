//! Many agents: `fleet SOCKET AGENTS INTERVAL_MS COUNT`. Each is a process of
//! its own, sends COUNT beats at that interval and never retries one.
//!
//! A line for each when it has ended: its pid, and how many beats the kernel
//! took; the others found the queue full.

use std::env;
use std::io::{ErrorKind, PipeReader, Read, Write, pipe};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use observer_common::frame::{Frame, Status};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, agents, interval_ms, count] = &arguments[..] else {
        panic!("fleet SOCKET AGENTS INTERVAL_MS COUNT");
    };
    let number = |text: &String| text.parse::<u32>().expect("a number");
    let (agents, count) = (number(agents), number(count));
    let interval = Duration::from_millis(number(interval_ms).into());
    let begin = Instant::now();
    let agents: Vec<(Pid, PipeReader)> = (0..agents)
        .map(|index| {
            // Spread over the interval, as a fleet's phases are.
            let first = begin + interval * index / agents;
            start(path, first, interval, count)
        })
        .collect();
    for (agent, mut result) in agents {
        let mut taken = [0; size_of::<u32>()];
        result.read_exact(&mut taken).expect("the agent's result");
        waitpid(agent, None).expect("it is our child");
        println!("{agent} {}", u32::from_ne_bytes(taken));
    }
}

/// One agent, and where its result is read; a child of this process, which has
/// no other thread.
fn start(path: &str, first: Instant, interval: Duration, count: u32) -> (Pid, PipeReader) {
    let (result, mut end) = pipe().expect("a pipe");
    // SAFETY: the process has one thread, so the child may do what it likes.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => (child, result),
        ForkResult::Child => {
            let taken = beat(path, first, interval, count);
            end.write_all(&taken.to_ne_bytes()).expect("a pipe");
            process::exit(0);
        }
    }
}

/// Returns how many beats the kernel took.
fn beat(path: &str, first: Instant, interval: Duration, count: u32) -> u32 {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    socket.set_nonblocking(true).expect("a flag");
    let mut taken = 0;
    for number in 0..count {
        let due = first + interval * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let frame = Frame {
            status: Status::Ok,
            pid: process::id(),
            timestamp: 0,
            nonce: u64::from(number) + 1,
            payload: 0,
        };
        match socket.send(&frame.encode()) {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    taken
}
