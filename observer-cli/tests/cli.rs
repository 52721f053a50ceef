//! The command line: what it refuses, and with which exit code. None of this
//! needs privilege or an eBPF object.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};

fn observer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_observer"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs with a socket path that must not come to be; returns what was logged.
fn refused(args: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let args: Vec<&str> = args
        .iter()
        .map(|arg| {
            if *arg == "SOCKET" {
                socket.to_str().unwrap()
            } else {
                arg
            }
        })
        .collect();
    let output = observer(&args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(!socket.exists(), "{args:?} started");
    assert!(
        !stderr.lines().any(|line| line == "ready"),
        "{args:?}: {stderr}"
    );
    stderr
}

#[test]
fn unknown_flags_are_named() {
    let log = refused(&[
        "run",
        "--socket",
        "SOCKET",
        "--threshold-ms",
        "100",
        "--treshold",
    ]);
    assert!(
        log.contains("--treshold") && log.contains("--help"),
        "{log}"
    );
    refused(&["beat", "--socket", "SOCKET", "--frobnicate"]);
    refused(&["doctor", "--jsn"]);
    refused(&["frobnicate"]);
    refused(&[]);
}

#[test]
fn required_arguments_are_named() {
    assert!(refused(&["run", "--threshold-ms", "100"]).contains("--socket"));
    assert!(refused(&["run", "--socket", "SOCKET"]).contains("--threshold-ms"));
    assert!(refused(&["beat"]).contains("--socket"));
    refused(&["beat", "--socket", "SOCKET", "--udp", "127.0.0.1:1"]);
}

#[test]
fn bad_values_are_refused_with_the_flag_and_the_value() {
    let cases = [
        ("--threshold-ms", "0"),
        ("--threshold-ms", "soon"),
        ("--threshold-ms", "1.5"),
        ("--threshold-ms", "-1"),
        ("--threshold-ms", "99999999999999999999"),
        ("--attest", "perhaps"),
        ("--output", "xml"),
        ("--socket-mode", "rw-------"),
        ("--socket-mode", "1777"),
        ("--socket-mode", "0689"),
        ("--socket-group", "no such group"),
        ("--socket-group", "4294967295"),
        ("--max-agents", "0"),
        ("--max-agents", "99999999999"),
        ("--tier", "best"),
        ("--ring-bytes", "1000"),
        ("--ingest", "queue"),
        ("--refuse", "never"),
        ("--events", "none"),
        ("--priority", "urgent"),
        ("--max-beat-rate", "-1"),
        ("--max-beat-rate", "4294967296"),
        ("--look-us", "0"),
        ("--look-us", "1000001"),
        ("--udp", "localhost:1"),
        ("--udp", "127.0.0.1"),
        ("--trust-udp", "127.0.0.1:65536"),
        ("--origin-policy", "last"),
        ("--namespaces", "guess"),
        ("--allow-uid", "no such user"),
        ("--allow-uid", "-1"),
        ("--allow-gid", "4294967295"),
    ];
    for (flag, value) in cases {
        let mut args = vec!["run", "--socket", "SOCKET"];
        if flag != "--threshold-ms" {
            args.extend(["--threshold-ms", "100"]);
        }
        let assigned = format!("{flag}={value}");
        args.push(&assigned);
        let log = refused(&args);
        assert!(log.contains(flag) && log.contains(value), "{log}");
    }
}

#[test]
fn contradictions_are_refused() {
    let cases: [&[&str]; 8] = [
        &["--json-u64", "string"],
        &["--json", "--output", "human"],
        &["--tier", "scm"],
        &["--attest", "require", "--tier", "scm"],
        &["--attest", "off", "--tier", "btf"],
        &["--attest", "off", "--ingest", "ring"],
        &["--attest", "off", "--refuse", "kernel"],
        &["--attest", "prefer", "--tier", "scm", "--ingest", "ring"],
    ];
    for flags in cases {
        let mut args = vec!["run", "--socket", "SOCKET", "--threshold-ms", "1"];
        args.extend(flags);
        let log = refused(&args);
        assert!(log.contains(flags[0]), "{log}");
    }
}

/// In the same words.
#[test]
fn check_config_refuses_what_run_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("observer.toml");
    let file = file.to_str().unwrap();
    let required = format!(
        "socket = \"{}/s\"\nthreshold = \"5s\"\n",
        folder.path().display()
    );
    let nine = "\"127.0.0.1:0\", ".repeat(9);
    for wrong in [
        "udp = \"0.0.0.0:99\"",
        &format!("udp = [{nine}]"),
        "allow_uid = []",
        "tier = \"scm\"",
        "min_tier = \"btf\"\nattest = \"off\"",
        "control = \"a\\u0000b\"",
        "bogus = 1",
    ] {
        std::fs::write(file, format!("{required}{wrong}")).unwrap();
        let [checked, run] =
            [&["check-config", file][..], &["run", "--config", file]].map(observer);
        let log = text(&checked.stderr);
        let begin = format!("error: {file}:");
        assert!(log.starts_with(&begin), "{wrong}: {log}");
        assert_eq!(log, text(&run.stderr), "{wrong}");
        for output in [checked, run] {
            assert_eq!(output.status.code(), Some(2), "{wrong}: {log}");
            assert!(output.stdout.is_empty(), "{wrong}");
        }
    }
    // The same as flags, and a socket that no host could have.
    for flags in [
        &["--udp", "0.0.0.0:99", "--socket", "/run/s"][..],
        &["--socket", "/run/"],
        &["--socket", "/run/s", "--threshold-ms", "6"],
    ] {
        let flags = [&["--threshold-ms", "5"][..], flags].concat();
        let checked = observer(&[&["check-config", "--"][..], &flags].concat());
        let run = observer(&[&["run"][..], &flags].concat());
        let log = text(&checked.stderr);
        assert_eq!(log, text(&run.stderr), "{flags:?}");
        assert_eq!(checked.status.code(), Some(2), "{flags:?}: {log}");
        assert_eq!(run.status.code(), Some(2), "{flags:?}: {log}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// What two flags name is not found in use "by another process" later.
#[test]
fn each_file_has_a_path_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (same, again) = (path("same"), path("./same"));
    let cases: [&[&str]; 4] = [
        &["--socket", &same, "--control", &again],
        &["--socket", &same, "--metrics", &format!("unix:{again}")],
        &[
            "--socket",
            &path("s"),
            "--control",
            &same,
            "--audit",
            &again,
            "--audit-key",
            &path("k"),
        ],
        &[
            "--socket",
            &path("s"),
            "--audit",
            &same,
            "--audit-key",
            &again,
        ],
    ];
    for flags in cases {
        let output = observer(&[&["run", "--threshold-ms", "1"], flags].concat());
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {log}");
        let both = log.lines().next().unwrap_or_default();
        assert!(
            both.contains(" both name ") && both.contains("/same"),
            "{log}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A socket address is not resolved, and the error says so.
#[test]
fn names_of_hosts_are_not_looked_up() {
    let run = ["run", "--socket", "SOCKET", "--threshold-ms", "1"];
    for flag in ["--udp", "--trust-udp", "--metrics"] {
        let log = refused(&[&run[..], &[flag, "localhost:7878"]].concat());
        assert!(log.contains("names are not looked up"), "{log}");
        assert!(log.contains("127.0.0.1"), "{log}");
    }
    let log = refused(&["beat", "--udp", "localhost:7878"]);
    assert!(log.contains("names are not looked up"), "{log}");
}

/// Nothing is taken from other hosts unless the operator consents.
#[test]
fn an_address_that_others_can_reach_needs_consent() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7", "[2001:db8::1]:7"] {
        let log = refused(&[
            "run",
            "--socket",
            "SOCKET",
            "--threshold-ms",
            "1",
            "--udp",
            address,
        ]);
        assert!(log.contains(address), "{log}");
        assert!(log.contains("--accept-network-beats"), "{log}");
        assert!(log.contains("--trust-udp"), "{log}");
    }
}

#[test]
fn there_is_room_for_eight_listeners() {
    let mut args = vec!["run", "--socket", "SOCKET", "--threshold-ms", "1"];
    args.extend(["--udp=127.0.0.1:0"; 9]);
    let log = refused(&args);
    assert!(log.contains("at most 8") && log.contains('9'), "{log}");
}

/// Devices are for UDP, and have to be there; more than eight are too many. One
/// listener may be trusted beside another that is not.
#[test]
fn a_device_is_declared_for_listeners() {
    let run = ["run", "--socket", "SOCKET", "--threshold-ms", "1"];
    let log = refused(&[&run[..], &["--attest-device", "eth0"]].concat());
    assert!(log.contains("--udp"), "{log}");
    let udp = ["--udp", "127.0.0.1:0", "--trust-udp", "127.0.0.1:0"];
    let run = [&run[..], &udp].concat();
    for (device, reason) in [("nosuchdevice", "nosuchdevice"), ("lo", "anyhow")] {
        let log = refused(&[&run[..], &["--attest-device", device]].concat());
        assert!(log.contains(reason), "{log}");
    }
    let log = refused(&[&run[..], &["--attest-device=lo"; 9]].concat());
    assert!(log.contains("at most 8"), "{log}");
    let log = refused(&[&run[..], &["--attest-translated"]].concat());
    assert!(log.contains("--attest-device"), "{log}");
}

#[test]
fn help_names_flags_units_and_defaults() {
    let output = observer(&["run", "--help"]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    let parts = [
        "--socket <PATH>",
        "milliseconds",
        "[default: require]",
        "[default: 0600]",
        "[default: 16384]",
        "--json",
        "--tier",
        "--ring-bytes <BYTES>",
        "--udp <ADDR:PORT>",
        "--trust-udp <ADDR:PORT>",
        "[default: first]",
        "[default: refuse]",
    ];
    for part in parts {
        assert!(help.contains(part), "no {part} in\n{help}");
    }
    // Each flag stands among those that it belongs to.
    let group = |flag: &str| {
        let (before, _) = help.split_once(&format!("      {flag} <")).unwrap();
        let is_head = |line: &&str| !line.starts_with(' ') && line.ends_with(':');
        before.lines().rfind(is_head).unwrap().to_owned()
    };
    for (flag, head) in [
        ("--tier", "Attestation:"),
        ("--btf", "Attestation:"),
        ("--look-us", "Floods and limits:"),
        ("--control", "Metrics and status:"),
    ] {
        assert_eq!(group(flag), head, "{flag}");
    }
    assert!(!text(&observer(&["run", "-h"]).stdout).contains("--tier"));
    for command in ["doctor", "beat"] {
        assert!(observer(&[command, "--help"]).status.success());
    }
    assert!(text(&observer(&["--help"]).stdout).contains("3 this host cannot attest"));
}

#[test]
fn the_version_is_printed() {
    let output = observer(&["--version"]);
    assert!(output.status.success());
    assert_eq!(
        text(&output.stdout),
        concat!("observer ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn doctor_prints_facts_and_actions() {
    let output = observer(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let can_attest = report["can_attest"].as_bool().unwrap();
    assert_eq!(
        output.status.code(),
        Some(if can_attest { 0 } else { 3 }),
        "{report}"
    );
    assert_eq!(can_attest, report["tier"] != "scm");
    for finding in report["findings"].as_array().unwrap() {
        assert!(
            finding["check"].is_string() && finding["found"].is_string(),
            "{finding}"
        );
    }
    assert!(text(&observer(&["doctor"]).stdout).contains("tier_btf"));
}

/// A file that was named is what is blamed.
#[test]
fn doctor_blames_the_file_that_was_named() {
    let report = text(&observer(&["doctor", "--btf", "/nowhere/types"]).stdout);
    let mut lines = report.lines().skip_while(|line| !line.contains("  btf  "));
    let (found, action) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(found.ends_with("/nowhere/types is not there"), "{report}");
    assert!(action.contains("leave out --btf"), "{report}");
}

/// A filter with a typing error would log nothing: not even that it is wrong.
#[test]
fn a_log_that_would_be_silent_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let output = Command::new(env!("CARGO_BIN_EXE_observer"))
        .args(["run", "--attest", "off", "--threshold-ms", "1", "--socket"])
        .arg(&socket)
        .env("OBSERVER_LOG", "bogus")
        .output()
        .unwrap();
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.starts_with("error: OBSERVER_LOG=bogus: "), "{log}");
    assert!(!socket.exists());
    let output = Command::new(env!("CARGO_BIN_EXE_observer"))
        .args([
            "check-config",
            "--",
            "--threshold-ms",
            "1",
            "--socket",
            "/run/s",
        ])
        .env("OBSERVER_LOG", "bo\ngus")
        .output()
        .unwrap();
    let log = text(&output.stderr);
    assert!(
        log.starts_with(r"error: OBSERVER_LOG=bo\ngus: bo\ngus is no level"),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1, "{log}");
}

/// Whatever asks for it, a file that is not there reads the same.
#[test]
fn a_missing_file_is_told_alike() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let missing = missing.to_str().unwrap();
    for args in [
        &["status", "--control", missing][..],
        &["audit", "report", missing],
        &["audit", "verify", missing, "--key", missing],
        &["beat", "--socket", missing, "--count", "1"],
    ] {
        let output = observer(args);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {log}");
        let told = format!("{missing}: No such file or directory (os error 2)");
        assert!(log.contains(&told), "{args:?}: {log}");
    }
    let log = text(&observer(&["status", "--control", "/etc/passwd"]).stderr);
    assert!(log.contains("it is no socket"), "{log}");
}

/// Whoever stops reading, as `head` does, changes no exit code.
#[test]
fn a_reader_that_is_gone_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (trail, key, verify_key) = (path("trail"), path("key"), path("verify-key"));
    std::fs::write(&trail, "").unwrap();
    for args in [
        &[
            "audit",
            "keygen",
            "--audit-key",
            &key,
            "--verify-key",
            &verify_key,
        ][..],
        &["audit", "report", &trail],
        &["audit", "verify", &trail, "--key", &verify_key],
        &["doctor"],
        &["doctor", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
        let output = command.args(args).stdout(writer).output().unwrap();
        let log = text(&output.stderr);
        let is_keygen = args.contains(&"keygen");
        let read = if is_keygen {
            Some(0)
        } else {
            observer(args).status.code()
        };
        assert_eq!(output.status.code(), read, "{args:?}: {log}");
        assert!(!log.contains("pipe"), "{args:?}: {log}");
    }
}

/// Garbage is no trail without incidents.
#[test]
fn a_report_on_what_is_no_trail_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for (content, code) in [("garbage\nand more\n", 1), ("", 0)] {
        std::fs::write(&path, content).unwrap();
        let output = observer(&["audit", "report", path.to_str().unwrap()]);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{content}: {log}");
        assert_eq!(
            log.contains("none of its 2 lines can be read"),
            code == 1,
            "{log}"
        );
    }
}

#[test]
fn a_beat_without_an_observer_fails_and_is_logged_once() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nobody");
    let socket = socket.to_str().unwrap();
    let output = observer(&[
        "beat",
        "--socket",
        socket,
        "--count",
        "3",
        "--interval-ms",
        "1",
    ]);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert_eq!(log.matches(socket).count(), 1, "{log}");
    assert!(log.ends_with("sent 0, dropped 3\n"), "{log}");
}

/// Beats `count` times at `socket`, quickly.
fn beat(socket: &std::path::Path, count: u64, more: &[&str]) -> Output {
    let count = count.to_string();
    let mut args = vec![
        "beat",
        "--socket",
        socket.to_str().unwrap(),
        "--interval-ms",
        "1",
    ];
    args.extend(["--count", &count]);
    args.extend(more);
    observer(&args)
}

#[test]
fn a_beat_arrives_as_a_frame() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let socket = UnixDatagram::bind(&path).unwrap();
    let flags = [
        "--status",
        "degraded",
        "--payload",
        "7",
        "--claim-pid",
        "4242",
    ];
    let output = beat(&path, 2, &flags);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "sent 2, dropped 0\n");
    let mut bytes = [0; 64];
    for nonce in 1..=2_u8 {
        assert_eq!(socket.recv(&mut bytes).unwrap(), 32);
        assert_eq!(bytes[..8], [b'V', b'A', 2, 1, 0x92, 0x10, 0, 0]);
        assert_eq!((bytes[16], bytes[24]), (nonce, 7));
    }
}

#[test]
fn a_full_queue_is_logged_once_and_counted() {
    let limit = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    let room = limit.trim().parse::<u64>().unwrap() + 1;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _never_read = UnixDatagram::bind(&path).unwrap();
    let output = beat(&path, room + 5, &[]);
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(log.matches("queue is full").count(), 1, "{log}");
    assert!(log.ends_with(&format!("sent {room}, dropped 5\n")), "{log}");
}
