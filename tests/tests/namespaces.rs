//! Pid namespaces: a number means another process in each of them.

use std::process::{self, Command};

use observer_tests::agent::Agent;
use observer_tests::namespace::{contained, nested};
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::sender;
use observer_tests::{need_kernel, observer_binary, procfs};

const LONG: u64 = 60_000;

const SENDER: &str = env!("CARGO_BIN_EXE_sender");

/// `unshare` moves only the children.
#[test]
fn an_agent_that_unshared_is_where_it_was() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut agent = sender(observer.target(), "unshare", &[]);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["pid"], agent.pid());
    assert_eq!(beat["pid_ns_inode"], procfs::pid_namespace(process::id()));
    agent.finish_well();
}

/// A child in a namespace of its own, claiming itself as the observer sees
/// it, another, and (by the number it has there) a live agent of ours.
#[test]
fn a_sender_in_another_namespace_is_a_conflict() {
    need_kernel!();
    let observer = Observer::start(LONG);
    for claimed in [0, process::id()] {
        let mut agent = sender(observer.target(), "foreign-child", &[claimed]);
        let number = if claimed == 0 { agent.pid() } else { claimed };
        let conflict = observer.expect("a conflict", |event| {
            is(event, "namespace_conflict") && event["claimed_pid"] == number
        });
        assert!(agent.finish().success());
        let inode = agent.number();
        assert_eq!(conflict["observed_ns_inode"], inode);
        assert_eq!(
            conflict["observer_ns_inode"],
            procfs::pid_namespace(process::id())
        );
        assert_eq!(conflict["sender"]["own_pid"], 1);
        assert_ne!(inode, procfs::pid_namespace(process::id()));
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// A hundred that are gone at once: the inode is the kernel's, not `/proc`'s.
#[test]
fn the_namespace_of_a_sender_that_is_gone_is_known() {
    need_kernel!();
    let observer = Observer::start(LONG);
    for count in 1..=100 {
        let mut agent = sender(observer.target(), "foreign-child", &[0]);
        let status = agent.finish();
        let inode = agent.number();
        assert!(status.success());
        let conflicts =
            observer.expect_count("conflicts", count, |event| is(event, "namespace_conflict"));
        assert_eq!(conflicts[count - 1]["observed_ns_inode"], inode);
    }
}

/// The observer in a namespace of its own knows its neighbours by the numbers
/// they have there, and believes nobody from outside.
#[test]
fn an_observer_in_a_namespace_sees_it_and_no_other() {
    need_kernel!();
    let observer = Setup::in_command(contained(observer_binary()), LONG).start();
    // From outside: SCM_CREDENTIALS has pid 0, and any claim is refused.
    let mut outsider = sender(observer.target(), "each-line", &[]);
    outsider.write_line("");
    outsider.write_line("2");
    let conflicts = observer.expect_count("conflicts", 2, |event| is(event, "namespace_conflict"));
    for conflict in &conflicts {
        assert_eq!(
            conflict["observed_ns_inode"],
            procfs::pid_namespace(process::id())
        );
        assert_eq!(conflict["sender"]["pid"], serde_json::Value::Null);
        assert_eq!(conflict["sender"]["host_pid"], outsider.pid());
        assert_eq!(conflict["sender"]["scm_pid"], 0);
    }
    // From a sibling namespace, in which it has a number that the observer's
    // has too.
    let mut sibling = contained(SENDER);
    sibling.arg("claim").arg(observer.socket()).arg("2");
    Agent::spawn(sibling).finish_well();
    let conflicts = observer.expect_count("conflicts", 3, |event| is(event, "namespace_conflict"));
    assert_eq!(conflicts[2]["sender"]["own_pid"], 1);
    assert_eq!(conflicts[2]["sender"]["pid"], serde_json::Value::Null);

    // From inside.
    let namespace = format!("/proc/{}/ns/pid_for_children", observer.pid());
    let mut insider = Command::new("nsenter");
    insider.arg(format!("--pid={namespace}")).arg("--");
    insider.arg(SENDER).arg("honest").arg(observer.socket());
    Agent::spawn(insider).finish_well();
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["pid"], beat["sender"]["own_pid"]);
    assert_ne!(beat["pid"], beat["sender"]["host_pid"]);
    assert_eq!(beat["sender"]["via"], "btf");
    assert_eq!(observer.events_where(|event| is(event, "beat")).len(), 1);
}

/// An observer in a namespace within a namespace, three deep: it knows those
/// beside it by their numbers there, and those below as conflicts.
#[test]
fn an_observer_at_any_depth_sees_its_own_level() {
    need_kernel!();
    for depth in 0..=3 {
        let mut command = nested(depth);
        command.arg(observer_binary());
        let observer = Setup::in_command(command, LONG).start();
        // Each `unshare` waits for its child.
        let within = (0..depth).fold(observer.pid(), |pid, _| procfs::child(pid));
        assert_eq!(procfs::pids(within).len(), depth + 1);
        let beside = |levels: usize| {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--pid=/proc/{within}/ns/pid"))
                .arg("--");
            let inner = nested(levels);
            if levels > 0 {
                command.arg(inner.get_program()).args(inner.get_args());
            }
            command.args([SENDER, "each-line"]);
            Agent::spawn({
                command.arg(observer.socket());
                command
            })
        };

        let mut honest = beside(0);
        let own_pid = honest.number();
        honest.write_line("");
        let beat = observer.expect("a beat", |event| is(event, "beat"));
        assert_eq!(beat["pid"], own_pid, "{depth}: {beat}");
        assert_eq!(beat["pid_ns_inode"], procfs::pid_namespace(within));
        let host_pid = beat["sender"]["host_pid"].as_u64().expect("a pid");
        let host_pid = u32::try_from(host_pid).expect("32 bits");
        assert_eq!(
            procfs::pids(host_pid).last(),
            Some(&u32::try_from(own_pid).expect("32 bits"))
        );
        honest.finish_well();

        for below in 1..=2 {
            let mut foreign = beside(below);
            assert_eq!(foreign.number(), 1);
            foreign.write_line(&own_pid.to_string());
            let conflicts =
                observer.expect_count("conflicts", below, |event| is(event, "namespace_conflict"));
            let conflict = &conflicts[below - 1];
            assert_eq!(conflict["sender"]["own_pid"], 1);
            let host_pid = conflict["sender"]["host_pid"].as_u64().expect("a pid");
            let host_pid = u32::try_from(host_pid).expect("32 bits");
            let pids = procfs::pids(host_pid);
            assert_eq!(pids.len(), depth + below + 1);
            assert_eq!(conflict["sender"]["pid"], pids[depth]);
            assert_eq!(
                conflict["observed_ns_inode"],
                procfs::pid_namespace(host_pid)
            );
            assert!(foreign.finish().success());
        }
        assert_eq!(observer.events_where(|event| is(event, "beat")).len(), 1);
    }
}
