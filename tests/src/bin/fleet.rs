//! Many agents: `fleet SOCKET AGENTS INTERVAL_MS COUNT`. Each is a process of
//! its own, sends COUNT beats at that interval and never retries one.
//!
//! A line for each when it has ended: its pid, and how many beats it wanted to
//! send, whether the kernel took them or not.

use std::{
    env,
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    process, thread,
    time::{Duration, Instant},
};

use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork},
};
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
    let agents: Vec<Pid> = (0..agents)
        .map(|index| {
            // Spread over the interval, as a fleet's phases are.
            let first = begin + interval * index / agents;
            start(path, first, interval, count)
        })
        .collect();
    for agent in agents {
        waitpid(agent, None).expect("it is our child");
        println!("{agent} {count}");
    }
}

/// One agent; a child of this process, which has no other thread.
fn start(path: &str, first: Instant, interval: Duration, count: u32) -> Pid {
    // SAFETY: the process has one thread, so the child may do what it likes.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            beat(path, first, interval, count);
            process::exit(0);
        }
    }
}

fn beat(path: &str, first: Instant, interval: Duration, count: u32) {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    socket.set_nonblocking(true).expect("a flag");
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
        if let Err(error) = socket.send(&frame.encode()) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }
}
