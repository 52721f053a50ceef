//! `--namespaces translate`: agents that know themselves by the pids of their
//! own namespaces.

use std::process::{self, Command};

use observer_tests::agent::Agent;
use observer_tests::kernel::attested_loopback;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::{need_kernel, observer_binary, procfs};
use serde_json::Value;

const LONG: u64 = 60_000;
const SENDER: &str = env!("CARGO_BIN_EXE_sender");

fn translating() -> Observer {
    Setup::new(LONG)
        .arg("--namespaces")
        .arg("translate")
        .start()
}

/// A command in a new pid namespace; its first process.
fn contained(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(program);
    command
}

/// A sender that beats for each line that it is told: the first process of a
/// namespace, or its second.
fn sender(observer: &Observer, pid: u32) -> Agent {
    let socket = observer.socket();
    let mut command = if pid == 1 {
        contained(SENDER)
    } else {
        let mut shell = contained("sh");
        shell.args(["-c", "\"$@\"; exit", "sh", SENDER]);
        shell
    };
    command.arg("each-line").arg(socket);
    let mut agent = Agent::spawn(command);
    assert_eq!(agent.number(), u64::from(pid), "its own pid");
    agent
}

fn number(value: &Value) -> u32 {
    let number = value.as_u64().expect("a number");
    u32::try_from(number).expect("32 bits")
}

/// What a beat says of a translated agent, compared with `/proc`.
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
        agent.tell("");
        agent.tell("");
        let beats = observer.expect_count("beats", 2, |event| {
            is(event, "beat") && event["sender"]["own_pid"] == own_pid
        });
        for beat in &beats {
            assert_translated(beat, own_pid);
        }
        // By its number on the host it is somebody else, and so is another.
        for claimed in [number(&beats[0]["pid"]), process::id()] {
            agent.tell(&claimed.to_string());
            let lie = observer.expect("a lie", |event| {
                is(event, "auth_failure")
                    && event["claimed_pid"] == claimed
                    && event["sender"]["own_pid"] == own_pid
            });
            assert_eq!(lie["cause"], "pid_mismatch");
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
            agent.tell("");
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
    second.tell("");
    let conflict = observer.expect("a conflict", |event| is(event, "namespace_conflict"));
    assert_eq!(conflict["claimed_pid"], 2);
    assert_eq!(
        conflict["observed_ns_inode"],
        procfs::pid_namespace(number(&conflict["sender"]["pid"]))
    );
    second.finish();
    let mut first = sender(&observer, 1);
    first.tell("");
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
    let observer = Setup::in_command(contained(observer_binary().to_str().expect("text")), LONG)
        .arg("--namespaces")
        .arg("translate")
        .arg("--udp")
        .arg(attested_loopback()[0])
        .arg("--accept-network-beats")
        .start();

    let mut outsider = Agent::start(SENDER, ["each-line".into(), observer.socket()]);
    outsider.number();
    outsider.tell("");
    outsider.tell("2");
    let mut sibling = sender(&observer, 2);
    sibling.tell("");
    let conflicts = observer.expect_count("conflicts", 3, |event| is(event, "namespace_conflict"));
    for conflict in &conflicts {
        assert_eq!(conflict["sender"]["pid"], Value::Null, "{conflict}");
        assert_eq!(conflict["sender"]["scm_pid"], 0);
    }
    // By UDP it is no better: it is local, and it is outside.
    let to = observer.udp()[0].to_string();
    let mut by_udp = Agent::start(env!("CARGO_BIN_EXE_udp"), ["connected", &to]);
    let conflict = observer.expect("a conflict by UDP", |event| {
        is(event, "namespace_conflict") && event["source"].is_string()
    });
    assert_eq!(conflict["sender"]["host_pid"], by_udp.pid());
    by_udp.finish_well();
    // Pid 1 of a sibling is nobody's honest claim here.
    let mut first = sender(&observer, 1);
    first.tell("");
    observer.expect("no frame", |event| is(event, "decode"));

    let namespace = format!("/proc/{}/ns/pid_for_children", observer.pid());
    let mut below = Command::new("nsenter");
    below.arg(format!("--pid={namespace}")).arg("--");
    below.args(["unshare", "--pid", "--fork", "--kill-child", "--"]);
    below.args([SENDER, "each-line"]).arg(observer.socket());
    let mut below = Agent::spawn(below);
    assert_eq!(below.number(), 1);
    below.tell("");
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    let host_pid = number(&beat["sender"]["host_pid"]);
    assert_eq!(procfs::pids(host_pid), [host_pid, number(&beat["pid"]), 1]);
    assert_eq!(beat["pid_ns_inode"], procfs::pid_namespace(host_pid));
    assert_eq!(observer.events_where(|event| is(event, "beat")).len(), 1);
    for agent in [&mut outsider, &mut sibling, &mut first, &mut below] {
        agent.finish();
    }
}

/// By UDP the kernel's record tells the same.
#[test]
fn a_container_is_translated_by_udp_too() {
    need_kernel!();
    let observer = Setup::new(LONG)
        .arg("--namespaces")
        .arg("translate")
        .arg("--udp")
        .arg(attested_loopback()[0])
        .start();
    let mut command = contained(env!("CARGO_BIN_EXE_udp"));
    command.arg("connected").arg(observer.udp()[0].to_string());
    let mut agent = Agent::spawn(command);
    assert_eq!(agent.number(), 1);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    let pid = number(&beat["pid"]);
    assert_eq!(procfs::pids(pid), [pid, 1]);
    assert_eq!(beat["pid_ns_inode"], procfs::pid_namespace(pid));
    agent.finish();
}
