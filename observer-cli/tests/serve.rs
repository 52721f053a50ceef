//! Metrics and status from the command line: who is answered, what, and what
//! those cannot do who ask badly. None of this needs privilege or an eBPF
//! object.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, observer};
use observer_testing::{connect, frame};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A folder with sockets.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = observer(&["run", "--attest", "off", "--json"]);
        command
            .args(["--threshold-ms", "300", "--socket", &self.name("socket")])
            .args(flags)
            .stdout(Stdio::null());
        command
    }

    fn start(&self, flags: &[&str]) -> Running {
        Running::start(&mut self.command(flags))
    }

    /// An agent of this very process.
    fn agent(&self) -> UnixDatagram {
        connect(self.path("socket")).unwrap()
    }

    /// How it ends, and what it says, where it must not start.
    fn refusal(&self, flags: &[&str]) -> (Option<i32>, String) {
        let output = self.command(flags).output().unwrap();
        assert!(!self.path("socket").exists());
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

/// The port that metrics are served at.
fn port(running: &mut Running) -> u16 {
    let said = running.said().join("\n");
    let (_, rest) = said.split_once("metrics at http://127.0.0.1:").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// The answer to a request: head and body.
fn ask(mut stream: impl Read + Write, request: &str) -> (String, String) {
    write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

fn ask_at(port: u16, request: &str) -> (String, String) {
    ask(TcpStream::connect(("127.0.0.1", port)).unwrap(), request)
}

const SCRAPE: &str = "GET /metrics HTTP/1.1";

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
        let (_, text) = ask_at(port, SCRAPE);
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
fn a_scraper_is_told_what_happens() {
    let scene = Scene::new();
    let mut running = scene.start(&["--metrics", "0", "--metrics", &scene.unix("metrics")]);
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
    let (head, text) = ask_at(port, SCRAPE);
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
    let wish = format!("{SCRAPE}\r\nAccept: application/openmetrics-text;version=1.0.0");
    let (head, text) = ask(unix, &wish);
    assert!(
        head.contains("content-type: application/openmetrics-text"),
        "{head}"
    );
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(mode(&scene, "metrics"), 0o660);
    running.stop();
    assert!(!scene.path("metrics").exists(), "it was left behind");
}

impl Scene {
    fn unix(&self, name: &str) -> String {
        format!("unix:{}", self.name(name))
    }
}

fn mode(scene: &Scene, name: &str) -> u32 {
    let file = fs::metadata(scene.path(name)).unwrap();
    assert!(file.file_type().is_socket());
    file.permissions().mode() & 0o7777
}

#[test]
fn at_the_door_for_metrics_nothing_else_is_told() {
    let scene = Scene::new();
    let mut running = scene.start(&["--metrics", "127.0.0.1:0"]);
    let port = port(&mut running);
    for (request, code) in [
        ("GET /status HTTP/1.1", "404"),
        ("GET / HTTP/1.1", "404"),
        ("GET /metrics/../status HTTP/1.1", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0", "405"),
        ("DELETE /metrics HTTP/1.1", "405"),
        ("nonsense", "400"),
    ] {
        let (head, body) = ask_at(port, request);
        assert!(
            head.starts_with(&format!("http/1.1 {code}")),
            "{request}: {head}"
        );
        assert!(!body.contains("observer"), "{request}: {body}");
    }
    let (head, body) = ask_at(port, "HEAD /metrics HTTP/1.1");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.is_empty());
    let (head, _) = ask_at(port, &format!("{SCRAPE}\r\nX: {}", "x".repeat(20_000)));
    assert!(head.starts_with("http/1.1 431"), "{head}");
}

#[test]
fn a_token_is_asked_for() {
    let scene = Scene::new();
    let token = "0123456789abcdef";
    fs::write(scene.path("token"), format!("{token}\n")).unwrap();
    let flags = ["--metrics", "0", "--metrics-token", &scene.name("token")];
    let mut running = scene.start(&flags);
    let port = port(&mut running);
    let with = |shown: &str| ask_at(port, &format!("{SCRAPE}\r\nAuthorization: {shown}")).0;
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
    assert!(ask_at(port, SCRAPE).0.starts_with("http/1.1 401"));
    assert!(with(&format!("Bearer {token}")).starts_with("http/1.1 200"));
    assert!(with(&format!("bearer {token}")).starts_with("http/1.1 200"));
}

#[test]
fn what_cannot_be_served_is_said_at_the_start() {
    let scene = Scene::new();
    let (code, said) = scene.refusal(&["--metrics", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--metrics-token"), "{said}");
    let (code, said) = scene.refusal(&["--metrics", "localhost:1"]);
    assert_eq!(code, Some(2), "{said}");
    fs::write(scene.path("token"), "short").unwrap();
    let token = scene.name("token");
    let (code, said) = scene.refusal(&["--metrics", "0.0.0.0:0", "--metrics-token", &token]);
    assert!(code == Some(1) && said.contains("holds no token"), "{said}");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = other.local_addr().unwrap().to_string();
    let (code, said) = scene.refusal(&["--metrics", &place]);
    assert!(code == Some(1) && said.contains(&place), "{said}");
    fs::write(scene.path("control"), "precious").unwrap();
    let (code, said) = scene.refusal(&["--control", &scene.name("control")]);
    assert!(code == Some(1) && said.contains("not a socket"), "{said}");
    assert_eq!(fs::read(scene.path("control")).unwrap(), b"precious");
}

#[test]
fn the_status_is_for_scripts_and_for_people() {
    let scene = Scene::new();
    let control = scene.name("control");
    let mut running = scene.start(&["--control", &control]);
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
    let told: Value = loop {
        let (code, text) = status(&["--json"]);
        assert_eq!(code, Some(0));
        let told: Value = serde_json::from_str(&text).unwrap();
        if told["attacks"][0]["count"] == 1 {
            break told;
        }
        assert!(began.elapsed() < PATIENCE, "{text}");
    };
    let child = running.child.id();
    assert_eq!(told["pid"], child);
    assert_eq!(told["agents"][0]["pid"], std::process::id());
    assert_eq!(told["agents"][0]["last_nonce"], 7);
    assert_eq!(told["attacks"][0]["cause"], "pid_mismatch");
    assert_eq!(told["attacks"][0]["claimed_pid"], 4242);
    assert_eq!(told["attacks"][0]["pid"], std::process::id());
    assert_eq!(told["observer"]["routes"][0]["tier"], "scm");
    let (_, text) = status(&[]);
    for word in [
        "tier scm",
        "1 auth failures",
        "pid_mismatch",
        "lost: nothing",
        "4242",
    ] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    let (_, text) = status(&["--json", "--agents", "0"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["agents"], serde_json::json!([]));
    assert_eq!(told["attacks"][0]["claimed_pid"], 4242);
    running.stop();
    assert!(!scene.path("control").exists(), "it was left behind");
    assert_eq!(status(&[]).0, Some(1));
}

/// Whoever takes all places at the door keeps out other scrapers, for a
/// while, and no beat.
#[test]
fn a_crowd_of_idle_scrapers_delays_no_beat() {
    let scene = Scene::new();
    let mut command = scene.command(&["--metrics", "0"]);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let port = port(&mut running);
    let idle: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(("127.0.0.1", port)))
        .collect();
    let mut events = BufReader::new(running.child.stdout.take().unwrap());
    let agent = scene.agent();
    for nonce in 1..=20 {
        agent
            .send(&frame(std::process::id(), nonce).encode())
            .unwrap();
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&event["event"], &event["nonce"]),
            (&"beat".into(), &nonce.into())
        );
    }
    // Those that had to yield their places cost nothing.
    let open = fs::read_dir(format!("/proc/{}/fd", running.child.id())).unwrap();
    assert!(open.count() < 50);
    drop(idle);
    assert!(ask_at(port, SCRAPE).0.starts_with("http/1.1 200"));
}

/// How long a scrape may take that nobody is to hold up; on the machine of a
/// test, and with time for some that were pushed out to ask again.
const SCRAPE_TIME: Duration = Duration::from_secs(8);

/// What a scraper gets that tries again as long as its time lasts.
fn scrape(port: u16, request: &str) -> Option<String> {
    let began = Instant::now();
    let request = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    while let Some(left) = SCRAPE_TIME.checked_sub(began.elapsed()) {
        let answer = connect_tcp(port, left).and_then(|mut stream| {
            let mut answer = String::new();
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        if let Some(answer) = answer.ok().filter(|answer| !answer.is_empty()) {
            return Some(answer);
        }
    }
    None
}

/// A connection on which nothing takes longer than this.
fn connect_tcp(port: u16, patience: Duration) -> std::io::Result<TcpStream> {
    // No time at all would be none to the system.
    let patience = patience.max(Duration::from_millis(1));
    let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), patience)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

/// Asks over and over for what it may not have, on connections that it keeps
/// for as long as it can, until it is stopped.
fn badger(port: u16, stopped: &AtomicBool) {
    let refused = |stream: &mut TcpStream| {
        let request = format!("{SCRAPE}\r\nHost: x\r\n\r\n");
        let mut answer = [0; 512];
        stream.write_all(request.as_bytes())?;
        stream.read(&mut answer)
    };
    while !stopped.load(Ordering::Relaxed) {
        let Ok(mut stream) = connect_tcp(port, Duration::from_millis(200)) else {
            continue;
        };
        while !stopped.load(Ordering::Relaxed) && refused(&mut stream).is_ok_and(|read| read > 0) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn those_who_are_refused_starve_nobody() {
    let scene = Scene::new();
    let token = "0123456789abcdef";
    fs::write(scene.path("token"), token).unwrap();
    let flags = ["--metrics", "0", "--metrics-token", &scene.name("token")];
    let mut running = scene.start(&flags);
    let port = port(&mut running);
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| badger(port, &stopped));
        }
        std::thread::sleep(Duration::from_millis(500));
        let wish = format!("{SCRAPE}\r\nAuthorization: Bearer {token}");
        let answers: Vec<_> = (0..5).map(|_| scrape(port, &wish)).collect();
        stopped.store(true, Ordering::Relaxed);
        for answer in answers {
            let answer = answer.unwrap_or_default();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        }
    });
    let (head, _) = ask_keeping(port, SCRAPE);
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
}

/// The answer to a request on a connection that the peer would keep.
fn ask_keeping(port: u16, request: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    (ask_again(&mut stream, request), stream)
}

/// The head of an answer, whose body is read too.
fn ask_again(stream: &mut TcpStream, request: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request}\r\nHost: x\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head:?}");
    }
    let head = head.to_ascii_lowercase();
    let (_, length) = head.split_once("content-length: ").unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    reader.read_exact(&mut vec![0; length]).unwrap();
    head
}

/// Nor do those who ask for nothing; and who is known to a door, and quiet for
/// as long as scrapers are, keeps its connection meanwhile.
#[test]
fn an_idle_connection_yields_when_its_place_is_needed() {
    let scene = Scene::new();
    let mut running = scene.start(&["--metrics", "0"]);
    let port = port(&mut running);
    let (head, mut scraper) = ask_keeping(port, SCRAPE);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let idle: Vec<_> = (0..100)
        .map(|_| connect_tcp(port, SCRAPE_TIME).unwrap())
        .collect();
    let answer = scrape(port, SCRAPE).unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    // Longer than the ten seconds that it once had.
    std::thread::sleep(Duration::from_secs(11));
    let head = ask_again(&mut scraper, SCRAPE);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    drop(idle);
}

/// Whoever answers at a socket that is not an observer's chooses the text.
#[test]
fn what_another_answers_reaches_no_terminal_as_it_is() {
    let scene = Scene::new();
    let mut running = scene.start(&["--control", &scene.name("control")]);
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

/// The log is a pipe that was full before the observer came.
#[test]
fn a_log_that_nobody_reads_delays_no_beat() {
    let scene = Scene::new();
    let (log, mut full) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut child = scene
        .command(&[])
        .stdout(Stdio::piped())
        .stderr(full)
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !scene.path("socket").exists() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let agent = scene.agent();
    for nonce in 1..=20 {
        agent
            .send(&frame(std::process::id(), nonce).encode())
            .unwrap();
        let mut line = String::new();
        events.read_line(&mut line).unwrap();
        assert!(line.contains(r#""event":"beat""#), "{line}");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    drop(log);
}
