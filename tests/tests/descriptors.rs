//! Descriptors attached to datagrams: whoever attaches them closes them.

use std::thread;
use std::time::{Duration, Instant};

use observer_tests::agent::Agent;
use observer_tests::kernel::{self, REFUSES_DESCRIPTORS};
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::{pulse, sender};
use observer_tests::trail::Trail;
use rustix::process::Signal;
use serde_json::Value;

/// How long the attached socket takes to close.
const LINGER_S: u64 = 20;

/// Long enough for a busy machine, and shorter than that.
const SOON: Duration = Duration::from_secs(10);

/// A socket that takes its time to close holds nobody up but who attached it:
/// a stall is reported, and the observer ends when it has to.
#[test]
fn a_lingering_socket_stops_nothing() {
    need_kernel!();
    let mut cases: Vec<&[&str]> = vec![&["--ingest", "ring"]];
    if kernel::sees_descriptors() {
        cases.push(&[]);
    }
    if kernel::is_at_least(REFUSES_DESCRIPTORS) {
        cases.push(&["--attest", "off"]);
    }
    for flags in cases {
        let setup = Setup::new(500);
        let observer = flags
            .iter()
            .fold(setup, |setup, flag| setup.arg(flag))
            .start();
        let agent = pulse(&observer, 100, 0);
        observer.expect("a beat", |event| is(event, "beat"));
        // What is attached is closed by its sender before it is received.
        observer.signal(Signal::STOP);
        let mut attacker = linger(&observer);
        let refused = attacker.number();
        thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        drop(agent);
        observer.signal(Signal::CONT);
        observer.expect("a stall", |event| is(event, "stall"));
        let reported = start.elapsed();
        let start = Instant::now();
        let remains = observer.stop();
        let ended = start.elapsed();
        println!(
            "{flags:?}: {refused} refused, a stall after {reported:?}, the end after {ended:?}"
        );
        assert!(reported < SOON, "{flags:?}: reported after {reported:?}");
        assert!(ended < SOON, "{flags:?}: ended after {ended:?}");
        assert!(remains.status.success(), "{:#?}", remains.log);
        drop(attacker);
    }
}

/// The trail names who attached something, and how often: to the last datagram,
/// and in few lines.
#[test]
fn who_attaches_descriptors_is_recorded() {
    const COUNT: u32 = 300;
    need_kernel!();
    if !kernel::sees_descriptors() {
        return;
    }
    for ingest in ["socket", "ring"] {
        let scratch = tempfile::tempdir().expect("a directory");
        let trail = Trail::new(scratch.path());
        let observer = trail.observer(Setup::new(60_000).arg("--ingest").arg(ingest));
        let mut attacher = sender(observer.target(), "descriptors", &[COUNT, 1]);
        attacher.finish_well();
        let remains = observer.stop();
        assert_eq!(remains.counter("descriptors_refused"), u64::from(COUNT));
        assert!(remains.events.is_empty(), "{:#?}", remains.events);
        let log = remains.log.join("\n");
        assert!(log.contains("descriptors attached"), "{log}");
        trail.assert_clean();
        let lines = trail.lines();
        let of_kind = lines.iter().filter(|line| {
            line["kind"] == "descriptors_refused" || line["of"] == "descriptors_refused"
        });
        let of_kind: Vec<&Value> = of_kind.collect();
        assert!((1..=8).contains(&of_kind.len()), "{of_kind:#?}");
        assert_eq!(of_kind[0]["sender"]["pid"], attacher.pid());
        let report: Value = serde_json::from_str(&trail.report(&["--json"])).expect("JSON");
        let attackers = report["attackers"].as_array().expect("a list");
        assert_eq!(attackers.len(), 1, "{report:#}");
        assert_eq!(attackers[0]["kinds"]["descriptors_refused"], COUNT);
    }
}

/// Attaches a socket that lingers.
fn linger(observer: &Observer) -> Agent {
    let socket = observer.target();
    let seconds = LINGER_S.to_string();
    Agent::start(env!("CARGO_BIN_EXE_linger"), [&socket, &seconds])
}
