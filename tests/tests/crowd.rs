//! Many processes at once: what each may send is little, and what they may send
//! together is bounded too.

use std::process::Command;
use std::thread;
use std::time::Duration;

use observer_tests::agent::Agent;
use observer_tests::attacker::NOBODY;
use observer_tests::cgroup::Cgroup;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::{flood, sender};
use observer_tests::{is_emulated, need_kernel};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;

/// Much for each process, and little for all strangers of a user or cgroup.
const LIMITS: [&str; 4] = ["--max-beat-rate", "200", "--max-group-rate", "1"];

/// With a queue that is no bottleneck, on a socket that everybody may send to.
fn start(flags: &[&str]) -> Observer {
    Setup::with_queue_limit(512, LONG)
        .args(flags.iter().copied())
        .start_for_all()
}

/// Processes of a user that wait for a line, and for no room in the queue.
fn crowd(
    observer: &Observer,
    kind: &str,
    processes: u64,
    count: u64,
    ms: u64,
    user: &str,
) -> Agent {
    let settings = format!(
        "processes={processes} count={count} milliseconds={ms} uid={user} room=skip begin=line"
    );
    flood(observer, kind, &settings)
}

/// Has them send; how many sends succeeded, and how many found no room.
fn send(crowd: &mut Agent) -> (u64, u64) {
    crowd.write_line("");
    let counts = (crowd.number(), crowd.number());
    crowd.finish_well();
    counts
}

/// An agent that sends so many beats as a line asks for.
fn agent(observer: &Observer, user: u32) -> Agent {
    sender(observer.target(), "volleys-as", &[user])
}

fn beat(agent: &mut Agent, count: u64) {
    agent.write_line(&format!("{} {count}", agent.pid()));
    assert_eq!(agent.line(), "sent");
}

fn beats(events: &[Value], pid: u32) -> u64 {
    let of_pid = |event: &&Value| is(event, "beat") && event["pid"] == pid;
    events.iter().filter(of_pid).count() as u64
}

/// Strangers of one user share a budget, however many they are, and what is
/// dropped of them is counted.
#[test]
fn strangers_of_a_user_share_a_budget() {
    need_kernel!();
    for ingest in ["socket", "ring"] {
        let observer = start(&[&LIMITS[..], &["--ingest", ingest]].concat());
        let mut crowd = crowd(&observer, "noise", 32, 100, LONG, "65534");
        let (sent, refused) = send(&mut crowd);
        let remains = observer.stop();
        let counters = &remains.counters;
        let passed = remains.counter("decode_errors");
        assert_eq!(sent + refused, 3200);
        assert_eq!(passed + remains.counter("throttled"), sent, "{counters}");
        // Two at once, and one a second; the queue alone has room for 513.
        assert!((1..100).contains(&passed), "{ingest}: {counters}");
        let is_named = |line: &String| line.contains("--max-group-rate");
        assert!(remains.log.iter().any(is_named), "{:#?}", remains.log);
    }
}

/// Strangers of many users in one cgroup share that cgroup's.
#[test]
fn strangers_in_a_cgroup_share_a_budget() {
    need_kernel!();
    let observer = start(&LIMITS);
    let cgroup = Cgroup::new();
    let mut crowd = crowd(&observer, "noise", 32, 100, LONG, "70000+");
    cgroup.take(crowd.pid());
    let (sent, _) = send(&mut crowd);
    let remains = observer.stop();
    let counters = &remains.counters;
    let passed = remains.counter("decode_errors");
    assert_eq!(passed + remains.counter("throttled"), sent, "{counters}");
    assert!((1..100).contains(&passed), "{counters}");
}

/// An agent has a budget of its own: who floods as its user mutes neither it nor
/// anybody of another user.
#[test]
fn an_agent_is_not_muted_by_its_users_strangers() {
    need_kernel!();
    for ingest in ["socket", "ring"] {
        let observer = start(&[&LIMITS[..], &["--ingest", ingest]].concat());
        let cgroup = Cgroup::new();
        let mut agents = [NOBODY, 4242].map(|user| agent(&observer, user));
        let [known, _] = &mut agents;
        beat(known, 1);
        observer.expect("a first beat", |event| is(event, "beat"));
        let mut crowd = crowd(&observer, "noise", 16, 50, LONG, "65534");
        cgroup.take(crowd.pid());
        send(&mut crowd);
        let [known, other] = &mut agents;
        beat(known, 100);
        beat(other, 1);
        let remains = observer.stop();
        assert_eq!(
            beats(&remains.events, known.pid()),
            101,
            "{ingest}: {}",
            remains.counters
        );
        assert_eq!(
            beats(&remains.events, other.pid()),
            1,
            "{ingest}: {}",
            remains.counters
        );
        for agent in &mut agents {
            agent.finish_well();
        }
    }
}

/// While the observer gets no CPU, one sender fills a part of the ring only, and
/// there is room for others.
#[test]
fn nobody_fills_the_ring_alone() {
    need_kernel!();
    let observer = start(&["--ingest", "ring", "--ring-bytes", "65536"]);
    let mut agent = agent(&observer, 4242);
    observer.signal(Signal::STOP);
    let mut crowd = crowd(&observer, "noise", 4, 400, LONG, "65534");
    send(&mut crowd);
    beat(&mut agent, 3);
    observer.signal(Signal::CONT);
    observer.expect_count("beats", 3, |event| is(event, "beat"));
    agent.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("ring_full"), 0, "{}", remains.counters);
    // Of 455 records that it has room for, a half are never taken by anyone.
    assert!(
        remains.counter("decode_errors") < 228,
        "{}",
        remains.counters
    );
}

/// A crowd floods, mostly with sends that fail, while others of the same user
/// beat: each of their beats that the kernel took is reported, and none of them
/// is reported as stalled.
#[test]
fn a_crowd_costs_no_beat_that_the_kernel_took() {
    const AGENTS: usize = 20;
    need_kernel!();
    if is_emulated() {
        return;
    }
    for (kind, ingest) in [
        ("noise", "socket"),
        ("honest", "socket"),
        ("honest", "ring"),
    ] {
        let observer = Setup::with_queue_limit(10, 2000)
            .args(["--events", "notable", "--ingest", ingest])
            .start_for_all();
        let mut agents: Vec<Agent> = (0..AGENTS).map(|_| pulse(&observer)).collect();
        // Until all have been accepted: before, they share the crowd's budget.
        thread::sleep(Duration::from_secs(1));
        let mut crowd = crowd(&observer, kind, 128, u64::MAX, 4000, "65534");
        let (sent, refused) = send(&mut crowd);
        let mut taken = 0;
        for agent in &mut agents {
            assert!(agent.finish().success());
            taken += agent.number();
        }
        let remains = observer.stop();
        let counters = &remains.counters;
        let case = format!("{kind}, {ingest}: {sent} sent, {refused} found no room; {counters}");
        println!("{case}");
        if kind == "noise" {
            // Every frame is an agent's.
            assert_eq!(remains.counter("unattested"), 0, "{case}");
            assert_eq!(remains.counter("beats"), taken, "{case}");
            assert_eq!(remains.counter("stalls"), 0, "{case}");
        }
        for pid in agents.iter().map(Agent::pid) {
            // The crowd's own agents hold the queue's eleven places by right: who
            // finds none for so long stalls.
            let may_stall = kind == "honest" && ingest == "socket";
            let wrong = remains
                .events
                .iter()
                .filter(|event| event["claimed_pid"] == pid || event["pid"] == pid && !may_stall);
            let wrong: Vec<&Value> = wrong.collect();
            assert!(wrong.is_empty(), "{wrong:#?} {case}");
        }
        assert!(refused > 0 || ingest == "ring", "{case}");
    }
}

/// An agent as the user of the crowd.
fn pulse(observer: &Observer) -> Agent {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_pulse"));
    command.arg(observer.socket()).args(["50", "0"]);
    Agent::spawn(command)
}
