//! Many processes of one user that each beat once: `sleepers SOCKET UID COUNT
//! THEN`, where THEN is what each does afterwards: `sleep` until the helper's
//! stdin is closed, or `end`.
//!
//! One line when all have sent: how many they are.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgid, setuid};
use observer_common::frame::{Frame, Status};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, uid, count, then] = &arguments[..] else {
        panic!("sleepers SOCKET UID COUNT THEN");
    };
    become_user(uid.parse().expect("a number"));
    let count: usize = count.parse().expect("a number");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    match then.as_str() {
        "end" => {
            for _ in 0..count {
                waitpid(start(&socket, || {}), None).expect("it is our child");
            }
            println!("{count}");
        }
        "sleep" => sleepers(&socket, count),
        other => panic!("sleep or end, not {other}"),
    }
}

fn become_user(uid: u32) {
    setgid(Gid::from_raw(uid)).expect("root may");
    setuid(Uid::from_raw(uid)).expect("root may");
}

fn sleepers(socket: &UnixDatagram, count: usize) {
    let (mut sent, ready) = io::pipe().expect("a pipe");
    let sleepers: Vec<Pid> = (0..count)
        .map(|_| {
            let ready = &ready;
            start(socket, move || {
                let mut ready = ready;
                ready.write_all(b"x").expect("the parent reads");
                thread::sleep(Duration::from_mins(5));
            })
        })
        .collect();
    sent.read_exact(&mut vec![0; count]).expect("all are ready");
    println!("{count}");
    io::stdin().read_to_end(&mut Vec::new()).expect("it ends");
    for sleeper in sleepers {
        kill(sleeper, Signal::SIGKILL).expect("it is our child");
        waitpid(sleeper, None).expect("it is our child");
    }
}

/// One process; a child of this one, which has no other thread.
fn start(socket: &UnixDatagram, then: impl FnOnce()) -> Pid {
    // SAFETY: the process has one thread, so the child may do what it likes.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            set_pdeathsig(Signal::SIGKILL).expect("sets");
            let frame = Frame {
                status: Status::Ok,
                pid: process::id(),
                timestamp: 0,
                nonce: 1,
                payload: 0,
            };
            socket.send(&frame.encode()).expect("sends");
            then();
            process::exit(0);
        }
    }
}
