//! Metrics and status from the command line: whose requests are served, and with
//! what. None of this needs privilege or an eBPF object.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/http.rs"]
mod http;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scene, observer};
use http::{SCRAPE, port, request, request_at, token_file};
use observer_testing::frame;
use serde_json::Value;

fn start(scene: &Scene, flags: &[&str]) -> Running {
    Running::start(&mut scene.command(flags))
}

/// How the observer ends, and what it logs, where it must not start.
fn refusal(scene: &Scene, flags: &[&str]) -> (Option<i32>, String) {
    let output = scene.command(flags).output().unwrap();
    assert!(!scene.path("socket").exists());
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn unix(scene: &Scene, name: &str) -> String {
    format!("unix:{}", scene.name(name))
}

/// The value of a sample.
fn sample(text: &str, name: &str) -> f64 {
    let mut samples = text.lines().filter_map(|line| line.rsplit_once(' '));
    let (_, value) = samples
        .find(|(sample, _)| *sample == name)
        .unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.parse().unwrap()
}

/// Scrapes until a sample has a value.
fn wait_for_sample(port: u16, name: &str, expected: f64) {
    let began = Instant::now();
    loop {
        let (_, text) = request_at(port, SCRAPE);
        let found = sample(&text, name);
        if (found - expected).abs() < f64::EPSILON {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{name} is {found}, not {expected}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_scraper_sees_what_happens() {
    let scene = Scene::new();
    let mut running = start(
        &scene,
        &["--metrics", "0", "--metrics", &unix(&scene, "metrics")],
    );
    let port = port(&mut running);
    let agent = scene.agent();
    agent.send(&frame(std::process::id(), 1).encode()).unwrap();
    agent.send(&frame(std::process::id(), 2).encode()).unwrap();
    agent.send(&frame(4242, 3).encode()).unwrap();
    agent.send(&[0; 32]).unwrap();
    wait_for_sample(
        port,
        r#"observer_decode_errors_total{error="BadMagic"}"#,
        1.0,
    );
    wait_for_sample(port, r#"observer_agents{state="silent"}"#, 1.0);
    let (head, text) = request_at(port, SCRAPE);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    for (name, value) in [
        (r#"observer_events_total{event="beat"}"#, 2.0),
        (r#"observer_events_total{event="stall"}"#, 1.0),
        (r#"observer_auth_failures_total{cause="pid_mismatch"}"#, 1.0),
        (r#"observer_attestation_info{route="unix",tier="scm"}"#, 1.0),
        (r#"observer_attestation_weaker{route="unix"}"#, 1.0),
        ("observer_beat_age_seconds_count", 1.0),
        ("observer_stall_lateness_seconds_count", 1.0),
        ("observer_threshold_seconds", 0.3),
    ] {
        assert!((sample(&text, name) - value).abs() < 1e-9, "{name}\n{text}");
    }
    let unix = UnixStream::connect(scene.path("metrics")).unwrap();
    let lines = format!("{SCRAPE}\r\nAccept: application/openmetrics-text;version=1.0.0");
    let (head, text) = request(unix, &lines);
    assert!(
        head.contains("content-type: application/openmetrics-text"),
        "{head}"
    );
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(mode(&scene, "metrics"), 0o660);
    running.stop();
    assert!(!scene.path("metrics").exists(), "it was left behind");
}

/// Wherever something is served, and for whoever may have the rest.
#[test]
fn health_can_be_asked_for() {
    let scene = Scene::new();
    let control = scene.name("control");
    let mut running = start(&scene, &["--metrics", "0", "--control", &control]);
    let port = port(&mut running);
    let asked = "GET /health HTTP/1.1";
    let control = UnixStream::connect(scene.path("control")).unwrap();
    for (head, body) in [request_at(port, asked), request(control, asked)] {
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(body, "ok\n");
    }
    let (head, _) = request_at(port, "POST /health HTTP/1.1\r\nContent-Length: 0");
    assert!(head.starts_with("http/1.1 405"), "{head}");
}

fn mode(scene: &Scene, name: &str) -> u32 {
    let file = fs::metadata(scene.path(name)).unwrap();
    assert!(file.file_type().is_socket());
    file.permissions().mode() & 0o7777
}

#[test]
fn the_listener_for_metrics_serves_nothing_else() {
    let scene = Scene::new();
    let mut running = start(&scene, &["--metrics", "127.0.0.1:0"]);
    let port = port(&mut running);
    for (line, code) in [
        ("GET /status HTTP/1.1", "404"),
        ("GET / HTTP/1.1", "404"),
        ("GET /metrics/../status HTTP/1.1", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0", "405"),
        ("DELETE /metrics HTTP/1.1", "405"),
        ("nonsense", "400"),
    ] {
        let (head, body) = request_at(port, line);
        assert!(
            head.starts_with(&format!("http/1.1 {code}")),
            "{line}: {head}"
        );
        assert!(!body.contains("observer"), "{line}: {body}");
    }
    let (head, body) = request_at(port, "HEAD /metrics HTTP/1.1");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.is_empty());
    let (head, _) = request_at(port, &format!("{SCRAPE}\r\nX: {}", "x".repeat(20_000)));
    assert!(head.starts_with("http/1.1 431"), "{head}");
}

#[test]
fn a_token_is_required() {
    let scene = Scene::new();
    let token = "0123456789abcdef";
    let file = token_file(&scene, &format!("{token}\n"));
    let flags = ["--metrics", "0", "--metrics-token", &file];
    let mut running = start(&scene, &flags);
    let port = port(&mut running);
    let with = |shown: &str| request_at(port, &format!("{SCRAPE}\r\nAuthorization: {shown}")).0;
    for wrong in [
        format!("Bearer {token}0"),
        "Bearer 0123456789abcdeg".into(),
        "Bearer ".into(),
        token.into(),
        format!("Basic {token}"),
    ] {
        let head = with(&wrong);
        assert!(head.starts_with("http/1.1 401"), "{wrong}: {head}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
    }
    assert!(request_at(port, SCRAPE).0.starts_with("http/1.1 401"));
    assert!(with(&format!("Bearer {token}")).starts_with("http/1.1 200"));
    assert!(with(&format!("bearer {token}")).starts_with("http/1.1 200"));
}

/// The token's file may be its group's, too: by that, and by access lists, a
/// service gets its credentials.
#[test]
fn a_token_that_every_user_can_read_is_refused() {
    let scene = Scene::new();
    let token = token_file(&scene, "0123456789abcdef");
    let flags = ["--metrics", "0", "--metrics-token", &token];
    let set_mode = |mode| fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o644, 0o602] {
        set_mode(open);
        let (code, log) = refusal(&scene, &flags);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(&format!("its mode {open:04o}")), "{log}");
    }
    for closed in [0o640, 0o400] {
        set_mode(closed);
        drop(start(&scene, &flags));
    }
}

#[test]
fn what_cannot_be_served_ends_the_observer_at_the_start() {
    let scene = Scene::new();
    let (code, log) = refusal(&scene, &["--metrics", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("--metrics-token"), "{log}");
    let (code, log) = refusal(&scene, &["--metrics", "localhost:1"]);
    assert_eq!(code, Some(2), "{log}");
    let token = token_file(&scene, "short");
    let (code, log) = refusal(
        &scene,
        &["--metrics", "0.0.0.0:0", "--metrics-token", &token],
    );
    assert!(code == Some(1) && log.contains("holds no token"), "{log}");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = other.local_addr().unwrap().to_string();
    let (code, log) = refusal(&scene, &["--metrics", &place]);
    assert!(code == Some(1) && log.contains(&place), "{log}");
    fs::write(scene.path("control"), "precious").unwrap();
    let (code, log) = refusal(&scene, &["--control", &scene.name("control")]);
    assert!(code == Some(1) && log.contains("not a socket"), "{log}");
    assert_eq!(fs::read(scene.path("control")).unwrap(), b"precious");
}

/// What clears old files away spares those that it finds in this table.
#[test]
fn sockets_of_relative_paths_are_known_by_whole_ones() {
    let scene = Scene::new();
    let mut command = observer(&["run", "--attest", "off", "--threshold-ms", "300"]);
    command
        .args(["--socket", "socket", "--control", "control"])
        .current_dir(scene.path(""))
        .stdout(Stdio::null());
    let running = Running::start(&mut command);
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    for name in ["socket", "control"] {
        let whole = fs::canonicalize(scene.path(name)).unwrap();
        let whole = whole.to_str().unwrap();
        assert!(table.lines().any(|line| line.ends_with(whole)), "{table}");
    }
    drop(running);
}

#[test]
fn the_status_is_for_scripts_and_for_people() {
    let scene = Scene::new();
    let control = scene.name("control");
    let mut running = start(&scene, &["--control", &control]);
    assert_eq!(mode(&scene, "control"), 0o600);
    let agent = scene.agent();
    agent.send(&frame(std::process::id(), 7).encode()).unwrap();
    agent.send(&frame(4242, 1).encode()).unwrap();
    let status = |more: &[&str]| {
        let output = observer(&["status", "--control", &control])
            .args(more)
            .output()
            .unwrap();
        let code = output.status.code();
        (code, String::from_utf8(output.stdout).unwrap())
    };
    let began = Instant::now();
    let shown: Value = loop {
        let (code, text) = status(&["--json"]);
        assert_eq!(code, Some(0));
        let shown: Value = serde_json::from_str(&text).unwrap();
        if shown["attacks"][0]["count"] == 1 {
            break shown;
        }
        assert!(began.elapsed() < PATIENCE, "{text}");
    };
    let child = running.child.id();
    assert_eq!(shown["pid"], child);
    assert_eq!(shown["agents"][0]["pid"], std::process::id());
    assert_eq!(shown["agents"][0]["last_nonce"], 7);
    assert_eq!(shown["attacks"][0]["cause"], "pid_mismatch");
    assert_eq!(shown["attacks"][0]["claimed_pid"], 4242);
    assert_eq!(shown["attacks"][0]["pid"], std::process::id());
    assert_eq!(shown["observer"]["routes"][0]["tier"], "scm");
    let (_, text) = status(&[]);
    for word in [
        "tier scm",
        "1 auth failure",
        "pid_mismatch",
        "lost: nothing",
        "4242",
    ] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    let (_, text) = status(&["--json", "--agents", "0"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["agents"], serde_json::json!([]));
    assert_eq!(shown["attacks"][0]["claimed_pid"], 4242);
    running.stop();
    assert!(!scene.path("control").exists(), "it was left behind");
    assert_eq!(status(&[]).0, Some(1));
}

/// Whoever responds at a socket that is not an observer's chooses the text.
#[test]
fn what_another_responds_reaches_no_terminal_as_it_is() {
    let scene = Scene::new();
    let mut running = start(&scene, &["--control", &scene.name("control")]);
    let honest = observer(&["status", "--json", "--control", &scene.name("control")]).output();
    let honest = String::from_utf8(honest.unwrap().stdout).unwrap();
    running.stop();
    let mut status: Value = serde_json::from_str(&honest).unwrap();
    status["kernel"] = "6\u{9b}2J\u{202e}\n\u{1b}[2J\u{2067}".into();
    let body = status.to_string();
    let other = UnixListener::bind(scene.path("control")).unwrap();
    for flags in [&[][..], &["--json"]] {
        let control = scene.name("control");
        let mut command = observer(&["status", "--control", &control]);
        let child = command.args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stream, _) = other.accept().unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains("202e") && shown.contains("9b"), "{shown:?}");
        let is_text = |c: char| c == '\n' || c == ' ' || c.is_ascii_graphic();
        assert!(shown.chars().all(is_text), "{shown:?}");
    }
}
