//! What keeps an observer with UDP listeners from starting is named: the
//! system's error alone, or a refusal to root, leaves an operator guessing.

use std::process::Command;

use observer_tests::cgroup::Cgroup;
use observer_tests::kernel::attested_loopback;
use observer_tests::observer::Setup;
use observer_tests::{need_kernel, observer_binary};

/// What an observer logs that does not start, after these commands in a network
/// namespace of its own.
fn refused_after(commands: &str, flags: &[&str]) -> String {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c"]);
    command.arg(format!("{commands} exec \"$@\""));
    command.arg("sh").arg(observer_binary());
    let remains = Setup::in_command(command, 1000)
        .args(flags.iter().copied())
        .try_start()
        .err()
        .expect("it cannot start");
    assert!(!remains.status.success());
    remains.log.join("\n")
}

#[test]
fn a_loopback_device_that_is_down_is_named() {
    need_kernel!();
    for address in attested_loopback() {
        let log = refused_after("", &["--udp", address]);
        assert!(log.contains("ip link set lo up"), "{address}: {log}");
    }
    let log = refused_after("", &["--metrics", "[::1]:0"]);
    assert!(log.contains("ip link set lo up"), "{log}");
}

#[test]
fn ipv6_that_is_disabled_is_named() {
    need_kernel!();
    let disable = "ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6;";
    for flags in [
        &["--udp", "[::1]:0"][..],
        &["--udp", "[::]:0", "--accept-network-beats"],
        &["--metrics", "[::1]:0"],
    ] {
        let log = refused_after(disable, flags);
        assert!(log.contains("disable_ipv6"), "{flags:?}: {log}");
    }
}

/// Root gets `EPERM` where somebody attached a program that lets no other in.
#[test]
fn a_program_that_lets_no_other_in_is_named() {
    need_kernel!();
    let cgroup = Cgroup::new();
    let start = || {
        Setup::new(1000)
            .args(["--udp", attested_loopback()[0], "--cgroup"])
            .arg(&cgroup.path().display().to_string())
            .try_start()
    };
    // The observer is outside of the cgroup, and so does not start anyhow.
    let log = start().err().expect("no record").log.join("\n");
    assert!(log.contains("outside of the cgroup"), "{log}");
    cgroup.close_to_other_programs();
    let remains = start().err().expect("it cannot attach");
    assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
    let log = remains.log.join("\n");
    assert!(log.contains("lets no other in"), "{log}");
    assert!(log.contains(&cgroup.path().display().to_string()), "{log}");
    assert!(log.contains("--cgroup"), "{log}");
}
