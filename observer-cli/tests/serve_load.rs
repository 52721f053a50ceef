//! Metrics and log while somebody holds them up: whom that delays. None of this
//! needs privilege or an eBPF object.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/http.rs"]
mod http;

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scene};
use http::{SCRAPE, port, request_at, token_file};
use observer_testing::frame;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a scrape may take that nobody may hold up: on a busy machine, and
/// with some connections that were closed for others and made again.
const SCRAPE_TIME: Duration = Duration::from_secs(8);

/// Whoever takes all connections that a listener has keeps out other scrapers,
/// for a while, and no beat.
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
        let line = beat(&agent, nonce, &mut events);
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&event["event"], &event["nonce"]),
            (&"beat".into(), &nonce.into())
        );
    }
    // Those that were closed for others cost nothing.
    let open = fs::read_dir(format!("/proc/{}/fd", running.child.id())).unwrap();
    assert!(open.count() < 50);
    drop(idle);
    assert!(request_at(port, SCRAPE).0.starts_with("http/1.1 200"));
    assert!(running.stop().0.success());
}

#[test]
fn those_who_are_refused_starve_nobody() {
    let scene = Scene::new();
    let token = "0123456789abcdef";
    let file = token_file(&scene, token);
    let flags = ["--metrics", "0", "--metrics-token", &file];
    let mut running = Running::start(&mut scene.command(&flags));
    let port = port(&mut running);
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| request_again_and_again(port, &stopped));
        }
        thread::sleep(Duration::from_millis(500));
        let lines = format!("{SCRAPE}\r\nAuthorization: Bearer {token}");
        let responses: Vec<_> = (0..5).map(|_| scrape(port, &lines)).collect();
        stopped.store(true, Ordering::Relaxed);
        for response in responses {
            let response = response.unwrap_or_default();
            assert!(response.starts_with("HTTP/1.1 200"), "{response:?}");
        }
    });
    let (head, _) = request_keeping(port, SCRAPE);
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
}

/// Nor do those that send no request; and whoever has had a response, and is idle
/// for as long as scrapers are, keeps its connection meanwhile.
#[test]
fn an_idle_connection_is_closed_when_its_place_is_needed() {
    let scene = Scene::new();
    let mut running = Running::start(&mut scene.command(&["--metrics", "0"]));
    let port = port(&mut running);
    let (head, mut scraper) = request_keeping(port, SCRAPE);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let idle: Vec<_> = (0..100)
        .map(|_| connect_tcp(port, SCRAPE_TIME).unwrap())
        .collect();
    let response = scrape(port, SCRAPE).unwrap_or_default();
    assert!(response.starts_with("HTTP/1.1 200"), "{response:?}");
    // Longer than the ten seconds that it once had.
    thread::sleep(Duration::from_secs(11));
    let head = request_on(&mut scraper, SCRAPE);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    drop(idle);
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
        thread::sleep(Duration::from_millis(5));
    }
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let agent = scene.agent();
    for nonce in 1..=20 {
        let line = beat(&agent, nonce, &mut events);
        assert!(line.contains(r#""event":"beat""#), "{line}");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    drop(log);
}

/// Beats once; the event as a line.
fn beat(agent: &UnixDatagram, nonce: u64, events: &mut impl BufRead) -> String {
    let frame = frame(std::process::id(), nonce).encode();
    agent.send(&frame).unwrap();
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    line
}

/// The response to a scraper that tries again as long as its time lasts.
fn scrape(port: u16, lines: &str) -> Option<String> {
    let began = Instant::now();
    let request = format!("{lines}\r\nHost: x\r\nConnection: close\r\n\r\n");
    while let Some(left) = SCRAPE_TIME.checked_sub(began.elapsed()) {
        let response = connect_tcp(port, left).and_then(|mut stream| {
            let mut response = String::new();
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut response)?;
            Ok(response)
        });
        if let Some(response) = response.ok().filter(|response| !response.is_empty()) {
            return Some(response);
        }
    }
    None
}

/// A connection on which nothing takes longer than this.
fn connect_tcp(port: u16, patience: Duration) -> std::io::Result<TcpStream> {
    // To the system no time at all means no limit.
    let patience = patience.max(Duration::from_millis(1));
    let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), patience)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

/// Requests what it may not have, on connections that it keeps for as long as it
/// can, until it is stopped.
fn request_again_and_again(port: u16, stopped: &AtomicBool) {
    let refused = |stream: &mut TcpStream| {
        let request = format!("{SCRAPE}\r\nHost: x\r\n\r\n");
        let mut response = [0; 512];
        stream.write_all(request.as_bytes())?;
        stream.read(&mut response)
    };
    while !stopped.load(Ordering::Relaxed) {
        let Ok(mut stream) = connect_tcp(port, Duration::from_millis(200)) else {
            continue;
        };
        while !stopped.load(Ordering::Relaxed) && refused(&mut stream).is_ok_and(|read| read > 0) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The head of a response on a connection that the peer would keep.
fn request_keeping(port: u16, line: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    (request_on(&mut stream, line), stream)
}

/// The head of a response, whose body is read too.
fn request_on(stream: &mut TcpStream, line: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{line}\r\nHost: x\r\n\r\n").unwrap();
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
