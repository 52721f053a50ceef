//! The audit trail when the observer is killed, when nobody reads its stdout, and
//! when somebody reads its memory. None of this needs privilege or an eBPF
//! object.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/trail.rs"]
mod trail;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scene};
use hmac::{Hmac, KeyInit as _, Mac as _};
use observer_audit::verify::{Input, Verification, verify};
use observer_testing::frame;
use rustix::process::Signal;
use serde_json::Value;
use sha2::Sha256;
use sha2::block_api::compress256;
use trail::{scene_with_keys, start, verdict};

/// How often the observer is killed.
const KILLS: u32 = 200;

#[test]
fn nothing_acknowledged_is_lost_when_the_observer_is_killed_again_and_again() {
    let scene = scene_with_keys();
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
        let mut running = start(&scene, &flags, Stdio::null());
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
        let last = last_acknowledged(&mut running);
        assert!(
            last > acknowledged,
            "round {round}: nothing was acknowledged"
        );
        acknowledged = last;
        let verdict = verify_now(&scene);
        assert!(verdict.is_clean(), "round {round}: {verdict:#?}");
        assert!(
            verdict.last_line >= Some(acknowledged),
            "round {round}: {acknowledged} acknowledged, {:?} there",
            verdict.last_line
        );
        torn += u32::from(verdict.unfinished_bytes > 0);
    }
    let mut running = start(&scene, &flags, Stdio::null());
    assert!(running.stop().0.success());
    let (code, output) = verdict(&scene, &["--host-key", &scene.name("key")]);
    assert_eq!(code, Some(0), "{output}");
    let files = fs::read_dir(scene.path("")).unwrap().count();
    eprintln!("{KILLS} kills, {acknowledged} lines, {files} files, {torn} torn lines: {output}");
}

/// The last line that is on the disk, as the log has it.
fn last_acknowledged(running: &mut Running) -> u64 {
    let lines = running.logged().iter().rev();
    lines
        .filter_map(|line| line.split_once("on disk through line "))
        .find_map(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

fn verify_now(scene: &Scene) -> Verification {
    verify(&Input {
        files: vec![scene.path("trail")],
        key: scene.path("verify-key"),
        host_key: Some(scene.path("key")),
        running: true,
    })
    .unwrap()
}

#[test]
fn a_stuck_stdout_delays_no_beat_and_no_stall() {
    const BEATS: u64 = 40_000;
    let scene = scene_with_keys();
    // Read by nobody.
    let mut running = start(&scene, &[], Stdio::piped());
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
    let stopped = Instant::now();
    thread::sleep(Duration::from_millis(700));
    // What is counted was judged while stdout was stuck: it still is.
    let (status, counters) = running.stop();
    assert_eq!(counters["beats"], BEATS, "{counters}");
    assert_eq!(counters["stalls"], 1, "{counters}");
    assert_eq!(counters["audit_incidents"], 1);
    assert!(counters["stdout_lost"].as_u64().unwrap() > 0, "{counters}");
    assert!(took < PATIENCE, "{took:?}");
    assert!(stopped.elapsed() < Duration::from_secs(10));
    assert_eq!(status.code(), Some(1));
    let log = running.logged().join("\n");
    for line in [
        "events lost: stdout is not being read",
        "error: stdout is not being read",
    ] {
        assert!(log.contains(line), "{log}");
    }
    let (code, output) = verdict(&scene, &[]);
    assert_eq!(code, Some(0), "{output}");
}

/// Whoever takes over the host gets the observer's memory, too: no key of an
/// epoch that is over may be left there, nor what HMAC makes of one.
#[test]
fn old_keys_are_gone_from_memory() {
    let scene = scene_with_keys();
    let key_file = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(scene.path(name)).unwrap()).unwrap()
    };
    let first = key_file("verify-key");
    let running = start(&scene, &["--audit-seal-ms", "1"], Stdio::null());
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

/// All from which the key of an epoch, or that of its lines, can be had.
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

/// SHA-256's state, as it is in memory, after HMAC's first block.
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

/// All memory of a process that it can write to: where it is, and its bytes.
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
