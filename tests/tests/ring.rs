//! `--ingest ring`: beats that never see the socket's queue.

use std::collections::HashMap;
use std::hint;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use observer::{Event, Ingest};
use observer_testing::{connect, frame};
use observer_tests::agent::Agent;
use observer_tests::observer::{Setup, is};
use observer_tests::senders::{flood, pulse, sender, uring};
use observer_tests::{is_emulated, kernel, need_kernel, procfs};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;

fn ring(threshold_ms: u64) -> Setup {
    Setup::new(threshold_ms).arg("--ingest").arg("ring")
}

/// The same without limits, for floods.
fn unlimited(threshold_ms: u64) -> Setup {
    ring(threshold_ms).arg("--max-beat-rate").arg("0")
}

fn nonces(events: &[Value], pid: u32) -> Vec<u64> {
    let of_pid = events
        .iter()
        .filter(|event| is(event, "beat") && event["pid"] == pid);
    of_pid
        .map(|beat| beat["nonce"].as_u64().expect("a nonce"))
        .collect()
}

/// Each datagram has one record, which is its delivery: nothing is received,
/// nothing is joined, nothing comes twice or out of order.
#[test]
fn every_beat_of_many_senders_comes_once_and_in_order() {
    const EACH: u64 = 1000;
    need_kernel!();
    let observer = unlimited(LONG).start();
    let mut agents: Vec<Agent> = (0..8)
        .map(|_| flood(&observer, "honest", &format!("count={EACH}")))
        .collect();
    let pids: Vec<u32> = agents.iter().map(Agent::pid).collect();
    for agent in &mut agents {
        agent.finish_well();
    }
    let all = usize::try_from(8 * EACH).expect("few");
    observer.expect_count("beats", all, |event| is(event, "beat"));
    let remains = observer.stop();
    for pid in pids {
        assert_eq!(nonces(&remains.events, pid), (1..=EACH).collect::<Vec<_>>());
    }
    let beat = remains.events.first().expect("a beat");
    assert_eq!(beat["origin"], "kernel_attested");
    assert_eq!(beat["sender"]["scm_pid"], Value::Null);
    assert_eq!(remains.counter("taken"), 8 * EACH);
    assert_eq!(remains.counter("datagrams"), 0);
    assert_eq!(remains.counter("records"), 8 * EACH);
    assert_eq!(remains.counter("records_expired"), 0);
}

/// The queue that refuses the twelfth datagram is not there.
#[test]
fn a_stopped_observer_costs_no_beat() {
    need_kernel!();
    let observer = ring(LONG).start();
    observer.signal(Signal::STOP);
    let mut agent = sender(observer.target(), "attempts", &[1000]);
    for nonce in 1..=1000 {
        assert_eq!(agent.number(), nonce);
    }
    observer.signal(Signal::CONT);
    let pid = agent.pid();
    agent.finish_well();
    observer.expect_count("beats", 1000, |event| is(event, "beat"));
    let remains = observer.stop();
    assert_eq!(nonces(&remains.events, pid), (1..=1000).collect::<Vec<_>>());
}

/// With room for 28 records: the socket takes what the ring does not, and each
/// send that succeeded is reported, in its order, whichever way it went.
#[test]
fn a_full_ring_leaves_datagrams_to_the_socket() {
    need_kernel!();
    // Slow readers of stdout are not what this is about.
    let (rounds, each) = if is_emulated() { (2, 200) } else { (5, 2000) };
    for round in 0..rounds {
        let observer = unlimited(LONG).arg("--ring-bytes").arg("4096").start();
        observer.signal(Signal::STOP);
        let mut agent = sender(observer.target(), "attempts", &[200]);
        thread::sleep(Duration::from_millis(300));
        observer.signal(Signal::CONT);
        let pid = agent.pid();
        assert!(agent.finish().success());
        let sent: Vec<u64> = std::iter::from_fn(|| agent.next_line())
            .map(|nonce| nonce.parse().expect("a number"))
            .collect();
        // Both at once, while it reads.
        let mut others: Vec<Agent> = (0..4)
            .map(|_| flood(&observer, "honest", &format!("count={each}")))
            .collect();
        let pids: Vec<u32> = others.iter().map(Agent::pid).collect();
        for other in &mut others {
            other.finish_well();
        }
        let remains = observer.stop();
        assert!(sent.len() > 21 && sent.len() < 200, "{sent:?}");
        assert!(remains.counter("passed_on") > 0, "{}", remains.counters);
        assert!(remains.counter("taken") > 21, "{}", remains.counters);
        assert_eq!(remains.counter("stale_nonces"), 0, "round {round}");
        let unrecorded = remains.counter("unattested");
        assert!(unrecorded <= remains.counter("ring_full"));
        let missing = |pid, sent: &[u64]| sent.len() - nonces(&remains.events, pid).len();
        let all: Vec<u64> = (1..=each).collect();
        let missing =
            missing(pid, &sent) + pids.iter().map(|&pid| missing(pid, &all)).sum::<usize>();
        assert_eq!(
            missing as u64, unrecorded,
            "round {round}: {}",
            remains.counters
        );
    }
}

/// Many senders at once overrun a ring that has room for the records of all
/// that wait: whichever way their beats went, each is reported, and none as
/// unattested or stale.
#[test]
fn an_overrun_ring_loses_and_misjudges_no_beat() {
    overrun(48, 1500, &["--ring-bytes", "524288"]);
}

/// While a large ring is read, more datagrams come by the socket than frames
/// may wait for their records: those stay where they are.
#[test]
fn a_large_ring_makes_no_forger_of_who_waits() {
    overrun(
        64,
        6000,
        &["--ring-bytes", "4194304", "--events", "notable"],
    );
}

fn overrun(senders: u64, each: u64, flags: &[&str]) {
    need_kernel!();
    if is_emulated() {
        return;
    }
    let observer = Setup::with_queue_limit(512, LONG)
        .args(["--ingest", "ring", "--max-beat-rate", "0"])
        .args(flags.iter().copied())
        .start();
    let start = |_| flood(&observer, "honest", &format!("count={each}"));
    observer.signal(Signal::STOP);
    let mut agents: Vec<Agent> = (0..senders).map(start).collect();
    thread::sleep(Duration::from_millis(300));
    observer.signal(Signal::CONT);
    for agent in &mut agents {
        agent.finish_well();
    }
    let remains = observer.stop();
    let counters = &remains.counters;
    assert!(remains.counter("passed_on") > 0, "{counters}");
    assert_eq!(remains.counter("ring_full"), 0, "{counters}");
    assert_eq!(remains.counter("unattested"), 0, "{counters}");
    assert_eq!(remains.counter("stale_nonces"), 0, "{counters}");
    assert_eq!(remains.counter("beats"), senders * each, "{counters}");
}

/// One beat after the other, at times that the observer sleeps, polls, or is
/// about to do the other. A lost wake-up would wait for the next beat.
#[test]
fn no_wake_up_is_lost() {
    need_kernel!();
    let rounds = if is_emulated() { 300 } else { 3000 };
    let observer = ring(LONG).start();
    let socket = connect(observer.socket()).expect("it is there");
    let mut longest = Duration::ZERO;
    for nonce in 1..=rounds {
        let sent = Instant::now();
        let frame = frame(process::id(), nonce).encode();
        socket.send(&frame).expect("sends");
        let is_it = |event: Value| event["nonce"] == nonce;
        while !observer.last_event().is_some_and(is_it) {
            assert!(
                sent.elapsed() < Duration::from_secs(20),
                "beat {nonce} is not reported"
            );
            thread::sleep(Duration::from_micros(20));
        }
        longest = longest.max(sent.elapsed());
        thread::sleep(Duration::from_micros(nonce * 37 % 2500));
    }
    println!("reported after {longest:?} at the latest");
    // The observer wakes once a second for its own reasons. A machine that is
    // emulated may take longer for anything.
    let is_woken = longest < Duration::from_millis(700);
    assert!(is_woken || is_emulated(), "{longest:?}");
}

/// As above, of an observer that a program drives without a runtime, and so
/// often that a beat comes at each moment of its going to sleep.
#[test]
fn a_blocking_wait_loses_no_wake_up() {
    need_kernel!();
    let rounds = if is_emulated() { 1_000 } else { 50_000 };
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("socket");
    let mut observer = observer::Observer::builder()
        .socket(&path)
        .threshold(Duration::from_hours(1))
        .ingest(Ingest::Ring)
        .max_beat_rate(0)
        // No beat comes so soon after another: each has to wake the observer.
        .poll_interval(Duration::from_nanos(1))
        .bind()
        .expect("starts");
    let seen = Arc::new(AtomicU64::new(0));
    let sender = thread::spawn({
        let seen = Arc::clone(&seen);
        move || send_when_seen(&path, &seen, rounds)
    });
    let mut late = 0;
    while seen.load(Ordering::Acquire) < rounds {
        let start = Instant::now();
        observer.wait(Some(LATE * 2)).expect("waits");
        late += u64::from(start.elapsed() > LATE);
        while let Some(event) = observer.poll() {
            if let Event::Beat { nonce, .. } = event {
                seen.store(nonce, Ordering::Release);
            }
        }
    }
    sender.join().expect("sends");
    // A busy machine may stop one of the two now and then.
    assert!(late < 5 || is_emulated(), "{late} beats woke nobody");
}

/// A beat is on its way each time: who sleeps so long was not woken.
const LATE: Duration = Duration::from_millis(150);

/// Sends each beat a little after the one before was seen, each time at another
/// moment.
fn send_when_seen(path: &Path, seen: &AtomicU64, rounds: u64) {
    let socket = connect(path).expect("it is there");
    for nonce in 1..=rounds {
        while seen.load(Ordering::Acquire) + 1 < nonce {
            hint::spin_loop();
        }
        for _ in 0..nonce % 997 {
            hint::spin_loop();
        }
        let frame = frame(process::id(), nonce).encode();
        socket.send(&frame).expect("sends");
    }
}

/// What nobody sends costs nothing.
#[test]
fn an_idle_observer_sleeps() {
    need_kernel!();
    let observer = ring(LONG).start();
    let mut agent = pulse(&observer, 1, 20);
    observer.expect_count("beats", 20, |event| is(event, "beat"));
    agent.finish_well();
    thread::sleep(Duration::from_millis(1500));
    let wake_ups = || -> u64 {
        let of_threads = procfs::wake_ups(observer.pid()).into_iter();
        of_threads.map(|(_, count)| count).sum()
    };
    let before = wake_ups();
    thread::sleep(Duration::from_secs(4));
    let wake_ups = wake_ups() - before;
    assert!(wake_ups <= 4, "{wake_ups} wake-ups in 4 s");
}

/// A forger is named by its record, and so is one in another namespace.
#[test]
fn forgeries_are_reported_with_their_senders() {
    need_kernel!();
    let observer = ring(LONG).start();
    let mut forger = flood(&observer, "spoofed", "count=3");
    let failures = observer.expect_count("forgeries", 3, |event| is(event, "auth_failure"));
    for failure in failures {
        assert_eq!(failure["cause"], "pid_mismatch");
        assert_eq!(failure["claimed_pid"], process::id());
        assert_eq!(failure["sender"]["pid"], forger.pid());
    }
    forger.finish_well();
    let victim = process::id();
    let mut foreign = sender(observer.target(), "foreign-child", &[victim]);
    observer.expect("a foreigner", |event| is(event, "namespace_conflict"));
    foreign.finish_well();
    // Credentials are not looked at: forging them gains nothing.
    let mut pretender = sender(observer.target(), "forge", &[victim, victim]);
    let failure = observer.expect("a forgery", |event| {
        is(event, "auth_failure") && event["sender"]["pid"] == pretender.pid()
    });
    assert_eq!(failure["cause"], "pid_mismatch");
    pretender.finish_well();
    let mut parent = uring(observer.target(), "child", "sqpoll");
    observer.expect("a stolen ring", |event| event["cause"] == "sqpoll");
    parent.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("beats"), 0);
    assert_eq!(remains.counter("datagrams"), 0);
}

/// Descriptors never reach the observer: the kernel frees them in the sender.
/// What they are attached to is refused where that can be seen.
#[test]
fn attached_descriptors_are_the_senders_own_affair() {
    need_kernel!();
    let observer = ring(LONG).start();
    let mut sender = sender(observer.target(), "descriptors", &[500, 253]);
    sender.finish_well();
    let (beats, refused) = if kernel::sees_descriptors() {
        (0, 500)
    } else {
        (500, 0)
    };
    let remains = observer.stop();
    assert_eq!(remains.counter("ctrl_truncated"), 0);
    assert_eq!(remains.counter("beats"), beats);
    assert_eq!(remains.counter("descriptors_refused"), refused);
}

/// Whether an agent stalls is judged by what the ring holds too, and a stopped
/// observer gives the time back.
#[test]
fn stalls_are_reported_and_stops_blame_nobody() {
    const THRESHOLD_MS: u64 = 500;
    need_kernel!();
    if is_emulated() {
        return;
    }
    let observer = ring(THRESHOLD_MS).start();
    let mut agents: Vec<Agent> = (0..20).map(|_| pulse(&observer, 100, 0)).collect();
    for agent in &agents {
        observer.expect("a first beat", |event| {
            is(event, "beat") && event["pid"] == agent.pid()
        });
    }
    observer.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(2));
    observer.signal(Signal::CONT);
    thread::sleep(Duration::from_secs(1));
    let stalls = observer.events_where(|event| is(event, "stall"));
    assert!(stalls.is_empty(), "{stalls:#?}");
    let dead = agents.pop().expect("an agent");
    let pid = dead.pid();
    drop(dead);
    let stall = observer.expect("a stall", |event| is(event, "stall"));
    assert_eq!(stall["pid"], pid);
    let time = |name: &str| stall[name].as_u64().expect("a time");
    let late = (time("observer_ns") - time("last_ns")).saturating_sub(THRESHOLD_MS * 1_000_000);
    println!("{late} ns late");
    assert!(late < 100_000_000, "{late} ns late");
    for agent in &mut agents {
        assert!(agent.finish().success());
    }
    assert!(observer.stop().counter("absences") > 0);
}

/// Nor does a flood through the ring hide a stall.
#[test]
fn a_flood_hides_no_stall() {
    need_kernel!();
    if is_emulated() {
        return;
    }
    let setup = unlimited(300).arg("--events").arg("notable");
    let observer = setup.start();
    let mut agent = pulse(&observer, 50, 3);
    let mut floods: Vec<Agent> = (0..3)
        .map(|_| flood(&observer, "honest", "milliseconds=60000"))
        .collect();
    let stall = observer.expect("a stall", |event| {
        is(event, "stall") && event["pid"] == agent.pid()
    });
    floods.clear();
    assert!(agent.finish().success());
    let time = |name: &str| stall[name].as_u64().expect("a time");
    let late = (time("observer_ns") - time("last_ns")).saturating_sub(300_000_000);
    println!("{late} ns late");
    assert!(late < 100_000_000, "{late} ns late");
    let remains = observer.stop();
    assert!(remains.counter("beats") > 10_000, "{}", remains.counters);
    let by_kind = remains
        .events
        .iter()
        .fold(HashMap::new(), |mut kinds, event| {
            *kinds.entry(event["event"].to_string()).or_insert(0) += 1;
            kinds
        });
    assert!(!by_kind.contains_key("\"beat\""), "{by_kind:?}");
}
