//! Agents come, go and begin again, and are known for what they are.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{self, Command};

use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, Remains, Setup, is};
use observer_tests::senders::sleepers;
use observer_tests::{need_kernel, observer_binary, procfs};
use serde_json::Value;

const LONG: u64 = 60_000;
/// The user that the tests run as.
const ROOT: u32 = 0;
/// A threshold that some tests outlast, and a busy machine does not.
const SHORT: u64 = 1_500;
/// Beats that last longer than [`SHORT`], at 25 ms each.
const MANY: u64 = 80;

fn session(observer: &Observer, scenario: &str, numbers: &[u64]) -> Agent {
    let socket = observer.target();
    let numbers = numbers.iter().map(u64::to_string);
    let arguments = [scenario.to_owned(), socket].into_iter().chain(numbers);
    Agent::start(env!("CARGO_BIN_EXE_session"), arguments)
}

fn is_beat(event: &Value) -> bool {
    is(event, "beat")
}

fn nonces(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .filter(|event| is_beat(event))
        .map(|event| event["nonce"].as_u64().expect("a nonce"))
        .collect()
}

/// Stops the observer: all of `sent` were beats, and nothing else was reported.
fn stop_after(observer: Observer, sent: u64) -> Remains {
    let count = usize::try_from(sent).expect("a count");
    observer.expect_count("all beats", count, is_beat);
    let remains = observer.stop();
    assert!(remains.status.success());
    assert_eq!(remains.counter("beats"), sent);
    assert_eq!(remains.counter("stale_nonces"), 0);
    assert_eq!(remains.counter("stalls"), 0);
    assert_eq!(remains.events.len(), count, "{:#?}", remains.events);
    remains
}

/// Sends one frame with each of the nonces, in order.
fn send_each(agent: &mut Agent, nonces: &[u64]) {
    for nonce in nonces {
        agent.write_line(&nonce.to_string());
        assert_eq!(agent.line(), "sent");
    }
}

#[test]
fn a_second_handle_in_a_process_beats_too() {
    need_kernel!();
    let observer = Observer::start(SHORT);
    let mut agent = session(&observer, "handles", &[MANY]);
    let sent = agent.number();
    let remains = stop_after(observer, sent);
    // 20 of the first, 10 of each, and the second from 11 on.
    assert_eq!(nonces(&remains.events).last(), Some(&(10 + MANY)));
    agent.finish_well();
}

/// The pid and the start time stay, the nonces begin again.
#[test]
fn an_agent_goes_on_after_exec() {
    need_kernel!();
    for scenario in ["exec", "exec-thread"] {
        let observer = Observer::start(SHORT);
        let mut agent = session(&observer, scenario, &[100, MANY]);
        let sent = agent.number() + agent.number();
        let remains = stop_after(observer, sent);
        let restarts = nonces(&remains.events)
            .iter()
            .filter(|&&nonce| nonce == 1)
            .count();
        assert_eq!(restarts, 2, "{scenario}");
        for beat in &remains.events {
            assert_eq!(beat["pid"], agent.pid(), "{scenario}");
            assert_eq!(
                beat["sender"]["start_ns"], remains.events[0]["sender"]["start_ns"],
                "{scenario}"
            );
        }
        agent.finish_well();
    }
}

/// A last frame that was not the last.
#[test]
fn an_agent_goes_on_after_a_caught_panic() {
    need_kernel!();
    let observer = Observer::start(SHORT);
    let mut agent = session(&observer, "panic", &[MANY]);
    let sent = agent.number() + 1 + agent.number();
    let remains = stop_after(observer, sent);
    let last_frames: Vec<&Value> = remains
        .events
        .iter()
        .filter(|beat| beat["nonce"] == u64::MAX)
        .collect();
    assert_eq!(last_frames.len(), 1);
    assert_eq!(last_frames[0]["status"], "critical");
    assert_eq!(nonces(&remains.events).last(), Some(&(2 * MANY)));
    agent.finish_well();
}

/// A nonce that is not above the last is a replay: counted, no event.
#[test]
fn a_stale_nonce_is_counted() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut agent = session(&observer, "lines", &[]);
    send_each(&mut agent, &[5, 3, 6]);
    observer.expect_count("two beats", 2, is_beat);
    agent.finish_well();
    let remains = observer.stop();
    assert_eq!(nonces(&remains.events), [5, 6]);
    assert_eq!(remains.events.len(), 2);
    assert_eq!(remains.counter("stale_nonces"), 1);
}

/// From a sender that the kernel names, 0 or 1 begins a session, and what was
/// stale in the session before is new again.
#[test]
fn a_low_nonce_begins_a_session() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut agent = session(&observer, "lines", &[]);
    send_each(&mut agent, &[1, 2, 3, 1, 2, 3, 2, 0, 9]);
    observer.expect("the last", |event| is_beat(event) && event["nonce"] == 9);
    agent.finish_well();
    let remains = observer.stop();
    assert_eq!(nonces(&remains.events), [1, 2, 3, 1, 2, 3, 0, 9]);
    assert_eq!(remains.counter("stale_nonces"), 1);
}

/// A process that got the pid of one that died is another agent: its low
/// nonces are new, and the stall of the dead one is still reported, once.
#[test]
fn a_recycled_pid_is_a_new_agent() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let control = scratch.path().join("control");
    let mut command = Command::new(env!("CARGO_BIN_EXE_session"));
    command
        .arg("namespace")
        .arg(&control)
        .arg(observer_binary());
    let observer = Setup::in_command(command, SHORT).start();
    let mut init = UnixStream::connect(&control).expect("the helper is there");
    let mut responses = BufReader::new(init.try_clone().expect("a descriptor"));
    let mut start = |scenario: &str, nonce: u64| {
        let socket = observer.socket();
        writeln!(init, "1000 {scenario} {} {nonce}", socket.display()).expect("it reads");
        let mut pid = String::new();
        responses.read_line(&mut pid).expect("text");
        assert_eq!(pid.trim_end(), "1000", "it has another pid");
    };

    start("once", 100);
    let dead = observer.expect("the first's beat", is_beat);
    start("steady", 5);
    let fresh = observer.expect("the second's beat", |event| {
        is_beat(event) && event["nonce"] == 5
    });
    for beat in [&dead, &fresh] {
        assert_eq!(beat["pid"], 1000);
        assert_eq!(beat["origin"], "kernel_attested");
        assert_eq!(beat["sender"]["own_pid"], 1000);
        assert_ne!(beat["sender"]["host_pid"], 1000);
    }
    assert_eq!(dead["nonce"], 100);
    assert_ne!(dead["sender"]["start_ns"], fresh["sender"]["start_ns"]);

    let stall = observer.expect("the first's stall", |event| is(event, "stall"));
    assert_eq!(stall["pid"], 1000);
    assert_eq!(stall["last_nonce"], 100);
    assert_eq!(stall["sender"]["start_ns"], dead["sender"]["start_ns"]);
    // The second outlasts another threshold.
    let end = fresh["observer_ns"].as_u64().expect("a time") + 3 * SHORT * 1_000_000;
    observer.expect("the second's later beats", |event| {
        is_beat(event) && event["observer_ns"].as_u64().is_some_and(|now| now > end)
    });
    let remains = observer.stop();
    assert!(remains.status.success());
    assert_eq!(remains.counter("stalls"), 1);
    assert_eq!(remains.counter("stale_nonces"), 0);
    let sent: Vec<u64> = nonces(&remains.events);
    assert_eq!(sent[0], 100);
    assert!(
        sent[1..].iter().copied().eq((5..).take(sent.len() - 1)),
        "beats are missing: {sent:?}"
    );
}

/// Each is gone before anyone can look it up, and is known all the same.
#[test]
fn a_thousand_agents_each_beat_once_and_end() {
    need_kernel!();
    let observer = Observer::start(SHORT);
    sleepers(&observer, ROOT, 1000, "end").finish_well();
    observer.expect_count("all beats", 1000, is_beat);
    observer.expect_count("all stalls", 1000, |event| is(event, "stall"));
    let remains = observer.stop();
    let namespace = procfs::pid_namespace(process::id());
    for event in &remains.events {
        assert_eq!(event["origin"], "kernel_attested");
        assert_eq!(event["pid_ns_inode"], namespace);
        assert_eq!(event["pid"], event["sender"]["pid"]);
    }
    for name in ["beat", "stall"] {
        let agents: HashSet<u64> = remains
            .events
            .iter()
            .filter(|event| is(event, name))
            .filter_map(|event| event["pid"].as_u64())
            .collect();
        assert_eq!(agents.len(), 1000, "{name}");
    }
    assert_eq!(remains.events.len(), 2000);
}

/// The dead do not fill the table: their slots are free as soon as their stalls
/// have been reported.
#[test]
fn dead_agents_are_evicted() {
    const SLOTS: u64 = 100;
    need_kernel!();
    let observer = Setup::new(100)
        .arg("--max-agents")
        .arg(&SLOTS.to_string())
        .start();
    for round in 1..=10 {
        sleepers(&observer, ROOT, SLOTS, "end").finish_well();
        let all = usize::try_from(round * SLOTS).expect("few");
        observer.expect_count("all beats", all, is_beat);
        observer.expect_count("all stalls", all, |event| is(event, "stall"));
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("beats"), 1000);
    assert_eq!(remains.counter("stalls"), 1000);
    assert_eq!(remains.counter("refused_full"), 0);
    assert_eq!(remains.counter("evicted_silent"), 900);
}

/// A live agent keeps its slot, whoever else comes.
#[test]
fn a_full_table_refuses_newcomers_until_agents_stall() {
    need_kernel!();
    let observer = Setup::new(SHORT).arg("--max-agents").arg("2").start();
    let mut agents: Vec<Agent> = (0..3).map(|_| session(&observer, "lines", &[])).collect();
    let pids: Vec<u32> = agents.iter().map(Agent::pid).collect();
    for agent in &mut agents {
        send_each(agent, &[1]);
    }
    // What is sent after it is received after it.
    send_each(&mut agents[0], &[2]);
    let beats = observer.expect_count("beats of the first two", 3, is_beat);
    let senders: Vec<&Value> = beats.iter().map(|beat| &beat["pid"]).collect();
    assert_eq!(senders, [pids[0], pids[1], pids[0]]);

    let stalls = observer.expect_count("two stalls", 2, |event| is(event, "stall"));
    let stalled: Vec<&Value> = stalls.iter().map(|stall| &stall["pid"]).collect();
    assert_eq!(stalled, [pids[1], pids[0]]);
    send_each(&mut agents[2], &[2]);
    observer.expect("the third's beat", |event| {
        is_beat(event) && event["pid"] == pids[2]
    });
    for agent in &mut agents {
        agent.finish_well();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("refused_full"), 1);
    assert_eq!(remains.counter("evicted_silent"), 1);
    assert_eq!(remains.counter("beats"), 4);
}
