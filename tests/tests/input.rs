//! Bad input: an event or a counter, and never a lost later beat.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use observer_common::frame::{FRAME_LEN, Frame, Status};
use observer_tests::agent::Agent;
use observer_tests::kernel::{self, REFUSES_DESCRIPTORS};
use observer_tests::observer::{Observer, PATIENCE, Setup, is};
use observer_tests::senders::{flood, pulse, sender};
use observer_tests::{need_kernel, procfs, workspace};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;

/// Whatever came before: an honest beat still counts.
fn assert_works(observer: &Observer) {
    let mut agent = pulse(observer, 1, 1);
    let beat = observer.expect("a later beat", |event| {
        is(event, "beat") && event["pid"] == agent.pid()
    });
    assert_eq!(beat["origin"], "kernel_attested");
    agent.finish_well();
}

fn vectors() -> Vec<Value> {
    let path = workspace().join("observer-common/vectors/vlp-frames.json");
    let text = fs::read_to_string(path).expect("the vectors");
    let vectors: Value = serde_json::from_str(&text).expect("JSON");
    vectors["frames"].as_array().expect("frames").clone()
}

#[test]
fn wrong_lengths_are_counted_and_nothing_else() {
    need_kernel!();
    let observer = Observer::start(LONG);
    sender(observer.target(), "lengths", &[100]).finish_well();
    let garbage = observer.expect("32 bytes of garbage", |event| is(event, "decode"));
    assert_eq!(garbage["error"], "BadMagic");
    assert_works(&observer);
    assert_eq!(observer.events().len(), 2);
    let remains = observer.stop();
    assert!(remains.status.success());
    assert_eq!(remains.counter("wrong_length"), 100);
}

/// The published vectors over the real socket. A frame that decodes names a
/// process that did not send it, and is refused for that.
#[test]
fn every_wire_vector_gets_its_verdict() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut sender = sender(observer.target(), "hex", &[]);
    for (index, vector) in vectors().iter().enumerate() {
        sender.write_line(vector["wire_hex"].as_str().expect("hex"));
        let events = observer.expect_count("a verdict", index + 1, |_| true);
        let (event, id) = (&events[index], &vector["id"]);
        if let Some(error) = vector["error"].as_str() {
            assert!(is(event, "decode"), "{id}: {event}");
            assert_eq!(event["error"], error, "{id}");
        } else {
            assert!(is(event, "auth_failure"), "{id}: {event}");
            assert_eq!(event["claimed_pid"], vector["pid"], "{id}");
            assert_eq!(event["cause"], "pid_mismatch", "{id}");
        }
        assert_eq!(event["sender"]["pid"], sender.pid(), "{id}");
    }
    sender.finish_well();
    assert_works(&observer);
}

/// Valid frames of the vectors' fields in a sender's own name: each is taken
/// as it is, to the extremes of its fields.
#[test]
fn every_valid_vector_in_the_senders_name_is_a_beat() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let vectors = vectors();
    let mut valid = 0;
    for vector in vectors.iter().filter(|vector| vector["error"].is_null()) {
        // A process each: the nonces are in no order.
        let mut sender = sender(observer.target(), "hex", &[]);
        let field = |name: &str| vector[name].as_u64().expect("a number");
        let frame = Frame {
            status: match vector["status"].as_str() {
                Some("ok") => Status::Ok,
                Some("degraded") => Status::Degraded,
                Some("critical") => Status::Critical,
                other => panic!("status {other:?}"),
            },
            pid: sender.pid(),
            timestamp: field("timestamp"),
            nonce: field("nonce"),
            payload: field("payload").try_into().expect("32 bits"),
        };
        sender.write_line(&hex(&frame.encode()));
        let beat = observer.expect("a beat", |event| event["sender"]["pid"] == sender.pid());
        let id = &vector["id"];
        assert!(is(&beat, "beat"), "{id}: {beat}");
        assert_eq!(beat["pid"], sender.pid(), "{id}");
        for field in ["status", "nonce", "payload"] {
            assert_eq!(beat[field], vector[field], "{id}");
        }
        sender.finish_well();
        valid += 1;
    }
    assert_eq!(valid, 6);
    assert_eq!(observer.stop().counter("beats"), 6);
}

fn hex(bytes: &[u8; FRAME_LEN]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("four bits");
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
        .collect()
}

/// 253 is as many as the kernel passes on (`SCM_MAX_FD`, `include/net/scm.h`).
/// Where they can be seen none gets to the observer; from Linux 6.16 on the
/// send fails. Else the kernel drops them on the way in.
#[test]
fn attached_descriptors_are_not_taken() {
    need_kernel!();
    let observer = Observer::start(LONG);
    // It opens the last of its own when it first waits, after it is ready.
    assert_works(&observer);
    let before = procfs::descriptors(observer.pid());
    for (count, each) in [(2000, 253), (100, 1)] {
        let what = format!("{each} descriptors each");
        let mut sender = sender(observer.target(), "descriptors", &[count, each]);
        let pid = sender.pid();
        let fits = |event: &Value| event["sender"]["pid"] == pid;
        if kernel::sees_descriptors() {
            let refused = if kernel::is_at_least(REFUSES_DESCRIPTORS) {
                u64::from(count)
            } else {
                0
            };
            assert_eq!(sender.number(), refused, "{what}");
            sender.finish_well();
            assert_works(&observer);
            assert!(observer.events_where(fits).is_empty(), "{what}");
            continue;
        }
        let count = usize::try_from(count).expect("small");
        watch_descriptors(&observer, before, count, fits);
        observer.expect_count(&what, count, |event| {
            is(event, "ctrl_truncated") && fits(event)
        });
        // The frame is honest, and its sender is known all the same.
        observer.expect_count(&what, count, |event| is(event, "beat") && fits(event));
        assert_eq!(procfs::descriptors(observer.pid()), before);
        sender.finish_well();
    }
    assert_works(&observer);
    let refused = if kernel::sees_descriptors() { 2100 } else { 0 };
    assert_eq!(observer.stop().counter("descriptors_refused"), refused);
}

/// Until all that was sent has come, looks at what the observer has open: its
/// own, and never what is attached.
fn watch_descriptors(
    observer: &Observer,
    before: usize,
    count: usize,
    fits: impl Fn(&Value) -> bool,
) {
    let foreign = fs::canonicalize(env!("CARGO_BIN_EXE_sender")).expect("it is built");
    let open = format!("/proc/{}/fd", observer.pid());
    let end = Instant::now() + PATIENCE;
    while observer.events_where(&fits).len() < 2 * count {
        for link in fs::read_dir(&open).expect("it runs") {
            // What is gone already is not open.
            let target = fs::read_link(link.expect("a name").path());
            assert_ne!(target.ok().as_ref(), Some(&foreign));
        }
        let now = procfs::descriptors(observer.pid());
        assert!(now <= before + 4, "{now} open, {before} before");
        assert!(Instant::now() < end, "not all of {count} come");
        thread::sleep(Duration::from_millis(1));
    }
}

fn queue_limit() -> usize {
    let path = Path::new("/proc/sys/net/unix/max_dgram_qlen");
    let text = fs::read_to_string(path).expect("a limit");
    text.trim().parse::<usize>().expect("a number") + 1
}

/// A record is an attempt: those that met a full queue become nothing.
#[test]
fn attempts_on_a_full_queue_are_no_beats() {
    need_kernel!();
    let observer = Observer::start(LONG);
    observer.signal(Signal::STOP);
    let mut sender = sender(observer.target(), "attempts", &[100]);
    let sent: Vec<u64> = (0..queue_limit()).map(|_| sender.number()).collect();
    sender.finish_well();
    observer.signal(Signal::CONT);
    let beats = observer.expect_count("beats", sent.len(), |event| is(event, "beat"));
    let nonces: Vec<u64> = beats
        .iter()
        .filter_map(|beat| beat["nonce"].as_u64())
        .collect();
    assert_eq!(nonces, sent);
    // What is left of the attempts is forgotten after two seconds.
    thread::sleep(Duration::from_millis(2100));
    assert_works(&observer);
    let remains = observer.stop();
    assert_eq!(remains.counter("beats"), sent.len() as u64 + 1);
    assert_eq!(remains.counter("auth_failures"), 0);
    assert_eq!(remains.counter("records_expired"), 100 - sent.len() as u64);
}

/// Kernels up to 6.13 run the filter again when a blocked sender wakes up.
#[test]
fn blocked_senders_are_all_named() {
    need_kernel!();
    let observer = Observer::start(LONG);
    observer.signal(Signal::STOP);
    let mut senders: Vec<Agent> = (0..40)
        .map(|_| flood(&observer, "honest", "count=3"))
        .collect();
    thread::sleep(Duration::from_millis(300));
    observer.signal(Signal::CONT);
    observer.expect_count("beats", 120, |event| is(event, "beat"));
    for sender in &mut senders {
        let own = observer.events_where(|event| {
            event["pid"] == sender.pid() && event["sender"]["pid"] == sender.pid()
        });
        assert_eq!(own.len(), 3);
        sender.finish_well();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("beats"), 120);
    assert_eq!(remains.counter("auth_failures"), 0);
}

/// With room for 36 records, more attempts than that lose theirs. Such a
/// frame is unattested: never a beat, and nobody is blamed for it.
#[test]
fn lost_records_misjudge_no_frame() {
    need_kernel!();
    // Without limits one sender may fill the ring.
    let limits = ["--max-beat-rate", "0", "--max-group-rate", "0"];
    let setup = Setup::new(LONG).args(limits);
    let observer = setup.args(["--ring-bytes", "4096"]).start();
    observer.signal(Signal::STOP);
    let mut filler = sender(observer.target(), "attempts", &[200]);
    for _ in 0..queue_limit() {
        filler.number();
    }
    filler.finish_well();
    let mut honest: Vec<Agent> = (0..20)
        .map(|_| flood(&observer, "honest", "count=2"))
        .collect();
    let mut forgers: Vec<Agent> = (0..20)
        .map(|_| flood(&observer, "spoofed", "count=2"))
        .collect();
    thread::sleep(Duration::from_millis(300));
    observer.signal(Signal::CONT);
    for sender in honest.iter_mut().chain(&mut forgers) {
        sender.finish_well();
    }
    assert_works(&observer);
    let pids = |agents: &[Agent]| agents.iter().map(Agent::pid).collect::<Vec<_>>();
    let (honest, forgers) = (pids(&honest), pids(&forgers));
    let remains = observer.stop();
    assert!(remains.counter("ring_full") > 0, "{}", remains.counters);
    // Up to Linux 6.13 the filter runs again for a send that waited, and may
    // find room for its record then.
    if kernel::is_at_least((6, 14)) {
        assert!(remains.counter("unattested") > 0, "{}", remains.counters);
    }
    let (mut of_honest, mut of_forgers) = (0, 0);
    for event in &remains.events {
        let scm_pid = event["sender"]["scm_pid"]
            .as_u64()
            .and_then(|pid| pid.try_into().ok());
        let is_forged = scm_pid.is_some_and(|pid| forgers.contains(&pid));
        let is_honest = scm_pid.is_some_and(|pid| honest.contains(&pid));
        of_honest += usize::from(is_honest);
        of_forgers += usize::from(is_forged);
        if is(event, "beat") {
            assert!(!is_forged, "{event}");
        } else {
            assert!(is(event, "auth_failure"), "{event}");
            assert!(!is_honest || event["cause"] == "unattested", "{event}");
        }
    }
    // Each frame was judged, and its sender is one of those above.
    assert_eq!((of_honest, of_forgers), (40, 40));
}

/// One byte 300 times a second, as a program sends that took the wrong socket,
/// would take the places of honest beats: it is dropped before it takes one.
#[test]
fn junk_takes_no_place_in_the_queue() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut neighbour = flood(&observer, "byte", "count=900 pause_us=3333 room=skip");
    let mut agent = pulse(&observer, 100, 30);
    neighbour.finish_well();
    let beats = observer.expect_count("beats", 30, |event| is(event, "beat"));
    assert!(beats.iter().all(|beat| beat["pid"] == agent.pid()));
    assert!(agent.finish().success());
    assert_eq!(agent.number(), 30);
    let remains = observer.stop();
    assert_eq!(remains.counter("wrong_length"), 900);
    assert_eq!(remains.counter("datagrams"), 30);
}

/// Whatever comes is reported by the names of the contract, with its fields.
#[test]
fn every_event_has_a_name_and_fields_of_the_contract() {
    need_kernel!();
    let observer = Observer::start(300);
    sender(observer.target(), "lengths", &[40]).finish_well();
    sender(observer.target(), "descriptors", &[2, 1]).finish_well();
    flood(&observer, "spoofed", "count=2").finish_well();
    assert_works(&observer);
    // The frames of who attaches something, where the kernel lets them pass.
    let attached = if kernel::sees_descriptors() { 0 } else { 2 };
    let agents = if attached > 0 { 2 } else { 1 };
    observer.expect_count("stalls", agents, |event| is(event, "stall"));
    let remains = observer.stop();
    assert!(remains.status.success());
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for event in &remains.events {
        let name = event["event"].as_str().expect("a name");
        let fields: &[&str] = match name {
            "beat" => &[
                "pid",
                "status",
                "payload",
                "nonce",
                "origin",
                "pid_ns_inode",
            ],
            "stall" => &["pid", "last_nonce", "last_ns", "origin", "pid_ns_inode"],
            "auth_failure" => &["claimed_pid", "cause"],
            "decode" | "ctrl_truncated" => &["error"],
            _ => panic!("{event}"),
        };
        for &field in fields.iter().chain(&["observer_ns", "sender"]) {
            assert!(!event[field].is_null(), "no {field}: {event}");
        }
        *seen.entry(name).or_default() += 1;
    }
    let expected = [
        ("beat", 1 + attached),
        ("stall", agents),
        ("auth_failure", 2),
        ("decode", 1),
        ("ctrl_truncated", attached),
    ];
    let expected = expected.into_iter().filter(|&(_, count)| count > 0);
    assert_eq!(seen, expected.collect());
}
