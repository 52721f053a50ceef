//! An observer that cannot receive: from the start, or later on, under a
//! seccomp policy.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use observer_testing::{connect, frame, udp_socket};
use observer_tests::kernel::attested_loopback;
use observer_tests::observer::{Observer, PATIENCE, Remains, Setup, is};
use observer_tests::prometheus::{get, metrics_port};
use observer_tests::trail::Trail;
use observer_tests::{need_kernel, observer_binary};
use rustix::process::Signal;

/// An observer to which these calls are refused.
fn under(rules: &[&str], threshold_ms: u64) -> Setup {
    let mut command = Command::new(env!("CARGO_BIN_EXE_refuse"));
    command.args(rules).arg("--").arg(observer_binary());
    Setup::in_command(command, threshold_ms)
}

fn send(observer: &Observer, nonces: std::ops::RangeInclusive<u64>) {
    let agent = connect(observer.socket()).expect("it is there");
    for nonce in nonces {
        let frame = frame(std::process::id(), nonce).encode();
        agent.send(&frame).expect("sends");
    }
}

fn logs(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

/// More than one call takes, and more than a Unix socket's queue holds.
const BEATS: u64 = 200;

#[test]
fn without_recvmmsg_each_beat_is_attested_all_the_same() {
    need_kernel!();
    // The last is refused only when it is to take something, later on.
    for rule in [
        "recvmmsg:38",
        "recvmmsg:1",
        "recvmmsg:13",
        "recvmmsg:38:taking",
    ] {
        let setup = under(&[rule], 60_000);
        let udp = attested_loopback()[0];
        let observer = setup.args(["--udp", udp, "--metrics", "0"]).start();
        send(&observer, 1..=BEATS);
        let attested = |event: &serde_json::Value| {
            is(event, "beat") && event["sender"]["pid"] == std::process::id()
        };
        let each = usize::try_from(BEATS).expect("few");
        // By another way a later one might be judged first.
        observer.expect_count("beats", each, attested);
        let to = observer.udp()[0];
        let by_udp = udp_socket(to).expect("a socket");
        for nonce in 1..=BEATS {
            let frame = frame(std::process::id(), BEATS + nonce).encode();
            by_udp.send_to(&frame, to).expect("sends");
        }
        observer.expect_count("beats by UDP, too", 2 * each, attested);
        let (head, _) = get(metrics_port(&observer), "/health").expect("a response");
        assert!(head.contains("200"), "{head}");
        let remains = observer.stop();
        assert!(remains.status.success(), "{:#?}", remains.log);
        assert_eq!(remains.counter("receive_failures"), 0);
        assert!(logs(&remains.log, "recvmmsg is refused") >= 1);
    }
}

#[test]
fn with_neither_call_it_does_not_start_and_says_why() {
    need_kernel!();
    for errno in [libc::ENOSYS, libc::EPERM, libc::EACCES] {
        let rules = [format!("recvmmsg:{errno}"), format!("recvmsg:{errno}")];
        let rules = rules.each_ref().map(String::as_str);
        let remains = under(&rules, 1000).try_start().err().expect("it is deaf");
        assert_eq!(remains.status.code(), Some(1), "{:#?}", remains.log);
        for text in ["the Unix socket", "recvmmsg and recvmsg", "seccomp"] {
            assert!(logs(&remains.log, text) >= 1, "{text}: {:#?}", remains.log);
        }
        assert_eq!(logs(&remains.log, "ready"), 0, "{:#?}", remains.log);
    }
}

/// The policy lets it look into the socket, and take nothing out: it starts, and
/// then each receive fails.
#[test]
fn a_receive_that_keeps_failing_is_told_once_and_tried_seldom() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a folder");
    let trail = Trail::new(scratch.path());
    let rules = ["recvmmsg:5:taking", "recvmsg:5:taking"];
    let setup = under(&rules, 300).args(["--metrics", "0"]);
    let observer = trail.observer(setup);
    let port = metrics_port(&observer);
    send(&observer, 1..=3);
    let event = observer.expect("an io event", |event| is(event, "io"));
    assert_eq!(event["errno"], 5, "{event}");
    // Five thresholds.
    thread::sleep(Duration::from_millis(1500));
    let (head, body) = get(port, "/health").expect("a response");
    assert!(head.contains("503"), "{head}");
    assert!(
        body.contains("cannot receive from the Unix socket"),
        "{body}"
    );
    let (_, metrics) = get(port, "/metrics").expect("a response");
    assert!(
        metrics.contains("observer_receiving{route=\"unix\"} 0"),
        "{metrics}"
    );
    let notices = observer.notices();
    let stopped = Instant::now();
    let Remains {
        status,
        events,
        log,
        counters,
    } = observer.stop();
    assert!(status.success(), "{log:#?}");
    assert!(stopped.elapsed() < Duration::from_secs(10));
    assert_eq!(notices.len(), 1, "{notices:#?}");
    assert_eq!(notices[0]["notice"], "receive_lost");
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(logs(&log, "not ready: cannot receive"), 1, "{log:#?}");
    // At once, then after 10, 20, 40 ms and so on.
    let failures = counters["receive_failures"].as_u64().expect("a counter");
    assert!((4..50).contains(&failures), "{counters}");
    assert_eq!(counters["io_errors"], 1);
    let text = fs::read_to_string(trail.path("trail")).expect("a trail");
    assert_eq!(text.matches("\"receive_lost\"").count(), 1, "{text}");
    trail.assert_clean();
}

#[test]
fn each_listener_that_is_deaf_is_named() {
    need_kernel!();
    let udp = attested_loopback()[0];
    let rules = ["recvmmsg:5:taking", "recvmsg:5:taking"];
    let flags = ["--udp", udp, "--udp", udp, "--metrics", "0"];
    let observer = under(&rules, 60_000).args(flags).start();
    let port = metrics_port(&observer);
    let listeners = observer.udp();
    assert_eq!(listeners.len(), 2, "{listeners:?}");
    for &to in &listeners {
        let frame = frame(std::process::id(), 1).encode();
        let socket = udp_socket(to).expect("a socket");
        socket.send_to(&frame, to).expect("sends");
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, body) = get(port, "/health").expect("a response");
        let is_named = |at: &std::net::SocketAddr| body.contains(&format!("udp {at}: "));
        if listeners.iter().all(is_named) {
            break;
        }
        assert!(Instant::now() < end, "{body}");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(observer.stop().status.success());
}

/// What the ring delivers is not held up by a socket that cannot be read, nor does
/// the loop spin; but nobody is judged silent.
#[test]
fn the_ring_goes_on_beside_a_deaf_socket() {
    need_kernel!();
    let rules = ["recvmmsg:5:taking", "recvmsg:5:taking"];
    let observer = under(&rules, 300).args(["--ingest", "ring"]).start();
    send(&observer, 1..=3);
    observer.expect_count("beats", 3, |event| is(event, "beat"));
    // It is received from when the stall is due.
    observer.expect("an io event", |event| is(event, "io"));
    for nonce in 4..=50 {
        send(&observer, nonce..=nonce);
        thread::sleep(Duration::from_millis(20));
    }
    observer.expect_count("beats", 50, |event| is(event, "beat"));
    let remains = observer.stop();
    assert!(remains.status.success(), "{:#?}", remains.log);
    assert_eq!(remains.counter("stalls"), 0);
    let failures = remains.counter("receive_failures");
    assert!((2..50).contains(&failures), "{}", remains.counters);
}

/// Nor by what has gone to the socket because the ring was filling up.
#[test]
fn the_ring_does_not_wait_for_what_a_deaf_socket_holds() {
    need_kernel!();
    let rules = ["recvmmsg:5:taking", "recvmsg:5:taking"];
    let flags = [
        "--ingest",
        "ring",
        "--ring-bytes",
        "8192",
        "--max-beat-rate",
        "0",
    ];
    let observer = under(&rules, 60_000).args(flags).start();
    let agent = connect(observer.socket()).expect("it is there");
    agent.set_nonblocking(true).expect("a flag");
    let send = |nonce| agent.send(&frame(std::process::id(), nonce).encode());
    observer.signal(Signal::STOP);
    // Until the socket's queue is full, too.
    let refused = (1..1000).find(|&nonce| send(nonce).is_err());
    observer.signal(Signal::CONT);
    let refused = refused.expect("it is full");
    observer.expect("an io event", |event| is(event, "io"));
    for nonce in refused..refused + 20 {
        // The ring may have no room yet, and the socket has none.
        let end = Instant::now() + PATIENCE;
        while send(nonce).is_err() {
            assert!(
                Instant::now() < end,
                "the ring is not read: {:#?}",
                observer.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
    observer.expect("the last beat", |event| event["nonce"] == refused + 19);
    let remains = observer.stop();
    assert!(remains.counter("passed_on") > 0, "{}", remains.counters);
}
