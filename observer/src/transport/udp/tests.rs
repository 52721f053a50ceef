//! Listeners on this host's loopback devices.

use std::net::UdpSocket as StdUdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::sockopt::drops;
use crate::transport::{Datagram, Payload, Receiver};

const LOOPBACK: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// One socket for all ways.
fn bind(address: &str) -> ClosedUdpSocket {
    let listener = ClosedUdpListener::bind(address.parse().unwrap()).expect("binds");
    listener.into_sockets().pop().expect("one")
}

fn send(to: SocketAddr, byte: u8) -> SocketAddr {
    let local = SocketAddr::new(to.ip(), 0);
    let sender = StdUdpSocket::bind(local).expect("a socket");
    sender.send_to(&[byte; 32], to).expect("sends");
    sender.local_addr().expect("an address")
}

/// A busy kernel delivers after the send has returned (`ksoftirqd`).
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never was");
        thread::sleep(Duration::from_millis(1));
    }
}

fn receive(receiver: &mut Receiver, socket: &UdpSocket) -> usize {
    let batch = receiver.receive(socket.as_fd()).expect("receives");
    batch.received
}

#[test]
fn nothing_comes_in_before_it_is_opened() {
    for address in LOOPBACK {
        let closed = bind(address);
        send(closed.socket.address(), 1);
        wait_until(|| drops(closed.as_fd()).expect("is counted") == 1);
        let open = closed.open(false).expect("opens");
        let source = send(open.address(), 2);
        let mut receiver = Receiver::for_udp();
        wait_until(|| open.socket.peek_sender().is_ok());
        assert_eq!(receive(&mut receiver, &open), 1);
        let expected = Datagram {
            payload: Payload::Frame([2; 32]),
            credentials: None,
            source: Some(source),
            truncated_control: false,
            mark: None,
        };
        assert_eq!(receiver.get(0), Some(expected));
        // The time stamp of one IP socket would cost each packet that the
        // host receives a look at the clock (`net_enable_timestamp`).
        assert_eq!(receiver.first_queued(), None);
    }
}

#[test]
fn a_taken_port_is_said_so() {
    let first = ClosedUdpListener::bind(LOOPBACK[0].parse().unwrap()).expect("binds");
    let error = ClosedUdpListener::bind(first.address()).expect_err("it is taken");
    assert!(error.to_string().contains("another process has the port"));
}

#[test]
fn the_queue_never_holds_more_than_its_limit() {
    let open = bind(LOOPBACK[0]).open(false).expect("opens");
    let sender = StdUdpSocket::bind("127.0.0.1:0").expect("a socket");
    for _ in 0..2 * open.queue_limit() {
        sender.send_to(&[], open.address()).expect("sends");
    }
    wait_until(|| {
        let dropped = open.dropped();
        thread::sleep(Duration::from_millis(100));
        dropped > 0 && dropped == open.dropped()
    });
    let mut receiver = Receiver::for_udp();
    let mut waited = 0;
    while let more @ 1.. = receive(&mut receiver, &open) {
        waited += more;
    }
    assert!(waited <= open.queue_limit(), "{waited}");
    assert!(waited > 64, "{waited}");
    assert_eq!(open.dropped(), (2 * open.queue_limit() - waited) as u64);
}

/// Wherever the sockets stand in the kernel's lists, the loopback device's
/// gets what comes by it, a hundred times of a hundred.
#[test]
fn what_comes_by_lo_comes_to_its_socket() {
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        for devices in [&[][..], &[77]] {
            let listener = ClosedUdpListener::bind_ways(address.parse().unwrap(), devices);
            let listener = listener.expect("binds");
            listener.check_spread().expect("it is spread");
            for _ in 1..100 {
                send_to_self(listener.address()).expect("sends");
            }
            for closed in &listener.sockets {
                let expected = if closed.way == Some(Way::Loopback) {
                    100
                } else {
                    0
                };
                let counted = || drops(closed.as_fd()).expect("is counted");
                wait_until(|| counted() == expected);
            }
        }
    }
}

/// Not even a process of the same user joins the group, whatever it asks
/// for, and binds whatever address of the port.
#[test]
fn nobody_joins_the_group() {
    for (address, others) in [
        ("127.0.0.1:0", &["127.0.0.1", "0.0.0.0"][..]),
        ("0.0.0.0:0", &["127.0.0.1", "0.0.0.0", "127.0.0.2"]),
        ("[::1]:0", &["::1", "::"]),
        ("[::]:0", &["::1", "::"]),
    ] {
        for devices in [&[][..], &[77]] {
            let listener = ClosedUdpListener::bind_ways(address.parse().unwrap(), devices);
            let port = listener.as_ref().expect("binds").address().port();
            for other in others {
                let other = SocketAddr::new(other.parse().unwrap(), port);
                for device in [None, Some(&b"lo"[..])] {
                    let socket = closed(other).expect("a socket");
                    socket.set_reuse_port(true).expect("sets");
                    socket.set_reuse_address(true).expect("sets");
                    // Needs no privilege for a socket that has none yet.
                    socket.bind_device(device).expect("sets");
                    let error = socket.bind(&other.into()).expect_err("it is taken");
                    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{other}");
                }
            }
        }
    }
}

/// Who got in while the group was being made.
#[test]
fn one_who_joined_before_is_found_out() {
    let first = closed("127.0.0.1:0".parse().unwrap()).expect("a socket");
    first.set_reuse_port(true).expect("sets");
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    first.bind(&any.into()).expect("binds");
    let address = ip_address(&first).expect("bound");
    let intruder = closed(address).expect("a socket");
    intruder.set_reuse_port(true).expect("sets");
    intruder.bind(&address.into()).expect("joins");
    let error = table::check_alone(address, [&first].into_iter()).expect_err("two are there");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}
