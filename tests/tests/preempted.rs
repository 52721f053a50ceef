//! A sender that loses the CPU while the kernel copies its record costs nobody
//! else anything.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use observer_tests::agent::Agent;
use observer_tests::busy::{self, Holder, keep_off, rings_of};
use observer_tests::kernel::{self, attested_loopback};
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::ring_head::RingHead;
use observer_tests::senders::{self, flood};
use observer_tests::{is_emulated, need_kernel, observer_binary, procfs};
use serde_json::Value;

/// Far longer than a frame waits for its record, 100 ms.
const HELD: Duration = Duration::from_millis(400);

/// An agent that leaves the holder's CPU alone.
fn pulse(observer: &Observer, interval_ms: u64, count: u64) -> Agent {
    let agent = senders::pulse(observer, interval_ms, count);
    keep_off(agent.pid());
    agent
}

fn start(setup: Setup) -> Observer {
    let observer = setup.start();
    keep_off(observer.pid());
    observer
}

/// A writer in each of the observer's rings.
fn hold(observer: &Observer, time: Duration) -> Vec<Holder> {
    let rings = rings_of(observer.pid());
    rings.iter().map(|ring| Holder::start(ring, time)).collect()
}

fn beats(events: &[Value], pid: u32) -> usize {
    let of_pid = |event: &&Value| is(event, "beat") && event["pid"] == pid;
    events.iter().filter(of_pid).count()
}

/// Whichever way beats come, each is reported while some record in the ring is
/// being written all the time.
#[test]
fn a_preempted_writer_costs_no_beat_and_makes_no_stall() {
    const AGENTS: usize = 8;
    need_kernel!();
    for ingest in ["socket", "ring"] {
        // No wait for room: this is not about the queue's length.
        // And on a slow machine they end long before all is written.
        let threshold_ms = if is_emulated() { 60_000 } else { 5000 };
        let setup = Setup::with_queue_limit(512, threshold_ms);
        let observer = start(setup.arg("--ingest").arg(ingest));
        let mut agents: Vec<Agent> = (0..AGENTS).map(|_| pulse(&observer, 10, 0)).collect();
        for _ in 0..3 {
            for holder in hold(&observer, HELD) {
                holder.wait();
            }
        }
        let mut sent = Vec::new();
        for agent in &mut agents {
            assert!(agent.finish().success());
            sent.push((agent.pid(), agent.number()));
        }
        // A slow machine is to have written them all before it is stopped: each
        // frame is one event, whatever is made of it.
        let all = sent.iter().map(|(_, sent)| sent).sum::<u64>();
        let all = usize::try_from(all).expect("few");
        observer.expect_count("frames", all, |event| !is(event, "stall"));
        let remains = observer.stop();
        let counters = &remains.counters;
        assert_eq!(remains.counter("unattested"), 0, "{ingest}: {counters}");
        assert_eq!(remains.counter("stalls"), 0, "{ingest}: {counters}");
        assert_eq!(remains.counter("ring_full"), 0, "{ingest}: {counters}");
        for (pid, sent) in sent {
            assert!(sent > 20, "{sent}");
            assert_eq!(
                beats(&remains.events, pid) as u64,
                sent,
                "{ingest}: {counters}"
            );
        }
    }
}

/// The same by UDP, which has a ring of its own.
#[test]
fn a_preempted_writer_costs_no_beat_by_udp() {
    const BEATS: usize = 60;
    need_kernel!();
    let observer = start(Setup::new(60_000).arg("--udp").arg(attested_loopback()[0]));
    let listener = observer.udp()[0].to_string();
    let holders = hold(&observer, HELD);
    let mut command = Command::new(observer_binary());
    command.args(["beat", "--udp", &listener, "--interval-ms", "5"]);
    command.args(["--count", &BEATS.to_string()]);
    let mut agent = Agent::spawn(command);
    keep_off(agent.pid());
    agent.finish_well();
    observer.expect_count("beats", BEATS, |event| {
        is(event, "beat") && event["pid"] == agent.pid()
    });
    for holder in holders {
        holder.wait();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("unattested"), 0, "{}", remains.counters);
}

/// The same by chance, where the kernel preempts fully: senders that push one
/// another and the agents off one CPU, without any privilege.
#[test]
fn senders_that_push_each_other_off_the_cpu_cost_no_beat() {
    const AGENTS: usize = 8;
    need_kernel!();
    for ingest in ["socket", "ring"] {
        let setup = Setup::with_queue_limit(512, 60_000);
        let setup = setup.arg("--events").arg("notable");
        let observer = setup.arg("--ingest").arg(ingest).start();
        let mut agents: Vec<Agent> = (0..AGENTS).map(|_| pulse(&observer, 10, 0)).collect();
        let settings = "processes=32 milliseconds=3000 uid=65534 room=skip begin=line";
        let mut crowd = flood(&observer, "honest", settings);
        // All on the agents' CPU.
        keep_off(crowd.pid());
        crowd.write_line("");
        assert!(crowd.number() > 0);
        let mut sent = 0;
        for agent in &mut agents {
            assert!(agent.finish().success());
            sent += agent.number();
        }
        // One or another may have had no CPU at all.
        assert!(sent > 0);
        crowd.finish_well();
        let remains = observer.stop();
        // Routine beats are not reported; any other report about an agent is
        // wrong.
        for pid in agents.iter().map(Agent::pid) {
            let of_pid = |event: &&Value| event["claimed_pid"] == pid;
            let wrong: Vec<&Value> = remains.events.iter().filter(of_pid).collect();
            assert!(
                wrong.is_empty(),
                "{ingest}: {wrong:#?} {}",
                remains.counters
            );
        }
    }
}

/// Where the kernel lets a program keep its CPU, even a sender that hardly ever
/// gets one keeps it until its record is written: the ring's room is never held
/// up for long.
#[test]
fn a_sender_keeps_its_cpu_while_its_record_is_copied() {
    const ROUNDS: u32 = 100;
    const BUSY: Duration = Duration::from_millis(60);
    const IDLE: Duration = Duration::from_millis(10);
    need_kernel!();
    if !kernel::is_at_least(kernel::HOLDS_CPU) {
        return;
    }
    let setup = Setup::with_queue_limit(512, 60_000);
    let setup = setup.arg("--events").arg("notable");
    let setup = setup.arg("--max-beat-rate").arg("0");
    let observer = setup.arg("--max-group-rate").arg("0").start();
    let milliseconds = (BUSY + IDLE).as_millis() * u128::from(ROUNDS);
    let settings = "processes=4 uid=65534 room=skip begin=line";
    let settings = format!("{settings} milliseconds={milliseconds}");
    let mut crowd = flood(&observer, "honest", &settings);
    keep_off(crowd.pid());
    busy::make_idle(crowd.pid());
    let rings: Vec<RingHead> = rings_of(observer.pid()).iter().map(RingHead::of).collect();
    crowd.write_line("");
    let other = thread::spawn(move || {
        busy::run_beside_holder(false);
        for _ in 0..ROUNDS {
            let end = Instant::now() + BUSY;
            while Instant::now() < end {}
            thread::sleep(IDLE);
        }
    });
    busy::run_beside_holder(true);
    let mut held = 0;
    let mut first: Option<(Instant, Vec<Option<u64>>)> = None;
    while !other.is_finished() {
        let heads: Vec<Option<u64>> = rings.iter().map(RingHead::busy).collect();
        match &first {
            Some((since, seen)) if *seen == heads && heads.iter().any(Option::is_some) => {
                if since.elapsed() > BUSY / 2 {
                    held += 1;
                    first = None;
                }
            }
            _ => first = Some((Instant::now(), heads)),
        }
        thread::sleep(Duration::from_millis(1));
    }
    other.join().expect("it waits");
    println!("held up {held} times in {ROUNDS}");
    assert!(crowd.number() > 0);
    crowd.finish_well();
    // A hypervisor may take the CPU away itself.
    assert!(held <= 1, "{held} times");
}

/// A stall is reported while the writer is still at it, and the observer sleeps
/// meanwhile.
#[test]
fn a_preempted_writer_delays_no_stall() {
    const LONG: Duration = Duration::from_millis(2500);
    need_kernel!();
    for ingest in ["socket", "ring"] {
        let observer = start(Setup::new(300).arg("--ingest").arg(ingest));
        let mut agent = pulse(&observer, 20, 3);
        observer.expect_count("beats", 3, |event| is(event, "beat"));
        let before = procfs::cpu_time(observer.pid());
        let holders = hold(&observer, LONG);
        let stall = observer.expect("a stall", |event| is(event, "stall"));
        let is_over = holders.iter().all(Holder::is_over);
        assert!(!is_over, "{ingest}: the stall came late");
        assert_eq!(stall["pid"], agent.pid());
        for holder in holders {
            holder.wait();
        }
        let spent = procfs::cpu_time(observer.pid()).saturating_sub(before);
        assert!(spent < LONG / 5 || is_emulated(), "{ingest}: {spent:?}");
        assert!(agent.finish().success());
        // Where it is slow, the agent may have been late before.
        let stalls = observer.stop().counter("stalls");
        assert!(stalls == 1 || is_emulated(), "{ingest}: {stalls} stalls");
    }
}
