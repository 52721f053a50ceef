//! A full table of agents: who fills it shuts nobody else out.

use observer_tests::agent::Agent;
use observer_tests::attacker::NOBODY;
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::prometheus::{get, metrics_port};
use observer_tests::senders::{sender, sleepers};
use serde_json::Value;

const LONG: u64 = 60_000;
const SLOTS: u64 = 64;
/// The user that honest agents are.
const SERVICE: u32 = 4242;

/// An observer that every user can send to, and the port of its metrics.
fn observer() -> (Observer, u16) {
    let observer = Setup::new(LONG)
        .arg("--max-agents")
        .arg(&SLOTS.to_string())
        .args(["--metrics", "0"])
        .start_for_all();
    let port = metrics_port(&observer);
    (observer, port)
}

/// An agent that beats once for each `PID 1` on its stdin.
fn agent(observer: &Observer) -> Agent {
    sender(observer.target(), "volleys-as", &[SERVICE])
}

fn beat(observer: &Observer, agent: &mut Agent, times: usize) {
    let pid = agent.pid();
    agent.write_line(&format!("{pid} 1"));
    assert_eq!(agent.line(), "sent");
    observer.expect_count("its beats", times, |event| {
        is(event, "beat") && event["pid"] == pid
    });
}

/// Newcomers get a slot, agents that have one keep it, and the operator
/// learns who fills the table.
#[test]
fn sleepers_that_fill_the_table_shut_nobody_out() {
    need_kernel!();
    let (observer, port) = observer();
    let mut early = agent(&observer);
    beat(&observer, &mut early, 1);
    let mut crowd = sleepers(&observer, NOBODY, SLOTS + 6, "sleep");
    let mut late: Vec<Agent> = (0..5).map(|_| agent(&observer)).collect();
    for agent in &mut late {
        beat(&observer, agent, 1);
    }
    for agent in late.iter_mut().chain([&mut early]) {
        beat(&observer, agent, 2);
    }
    let (_, metrics) = get(port, "/metrics").expect("a response");
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
    let notices = observer.notices();
    let is_full = |notice: &&Value| notice["notice"] == "table_full";
    let full = notices.iter().find(is_full).expect("a notice");
    assert_eq!(full["largest"]["uid"], 65534, "{full}");
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
