//! Stdout with no room, signals that a parent left blocked, and one that comes
//! early.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::net::UnixDatagram;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scene};
use observer_testing::frame;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

/// Sends so many beats of this process.
fn beat(agent: &UnixDatagram, nonces: std::ops::RangeInclusive<u64>) {
    for nonce in nonces {
        let frame = frame(process::id(), nonce).encode();
        agent.send(&frame).unwrap();
    }
}

#[test]
fn a_full_disk_ends_nothing() {
    let scene = Scene::new();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut running = Running::start(scene.command(&[]).stdout(full));
    let agent = scene.agent();
    beat(&agent, 1..=1);
    running.wait_for(|line| line.contains("stdout cannot be written for now"));
    beat(&agent, 2..=10);
    let (status, counters) = running.stop();
    assert_eq!(counters["beats"], 10);
    assert_eq!(status.code(), Some(1), "events were lost");
    let warnings = running.logged().iter();
    let warnings = warnings.filter(|line| line.contains("cannot be written for now"));
    assert_eq!(warnings.count(), 1);
}

/// Sets how long its files may be, in bytes.
fn limit(running: &Running, current: Option<u64>) {
    let pid = Pid::from_child(&running.child);
    let limit = Rlimit {
        current,
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
}

/// `RLIMIT_FSIZE`: the kernel sends SIGXFSZ, which kills who does not ignore it.
#[test]
fn a_file_that_may_not_grow_is_waited_for() {
    const BEATS: u64 = 100;
    let scene = Scene::new();
    let events = File::create(scene.path("events")).unwrap();
    let mut running = Running::start(scene.command(&[]).stdout(events));
    limit(&running, Some(4096));
    beat(&scene.agent(), 1..=BEATS);
    running.wait_for(|line| line.contains("stdout cannot be written for now"));
    limit(&running, None);
    running.wait_for(|line| line.contains("stdout can be written again"));
    let (status, counters) = running.stop();
    assert_eq!(counters["beats"], BEATS);
    assert_eq!(counters["stdout_lost"], 0);
    assert!(status.success());
    let events = fs::read_to_string(scene.path("events")).unwrap();
    let beats = events
        .lines()
        .filter(|line| line.contains(r#""event":"beat""#));
    assert_eq!(beats.count() as u64, BEATS);
}

#[test]
fn a_signal_that_was_blocked_stops_it() {
    let scene = Scene::new();
    let observer = scene.command(&[]);
    let mut command = Command::new("env");
    command.args(["--block-signal=TERM", "--block-signal=INT"]);
    command
        .arg(observer.get_program())
        .args(observer.get_args());
    let mut running = Running::start(&mut command);
    let (status, _) = running.stop();
    assert!(status.success());
}

/// Whether SIGHUP is in the set of this name (`proc_pid_status(5)`).
fn has_hangup(running: &Running, set: &str) -> bool {
    let status = format!("/proc/{}/status", running.child.id());
    let status = fs::read_to_string(status).unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix(set));
    u64::from_str_radix(set.unwrap().trim(), 16).unwrap() & 1 == 1
}

/// While the configuration is read SIGHUP is not the end of it, nor lost.
#[test]
fn a_hangup_before_it_is_ready_has_it_read_again() {
    let scene = Scene::new();
    let config = scene.name("config");
    // That takes a while.
    let comment = format!("# {}\n", "x".repeat(77));
    fs::write(&config, comment.repeat((4 << 20) / comment.len())).unwrap();
    let is_blocked = |running: &Running| {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !has_hangup(running, "SigCgt:") {
            if has_hangup(running, "SigBlk:") {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    };
    for _ in 0..20 {
        let mut running = Running::spawn(&mut scene.command(&["--config", &config]));
        if is_blocked(&running) {
            running.signal(Signal::HUP);
            running.wait_for(|line| line == "ready");
            running.wait_for(|line| line == "reloaded");
            assert!(running.stop().0.success());
            return;
        }
    }
    panic!("SIGHUP is never blocked");
}
