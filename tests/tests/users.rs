//! `--allow-uid` and `--allow-gid`: who may be an agent, by the kernel's
//! record.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use observer_tests::agent::Agent;
use observer_tests::btf::{KERNEL_BTF, Types};
use observer_tests::kernel::{self, HELPER_TIER, attested_loopback};
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, Setup, is};
use observer_tests::privilege::{Binary, Privilege};
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

/// With types from a file nothing but a proof says that the user in a record is
/// the sender's. Who can change its ids can prove it.
#[test]
fn lists_with_types_from_a_file_need_a_proof() {
    const WITH_IDS: Privilege = Privilege::Nobody(&["bpf", "perfmon", "setuid", "setgid"]);
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let copy = folder.path().join("vmlinux.btf");
    fs::copy(KERNEL_BTF, &copy).expect("there is room");
    let copy = copy.display().to_string();
    let binary = Binary::new();
    for list in [["--allow-uid", "0"], ["--allow-gid", "0"]] {
        let with_file = [&["--btf", &copy], &list[..]].concat();
        for (privilege, flags, starts) in [
            (Privilege::Root, &with_file[..], true),
            (WITH_IDS, &with_file, true),
            (Privilege::BTF, &with_file, false),
            (Privilege::BTF, &list, true),
            (Privilege::BTF, &with_file[..2], true),
        ] {
            let context = format!("{privilege:?} {flags:?}");
            match binary.start(privilege, flags) {
                Ok(_) => assert!(starts, "{context}"),
                Err(remains) => {
                    let log = remains.log.join("\n");
                    assert!(!starts, "{context}: {log}");
                    assert_eq!(remains.status.code(), Some(3), "{context}: {log}");
                    assert!(log.contains("proof") && log.contains("CAP_SETUID"), "{log}");
                }
            }
        }
    }
}

/// What let a process of uid 1000 pass for root: a field that is elsewhere, and
/// that reads 0 there.
#[test]
fn no_mistake_in_a_file_lets_a_stranger_in() {
    need_kernel!();
    let types = Types::of_this_kernel();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("vmlinux.btf");
    for (structure, name, instead) in [
        ("task_struct", "cred", "ptracer_cred"),
        ("cred", "uid", "securebits"),
        ("cred", "gid", "securebits"),
    ] {
        let (member, other) = (types.find(structure, name), types.find(structure, instead));
        fs::write(&file, types.with(&member, other.bits)).expect("there is room");
        let flags = ["--btf", &file.display().to_string(), "--allow-uid", "0"];
        let remains = Binary::new().start(Privilege::Root, &flags).err();
        let remains = remains.expect("a record names the wrong user");
        assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
        let log = remains.log.join("\n");
        assert!(log.contains("self-test"), "{structure}.{name}: {log}");
    }
}
