//! Beats by UDP that a process of this host sends: attested, and each forgery
//! named.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process;
use std::thread;
use std::time::Duration;

use aya::programs::ProgramInfo;
use observer_tests::cgroup::Cgroup;
use observer_tests::kernel::{self, attested_loopback};
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::{sender, start, uring};
use observer_tests::udp::{assert_attested, beats_of, is_ipv4_attested, listening, one_address};
use observer_tests::{need_kernel, observer_binary};
use rustix::process::Signal;
use serde_json::Value;

const LONG: u64 = 60_000;

const SENDER: &str = env!("CARGO_BIN_EXE_sender");

fn on_loopback() -> Observer {
    listening(Setup::new(LONG), attested_loopback())
}

/// The program that is attached for UDP here.
fn udp_program() -> &'static str {
    if is_ipv4_attested() {
        "udp_btf"
    } else {
        "udp_btf_v6"
    }
}

#[test]
fn each_way_of_sending_is_attested() {
    need_kernel!();
    let observer = on_loopback();
    for to in observer.udp() {
        for (how, numbers, beats) in [
            ("resident", vec![], 1),
            ("unconnected", vec![], 1),
            ("many-at-once", vec![], 3),
            ("with-options", vec![], 1),
        ] {
            if how == "with-options" && to.is_ipv6() {
                continue;
            }
            let mut agent = sender(to, how, &numbers);
            let found = observer.expect_count(how, beats, beats_of(agent.pid()));
            assert_eq!(found.len(), beats, "{how}");
            for (beat, nonce) in found.iter().zip(1..) {
                assert_eq!(beat["origin"], "kernel_attested", "{how}");
                assert_eq!(beat["nonce"], nonce);
                assert_attested(beat, agent.pid());
            }
            if ["resident", "with-options"].contains(&how) {
                assert_eq!(found[0]["source"], agent.line());
            }
            agent.finish_well();
        }
    }
    let remains = observer.stop();
    assert_eq!(remains.counter("auth_failures"), 0);
    assert_eq!(remains.counter("records_expired"), 0);
}

/// Who shares a socket can add to what is collected before it is sent.
#[test]
fn a_send_that_was_collected_attests_nobody() {
    need_kernel!();
    let observer = on_loopback();
    for to in observer.udp() {
        let mut agent = sender(to, "corked", &[]);
        let refused = observer.expect("a refusal", |event| {
            is(event, "auth_failure") && event["claimed_pid"] == agent.pid()
        });
        assert_eq!(refused["cause"], "corked");
        assert_attested(&refused, agent.pid());
        assert_eq!(refused["source"], agent.line());
        agent.finish_well();
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// One send, many frames: the kernel cuts it up after the program saw it. Each
/// is known, and none is a beat.
#[test]
fn no_segment_of_one_send_is_a_beat() {
    const SEGMENTS: u32 = 64;
    need_kernel!();
    let observer = on_loopback();
    for to in observer.udp() {
        let mut agent = sender(to, "segmented", &[0, 3]);
        let decoded = observer.expect_count("pid 0", 3, |event| {
            is(event, "decode") && event["sender"]["pid"] == agent.pid()
        });
        assert_attested(&decoded[0], agent.pid());
        agent.finish_well();

        let mut forger = sender(to, "segmented", &[process::id(), SEGMENTS]);
        let forgeries = observer.expect_count("forgeries", SEGMENTS as usize, |event| {
            is(event, "auth_failure") && event["sender"]["pid"] == forger.pid()
        });
        assert!(forgeries.iter().all(|forgery| forgery["cause"] == "corked"));
        forger.finish_well();

        let mut agent = sender(to, "segmented", &[4321, 2]);
        let refused = observer.expect_count("frames", 2, |event| {
            is(event, "auth_failure") && event["claimed_pid"] == 4321
        });
        assert!(refused.iter().all(|frame| frame["cause"] == "corked"));
        agent.finish_well();
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

#[test]
fn a_forgery_by_udp_names_the_forger() {
    need_kernel!();
    let observer = on_loopback();
    let victim = process::id();
    for to in observer.udp() {
        for how in ["claim", "raw"] {
            // What an old kernel has no record of has no name (`tiers.rs`).
            if how == "raw" && (to.is_ipv6() || !is_ipv4_attested()) {
                continue;
            }
            let mut forger = sender(to, how, &[victim]);
            let forgery = observer.expect(how, |event| {
                is(event, "auth_failure") && event["sender"]["pid"] == forger.pid()
            });
            assert_eq!(forgery["claimed_pid"], victim);
            assert_eq!(forgery["cause"], "pid_mismatch");
            assert_attested(&forgery, forger.pid());
            if how == "raw" {
                assert_eq!(forgery["source"], "127.0.0.77:4242");
            }
            forger.finish_well();
        }
    }
    assert!(observer.events_where(|event| is(event, "beat")).is_empty());
}

/// The ring's kernel thread sends, in its creator's name.
#[test]
fn an_sqpoll_thread_attests_nobody() {
    need_kernel!();
    let observer = on_loopback();
    let to = observer.udp()[0].to_string();
    let mut child = uring(&to, "child", "sqpoll");
    let forgery = observer.expect("a forgery", |event| is(event, "auth_failure"));
    assert_eq!(forgery["cause"], "sqpoll");
    assert_eq!(forgery["sender"]["host_pid"], child.pid());
    child.finish_well();
    let mut inline = uring(&to, "self", "inline");
    observer.expect("a beat", beats_of(inline.pid()));
    inline.finish_well();
    assert_eq!(observer.events_where(|event| is(event, "beat")).len(), 1);
}

#[test]
fn a_sender_that_exits_at_once_is_known() {
    need_kernel!();
    let observer = on_loopback();
    let to = observer.udp()[0];
    for count in 1..=100 {
        let mut agent = sender(to, "resident", &[]);
        let pid = agent.pid();
        agent.finish_well();
        let beats = observer.expect_count("beats", count, |event| is(event, "beat"));
        assert_eq!(beats[count - 1]["sender"]["pid"], pid);
    }
}

/// However it ends, nothing of it stays attached to the host.
#[test]
fn a_killed_observer_leaves_no_program_behind() {
    need_kernel!();
    let observer = on_loopback();
    let programs = kernel::programs_of(observer.pid());
    let ids: Vec<u32> = programs.iter().map(ProgramInfo::id).collect();
    assert!(
        programs
            .iter()
            .any(|program| program.name_as_str() == Some(udp_program()))
    );
    observer.signal(Signal::KILL);
    drop(observer);
    // The kernel frees programs a little later (`bpf_prog_put`).
    for _ in 0..1000 {
        if !kernel::programs().any(|program| ids.contains(&program.id())) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("of {ids:?} some are still there");
}

#[test]
fn a_sender_in_another_cgroup_is_attested() {
    need_kernel!();
    let observer = on_loopback();
    let cgroup = Cgroup::new();
    let inside = cgroup.command(SENDER);
    let (mut agent, _) = start(inside, "resident", observer.udp()[0], &[]);
    let beat = observer.expect("a beat", beats_of(agent.pid()));
    let inode = fs::metadata(cgroup.path()).expect("it is there").ino();
    assert_eq!(beat["sender"]["cgroup_id"], inode);
    let executable = fs::metadata(SENDER).expect("it is there").ino();
    assert_eq!(beat["sender"]["exe"]["inode"], executable);
    assert_attested(&beat, agent.pid());
    agent.finish_well();
}

/// Only a cgroup's processes are seen where one is named; what others send is
/// not attested, and so refused.
#[test]
fn who_is_outside_of_the_named_cgroup_is_not_believed() {
    need_kernel!();
    let cgroup = Cgroup::new();
    // The observer has to be in it, for the self-test of the program.
    let observer = Setup::in_command(cgroup.command(observer_binary()), LONG)
        .arg("--udp")
        .arg(one_address())
        .arg("--cgroup")
        .arg(&cgroup.path().display().to_string())
        .start();
    let mut agent = sender(observer.udp()[0], "each-line", &[]);
    agent.write_line("");
    let refused = observer.expect("a refusal", |event| is(event, "auth_failure"));
    assert_eq!(refused["cause"], "unattested");
    assert_eq!(refused["sender"], Value::Null);
    assert_eq!(refused["source"], agent.line());
    agent.finish_well();
    let inside = cgroup.command(SENDER);
    let (mut agent, _) = start(inside, "resident", observer.udp()[0], &[]);
    observer.expect("a beat", beats_of(agent.pid()));
    agent.finish_well();
    drop(observer);
}

/// `--attest off` knows nobody, and each beat has the origin to match.
#[test]
fn without_attestation_all_of_it_is_the_network() {
    need_kernel!();
    let observer = Setup::new(LONG)
        .arg("--attest")
        .arg("off")
        .arg("--udp")
        .arg("127.0.0.1:0")
        .start();
    let mut agent = sender(observer.udp()[0], "claim", &[4321]);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["origin"], "network_unverified");
    assert_eq!(beat["sender"], Value::Null);
    agent.finish_well();
}
