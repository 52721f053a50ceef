//! An observer that is away again and again still finds the dead, and blames
//! nobody who is alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use observer_tests::agent::Agent;
use observer_tests::busy::{Holder, keep_off, rings_of};
use observer_tests::cgroup::Cgroup;
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::quota::Quota;
use observer_tests::senders::pulse;
use rustix::process::Signal;
use serde_json::Value;

const THRESHOLD_MS: u64 = 1000;

/// One sender may fill queue and ring.
const UNLIMITED: [&str; 4] = ["--max-beat-rate", "0", "--max-group-rate", "0"];

/// For how long it runs, and is stopped, in turn.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    run_ms: u64,
    stop_ms: u64,
}

impl Schedule {
    fn period_ms(self) -> u64 {
        self.run_ms + self.stop_ms
    }

    /// Keeps to it until `is_over`, and leaves the observer running.
    fn keep(self, observer: &Observer, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            observer.signal(Signal::STOP);
            thread::sleep(Duration::from_millis(self.stop_ms));
            observer.signal(Signal::CONT);
            thread::sleep(Duration::from_millis(self.run_ms));
        }
    }
}

/// How late a stall was reported, in milliseconds.
fn lateness_ms(stall: &Value) -> u64 {
    let at = |field: &str| stall[field].as_u64().expect("a time") / 1_000_000;
    (at("observer_ns") - at("last_ns")).saturating_sub(THRESHOLD_MS)
}

/// So many agents that are alive, once each has beaten.
fn live_agents(observer: &Observer, count: usize) -> Vec<Agent> {
    let agents: Vec<Agent> = (0..count).map(|_| pulse(observer, 97, 0)).collect();
    for agent in &agents {
        observer.expect("a first beat", |event| {
            is(event, "beat") && event["pid"] == agent.pid()
        });
    }
    agents
}

/// An agent that is silent after three beats.
fn dead_agent(observer: &Observer) -> Agent {
    let dead = pulse(observer, 50, 3);
    observer.expect_count("beats of the dead", 3, |event| {
        is(event, "beat") && event["pid"] == dead.pid()
    });
    dead
}

/// How late the dead one is found, in milliseconds; that nobody else is taken
/// for dead is checked for some time after that.
fn find(observer: &Observer, dead: &Agent, then: Duration) -> u64 {
    let is_dead = |event: &Value| event["pid"] == dead.pid();
    let stall = observer.expect("a stall", |event| is(event, "stall") && is_dead(event));
    thread::sleep(then);
    let wrong = observer.events_where(|event| is(event, "stall") && !is_dead(event));
    assert!(wrong.is_empty(), "{wrong:#?}");
    lateness_ms(&stall)
}

/// How late an observer finds one that is dead among so many that are alive.
fn starve(schedule: Schedule, live: usize) -> u64 {
    let observer = Observer::start(THRESHOLD_MS);
    let mut agents = live_agents(&observer, live);
    let mut dead = dead_agent(&observer);
    // So that the deadline is not the moment in which a stop ends.
    thread::sleep(Duration::from_millis(schedule.period_ms() / 2));
    let is_over = AtomicBool::new(false);
    let late_ms = thread::scope(|scope| {
        scope.spawn(|| schedule.keep(&observer, &is_over));
        let late_ms = find(&observer, &dead, Duration::from_secs(3));
        is_over.store(true, Ordering::Relaxed);
        late_ms
    });
    assert!(dead.finish().success());
    for agent in &mut agents {
        assert!(agent.finish().success());
    }
    let remains = observer.stop();
    assert!(remains.status.success());
    assert!(remains.counter("absences") > 0, "it was not starved");
    late_ms
}

/// The latest that a dead one may be found. Its silence is given back one
/// threshold of absences in which others sent, and three of those in which
/// nobody did; two rounds of the schedule pass until it is read and judged.
fn latest_ms(live: usize, period_ms: u64) -> u64 {
    let given_back = if live == 0 { 3 } else { 1 } * THRESHOLD_MS;
    // The last is for a host that is busy itself.
    given_back + 2 * period_ms + 50 + 200
}

#[test]
fn a_starved_observer_finds_the_dead() {
    need_kernel!();
    let schedules = [(20, 480), (20, 80), (100, 400)];
    for (run_ms, stop_ms) in schedules {
        let schedule = Schedule { run_ms, stop_ms };
        thread::scope(|scope| {
            for live in [0, 3, 19] {
                scope.spawn(move || {
                    let late_ms = starve(schedule, live);
                    println!("{schedule:?}, {live} live agents: {late_ms} ms late");
                    let latest_ms = latest_ms(live, schedule.period_ms());
                    assert!(late_ms <= latest_ms, "{schedule:?}, {live}: {late_ms} ms");
                });
            }
        });
    }
}

/// A CPU quota of so little that each second brings one short moment.
#[test]
fn an_observer_with_a_millisecond_a_second_finds_the_dead() {
    need_kernel!();
    for live in [0, 3, 19] {
        let Some(quota) = Quota::new(1) else {
            println!("left out: no hierarchy of cgroups with a CPU controller");
            return;
        };
        let observer = Observer::start(THRESHOLD_MS);
        let mut agents = live_agents(&observer, live);
        let mut dead = dead_agent(&observer);
        quota.take(observer.pid());
        let late_ms = find(&observer, &dead, Duration::from_secs(3));
        println!("{live} live agents: {late_ms} ms late");
        assert!(late_ms <= latest_ms(live, 1000), "{live}: {late_ms} ms");
        assert!(dead.finish().success());
        for agent in &mut agents {
            assert!(agent.finish().success());
        }
    }
}

/// The queue is full of the first ten while the observer is stopped, and there
/// is no room for a beat of all others but in the moments in which it runs. That
/// they try is recorded.
#[test]
fn who_tries_to_beat_is_alive() {
    need_kernel!();
    let observer = Observer::start(THRESHOLD_MS);
    let mut agents = live_agents(&observer, 40);
    let is_over = AtomicBool::new(false);
    let schedule = Schedule {
        run_ms: 5,
        stop_ms: 495,
    };
    thread::scope(|scope| {
        scope.spawn(|| schedule.keep(&observer, &is_over));
        thread::sleep(Duration::from_secs(10));
        is_over.store(true, Ordering::Relaxed);
    });
    let stalls = observer.events_where(|event| is(event, "stall"));
    assert!(stalls.is_empty(), "{} of 40", stalls.len());
    // Of some of them nothing has arrived for long, and that is told.
    let mut notices = observer.notices().into_iter();
    let is_unheard = |notice: &Value| notice["notice"] == "unheard";
    assert!(notices.any(|notice| is_unheard(&notice)));
    for agent in &mut agents {
        assert!(agent.finish().success());
    }
    // Each stop is seen, though the ring has something to be read at its end.
    assert!(observer.stop().counter("absences") >= 10);
}

/// Somebody's entry at the front of a small ring is being written for long, and
/// nothing behind it is given back: with budgets whoever sends is dropped as one
/// that has too much of the ring, and there is a record of that once a second;
/// without them there are no records at all. Neither is its senders' silence.
#[test]
fn a_ring_that_stays_full_blames_nobody() {
    const HELD: Duration = Duration::from_millis(400);
    need_kernel!();
    for (limits, counter) in [(&[][..], "throttled"), (&UNLIMITED, "unattested")] {
        let setup = Setup::with_queue_limit(512, 200).args(limits.iter().copied());
        let observer = setup.args(["--ring-bytes", "4096"]).start();
        keep_off(observer.pid());
        let mut agents: Vec<Agent> = (0..5).map(|_| pulse(&observer, 10, 0)).collect();
        for agent in &agents {
            keep_off(agent.pid());
        }
        observer.expect_count("beats", 50, |event| is(event, "beat"));
        for _ in 0..3 {
            let rings = rings_of(observer.pid());
            let holders = rings.iter().map(|ring| Holder::start(ring, HELD));
            for holder in holders.collect::<Vec<_>>() {
                holder.wait();
            }
        }
        let stalls = observer.events_where(|event| is(event, "stall"));
        assert!(stalls.is_empty(), "{counter}: {stalls:#?}");
        for agent in &mut agents {
            assert!(agent.finish().success());
        }
        let counters = observer.stop().counters;
        assert!(counters[counter].as_u64() > Some(100), "{counters}");
    }
}

/// Observer and agents are frozen together, all or some of them, and thawed in
/// any order, again and again.
#[test]
fn a_freeze_blames_nobody() {
    need_kernel!();
    let own = Cgroup::named("observer");
    let (frozen, free) = (Cgroup::named("frozen"), Cgroup::named("free"));
    let observer = Observer::start(THRESHOLD_MS);
    own.take(observer.pid());
    let mut agents = live_agents(&observer, 6);
    for (at, agent) in agents.iter().enumerate() {
        [&frozen, &free][at % 2].take(agent.pid());
    }
    let beside = [
        &[&own, &frozen][..],
        &[&own, &frozen, &free],
        &[&own, &free],
    ];
    for cgroups in beside {
        for at in 0..cgroups.len() {
            let mut cgroups = cgroups.to_vec();
            cgroups.rotate_left(at);
            for cgroup in &cgroups {
                cgroup.freeze(true);
            }
            thread::sleep(Duration::from_millis(1700));
            for cgroup in &cgroups {
                cgroup.freeze(false);
                thread::sleep(Duration::from_millis(300));
            }
        }
    }
    let stalls = observer.events_where(|event| is(event, "stall"));
    assert!(stalls.is_empty(), "{stalls:#?}");
    // One that really dies is still found.
    let mut dead = dead_agent(&observer);
    find(&observer, &dead, Duration::ZERO);
    assert!(dead.finish().success());
    for agent in &mut agents {
        assert!(agent.finish().success());
    }
    let remains = observer.stop();
    assert!(remains.counter("absences") > 0, "{}", remains.counters);
}
