//! A process that sends frames, honestly or not: `sender SCENARIO TO
//! [NUMBER]...`, where TO is the path of a Unix socket or an address of UDP.
//!
//! Its first line is its pid, the next one its own address where its socket is
//! connected to a UDP address; then comes what the test of the scenario has to
//! know.

mod any;
mod udp;
mod unix;

use std::env;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process;

use observer_tests::process::{become_user, number, wait_for_end};
use observer_tests::socket::{self, Socket};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [scenario, to, rest @ ..] = &arguments[..] else {
        panic!("sender SCENARIO TO [NUMBER]...");
    };
    let numbers: Vec<u32> = rest.iter().map(|text| number(text)).collect();
    println!("{}", process::id());
    match (scenario.as_str(), &numbers[..]) {
        ("honest", []) => any::beat(&connect(to)),
        ("resident", []) => {
            any::beat(&connect(to));
            wait_for_end();
        }
        ("resident-as", &[uid]) => {
            let socket = connect(to);
            become_user(uid);
            any::beat(&socket);
            wait_for_end();
        }
        ("claim", &[pid]) => {
            any::claim(&connect(to), pid);
            wait_for_end();
        }
        ("claim-then-execute", &[pid]) => {
            any::claim(&connect(to), pid);
            any::execute(to);
        }
        ("each-line", []) => any::each_line(&connect(to)),
        ("hex", []) => any::hex(&connect(to)),
        ("lengths", &[longest]) => {
            any::lengths(&connect(to), longest);
            wait_for_end();
        }
        ("pulse", &[interval_ms, count]) => {
            any::pulse(&connect(to), interval_ms, count);
            wait_for_end();
        }
        ("routine-then-critical", &[each]) => any::routine_then_critical(&connect(to), each.into()),
        ("volleys", []) => any::volleys(&connect(to)),
        ("volleys-as", &[uid]) => {
            let socket = connect(to);
            become_user(uid);
            any::volleys(&socket);
        }
        ("attempts", &[count]) => unix::attempts(&unix(to), count.into()),
        ("child", &[claims_parent]) => unix::child(&unix(to), claims_parent != 0),
        ("descriptors", &[count, each]) => unix::descriptors(&unix(to), count.into(), each),
        ("echo", &[claimed, scm_pid, rounds]) => unix::echo(&unix(to), claimed, scm_pid, rounds),
        ("foreign-child", &[claimed]) => unix::foreign_child(&unix(to), claimed),
        ("forge", &[scm_pid, claimed]) => unix::forge(&unix(to), scm_pid, claimed, 1),
        ("forging-volleys", &[scm_pid]) => unix::forging_volleys(&unix(to), scm_pid),
        ("orphan-thread", []) => unix::orphan_thread(to),
        ("pass", []) => unix::pass(&unix(to)),
        ("threads", []) => unix::threads(&unix(to)),
        ("unshare", []) => unix::unshare_only(&unix(to)),
        (scenario, numbers) => {
            udp::run(scenario, udp(to), numbers);
            wait_for_end();
        }
    }
}

fn connect(to: &str) -> Socket {
    let socket = Socket::connect(to);
    if let Socket::Udp(socket) = &socket {
        println!("{}", socket.local_addr().expect("it is bound"));
    }
    socket
}

fn unix(to: &str) -> UnixDatagram {
    socket::unix(to)
}

fn udp(to: &str) -> SocketAddr {
    to.parse().expect("an address of UDP")
}
