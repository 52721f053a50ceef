//! Many agents: `fleet SOCKET AGENTS INTERVAL_MS COUNT`. Each is a process of
//! its own, sends COUNT beats at that interval and never retries one.
//!
//! A line for each when it has ended: its pid, and how many beats the kernel
//! took; the others found the queue full.

use std::io::{ErrorKind, PipeReader, Read, Write, pipe};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use observer_testing::frame;
use observer_tests::process::{arguments, number, start_child, wait_for_child};
use observer_tests::socket::unix;

fn main() {
    let [path, agents, interval_ms, count] = arguments("fleet SOCKET AGENTS INTERVAL_MS COUNT");
    let (agents, count) = (number(&agents), number(&count));
    let interval = Duration::from_millis(number(&interval_ms));
    let begin = Instant::now();
    let agents: Vec<(Pid, PipeReader)> = (0..agents)
        .map(|index| {
            // Spread over the interval, as a fleet's phases are.
            let first = begin + interval * index / agents;
            start(&path, first, interval, count)
        })
        .collect();
    for (agent, mut result) in agents {
        let mut taken = [0; size_of::<u32>()];
        result.read_exact(&mut taken).expect("the agent's result");
        wait_for_child(agent);
        println!("{agent} {}", u32::from_ne_bytes(taken));
    }
}

/// One agent, and where its result is read.
fn start(path: &str, first: Instant, interval: Duration, count: u32) -> (Pid, PipeReader) {
    let (result, mut end) = pipe().expect("a pipe");
    let child = start_child(|| {
        let taken = beat(path, first, interval, count);
        end.write_all(&taken.to_ne_bytes()).expect("a pipe");
    });
    (child, result)
}

/// Returns how many beats the kernel took.
fn beat(path: &str, first: Instant, interval: Duration, count: u32) -> u32 {
    let socket = unix(path);
    socket.set_nonblocking(true).expect("a flag");
    let mut taken = 0;
    for number in 0..count {
        let due = first + interval * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let frame = frame(process::id(), u64::from(number) + 1);
        match socket.send(&frame.encode()) {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    taken
}
