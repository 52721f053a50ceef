//! The public clients, unchanged.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, is};
use observer_tests::{need_kernel, workspace};
use varta_client::{BeatOutcome, Status, Varta};

const LONG: u64 = 60_000;

#[test]
fn the_rust_client_is_attested() {
    need_kernel!();
    let observer = Observer::start(LONG);
    let mut client = Varta::connect(observer.socket()).expect("connects");
    let sent = [
        (Status::Ok, 0, "ok"),
        (Status::Degraded, 7, "degraded"),
        (Status::Critical, u32::MAX, "critical"),
    ];
    for (status, payload, _) in sent {
        assert!(matches!(client.beat(status, payload), BeatOutcome::Sent));
    }
    let beats = observer.expect_count("beats", sent.len(), |event| is(event, "beat"));
    for (beat, (_, payload, status)) in beats.iter().zip(sent) {
        assert_eq!(beat["pid"], std::process::id());
        assert_eq!(beat["status"], status);
        assert_eq!(beat["payload"], payload);
        assert_eq!(beat["sender"]["via"], "btf");
        assert_eq!(beat["origin"], "kernel_attested");
    }
    assert!(observer.stop().status.success());
}

/// An agent outlives its observer: a send fails, and the next beats reach the
/// new observer, with nonces that go on where they were.
#[test]
fn the_rust_client_reconnects_to_a_new_observer() {
    need_kernel!();
    let directory = tempfile::tempdir().expect("a scratch directory");
    let path = directory.path().join("s");
    let first = Observer::start(LONG);
    symlink(first.socket(), &path).expect("a link");
    let mut client = Varta::connect(&path).expect("connects");
    client.set_reconnect_after(1);
    assert!(matches!(client.beat(Status::Ok, 1), BeatOutcome::Sent));
    assert_eq!(
        first.expect("a beat", |event| is(event, "beat"))["nonce"],
        1
    );
    assert!(first.stop().status.success());
    let lost = client.beat(Status::Ok, 2);
    assert!(matches!(lost, BeatOutcome::Dropped(_)), "{lost:?}");
    let second = Observer::start(LONG);
    fs::remove_file(&path).expect("the old link");
    symlink(second.socket(), &path).expect("a link");
    let sent = client.beat(Status::Ok, 3);
    assert!(matches!(sent, BeatOutcome::Sent), "{sent:?}");
    let beat = second.expect("a beat", |event| is(event, "beat"));
    assert_eq!((&beat["nonce"], &beat["payload"]), (&3.into(), &3.into()));
    assert_eq!(beat["origin"], "kernel_attested");
    assert_eq!(second.stop().counter("beats"), 1);
}

/// `VARTA_PYTHON_PATH`, else where `cargo xtask setup` puts it.
fn python_packages() -> PathBuf {
    env::var_os("VARTA_PYTHON_PATH")
        .map_or_else(|| workspace().join("target/tools/python"), PathBuf::from)
}

#[test]
fn the_python_client_is_attested() {
    need_kernel!();
    let packages = python_packages();
    assert!(
        packages.join("varta").is_dir(),
        "no Python client in {}; `cargo xtask setup` installs it",
        packages.display()
    );
    let observer = Observer::start(LONG);
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/agent.py"))
        .arg(observer.socket())
        .arg("5");
    let mut agent = Agent::spawn(command);
    assert_eq!(agent.number(), u64::from(agent.pid()));
    let beats = observer.expect_count("beats", 5, |event| is(event, "beat"));
    for (number, beat) in beats.iter().enumerate() {
        assert_eq!(beat["pid"], agent.pid());
        assert_eq!(beat["status"], ["ok", "degraded", "critical"][number % 3]);
        assert_eq!(beat["origin"], "kernel_attested");
        assert_eq!(beat["payload"], number);
        assert_eq!(beat["nonce"], number + 1);
    }
    agent.finish_well();
    assert!(observer.stop().status.success());
}
