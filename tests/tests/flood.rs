//! Flood control in the kernel, and forgeries that are refused there: one
//! process cannot keep another's beats out.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::{flood, sender, uring};
use observer_tests::trail::Trail;
use observer_tests::{is_emulated, kernel, need_kernel, procfs};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;

fn limited(rate: u64) -> Setup {
    Setup::new(LONG)
        .arg("--max-beat-rate")
        .arg(&rate.to_string())
}

/// Sends so many, and returns the pid that did.
fn send(observer: &Observer, kind: &str, count: u64) -> u32 {
    let settings = format!("count={count} milliseconds=60000");
    let mut flood = flood(observer, kind, &settings);
    assert_eq!(flood.number(), count);
    flood.finish_well();
    flood.pid()
}

/// How often one send may be charged: Linux up to 6.13 runs the filter again
/// for one that waited for room (`unix_dgram_sendmsg`, `net/unix/af_unix.c`).
/// Twice is what these tests have seen at most.
fn charges() -> usize {
    if kernel::is_at_least((6, 14)) { 1 } else { 2 }
}

/// What a process may send is a burst and what it earns meanwhile, whatever
/// it sends and by whichever way; each datagram is counted, once.
#[test]
fn a_budget_is_kept_and_counted_exactly() {
    need_kernel!();
    for ingest in ["socket", "ring"] {
        for (kind, counter) in [
            ("honest", "beats"),
            ("spoofed", "pid_mismatch"),
            ("garbage", "decode_errors"),
            ("byte", "wrong_length"),
        ] {
            // A datagram in five seconds: what is earned meanwhile is little.
            let setup = limited(1).arg("--ingest").arg(ingest);
            let observer = setup.start();
            send(&observer, kind, 500);
            let remains = observer.stop();
            let passed = remains.counter(counter);
            let dropped = remains.counter("throttled");
            assert_eq!(passed + dropped, 500, "{kind}: {}", remains.counters);
            assert!((1..60).contains(&passed), "{kind}: {passed} passed");
        }
    }
}

/// Each process has a budget of its own, and one whose pid is another's does
/// not share it.
#[test]
fn a_flood_costs_nobody_else_anything() {
    need_kernel!();
    let observer = limited(50).start();
    let flooder = send(&observer, "honest", 1000);
    let agent = send(&observer, "honest", 20);
    let remains = observer.stop();
    let beats = |pid: u32| {
        let of_pid = remains.events.iter().filter(|event| event["pid"] == pid);
        of_pid.filter(|event| is(event, "beat")).count()
    };
    assert_eq!(beats(agent), 20);
    assert!(
        (100 / charges()..900).contains(&beats(flooder)),
        "{}",
        beats(flooder)
    );
}

/// Routine beats cannot use up what critical ones have, and critical ones are
/// no way around the limit.
#[test]
fn a_critical_beat_has_a_budget_of_its_own() {
    need_kernel!();
    let observer = limited(10).start();
    let mut agent = sender(observer.target(), "routine-then-critical", &[200]);
    agent.finish_well();
    let remains = observer.stop();
    let of_status = |status: &str| {
        let beats = remains.events.iter().filter(|event| is(event, "beat"));
        beats.filter(|beat| beat["status"] == status).count()
    };
    // 20 at once, and ten a second; then ten critical ones, and one a second.
    let (routine, critical) = (of_status("ok"), of_status("critical"));
    assert!(
        (20 / charges()..100).contains(&routine),
        "{routine} routine beats"
    );
    assert!(
        (10 / charges()..60).contains(&critical),
        "{critical} critical beats"
    );
    assert_eq!(
        routine as u64 + critical as u64 + remains.counter("throttled"),
        400,
        "{}",
        remains.counters
    );
}

/// Whoever holds a ring of its parent's sends from the parent's kernel thread,
/// by another budget than the parent's.
#[test]
fn a_stolen_ring_does_not_use_up_its_makers_budget() {
    need_kernel!();
    let observer = limited(1).start();
    let mut parent = uring(observer.target(), "robbed", "sqpoll");
    assert_eq!(parent.number(), u64::from(parent.pid()));
    observer.expect("a stolen ring", |event| event["cause"] == "sqpoll");
    let beat = observer.expect("the parent's beat", |event| is(event, "beat"));
    assert_eq!(beat["pid"], parent.pid());
    parent.finish_well();
    assert!(observer.stop().counter("throttled") > 0);
}

/// The trail has how much of each flooder was dropped, to the last datagram, in
/// few lines.
#[test]
fn the_trail_counts_what_was_dropped() {
    need_kernel!();
    for how_it_ends in ["by itself", "with the observer"] {
        let scratch = tempfile::tempdir().expect("a directory");
        let trail = Trail::new(scratch.path());
        let observer = trail.observer(limited(10));
        let mut floods: Vec<Agent> = (0..2)
            .map(|_| flood(&observer, "garbage", "milliseconds=2500"))
            .collect();
        let sent: Vec<u64> = floods.iter_mut().map(Agent::number).collect();
        let pids: Vec<u32> = floods.iter().map(Agent::pid).collect();
        for flood in &mut floods {
            flood.finish_well();
        }
        if how_it_ends == "by itself" {
            thread::sleep(Duration::from_millis(1600));
        }
        let remains = observer.stop();
        trail.assert_clean();
        let passed = |pid: u32| {
            let of_pid = |event: &&Value| event["sender"]["pid"] == pid;
            remains.events.iter().filter(of_pid).count() as u64
        };
        let report: Value = serde_json::from_str(&trail.report(&["--json"])).expect("JSON");
        let attackers = report["attackers"].as_array().expect("a list");
        let mut dropped_in_all = 0;
        for (&pid, &sent) in pids.iter().zip(&sent) {
            let attacker = attackers
                .iter()
                .find(|attacker| attacker["host_pid"] == pid)
                .unwrap_or_else(|| panic!("{pid} is not in {report:#}"));
            let dropped = sent - passed(pid);
            assert_eq!(
                attacker["kinds"]["throttled_sender"], dropped,
                "{how_it_ends}"
            );
            assert_eq!(attacker["count"], dropped, "{how_it_ends}: {attacker:#}");
            dropped_in_all += dropped;
        }
        assert_eq!(remains.counter("throttled"), dropped_in_all);
        let lines = trail.lines();
        let of_floods: Vec<&Value> = lines.iter().filter(|line| is_of_flood(line)).collect();
        assert!(of_floods.len() <= 12, "{of_floods:#?}");
        let evidence = of_floods.first().expect("a line");
        let frame = evidence["frame"].as_str().expect("the last one");
        assert!(frame.starts_with(&"a5".repeat(28)), "{frame}");
        assert!(evidence["sender"]["comm"] == "flood", "{evidence:#}");
    }
}

/// A flood is recorded by its size while it goes on, not once it has ended.
#[test]
fn the_trail_counts_a_flood_while_it_lasts() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let observer = trail.observer(limited(10));
    let flood = flood(&observer, "garbage", "milliseconds=60000");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let lines = trail.lines();
        let of_flood = lines.iter().filter(|line| is_of_flood(line));
        let counted: u64 = of_flood.filter_map(|line| line["count"].as_u64()).sum();
        if counted > 1000 {
            break;
        }
        assert!(Instant::now() < end, "{counted} counted: {lines:#?}");
        thread::sleep(Duration::from_millis(100));
    }
    drop(flood);
    assert!(observer.stop().status.success());
}

/// Whether a line of a trail is about a flooder.
fn is_of_flood(line: &Value) -> bool {
    line["kind"] == "throttled_sender" || line["of"] == "throttled_sender"
}

/// A forgery that the kernel refuses takes no place in the queue, and is
/// reported all the same, with all that is known of the forger.
#[test]
fn a_forgery_refused_by_the_kernel_takes_no_place() {
    need_kernel!();
    for tier in ["btf", "helper"] {
        if tier == "helper" && !kernel::is_at_least(kernel::HELPER_TIER) {
            continue;
        }
        let setup = Setup::new(LONG).arg("--tier").arg(tier);
        let observer = setup.arg("--refuse").arg("kernel").start();
        observer.signal(Signal::STOP);
        // None of these waits for room, and there is room for eleven.
        let forger = send(&observer, "spoofed", 100);
        let mut agent = flood(&observer, "honest", "count=11");
        assert_eq!(agent.number(), 11);
        observer.signal(Signal::CONT);
        agent.finish_well();
        let forgeries = observer.expect_count("forgeries", 100, |event| is(event, "auth_failure"));
        for forgery in &forgeries {
            assert_eq!(forgery["cause"], "pid_mismatch");
            assert_eq!(forgery["claimed_pid"], std::process::id());
            assert_eq!(forgery["sender"]["pid"], forger);
            assert_eq!(forgery["sender"]["via"], tier);
        }
        let remains = observer.stop();
        assert_eq!(remains.counter("beats"), 11);
        assert_eq!(remains.counter("auth_failures"), 100);
        assert_eq!(remains.counter("datagrams"), 11);
        assert_eq!(remains.counter("taken"), 100);
    }
}

/// Refused in the kernel is who would be refused by the observer, and nobody
/// else: the same senders, once each way.
#[test]
fn kernel_and_observer_refuse_the_same() {
    need_kernel!();
    for namespaces in ["refuse", "translate"] {
        let events = ["user", "kernel"].map(|who| {
            let setup = Setup::new(LONG).arg("--namespaces").arg(namespaces);
            let observer = setup.arg("--refuse").arg(who).start();
            let victim = std::process::id();
            for (scenario, numbers) in [
                ("honest", &[][..]),
                ("claim", &[victim]),
                ("child", &[1]),
                ("foreign-child", &[victim]),
                ("foreign-child", &[1]),
            ] {
                sender(observer.target(), scenario, numbers).finish_well();
            }
            let mut ring = uring(observer.target(), "child", "sqpoll");
            observer.expect("a stolen ring", |event| event["cause"] == "sqpoll");
            ring.finish_well();
            let remains = observer.stop();
            let kinds = remains.events.iter().map(|event| {
                let cause = event["cause"].as_str().unwrap_or_default();
                format!("{} {cause}", event["event"])
            });
            let mut kinds: Vec<String> = kinds.collect();
            kinds.sort();
            let taken = remains.counter("taken");
            assert_eq!(taken > 0, who == "kernel", "{}", remains.counters);
            kinds
        });
        let [user, kernel] = events;
        assert_eq!(user, kernel, "--namespaces {namespaces}");
        assert!(user.len() >= 6, "{user:?}");
    }
}

/// Of a hundred agents that never retry, the kernel takes the beats, and none
/// that it took is lost to any sort of flood, by either way, with a short queue
/// or a long one.
#[test]
fn no_flood_mutes_an_agent() {
    const KINDS: [&str; 5] = ["byte", "garbage", "stale", "spoofed", "honest"];
    need_kernel!();
    if is_emulated() {
        return;
    }
    for ingest in ["socket", "ring"] {
        for kind in KINDS {
            withstand(10, ingest, &[kind], 3);
        }
        for queue in [10, 512] {
            withstand(queue, ingest, &KINDS[1..], 8);
        }
    }
}

/// Sends floods for some seconds while 100 agents beat ten times a second.
fn withstand(queue: u32, ingest: &str, kinds: &[&str], seconds: u64) {
    let setup = Setup::with_queue_limit(queue, 2000);
    let observer = setup.arg("--ingest").arg(ingest).start();
    let socket = observer.target();
    let count = seconds * 10;
    let mut fleet = Agent::start(
        env!("CARGO_BIN_EXE_fleet"),
        [socket.as_str(), "100", "100", &count.to_string()],
    );
    let before = procfs::cpu_time(observer.pid());
    let mut floods: Vec<Agent> = kinds
        .iter()
        .map(|kind| flood(&observer, kind, &format!("milliseconds={}", seconds * 1000)))
        .collect();
    let flooders: Vec<u32> = floods.iter().map(Agent::pid).collect();
    let sent: u64 = floods.iter_mut().map(Agent::number).sum();
    let cpu = procfs::cpu_time(observer.pid()).saturating_sub(before);
    for flood in &mut floods {
        flood.finish_well();
    }
    fleet.finish_well();
    let remains = observer.stop();
    let case = format!("{kinds:?}, queue {queue}, {ingest}");
    let is_flooder = |event: &Value| flooders.iter().any(|pid| event["sender"]["pid"] == *pid);
    let mut beats: HashMap<u64, u64> = HashMap::new();
    for beat in remains.events.iter().filter(|event| is(event, "beat")) {
        *beats
            .entry(beat["pid"].as_u64().expect("a pid"))
            .or_default() += 1;
    }
    let agents: Vec<(u64, u64)> = std::iter::from_fn(|| fleet.next_line())
        .map(|line| {
            let (pid, taken) = line.split_once(' ').expect("two numbers");
            let number = |text: &str| text.parse().expect("a number");
            (number(pid), number(taken))
        })
        .collect();
    assert_eq!(agents.len(), 100, "{case}");
    let lost = |&(pid, taken): &(u64, u64)| taken - beats.get(&pid).copied().unwrap_or_default();
    let refused = |&(_, taken): &(u64, u64)| count - taken;
    let lost: u64 = agents.iter().map(lost).sum();
    let worst = agents.iter().map(refused).max().expect("agents");
    let all: u64 = agents.iter().map(refused).sum();
    let share = cpu.as_secs_f64() / Duration::from_secs(seconds).as_secs_f64() * 100.0;
    println!(
        "{case}: {all} of {} beats found the queue full, {worst} of one agent, \
         and {lost} were lost; {share:.0} % CPU",
        count * 100
    );
    assert_eq!(lost, 0, "{case}");
    // What flooders may send at once, and each time that the observer is not
    // scheduled for some 10 ms, fills a short queue for that time: how often
    // an agent meets that is up to this machine. Without a budget it is nearly
    // always. A long queue has room for such a time.
    let bound = if queue == 10 && ingest == "socket" {
        count * 100 / 3
    } else {
        count
    };
    assert!(all <= bound, "{case}: {all} of {} refused", count * 100);
    let stalls = remains.events.iter().filter(|event| is(event, "stall"));
    let false_stalls = stalls
        .filter(|stall| !is_flooder(stall) && stall["last_nonce"] != count)
        .count();
    assert_eq!(false_stalls, 0, "{case}");
    let counted: u64 = [
        "throttled",
        "wrong_length",
        "decode_errors",
        "auth_failures",
        "stale_nonces",
    ]
    .iter()
    .map(|name| remains.counter(name))
    .sum();
    let flooded_beats: u64 = flooders
        .iter()
        .map(|&pid| beats.get(&u64::from(pid)).copied().unwrap_or_default())
        .sum();
    assert_eq!(
        counted + flooded_beats,
        sent,
        "{case}: {}",
        remains.counters
    );
}
