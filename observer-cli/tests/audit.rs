//! The audit trail from the command line: keys, tampering, kills, and readers
//! that do not read. None of this needs privilege or an eBPF object.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, observer};
use hmac::{Hmac, KeyInit as _, Mac as _};
use observer_audit::verify::{Input, Verification, verify};
use observer_testing::{connect, frame};
use rustix::process::Signal;
use serde_json::Value;
use sha2::Sha256;
use sha2::block_api::compress256;

/// How often the observer is killed.
const KILLS: u32 = 200;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder with a socket, keys and a trail.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let (key, verify_key) = (scene.name("key"), scene.name("verify-key"));
        let output = observer(&[
            "audit",
            "keygen",
            "--audit-key",
            &key,
            "--verify-key",
            &verify_key,
        ])
        .output()
        .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("trail "));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn start(&self, flags: &[&str], stdout: Stdio) -> Running {
        let mut command = observer(&["run", "--attest", "off", "--json"]);
        command
            .args(["--threshold-ms", "300", "--socket", &self.name("socket")])
            .args(["--audit", &self.name("trail")])
            .args(["--audit-key", &self.name("key")])
            .args(flags)
            .env("OBSERVER_LOG", "info,observer_audit=debug")
            .stdout(stdout);
        Running::start(&mut command)
    }

    /// An agent of this very process.
    fn agent(&self) -> UnixDatagram {
        connect(self.path("socket")).unwrap()
    }

    fn verify(&self) -> Verification {
        verify(&Input {
            file: self.path("trail"),
            key: self.path("verify-key"),
            host_key: Some(self.path("key")),
            running: true,
        })
        .unwrap()
    }

    /// What the command says, and its exit code.
    fn verdict(&self, more: &[&str]) -> (Option<i32>, String) {
        let (trail, key) = (self.name("trail"), self.name("verify-key"));
        let mut args = vec!["audit", "verify", &trail, "--key", &key];
        args.extend(more);
        let output = observer(&args).output().unwrap();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    }
}

/// The last line that it said is on the disk.
fn last_acknowledged(running: &mut Running) -> u64 {
    let said = running.said().iter().rev();
    said.filter_map(|line| line.split_once("on disk through line "))
        .find_map(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

#[test]
fn from_key_to_verdict() {
    let scene = Scene::new();
    let mut running = scene.start(&[], Stdio::null());
    let agent = scene.agent();
    for nonce in 1..=3 {
        agent.send(&frame(4242, nonce).encode()).unwrap();
    }
    agent.send(&frame(std::process::id(), 1).encode()).unwrap();
    let (status, counters) = running.stop();
    assert!(status.success());
    assert_eq!(counters["audit_incidents"], 3, "{counters}");
    assert_eq!(counters["audit_lost"], 0);

    let (code, said) = scene.verdict(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("clean: trail ") && said.contains("stopped in order"),
        "{said}"
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
    let reason = "weaker attestation from the start, tier scm: it was asked for";
    assert_eq!(second["reason"], reason);
    fs::write(scene.path("trail"), trail.replace("4242", "4243")).unwrap();
    let (code, said) = scene.verdict(&[]);
    assert_eq!(code, Some(1), "{said}");
    let there = format!("{}:3: line 3 was edited or forged", scene.name("trail"));
    assert!(
        said.contains(&there) && said.contains("NOT CLEAN"),
        "{said}"
    );
    let (code, said) = scene.verdict(&["--json"]);
    let verdict: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &verdict["findings"][0]["fault"]),
        (Some(1), &"edited".into())
    );
}

/// As `| head` is.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let scene = Scene::new();
    scene.start(&[], Stdio::null()).stop();
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

/// The operator is told, and the auditor.
#[test]
fn a_torn_write_is_repaired_and_reported() {
    let scene = Scene::new();
    let mut running = scene.start(&[], Stdio::null());
    running.signal(Signal::KILL);
    running.child.wait().unwrap();
    let mut trail = fs::OpenOptions::new()
        .append(true)
        .open(scene.path("trail"))
        .unwrap();
    trail.write_all(b"{\"seq\":3,").unwrap();
    let mut running = scene.start(&[], Stdio::null());
    let said = running.said().join("\n");
    assert!(
        said.contains("9 bytes of a torn write were cut off"),
        "{said}"
    );
    running.stop();
    let (code, said) = scene.verdict(&["--host-key", &scene.name("key")]);
    assert_eq!(code, Some(0), "{said}");
    let note = "note: 1 torn writes that the observer cut off";
    assert!(said.contains(note), "{said}");
}

/// The key file does not vouch for what came after its last line.
#[test]
fn bytes_appended_after_an_ordered_stop_are_a_finding() {
    let scene = Scene::new();
    scene.start(&[], Stdio::null()).stop();
    let mut trail = fs::OpenOptions::new()
        .append(true)
        .open(scene.path("trail"))
        .unwrap();
    trail.write_all(b"{\"seq\":").unwrap();
    let (code, said) = scene.verdict(&["--host-key", &scene.name("key")]);
    assert_eq!(code, Some(1), "{said}");
    let finding = "after the last whole line there are 7 bytes";
    assert!(
        said.contains(finding) && said.contains("NOT CLEAN"),
        "{said}"
    );
}

#[test]
fn follow_shows_lines_as_they_come() {
    let scene = Scene::new();
    let mut running = scene.start(&[], Stdio::null());
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
    let scene = Scene::new();
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
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            !said.contains("ready") && !Path::new(&socket).exists(),
            "{said}"
        );
        said
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

#[test]
fn nothing_acknowledged_is_lost_when_the_observer_is_killed_again_and_again() {
    let scene = Scene::new();
    let flags = [
        "--audit-sync",
        "0",
        "--audit-seal-ms",
        "3",
        "--audit-rotate-bytes",
        "65536",
        "--audit-keep",
        "1000",
    ];
    let (mut acknowledged, mut torn) = (0, 0);
    for round in 0..KILLS {
        let mut running = scene.start(&flags, Stdio::null());
        let agent = scene.agent();
        let end = Instant::now() + Duration::from_micros(u64::from(round * 7919 % 25_000));
        let mut pid = 1000;
        while Instant::now() < end {
            pid += 1;
            // A queue that is full for a moment is nothing to wait for.
            agent.set_nonblocking(true).unwrap();
            drop(agent.send(&frame(pid, 1).encode()));
            thread::sleep(Duration::from_micros(200));
        }
        running.signal(Signal::KILL);
        running.child.wait().unwrap();
        let said = last_acknowledged(&mut running);
        assert!(
            said > acknowledged,
            "round {round}: nothing was acknowledged"
        );
        acknowledged = said;
        let verdict = scene.verify();
        assert!(verdict.is_clean(), "round {round}: {verdict:#?}");
        assert!(
            verdict.last_line >= Some(acknowledged),
            "round {round}: {acknowledged} acknowledged, {:?} there",
            verdict.last_line
        );
        torn += u32::from(verdict.unfinished_bytes > 0);
    }
    let mut running = scene.start(&flags, Stdio::null());
    assert!(running.stop().0.success());
    let (code, said) = scene.verdict(&["--host-key", &scene.name("key")]);
    assert_eq!(code, Some(0), "{said}");
    let files = fs::read_dir(scene.folder.path()).unwrap().count();
    eprintln!("{KILLS} kills, {acknowledged} lines, {files} files, {torn} torn lines: {said}");
}

/// Whoever takes the host gets the observer's memory, too: no key of an epoch
/// that is over may be left there, nor what HMAC makes of one.
#[test]
fn old_keys_are_gone_from_memory() {
    let scene = Scene::new();
    let key_file = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(scene.path(name)).unwrap()).unwrap()
    };
    let first = key_file("verify-key");
    let running = scene.start(&["--audit-seal-ms", "1"], Stdio::null());
    let agent = scene.agent();
    for number in 0..5 {
        agent.send(&frame(4242 + number, 1).encode()).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    // Nothing is sealed now before the next minute.
    thread::sleep(Duration::from_millis(300));
    let epoch = key_file("key")["epoch"].as_u64().unwrap();
    assert!(epoch >= 3, "{epoch}");
    let mut key: [u8; 32] = hex::decode(first["key"].as_str().unwrap())
        .unwrap()
        .try_into()
        .unwrap();
    let memory = memory(running.child.id());
    for old in 0..epoch {
        for (what, secret) in secrets(&key) {
            let places = memory.iter().filter(|(_, bytes)| contains(bytes, &secret));
            let places: Vec<_> = places.map(|(place, _)| place).collect();
            assert!(places.is_empty(), "{what} of epoch {old} in {places:?}");
        }
        key = hmac(&key, b"observer audit v1: next key");
    }
    // The present one is there, so the search is of the right place.
    assert!(memory.iter().any(|(_, bytes)| contains(bytes, &key)));
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().into()
}

/// What is as good as the key of an epoch, or as that of its lines.
fn secrets(key: &[u8; 32]) -> Vec<(&'static str, Vec<u8>)> {
    let lines = hmac(key, b"observer audit v1: line key");
    let mut secrets = vec![
        ("the key", key.to_vec()),
        ("the key in hexadecimal", hex::encode(key).into_bytes()),
        ("the line key", lines.to_vec()),
    ];
    for key in [key, &lines] {
        for pad in [0x36, 0x5c] {
            secrets.push(("a state of HMAC", padded_state(key, pad)));
        }
    }
    secrets
}

/// SHA-256's state, as it lies in memory, after HMAC's first block.
fn padded_state(key: &[u8; 32], pad: u8) -> Vec<u8> {
    const INITIAL: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    let mut block = [pad; 64];
    for (byte, key) in block.iter_mut().zip(key) {
        *byte ^= key;
    }
    let mut state = INITIAL;
    compress256(&mut state, &[block]);
    state.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// All memory of a process that it can write to: where it is, and what.
fn memory(pid: u32) -> Vec<(String, Vec<u8>)> {
    let file = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let writable = maps.lines().filter(|line| line.contains(" rw"));
    let read = writable.map(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end.checked_sub(start).unwrap()).unwrap()];
        // Rings that are shared with the kernel cannot be read this way.
        let read = file.read_at(&mut bytes, start).unwrap_or(0);
        bytes.truncate(read);
        (line.to_owned(), bytes)
    });
    read.collect()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let (first, rest) = wanted.split_first().unwrap();
    let mut bytes = bytes;
    // Fast enough without optimisation, unlike looking at every window.
    while let Some(at) = bytes.iter().position(|byte| byte == first) {
        (_, bytes) = bytes.split_at(at.saturating_add(1));
        if bytes.starts_with(rest) {
            return true;
        }
    }
    false
}

#[test]
fn a_stuck_stdout_delays_no_beat_and_no_stall() {
    const BEATS: u64 = 40_000;
    let scene = Scene::new();
    // Read by nobody.
    let mut running = scene.start(&[], Stdio::piped());
    let agent = scene.agent();
    let began = Instant::now();
    for nonce in 1..=BEATS {
        // Blocks while the observer does not receive.
        agent
            .send(&frame(std::process::id(), nonce).encode())
            .unwrap();
    }
    agent.send(&frame(4242, 1).encode()).unwrap();
    let took = began.elapsed();
    let silence = Instant::now();
    thread::sleep(Duration::from_millis(700));
    // What is counted was judged while stdout was stuck: it still is.
    let (status, counters) = running.stop();
    assert_eq!(counters["beats"], BEATS, "{counters}");
    assert_eq!(counters["stalls"], 1, "{counters}");
    assert_eq!(counters["audit_incidents"], 1);
    assert!(counters["stdout_lost"].as_u64().unwrap() > 0, "{counters}");
    assert!(took < PATIENCE, "{took:?}");
    assert!(silence.elapsed() < Duration::from_secs(10));
    assert_eq!(status.code(), Some(1));
    let said = running.said().join("\n");
    for told in [
        "events lost: stdout is not being read",
        "error: stdout is not being read",
    ] {
        assert!(said.contains(told), "{said}");
    }
    let (code, said) = scene.verdict(&[]);
    assert_eq!(code, Some(0), "{said}");
}

/// Nobody but the observer writes a trail; but what stands in the file is not
/// to be trusted before it is verified, and a name may be of any characters.
#[test]
fn what_stands_in_a_trail_reaches_no_terminal_as_it_is() {
    let scene = Scene::new();
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
        assert_eq!(is_report, shown.contains("9b"), "{shown:?}");
    }
}
