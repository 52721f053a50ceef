//! Many processes of one user that each beat once: `sleepers SOCKET UID COUNT
//! THEN`, where THEN is what each does afterwards: `sleep` until the helper's
//! stdin is closed, or `end`.
//!
//! One line when all have sent: how many they are.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use observer_testing::frame;
use observer_tests::process::{arguments, become_user, number, start_child, wait_for_child};
use observer_tests::socket::unix;

fn main() {
    let [path, uid, count, then] = arguments("sleepers SOCKET UID COUNT THEN");
    become_user(number(&uid));
    let count = number(&count);
    let socket = unix(&path);
    match then.as_str() {
        "end" => {
            for _ in 0..count {
                wait_for_child(start(&socket, || {}));
            }
            println!("{count}");
        }
        "sleep" => sleepers(&socket, count),
        other => panic!("sleep or end, not {other}"),
    }
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

/// One process, which beats.
fn start(socket: &UnixDatagram, then: impl FnOnce()) -> Pid {
    start_child(|| {
        set_pdeathsig(Signal::SIGKILL).expect("sets");
        let beat = frame(process::id(), 1).encode();
        socket.send(&beat).expect("sends");
        then();
    })
}
