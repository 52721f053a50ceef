//! Sends to an observer that has gone: refused, like sends to any closed
//! socket, though its filter is still there.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use observer_testing::{connect, frame};
use observer_tests::kernel::{self, HELPER_TIER};
use observer_tests::need_kernel;
use observer_tests::observer::{PATIENCE, Setup, is};

/// A filter that goes on taking or dropping would let these sends succeed for
/// ever: beats that it takes, forgeries that it refuses, what is no frame, and
/// what is beyond a sender's budget.
#[test]
fn sends_to_an_observer_that_has_gone_are_refused() {
    const LONG: u64 = 60_000;
    need_kernel!();
    let honest = frame(process::id(), 2).encode();
    let forgery = frame(1 << 20, 2).encode();
    let cases: [(&str, &[&str], &[u8]); 4] = [
        ("a beat", &["--ingest", "ring"], &honest),
        ("a forgery", &["--refuse", "kernel"], &forgery),
        ("one byte", &[], b"x"),
        ("too much", &["--max-beat-rate", "1"], &honest),
    ];
    for tier in ["btf", "helper"] {
        if tier == "helper" && !kernel::is_at_least(HELPER_TIER) {
            continue;
        }
        for is_killed in [true, false] {
            for (what, flags, bytes) in cases {
                let setup = Setup::new(LONG).arg("--tier").arg(tier);
                let setup = flags.iter().fold(setup, |setup, flag| setup.arg(flag));
                let observer = setup.start();
                let socket = connect(observer.socket()).expect("it is there");
                let first = frame(process::id(), 1).encode();
                socket.send(&first).expect("sends");
                observer.expect("a beat", |event| is(event, "beat"));
                for _ in 0..10 {
                    socket.send(bytes).expect("sends");
                }
                if is_killed {
                    drop(observer);
                } else {
                    assert!(observer.stop().status.success());
                }
                let sent = sends_until_refused(&socket, bytes);
                println!("{what}, tier {tier}, killed: {is_killed}: {sent} sends succeeded");
                // Tier helper learns it when the kernel has cleared its map,
                // which a work queue does.
                assert!(tier == "helper" || sent == 0, "{what}, tier {tier}: {sent}");
            }
        }
    }
}

fn sends_until_refused(socket: &UnixDatagram, bytes: &[u8]) -> u64 {
    let start = Instant::now();
    let mut sent = 0;
    loop {
        if let Err(error) = socket.send(bytes) {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            return sent;
        }
        sent += 1;
        assert!(start.elapsed() < PATIENCE, "{sent} sends succeeded");
        thread::sleep(Duration::from_millis(1));
    }
}
