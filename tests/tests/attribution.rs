//! Who sent is who is named, whatever the sender claims.

use std::process;

use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::{need_kernel, procfs, senders};
use serde_json::Value;

const LONG: u64 = 60_000;

fn sender(observer: &Observer, scenario: &str, numbers: &[u32]) -> Agent {
    senders::sender(observer.target(), scenario, numbers)
}

fn own_namespace() -> u64 {
    procfs::pid_namespace(process::id())
}

/// What the kernel's record must say of a sender that is still there.
fn assert_is(sender: &Value, pid: u32) {
    assert_eq!(sender["pid"], pid);
    assert_eq!(sender["own_pid"], pid);
    assert_eq!(sender["host_pid"], pid);
    assert_eq!(sender["pid_ns_inode"], own_namespace());
    assert_eq!(sender["via"], "btf");
    let start_ns = sender["start_ns"].as_u64().expect("a start time");
    // A clock tick of /proc is 10 ms (`USER_HZ`).
    assert_eq!(start_ns / 10_000_000, procfs::start_ticks(pid));
}

#[test]
fn an_honest_beat_has_all_of_its_sender() {
    need_kernel!();
    let observer = Setup::new(LONG).arg("--socket-mode").arg("0666").start();
    let mut agent = sender(&observer, "resident-as", &[65534]);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["pid"], agent.pid());
    assert_eq!(beat["origin"], "kernel_attested");
    assert_eq!(beat["pid_ns_inode"], own_namespace());
    assert_is(&beat["sender"], agent.pid());
    assert_eq!(beat["sender"]["tid"], agent.pid());
    assert_eq!(beat["sender"]["uid"], 65534);
    assert_eq!(beat["sender"]["comm"], "sender");
    assert_eq!(beat["sender"]["scm_pid"], agent.pid());
    agent.finish_well();
    assert!(observer.stop().status.success());
}

/// The forms of a false claim: each has its cause, none is a beat.
#[test]
fn a_claim_is_compared_with_the_kernels_record() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let victim = sender(&observer, "each-line", &[]);
    let cases = [
        ("claim", vec![victim.pid()], "pid_mismatch"),
        (
            "forge",
            vec![victim.pid(), victim.pid()],
            "forged_credentials",
        ),
    ];
    for (scenario, numbers, cause) in cases {
        let mut forger = sender(&observer, scenario, &numbers);
        let failure = observer.expect(scenario, |event| {
            is(event, "auth_failure") && event["cause"] == cause
        });
        assert_eq!(failure["claimed_pid"], victim.pid());
        assert_eq!(failure["sender"]["pid"], forger.pid(), "{scenario}");
        forger.finish_well();
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// Forged credentials are a forgery even where the frame is honest.
#[test]
fn forged_credentials_around_an_honest_frame_are_refused() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut forger = sender(&observer, "each-line", &[]);
    let own = forger.pid();
    let mut other = sender(&observer, "forge", &[own, own]);
    let failure = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(failure["cause"], "forged_credentials");
    assert_eq!(failure["sender"]["pid"], other.pid());
    assert_eq!(failure["sender"]["scm_pid"], own);
    other.finish_well();
    forger.finish_well();
}

#[test]
fn a_child_with_an_inherited_socket_is_named_itself() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut parent = sender(&observer, "child", &[1]);
    let child = parent.number();
    let failure = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(failure["cause"], "pid_mismatch");
    assert_eq!(failure["claimed_pid"], parent.pid());
    assert_eq!(failure["sender"]["pid"], child);
    parent.finish_well();

    let mut parent = sender(&observer, "child", &[0]);
    let child = parent.number();
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["pid"], child);
    parent.finish_well();
}

#[test]
fn a_passed_socket_does_not_pass_its_owners_name() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut owner = sender(&observer, "pass", &[]);
    let thief = owner.number();
    let failure = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(failure["claimed_pid"], owner.pid());
    assert_eq!(failure["sender"]["pid"], thief);
    owner.finish_well();
}

#[test]
fn a_thread_is_its_process_and_not_itself() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut agent = sender(&observer, "threads", &[]);
    let thread = agent.number();
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(
        (&beat["pid"], &beat["sender"]["tid"]),
        (&agent.pid().into(), &thread.into())
    );
    let failure = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(failure["cause"], "pid_mismatch");
    assert_eq!(failure["claimed_pid"], thread);
    agent.finish_well();
}

/// `/proc` no longer has anything about them.
#[test]
fn a_hundred_senders_that_are_gone_at_once_are_known() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut pids: Vec<u32> = (0..100)
        .map(|_| {
            let mut agent = sender(&observer, "honest", &[]);
            agent.finish_well();
            agent.pid()
        })
        .collect();
    let beats = observer.expect_count("beats", 100, |event| is(event, "beat"));
    let mut named: Vec<u32> = beats
        .iter()
        .map(|beat| {
            assert_eq!(beat["pid_ns_inode"], own_namespace());
            assert_eq!(beat["sender"]["pid"], beat["pid"]);
            serde_json::from_value(beat["pid"].clone()).expect("a pid")
        })
        .collect();
    pids.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, pids);
}

/// The same 32 bytes from two senders at the same time: of each pair one is the
/// beat and the other the forgery, with forged credentials too.
#[test]
fn identical_bytes_of_two_senders_are_told_apart() {
    const ROUNDS: u8 = 100;
    need_kernel!();
    for (forged, cause) in [(false, "pid_mismatch"), (true, "forged_credentials")] {
        let observer = Observer::start(LONG);
        let mut honest = sender(&observer, "each-line", &[]);
        let victim = honest.pid();
        let scm_pid = if forged { victim } else { 0 };
        let mut forger = sender(&observer, "echo", &[victim, scm_pid, u32::from(ROUNDS)]);
        // The forger's rounds begin at nonce 2.
        honest.write_line("");
        for round in 1..=usize::from(ROUNDS) {
            honest.write_line("");
            forger.write_line("");
            let beats = observer.expect_count("beats", round + 1, |event| is(event, "beat"));
            assert_eq!(beats[round]["sender"]["pid"], victim);
            let forgeries =
                observer.expect_count("forgeries", round, |event| is(event, "auth_failure"));
            assert_eq!(forgeries[round - 1]["sender"]["pid"], forger.pid());
            assert_eq!(forgeries[round - 1]["cause"], cause);
        }
        honest.finish_well();
        forger.finish_well();
        let remains = observer.stop();
        assert_eq!(remains.events.len(), 2 * usize::from(ROUNDS) + 1);
        assert_eq!(remains.counter("unattested"), 0);
    }
}
