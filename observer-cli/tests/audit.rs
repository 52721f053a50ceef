//! The audit trail from the command line: keys, verdicts, reports. None of this
//! needs privilege or an eBPF object.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/trail.rs"]
mod trail;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use common::observer;
use observer_testing::frame;
use rustix::process::Signal;
use serde_json::Value;
use trail::{scene_with_keys, start, text, verdict};

#[test]
fn from_key_to_verdict() {
    let scene = scene_with_keys();
    let mut running = start(&scene, &[], Stdio::null());
    let agent = scene.agent();
    for nonce in 1..=3 {
        agent.send(&frame(4242, nonce).encode()).unwrap();
    }
    agent.send(&frame(std::process::id(), 1).encode()).unwrap();
    let (status, counters) = running.stop();
    assert!(status.success());
    assert_eq!(counters["audit_incidents"], 3, "{counters}");
    assert_eq!(counters["audit_lost"], 0);

    let (code, output) = verdict(&scene, &[]);
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.starts_with("clean: trail ") && output.contains("stopped in order"),
        "{output}"
    );

    let report = observer(&["audit", "report", &scene.name("trail"), "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["attackers"][0]["pid"], std::process::id());
    assert_eq!(report["attackers"][0]["count"], 3);
    assert_eq!(report["attackers"][0]["victims"]["4242"], 3);
    assert_eq!(report["victims"][0]["pid"], 4242);
    assert_eq!(report["victims"][0]["kinds"]["pid_mismatch"], 3);
    let table = observer(&["audit", "report", &scene.name("trail")]).output();
    let table = text(&table.unwrap().stdout);
    assert!(
        table.contains("pid_mismatch 3") && table.contains("pid 4242"),
        "{table}"
    );

    let trail = fs::read_to_string(scene.path("trail")).unwrap();
    let second: Value = serde_json::from_str(trail.lines().nth(1).unwrap()).unwrap();
    assert_eq!(second["kind"], "attestation_lost");
    let reason = "attestation degraded from the start, tier scm: it was asked for";
    assert_eq!(second["reason"], reason);
    fs::write(scene.path("trail"), trail.replace("4242", "4243")).unwrap();
    let (code, output) = verdict(&scene, &[]);
    assert_eq!(code, Some(1), "{output}");
    let there = format!("{}:3: line 3 was edited or forged", scene.name("trail"));
    assert!(
        output.contains(&there) && output.contains("NOT CLEAN"),
        "{output}"
    );
    let (code, output) = verdict(&scene, &["--json"]);
    let verdict: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (code, &verdict["findings"][0]["fault"]),
        (Some(1), &"edited".into())
    );
}

/// As `| head` is.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let scene = scene_with_keys();
    start(&scene, &[], Stdio::null()).stop();
    let (trail, key) = (scene.name("trail"), scene.name("verify-key"));
    for args in [
        &["audit", "report", &trail][..],
        &["audit", "report", &trail, "--json"],
        &["audit", "verify", &trail, "--key", &key],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = observer(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert_eq!(text(&output.stderr), "");
    }
}

/// The log has it, and so has the verdict.
#[test]
fn a_torn_write_is_repaired_and_reported() {
    let scene = scene_with_keys();
    let mut running = start(&scene, &[], Stdio::null());
    running.signal(Signal::KILL);
    running.child.wait().unwrap();
    let mut trail = fs::OpenOptions::new()
        .append(true)
        .open(scene.path("trail"))
        .unwrap();
    trail.write_all(b"{\"seq\":3,").unwrap();
    let mut running = start(&scene, &[], Stdio::null());
    let log = running.logged().join("\n");
    assert!(
        log.contains("9 bytes of a torn write were cut off"),
        "{log}"
    );
    running.stop();
    let (code, output) = verdict(&scene, &["--host-key", &scene.name("key")]);
    assert_eq!(code, Some(0), "{output}");
    let note = "note: 1 torn write that the observer cut off";
    assert!(output.contains(note), "{output}");
}

/// The key file has no seal for what came after its last line.
#[test]
fn bytes_appended_after_an_ordered_stop_are_a_finding() {
    let scene = scene_with_keys();
    start(&scene, &[], Stdio::null()).stop();
    let mut trail = fs::OpenOptions::new()
        .append(true)
        .open(scene.path("trail"))
        .unwrap();
    trail.write_all(b"{\"seq\":").unwrap();
    let (code, output) = verdict(&scene, &["--host-key", &scene.name("key")]);
    assert_eq!(code, Some(1), "{output}");
    let finding = "after the last whole line there are 7 bytes";
    assert!(
        output.contains(finding) && output.contains("NOT CLEAN"),
        "{output}"
    );
}

#[test]
fn follow_shows_lines_as_they_come() {
    let scene = scene_with_keys();
    let mut running = start(&scene, &[], Stdio::null());
    let mut follow = observer(&["audit", "follow", &scene.name("trail"), "--from-start"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    scene.agent().send(&frame(4242, 1).encode()).unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let shown = lines.find_map(|line| line.ok().filter(|line| line.contains("claims 4242")));
    assert!(shown.unwrap().contains("auth_failure  pid_mismatch"));
    follow.kill().unwrap();
    follow.wait().unwrap();
    running.stop();
}

#[test]
fn an_observer_that_cannot_keep_its_trail_does_not_start() {
    let scene = scene_with_keys();
    let refuse = |trail: &str, key: &str| {
        let socket = scene.name("socket");
        let output = observer(&[
            "run",
            "--attest",
            "off",
            "--threshold-ms",
            "100",
            "--socket",
            &socket,
            "--audit",
            trail,
            "--audit-key",
            key,
        ])
        .output()
        .unwrap();
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(
            !log.contains("ready") && !Path::new(&socket).exists(),
            "{log}"
        );
        log
    };
    let (trail, key) = (scene.name("trail"), scene.name("key"));
    assert!(refuse(&trail, &scene.name("no-key")).contains("no-key"));
    assert!(refuse("/nowhere/trail", &key).contains("/nowhere"));
    assert!(refuse(&scene.name(""), &key).contains("cannot keep an audit trail"));
    assert!(refuse(&trail, &scene.name("verify-key")).contains("to verify with"));
    fs::copy(&key, scene.path("damaged")).unwrap();
    fs::write(scene.path("damaged"), "{}").unwrap();
    assert!(refuse(&trail, &scene.name("damaged")).contains("no key file"));
    fs::write(&trail, "").unwrap();
    fs::set_permissions(&trail, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(refuse(&trail, &key).contains("lets others write to it"));
    fs::write(&trail, "not a trail\n{}\n").unwrap();
    let socket = scene.name("socket");
    let alone = observer(&[
        "run",
        "--threshold-ms",
        "1",
        "--socket",
        &socket,
        "--audit",
        &trail,
    ])
    .output()
    .unwrap();
    assert_eq!(alone.status.code(), Some(2), "{}", text(&alone.stderr));
}

/// Nobody but the observer writes a trail; but what is in the file is not to be
/// trusted before it is verified, and a name may be of any characters.
#[test]
fn what_is_in_a_trail_reaches_no_terminal_as_it_is() {
    let scene = scene_with_keys();
    let hostile = "a\u{9b}2J\u{202e}\u{1b}[2J\u{2067}\u{7f}";
    let line = serde_json::json!({
        "seq": 1, "time": format!("2026{hostile}\n"), "kind": "auth_failure",
        "cause": "pid_mismatch", "claimed_pid": 4242,
        "sender": {"pid": 7, "host_pid": 7, "start_ns": 1, "uid": 0, "comm": hostile},
        "container": {"cgroup": hostile, "unit": hostile, "id": null},
        "process": {"exe": hostile},
    });
    fs::write(scene.path("trail"), format!("{line}\n{hostile}\n")).unwrap();
    let (trail, key) = (scene.name("trail"), scene.name("verify-key"));
    for arguments in [
        &["report", &trail][..],
        &["report", &trail, "--json"],
        &["verify", &trail, "--key", &key],
        &["verify", &trail, "--key", &key, "--json"],
    ] {
        let output = observer(&["audit"]).args(arguments).output().unwrap();
        let shown = text(&output.stdout) + &text(&output.stderr);
        let is_text = |c: char| c == '\n' || c == ' ' || c.is_ascii_graphic();
        assert!(shown.chars().all(is_text), "{arguments:?}: {shown:?}");
        let is_report = arguments.contains(&"report");
        // Not "9b" alone: a trail's random name may have that, too.
        let is_escaped = shown.contains("u{9b}") || shown.contains("u009b");
        assert_eq!(is_report, is_escaped, "{shown:?}");
    }
}
