//! `--allow-uid` and `--allow-gid`: who may be an agent, by the kernel's
//! record.

use observer_tests::agent::Agent;
use observer_tests::kernel::{self, HELPER_TIER, attested_loopback};
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::senders::sender;

const LONG: u64 = 60_000;

fn allowing(flags: &[&str]) -> Observer {
    let setup = Setup::new(LONG).args(flags.iter().copied());
    setup.start_for_all()
}

fn agent(observer: &Observer, uid: u32) -> Agent {
    sender(observer.target(), "resident-as", &[uid])
}

#[test]
fn who_is_on_no_list_is_counted_and_dropped() {
    need_kernel!();
    for flags in [
        ["--allow-uid", "4242"].as_slice(),
        ["--allow-gid", "4242"].as_slice(),
        ["--allow-uid", "1", "--allow-gid", "4242"].as_slice(),
        ["--allow-uid", "4242", "--allow-uid", "nobody"].as_slice(),
    ] {
        let observer = allowing(flags);
        let mut refused: Vec<Agent> = (0..3).map(|_| agent(&observer, 4243)).collect();
        for agent in &mut refused {
            agent.finish_well();
        }
        let mut wanted = agent(&observer, 4242);
        let beat = observer.expect("a beat", |event| is(event, "beat"));
        assert_eq!(beat["pid"], wanted.pid());
        assert_eq!(beat["sender"]["uid"], 4242);
        assert_eq!(beat["sender"]["gid"], 4242);
        wanted.finish_well();
        let remains = observer.stop();
        assert_eq!(remains.events.len(), 1, "{:?}", remains.events);
        assert_eq!(remains.counter("refused_senders"), 3);
        assert_eq!(remains.counter("beats"), 1);
        // It is logged, and not once for each.
        let logged: Vec<_> = remains
            .log
            .iter()
            .filter(|line| line.contains("refused a sender"))
            .collect();
        assert_eq!(logged.len(), 1, "{:#?}", remains.log);
        assert!(logged[0].contains("uid=4243"), "{logged:?}");
    }
}

#[test]
fn the_lists_hold_by_udp_too() {
    need_kernel!();
    let observer = allowing(&["--allow-uid", "4242", "--udp", attested_loopback()[0]]);
    let mut root = sender(observer.udp()[0], "resident", &[]);
    root.finish_well();
    let mut wanted = agent(&observer, 4242);
    observer.expect("a beat", |event| is(event, "beat"));
    wanted.finish_well();
    let remains = observer.stop();
    assert_eq!(remains.counter("refused_senders"), 1);
    assert_eq!(remains.counter("beats"), 1);
}

/// No record of the helper tier names a user: it would refuse everyone.
#[test]
fn lists_need_the_tier_that_knows_users() {
    need_kernel!();
    let directory = tempfile::tempdir().expect("a scratch directory");
    let output = std::process::Command::new(observer_tests::observer_binary())
        .args([
            "run",
            "--threshold-ms",
            "1000",
            "--tier",
            "helper",
            "--allow-uid",
            "0",
        ])
        .arg("--socket")
        .arg(directory.path().join("s"))
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(3));
    if !kernel::is_at_least(HELPER_TIER) {
        return;
    }
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("--allow-uid") && log.contains("tier btf"),
        "{log}"
    );
}
