//! A full table of agents: who fills it shuts nobody else out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use observer_tests::agent::Agent;
use observer_tests::attacker::NOBODY;
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::prometheus::{get, metrics_port};
use serde_json::Value;

const LONG: u64 = 60_000;
const PLACES: u64 = 64;
/// The user that honest agents are.
const SERVICE: u32 = 4242;

/// An observer that every user can send to, and the port of its metrics.
fn observer() -> (Observer, u16) {
    let observer = Setup::new(LONG)
        .arg("--max-agents")
        .arg(&PLACES.to_string())
        .arg("--socket-mode")
        .arg("0666")
        .arg("--metrics")
        .arg("0")
        .start();
    // The scratch directory is its owner's only.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(observer.directory(), open).expect("ours");
    let port = metrics_port(&observer);
    (observer, port)
}

/// An agent that beats once for each `PID 1` on its stdin.
fn agent(observer: &Observer) -> Agent {
    let socket = observer.socket().display().to_string();
    let arguments = ["volleys-as".to_owned(), socket, SERVICE.to_string()];
    let mut agent = Agent::start(env!("CARGO_BIN_EXE_sender"), arguments);
    assert_eq!(agent.number(), u64::from(agent.pid()));
    agent
}

fn beat(observer: &Observer, agent: &mut Agent, times: usize) {
    let pid = agent.pid();
    agent.tell(&format!("{pid} 1"));
    assert_eq!(agent.line(), "sent");
    observer.expect_count("its beats", times, |event| {
        is(event, "beat") && event["pid"] == pid
    });
}

/// So many processes of a user that may do nothing; each has beaten once and
/// sleeps.
fn sleepers(observer: &Observer, count: u64) -> Agent {
    let socket = observer.socket().display().to_string();
    let arguments = [
        socket,
        NOBODY.to_string(),
        count.to_string(),
        "sleep".to_owned(),
    ];
    let mut crowd = Agent::start(env!("CARGO_BIN_EXE_sleepers"), arguments);
    assert_eq!(crowd.number(), count);
    crowd
}

/// Newcomers get a place, agents that have one keep it, and the operator
/// learns who fills the table.
#[test]
fn sleepers_that_fill_the_table_shut_nobody_out() {
    need_kernel!();
    let (observer, port) = observer();
    let mut early = agent(&observer);
    beat(&observer, &mut early, 1);
    let mut crowd = sleepers(&observer, PLACES + 6);
    let mut late: Vec<Agent> = (0..5).map(|_| agent(&observer)).collect();
    for agent in &mut late {
        beat(&observer, agent, 1);
    }
    for agent in late.iter_mut().chain([&mut early]) {
        beat(&observer, agent, 2);
    }
    let (_, metrics) = get(port, "/metrics").expect("it answers");
    for line in [
        r#"observer_agents_evicted_total{state="live"} 5"#,
        r#"observer_lost_total{stage="agent_table"} 7"#,
        "observer_owners 2",
        "observer_owner_share 32",
        "observer_largest_owner_agents 58",
    ] {
        let is_it = |other: &str| other.trim_end_matches(".0") == line;
        assert!(metrics.lines().any(is_it), "no {line} in\n{metrics}");
    }
    for agent in late.iter_mut().chain([&mut early, &mut crowd]) {
        agent.finish_well();
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("evicted_live"), 5);
    assert_eq!(remains.counter("refused_full"), 7);
    assert_eq!(remains.counter("stalls"), 0);
    let is_honest = |event: &&Value| is(event, "beat") && event["sender"]["uid"] == SERVICE;
    assert_eq!(remains.events.iter().filter(is_honest).count(), 12);
    let reported = |line: &&String| {
        line.contains("the table of agents is full") && line.contains("largest_uid=65534")
    };
    let reports = remains.log.iter().filter(reported).count();
    assert!((1..=20).contains(&reports), "{:#?}", remains.log);
}
