//! `--namespaces translate`: agents that know themselves by the pids of their
//! own namespaces.

use std::process::{self, Command};

use observer_tests::agent::Agent;
use observer_tests::kernel::attested_loopback;
use observer_tests::namespace::contained;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::{need_kernel, observer_binary, procfs, senders};
use serde_json::Value;

const LONG: u64 = 60_000;
const SENDER: &str = env!("CARGO_BIN_EXE_sender");

fn translating() -> Observer {
    Setup::new(LONG)
        .arg("--namespaces")
        .arg("translate")
        .start()
}

/// A sender that beats for each line: the first process of a namespace, or its
/// second.
fn sender(observer: &Observer, pid: u32) -> Agent {
    let command = if pid == 1 {
        contained(SENDER)
    } else {
        let mut shell = contained("sh");
        shell.args(["-c", "\"$@\"; exit", "sh", SENDER]);
        shell
    };
    let (agent, own_pid) = senders::start(command, "each-line", observer.target(), &[]);
    assert_eq!(own_pid, pid);
    agent
}

fn number(value: &Value) -> u32 {
    let number = value.as_u64().expect("a number");
    u32::try_from(number).expect("32 bits")
}

/// Compares a translated agent's beat with `/proc`.
fn assert_translated(beat: &Value, own_pid: u32) {
    let pid = number(&beat["pid"]);
    assert_eq!(procfs::pids(pid), [pid, own_pid], "{beat}");
    assert_eq!(beat["origin"], "kernel_attested");
    assert_eq!(beat["sender"]["own_pid"], own_pid);
    assert_eq!(beat["sender"]["scm_pid"], pid);
    assert_eq!(beat["pid_ns_inode"], procfs::pid_namespace(pid));
    assert_ne!(beat["pid_ns_inode"], procfs::pid_namespace(process::id()));
}

#[test]
fn an_agent_in_a_container_is_tracked_by_the_pid_that_the_observer_sees() {
    need_kernel!();
    let observer = translating();
    for own_pid in [1, 2] {
        let mut agent = sender(&observer, own_pid);
        agent.write_line("");
        agent.write_line("");
        let beats = observer.expect_count("beats", 2, |event| {
            is(event, "beat") && event["sender"]["own_pid"] == own_pid
        });
        for beat in &beats {
            assert_translated(beat, own_pid);
        }
        // By its number on the host it is somebody else, and so is another.
        for claimed in [number(&beats[0]["pid"]), process::id()] {
            agent.write_line(&claimed.to_string());
            let forgery = observer.expect("a forgery", |event| {
                is(event, "auth_failure")
                    && event["claimed_pid"] == claimed
                    && event["sender"]["own_pid"] == own_pid
            });
            assert_eq!(forgery["cause"], "pid_mismatch");
        }
        agent.finish();
    }
}

#[test]
fn equal_pids_of_two_containers_are_two_agents() {
    need_kernel!();
    let observer = translating();
    let mut agents = [sender(&observer, 2), sender(&observer, 2)];
    for round in 1..=3 {
        for agent in &mut agents {
            agent.write_line("");
        }
        observer.expect_count("beats", 2 * round, |event| is(event, "beat"));
    }
    let beats = observer.events_where(|event| is(event, "beat"));
    let mut pids: Vec<u32> = beats.iter().map(|beat| number(&beat["pid"])).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 2);
    for pid in pids {
        let own: Vec<&Value> = beats.iter().filter(|beat| beat["pid"] == pid).collect();
        assert_eq!(own.len(), 3);
        assert!(
            own.iter()
                .zip(1..)
                .all(|(beat, nonce)| beat["nonce"] == nonce)
        );
        assert_translated(own[0], 2);
    }
    for agent in &mut agents {
        agent.finish();
    }
    assert_eq!(observer.stop().counter("namespace_conflicts"), 0);
}

/// The default: the number in the frame means another process here.
#[test]
fn without_the_flag_a_container_is_a_conflict() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut second = sender(&observer, 2);
    second.write_line("");
    let conflict = observer.expect("a conflict", |event| is(event, "namespace_conflict"));
    assert_eq!(conflict["claimed_pid"], 2);
    assert_eq!(
        conflict["observed_ns_inode"],
        procfs::pid_namespace(number(&conflict["sender"]["pid"]))
    );
    second.finish();
    let mut first = sender(&observer, 1);
    first.write_line("");
    let refused = observer.expect("no frame", |event| is(event, "decode"));
    assert_eq!(refused["error"], "BadPid");
    assert_eq!(refused["sender"]["own_pid"], 1);
    first.finish();
}

/// From outside of the observer's namespace, or beside it: always a conflict.
/// From a namespace below the observer's own: translated.
#[test]
fn an_observer_in_a_container_translates_what_is_below_it_only() {
    need_kernel!();
    let observer = Setup::in_command(contained(observer_binary()), LONG)
        .arg("--namespaces")
        .arg("translate")
        .arg("--udp")
        .arg(attested_loopback()[0])
        .arg("--accept-network-beats")
        .start();

    let mut outsider = senders::sender(observer.target(), "each-line", &[]);
    outsider.write_line("");
    outsider.write_line("2");
    let mut sibling = sender(&observer, 2);
    sibling.write_line("");
    let conflicts = observer.expect_count("conflicts", 3, |event| is(event, "namespace_conflict"));
    for conflict in &conflicts {
        assert_eq!(conflict["sender"]["pid"], Value::Null, "{conflict}");
        assert_eq!(conflict["sender"]["scm_pid"], 0);
    }
    // By UDP it is no better: it is local, and it is outside.
    let mut by_udp = senders::sender(observer.udp()[0], "resident", &[]);
    let conflict = observer.expect("a conflict by UDP", |event| {
        is(event, "namespace_conflict") && event["source"].is_string()
    });
    assert_eq!(conflict["sender"]["host_pid"], by_udp.pid());
    by_udp.finish_well();
    // Pid 1 of a sibling is no honest claim here.
    let mut first = sender(&observer, 1);
    first.write_line("");
    observer.expect("no frame", |event| is(event, "decode"));

    let namespace = format!("/proc/{}/ns/pid_for_children", observer.pid());
    let mut below = Command::new("nsenter");
    below.arg(format!("--pid={namespace}")).arg("--");
    below.args(["unshare", "--pid", "--fork", "--kill-child", "--"]);
    below.arg(SENDER);
    let (mut below, own_pid) = senders::start(below, "each-line", observer.target(), &[]);
    assert_eq!(own_pid, 1);
    below.write_line("");
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    let host_pid = number(&beat["sender"]["host_pid"]);
    assert_eq!(procfs::pids(host_pid), [host_pid, number(&beat["pid"]), 1]);
    assert_eq!(beat["pid_ns_inode"], procfs::pid_namespace(host_pid));
    assert_eq!(observer.events_where(|event| is(event, "beat")).len(), 1);
    for agent in [&mut outsider, &mut sibling, &mut first, &mut below] {
        agent.finish();
    }
}

/// By UDP the kernel's record has the same.
#[test]
fn a_container_is_translated_by_udp_too() {
    need_kernel!();
    let observer = Setup::new(LONG)
        .arg("--namespaces")
        .arg("translate")
        .arg("--udp")
        .arg(attested_loopback()[0])
        .start();
    let (mut agent, own_pid) =
        senders::start(contained(SENDER), "resident", observer.udp()[0], &[]);
    assert_eq!(own_pid, 1);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    let pid = number(&beat["pid"]);
    assert_eq!(procfs::pids(pid), [pid, 1]);
    assert_eq!(beat["pid_ns_inode"], procfs::pid_namespace(pid));
    agent.finish();
}
