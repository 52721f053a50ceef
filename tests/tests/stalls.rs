//! Stalls: reported once, on time, and never because the observer was away.

use std::thread;
use std::time::Duration;

use observer_tests::agent::Agent;
use observer_tests::kernel::attested_loopback;
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::{flood, pulse};
use rustix::process::Signal;
use serde_json::Value;

/// How late a stall was reported, in nanoseconds.
fn lateness(stall: &Value, threshold_ms: u64) -> u64 {
    let at = |field: &str| stall[field].as_u64().expect("a time");
    let silent = at("observer_ns").checked_sub(at("last_ns")).expect("order");
    silent
        .checked_sub(threshold_ms * 1_000_000)
        .unwrap_or_else(|| panic!("reported before the threshold: {stall}"))
}

#[test]
fn a_stall_is_reported_once_and_on_time() {
    const THRESHOLD_MS: u64 = 300;
    const AGENTS: usize = 15;
    need_kernel!();
    let observer = Observer::start(THRESHOLD_MS);
    let mut agents: Vec<Agent> = (0..AGENTS)
        .map(|_| {
            // All beat before the first is due: no beat but the observer's
            // own timer wakes it then.
            thread::sleep(Duration::from_millis(10));
            pulse(&observer, 50, 3)
        })
        .collect();
    let stalls = observer.expect_count("stalls", AGENTS, |event| is(event, "stall"));
    let mut late: Vec<u64> = stalls
        .iter()
        .map(|stall| lateness(stall, THRESHOLD_MS))
        .collect();
    late.sort_unstable();
    println!("lateness in ns, sorted: {late:?}");
    assert!(late[AGENTS / 2] <= 10_000_000, "{late:?}");
    // Once is enough, as long as nobody beats.
    thread::sleep(Duration::from_millis(2 * THRESHOLD_MS));
    for agent in &mut agents {
        let own = observer.events_where(|event| is(event, "stall") && event["pid"] == agent.pid());
        assert_eq!(own.len(), 1);
        assert_eq!(own[0]["last_nonce"], 3);
        assert_eq!(own[0]["sender"]["comm"], "pulse");
        assert!(agent.finish().success());
    }
    assert_eq!(observer.stop().counter("stalls"), AGENTS as u64);
}

#[test]
fn an_agent_that_comes_back_can_stall_again() {
    need_kernel!();
    let observer = Observer::start(300);
    let mut agent = pulse(&observer, 100, 0);
    let of_agent = |event: &Value, name: &str| is(event, name) && event["pid"] == agent.pid();
    for times in 1..=2 {
        let beats = observer.events_where(|event| of_agent(event, "beat")).len();
        observer.expect_count("beats", beats + 2, |event| of_agent(event, "beat"));
        agent.signal(Signal::STOP);
        observer.expect_count("stalls", times, |event| of_agent(event, "stall"));
        agent.signal(Signal::CONT);
    }
    assert!(agent.finish().success());
}

/// The observer is stopped for two seconds while 40 healthy agents beat.
/// Whatever beats were lost on the full queue meanwhile, nobody stalled.
#[test]
fn a_stopped_observer_blames_nobody() {
    need_kernel!();
    for threshold_ms in [1000, 500] {
        let observer = Observer::start(threshold_ms);
        let mut agents: Vec<Agent> = (0..40).map(|_| pulse(&observer, 100, 0)).collect();
        for agent in &agents {
            observer.expect("a first beat", |event| {
                is(event, "beat") && event["pid"] == agent.pid()
            });
        }
        thread::sleep(Duration::from_millis(500));
        observer.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(2));
        observer.signal(Signal::CONT);
        thread::sleep(Duration::from_secs(3));
        let stalls = observer.events_where(|event| is(event, "stall"));
        assert!(stalls.is_empty(), "{stalls:#?}");
        // One that really dies is still found.
        let dead = agents.pop().expect("an agent");
        let pid = dead.pid();
        drop(dead);
        observer.expect("a stall", |event| is(event, "stall") && event["pid"] == pid);
        let remains = observer.stop();
        assert!(remains.counter("absences") > 0, "{}", remains.counters);
        let away_ms = remains.counter("away_ns") / 1_000_000;
        assert!((1800..2600).contains(&away_ms), "{away_ms} ms given back");
        for agent in &mut agents {
            assert!(agent.finish().success());
        }
    }
}

/// A frozen container, or slice of services: agents and observer stand still
/// together, and do not wake at the same moment.
#[test]
fn a_freeze_of_all_blames_nobody() {
    need_kernel!();
    for udp in [false, true] {
        let setup = Setup::new(1000);
        let setup = if udp {
            setup.arg("--udp").arg(attested_loopback()[0])
        } else {
            setup
        };
        let observer = setup.start();
        let mut agents: Vec<Agent> = (0..5).map(|_| pulse(&observer, 100, 0)).collect();
        for agent in &agents {
            observer.expect("a first beat", |event| {
                is(event, "beat") && event["pid"] == agent.pid()
            });
        }
        for agent in &agents {
            agent.signal(Signal::STOP);
        }
        observer.signal(Signal::STOP);
        thread::sleep(Duration::from_secs(2));
        observer.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(300));
        for agent in &agents {
            agent.signal(Signal::CONT);
        }
        thread::sleep(Duration::from_millis(500));
        let stalls = observer.events_where(|event| is(event, "stall"));
        assert!(stalls.is_empty(), "{stalls:#?}");
        for agent in &mut agents {
            assert!(agent.finish().success());
        }
    }
}

/// A stop does not save an agent that died in it.
#[test]
fn an_agent_that_died_during_a_stop_is_found() {
    need_kernel!();
    let observer = Observer::start(500);
    let agent = pulse(&observer, 100, 0);
    let pid = agent.pid();
    observer.expect_count("beats", 3, |event| is(event, "beat"));
    observer.signal(Signal::STOP);
    drop(agent);
    thread::sleep(Duration::from_secs(1));
    observer.signal(Signal::CONT);
    let stall = observer.expect("a stall", |event| is(event, "stall") && event["pid"] == pid);
    // A second's absence is given back at most.
    let late_ms = lateness(&stall, 500) / 1_000_000;
    println!("{late_ms} ms late after a second's absence");
    assert!(late_ms < 1200, "{late_ms} ms late");
}

/// Without flood control, which would end the flood.
fn unlimited(setup: Setup) -> Setup {
    setup.arg("--max-beat-rate").arg("0")
}

/// A flood keeps the queue from ever being empty; the dead are found all the
/// same, and nearly as soon.
#[test]
fn a_flood_hides_no_stall() {
    const THRESHOLD_MS: u64 = 300;
    need_kernel!();
    for kind in ["honest", "garbage"] {
        let observer = unlimited(Setup::new(THRESHOLD_MS)).start();
        let mut agent = pulse(&observer, 50, 3);
        // Before the flood: it does not wait for room, and an agent whose
        // every beat was refused is not known.
        observer.expect_count("beats", 3, |event| is(event, "beat"));
        let flood = flood(&observer, kind, "");
        let flooder = flood.pid();
        let stall = observer.expect("a stall", |event| {
            is(event, "stall") && event["pid"] == agent.pid()
        });
        drop(flood);
        assert!(agent.finish().success());
        let remains = observer.stop();
        assert!(remains.status.success());
        // There was a flood, and it was there when the stall was reported.
        let is_flood = |event: &&Value| event["sender"]["pid"] == flooder;
        let time = |event: &Value| event["observer_ns"].as_u64().expect("a time");
        let from_flood = remains.events.iter().filter(is_flood);
        let during = from_flood
            .filter(|event| time(event) <= time(&stall))
            .count();
        assert!(during > 1000, "{kind}: {during} datagrams only");
        let late = lateness(&stall, THRESHOLD_MS);
        println!("{kind}: {late} ns late under {during} datagrams");
        assert!(late < 100_000_000, "{kind}: {late} ns late");
    }
}

/// Nor does one through a long queue that six senders keep full.
#[test]
fn a_flood_through_a_long_queue_hides_no_stall() {
    const THRESHOLD_MS: u64 = 300;
    need_kernel!();
    let observer = unlimited(Setup::with_queue_limit(512, THRESHOLD_MS)).start();
    let mut agent = pulse(&observer, 50, 3);
    observer.expect_count("beats", 3, |event| is(event, "beat"));
    let floods: Vec<Agent> = (0..6).map(|_| flood(&observer, "stale", "")).collect();
    let stall = observer.expect("a stall", |event| {
        is(event, "stall") && event["pid"] == agent.pid()
    });
    drop(floods);
    let late = lateness(&stall, THRESHOLD_MS);
    println!("{late} ns late behind a long queue");
    assert!(late < 100_000_000, "{late} ns late");
    assert!(agent.finish().success());
    assert!(observer.stop().counter("stale_nonces") > 1000);
}

/// What was sent before the signal is reported before the end.
#[test]
fn the_end_waits_for_what_was_sent() {
    need_kernel!();
    let observer = Observer::start(60_000);
    observer.signal(Signal::STOP);
    let mut agent = pulse(&observer, 1, 5);
    thread::sleep(Duration::from_millis(200));
    assert!(agent.finish().success());
    assert_eq!(agent.number(), 5);
    let socket = observer.socket();
    observer.signal(Signal::TERM);
    observer.signal(Signal::CONT);
    let remains = observer.stop();
    assert!(remains.status.success());
    assert_eq!(remains.counter("beats"), 5);
    assert!(!socket.exists());
}
