//! Many datagrams by UDP, and an observer that is late: which beats come
//! through, and when stalls are reported.

use std::thread;
use std::time::Duration;

use observer_events::Event;
use observer_events::event::BeatOrigin;
use observer_tests::agent::Agent;
use observer_tests::kernel::attested_loopback;
use observer_tests::need_kernel;
use observer_tests::observer::{PATIENCE, Setup, is};
use observer_tests::senders::{flood, sender};
use observer_tests::udp::{beats_of, burst, listening, one_address};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;

/// Its senders may send as much as they like.
fn unlimited() -> Setup {
    Setup::new(LONG).arg("--max-beat-rate").arg("0")
}

#[test]
fn twelve_thousand_datagrams_of_four_processes() {
    const EACH: u32 = 3000;
    need_kernel!();
    let observer = listening(unlimited(), attested_loopback());
    let listeners = observer.udp();
    let mut agents: Vec<Agent> = (0..4)
        .map(|index| {
            let listener = listeners[index % listeners.len()];
            sender(listener, "paced", &[EACH, burst(5)])
        })
        .collect();
    let total = 4 * EACH as usize;
    let beats = observer.expect_count("beats", total, |event| is(event, "beat"));
    for agent in &mut agents {
        let own: Vec<&Value> = beats
            .iter()
            .filter(|beat| beat["pid"] == agent.pid())
            .collect();
        assert_eq!(own.len(), EACH as usize);
        for (beat, nonce) in own.iter().zip(1..) {
            assert_eq!(beat["nonce"], nonce);
            assert_eq!(beat["sender"]["host_pid"], agent.pid());
            assert_eq!(beat["origin"], "kernel_attested");
        }
        agent.finish_well();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("datagrams"), total as u64);
    assert_eq!(remains.counter("records"), total as u64);
    assert_eq!(remains.counter("auth_failures"), 0);
}

/// A record whose datagram found the receive buffer full is an attempt, and
/// never a beat.
#[test]
fn what_the_full_buffer_dropped_is_no_beat() {
    const SENT: u64 = 5000;
    need_kernel!();
    let observer = listening(unlimited(), &[one_address()]);
    let to = observer.udp()[0];
    observer.signal(Signal::STOP);
    let mut agent = sender(to, "paced", &[5000, 1000]);
    agent.finish_well();
    observer.signal(Signal::CONT);
    observer.expect("a beat", |event| is(event, "beat"));
    // Longer than a record waits for its datagram; then something to receive.
    thread::sleep(Duration::from_millis(2500));
    let mut last = sender(to, "resident", &[]);
    observer.expect("the last", beats_of(last.pid()));
    last.finish_well();
    let remains = observer.stop();
    let beats = remains.counter("beats") - 1;
    let dropped = remains.counter("udp_dropped");
    println!("{beats} received, {dropped} dropped");
    assert!(dropped > 0 && beats > 0);
    assert_eq!(beats + dropped, SENT);
    assert_eq!(remains.counter("records_expired"), dropped);
    assert_eq!(remains.counter("auth_failures"), 0);
}

/// An observer that takes its time for each event lets the queue of datagrams
/// grow long. A record waits for its datagram however long that takes.
#[test]
fn a_slow_observer_costs_no_beat_its_record() {
    const SENT: u32 = 1500;
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    let mut observer = observer::Observer::builder()
        .socket(folder.path().join("s"))
        .threshold(Duration::from_millis(LONG))
        .udp(one_address().parse().expect("an address"))
        .max_beat_rate(0)
        .bind()
        .expect("root may");
    let to = observer.udp_listeners().next().expect("one");
    let mut agent = sender(to, "paced", &[SENT, burst(100)]);
    let mut events = 0;
    while events < SENT {
        let Some(event) = observer.poll() else {
            observer.wait(Some(PATIENCE)).expect("it can wait");
            continue;
        };
        let is_attested = matches!(
            event,
            Event::Beat { pid, origin: BeatOrigin::KernelAttested, .. } if pid == agent.pid()
        );
        assert!(is_attested, "after {events} beats: {event:?}");
        events += 1;
        // In all, longer than a record waits where the queue is short.
        thread::sleep(Duration::from_millis(2));
    }
    agent.finish_well();
}

#[test]
fn what_is_no_frame_takes_no_room() {
    need_kernel!();
    let observer = listening(Setup::new(LONG), &[one_address()]);
    let to = observer.udp()[0];
    let mut agent = sender(to, "lengths", &[100]);
    observer.expect("no frame", |event| is(event, "decode"));
    agent.finish_well();
    let mut last = sender(to, "resident", &[]);
    observer.expect("the last", beats_of(last.pid()));
    last.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("wrong_length"), 100);
    assert_eq!(remains.counter("datagrams"), 2);
    assert_eq!(remains.counter("udp_dropped"), 0);
}

/// Three ways in, all busy at once: each beat that is received has its event.
#[test]
fn busy_listeners_are_all_served() {
    const EACH: u32 = 2000;
    need_kernel!();
    let observer = listening(unlimited(), attested_loopback());
    let listeners = observer.udp();
    let mut agents: Vec<Agent> = listeners
        .iter()
        .map(|&to| sender(to, "paced", &[EACH, burst(20)]))
        .collect();
    agents.push(flood(&observer, "honest", &format!("count={EACH}")));
    let total = agents.len() * EACH as usize;
    observer.expect_count("beats", total, |event| is(event, "beat"));
    for agent in &mut agents {
        let own = observer.events_where(beats_of(agent.pid()));
        assert_eq!(own.len(), EACH as usize);
        agent.finish_well();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("datagrams"), total as u64);
    assert_eq!(remains.counter("beats"), total as u64);
}

/// The timer of several sockets is as good as that of one.
#[test]
fn a_stall_by_udp_is_reported_once_and_on_time() {
    const THRESHOLD_MS: u64 = 300;
    need_kernel!();
    let observer = Setup::new(THRESHOLD_MS)
        .arg("--udp")
        .arg(one_address())
        .start();
    let mut agent = sender(observer.udp()[0], "resident", &[]);
    let stall = observer.expect("a stall", |event| is(event, "stall"));
    assert_eq!(stall["pid"], agent.pid());
    assert_eq!(stall["sender"]["comm"], "sender");
    let at = |field: &str| stall[field].as_u64().expect("a time");
    let late = at("observer_ns") - at("last_ns") - THRESHOLD_MS * 1_000_000;
    println!("late by {late} ns");
    assert!(late < 50_000_000, "late by {late} ns");
    thread::sleep(Duration::from_millis(2 * THRESHOLD_MS));
    assert_eq!(observer.events_where(|event| is(event, "stall")).len(), 1);
    agent.finish_well();
}

#[test]
fn a_stopped_observer_blames_no_agent_by_udp() {
    need_kernel!();
    for threshold_ms in [500, 1000] {
        let observer = Setup::new(threshold_ms)
            .arg("--udp")
            .arg(one_address())
            .start();
        let to = observer.udp()[0];
        let mut agents: Vec<Agent> = (0..20).map(|_| sender(to, "pulse", &[100, 50])).collect();
        for agent in &agents {
            observer.expect_count("beats", 3, beats_of(agent.pid()));
        }
        observer.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(2));
        observer.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(500));
        let stalls = observer.events_where(|event| is(event, "stall"));
        assert!(stalls.is_empty(), "{stalls:?}");
        for agent in &mut agents {
            observer.expect_count("beats", 40, beats_of(agent.pid()));
            agent.finish_well();
        }
    }
}
