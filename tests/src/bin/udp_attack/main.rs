//! A process that attacks a UDP listener: `udp_attack HOW ADDRESS [NUMBER]...`.
//!
//! It prints its pid, then what the test has to know, then `done`, as lines on
//! stdout, and stays until its stdin is closed.

mod corked;
mod forged;
mod volume;

use std::env;
use std::net::SocketAddr;
use std::process;

use observer_tests::process::{number, wait_for_end};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [how, address, rest @ ..] = &arguments[..] else {
        panic!("udp_attack HOW ADDRESS [NUMBER]...");
    };
    let to: SocketAddr = address.parse().expect("an address");
    let numbers: Vec<u32> = rest.iter().map(|text| number(text)).collect();
    println!("{}", process::id());
    match (how.as_str(), &numbers[..]) {
        ("junk", &[milliseconds, processes]) => volume::junk(to, milliseconds, processes),
        ("unseen", &[count, burst]) => volume::unseen(to, count, burst),
        ("forge", &[victim, count]) => volume::forge(to, victim, count),
        ("corked-by-child", &[way]) => corked::by_child(to, way),
        ("raw-corked-by-child", &[]) => corked::raw_by_child(to),
        ("short-segment", &[victim]) => corked::short_segment(to, victim),
        ("from-port", &[port, pid, nonce]) => forged::from_port(to, port, pid, nonce.into()),
        ("hand-made", &[victim]) => forged::hand_made(to, victim),
        ("fragments", &[victim]) => forged::fragments(to, victim),
        ("broadcast", &[victim]) => forged::broadcast(to, victim),
        ("routed", &[victim]) => forged::routed(to, victim),
        ("changed", &[victim]) => forged::changed(to, victim),
        other => panic!("unknown way {other:?}"),
    }
    println!("done");
    wait_for_end();
}
