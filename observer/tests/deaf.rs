//! What a library's observer makes of a socket that it cannot receive from. In
//! place of the socket there is, for a while, something that is none.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test works with small numbers, and fails by panicking"
)]

use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use observer::events::event::Event;
use observer::{AttestMode, Builder, Notice, Observation, Observer, Report};
use observer_testing::{connect, frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shorter than what tests wait for on purpose.
const THRESHOLD: Duration = Duration::from_millis(300);

/// An observer, and its socket at this number.
struct Scene {
    observer: Observer,
    number: RawFd,
    /// What was there at the start.
    socket: OwnedFd,
    directory: TempDir,
}

impl Scene {
    /// Of one Unix socket, and an agent.
    fn unix(threshold: Duration) -> (Self, UnixDatagram) {
        let scene = Self::new(threshold, |builder| builder, |_, path| unix_inode(path));
        let agent = connect(scene.path()).unwrap();
        (scene, agent)
    }

    fn new(
        threshold: Duration,
        with: impl FnOnce(Builder) -> Builder,
        inode: impl FnOnce(&Observer, &Path) -> String,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let builder = Observer::builder()
            .socket(&path)
            .threshold(threshold)
            .attest(AttestMode::Off);
        let observer = with(builder).bind().unwrap();
        let number = descriptor_of(&inode(&observer, &path));
        // SAFETY: the observer has it, and outlives this.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        Self {
            socket: socket.try_clone_to_owned().unwrap(),
            observer,
            number,
            directory,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// No receive does well from now on.
    fn deafen(&self) {
        self.replace(File::open("/dev/null").unwrap().as_fd());
    }

    fn cure(&self) {
        self.replace(self.socket.as_fd());
    }

    fn replace(&self, by: BorrowedFd<'_>) {
        // SAFETY: the number is the observer's, which closes it in the end; this
        // one does not.
        let place = unsafe { OwnedFd::from_raw_fd(self.number) };
        rustix::io::dup2(by, &mut ManuallyDrop::new(place)).unwrap();
    }

    /// What is reported in this time; all of it, and how often the loop turned.
    fn reports(&mut self, time: Duration) -> (Vec<Report>, usize) {
        let end = Instant::now() + time;
        let (mut reports, mut turns) = (Vec::new(), 0);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            turns += 1;
            reports.extend(std::iter::from_fn(|| self.observer.observe()));
            self.observer.wait(Some(left)).unwrap();
        }
        (reports, turns)
    }

    /// Waits for a report.
    fn expect(&mut self, fits: impl Fn(&Report) -> bool) -> Vec<Report> {
        let end = Instant::now() + PATIENCE;
        let mut reports = Vec::new();
        while !reports.iter().any(&fits) {
            assert!(Instant::now() < end, "{reports:#?}");
            reports.extend(self.reports(Duration::from_millis(10)).0);
        }
        reports
    }
}

fn beat(agent: &UnixDatagram, nonce: u64) {
    agent.send(&frame(process::id(), nonce).encode()).unwrap();
}

/// The last column but one of the kernel's table of Unix sockets.
fn unix_inode(path: &Path) -> String {
    let sockets = fs::read_to_string("/proc/self/net/unix").unwrap();
    let path = path.to_str().unwrap();
    let row = sockets.lines().find(|row| row.ends_with(path)).unwrap();
    row.split_whitespace().nth(6).unwrap().to_owned()
}

fn udp_inode(address: SocketAddr) -> String {
    let sockets = fs::read_to_string("/proc/self/net/udp").unwrap();
    let port = format!(":{:04X}", address.port());
    let mut rows = sockets.lines().map(|row| row.split_whitespace());
    let mut row = rows.find(|row| row.clone().nth(1).unwrap().ends_with(&port));
    row.as_mut().unwrap().nth(9).unwrap().to_owned()
}

/// The number of this process's descriptor for a socket.
fn descriptor_of(inode: &str) -> RawFd {
    let target = PathBuf::from(format!("socket:[{inode}]"));
    let mut all = fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap);
    let found = all.find(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == target));
    let name = found.unwrap().file_name();
    name.to_str().unwrap().parse().unwrap()
}

fn is_lost(report: &Report) -> bool {
    matches!(report, Report::Notice(Notice::ReceiveLost { .. }))
}

fn is_regained(report: &Report) -> bool {
    matches!(report, Report::Notice(Notice::ReceiveRegained { .. }))
}

fn event(report: &Report) -> Option<&Event> {
    match report {
        Report::Observation(Observation { event, .. }) => Some(event),
        Report::Notice(_) => None,
    }
}

fn is_io(report: &Report) -> bool {
    matches!(event(report), Some(Event::Io(..)))
}

fn is_stall(report: &Report) -> bool {
    matches!(event(report), Some(Event::Stall { .. }))
}

fn nonce(report: &Report) -> Option<u64> {
    match event(report)? {
        Event::Beat { nonce, .. } => Some(*nonce),
        _ => None,
    }
}

fn count(reports: &[Report], fits: impl Fn(&Report) -> bool) -> usize {
    reports.iter().filter(|report| fits(report)).count()
}

/// A socket that could not be read is not an empty one, and an agent whose beats
/// lie in it is not silent.
#[test]
fn no_stall_is_judged_by_a_socket_that_cannot_be_read() {
    let (mut scene, agent) = Scene::unix(THRESHOLD);
    beat(&agent, 1);
    scene.expect(|report| nonce(report) == Some(1));
    scene.deafen();
    beat(&agent, 2);
    let lost = scene.expect(is_lost);
    assert_eq!(count(&lost, is_io), 1, "{lost:#?}");
    let (deaf, turns) = scene.reports(5 * THRESHOLD);
    assert!(deaf.is_empty(), "{deaf:#?}");
    // At once, then after 10, 20, 40 ms and so on.
    let failures = scene.observer.counters().receive_failures;
    assert!((4..50).contains(&failures), "{failures}");
    assert!(turns < 50, "{turns}");
    let snapshot = scene.observer.snapshot();
    let why = snapshot.routes[0].deaf.as_ref().unwrap();
    assert!(why.contains("the Unix socket"), "{why}");
    scene.cure();
    // No edge tells of what came before.
    let found = scene.expect(|report| nonce(report) == Some(2));
    assert_eq!(count(&found, is_regained), 1, "{found:#?}");
    assert_eq!(count(&found, is_stall), 0, "{found:#?}");
    assert_eq!(scene.observer.snapshot().routes[0].deaf, None);
    // The agent's time goes on now.
    scene.expect(is_stall);
    assert_eq!(scene.observer.counters().stalls, 1);
}

/// A receive that failed when a stall was due did not find the queue empty. If
/// the agent was silent indeed, it is reported once that is known; until then the
/// loop does not spin over it.
#[test]
fn a_failed_receive_finds_nobody_silent() {
    let (mut scene, agent) = Scene::unix(THRESHOLD);
    beat(&agent, 1);
    scene.expect(|report| nonce(report) == Some(1));
    scene.deafen();
    let mut deaf = scene.expect(is_lost);
    let (more, turns) = scene.reports(3 * THRESHOLD);
    deaf.extend(more);
    assert_eq!(count(&deaf, is_stall), 0, "{deaf:#?}");
    assert!(turns < 50, "{turns}");
    scene.cure();
    scene.expect(is_stall);
}

/// What was sent meanwhile may be lost: the queue is short. Nobody is silent for
/// that.
#[test]
fn agents_get_the_time_back() {
    const LONG: Duration = Duration::from_secs(1);
    let (mut scene, agent) = Scene::unix(LONG);
    beat(&agent, 1);
    scene.expect(|report| nonce(report) == Some(1));
    scene.deafen();
    beat(&agent, 2);
    scene.expect(is_lost);
    let (deaf, _) = scene.reports(2 * LONG);
    assert!(deaf.is_empty(), "{deaf:#?}");
    let socket = UnixDatagram::from(scene.socket.try_clone().unwrap());
    socket.recv(&mut [0; 64]).unwrap();
    scene.cure();
    let mut found = scene.expect(is_regained);
    beat(&agent, 3);
    found.extend(scene.expect(|report| nonce(report) == Some(3)));
    assert_eq!(count(&found, is_stall), 0, "{found:#?}");
    assert!(scene.observer.counters().away_ns > 1_000_000_000);
}

/// What waits beyond the first batch is read too, although nothing announces it.
#[test]
fn all_that_waits_is_read_once_it_can_be() {
    let (mut scene, agent) = Scene::unix(Duration::from_mins(1));
    scene.deafen();
    for nonce in 1..=9 {
        beat(&agent, nonce);
    }
    scene.expect(is_lost);
    scene.cure();
    let found = scene.expect(|report| nonce(report) == Some(9));
    assert_eq!(count(&found, |report| nonce(report).is_some()), 9);
}

/// Ending takes no longer, and no more calls, because nothing can be read.
#[test]
fn a_deaf_observer_ends_at_once() {
    let (mut scene, agent) = Scene::unix(Duration::from_mins(1));
    scene.deafen();
    beat(&agent, 1);
    let began = Instant::now();
    let until = began + PATIENCE;
    let mut reports = Vec::new();
    while let Some(report) = scene.observer.drain(until).unwrap() {
        reports.push(report);
    }
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(count(&reports, is_io), 1, "{reports:#?}");
    assert_eq!(count(&reports, is_lost), 1, "{reports:#?}");
    let failures = scene.observer.counters().receive_failures;
    assert!((2..10).contains(&failures), "{failures}");
}

/// A socket to whose one datagram the answer was that nobody listens, and which a
/// beat waits in.
fn with_waiting_error() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    socket.connect(to).unwrap();
    drop(listener);
    socket.send(&[]).unwrap();
    // Until the answer has come: errors are always reported.
    let mut waits = [PollFd::new(&socket, PollFlags::empty())];
    let patience = Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut waits, Some(&patience)), Ok(1));
    let agent = UdpSocket::bind(to).unwrap();
    let beat = frame(process::id(), 1).encode();
    agent.send_to(&beat, socket.local_addr().unwrap()).unwrap();
    socket
}

/// An error that waited in the socket is gone with the first receive, and what
/// came behind it is read, although nothing announces it.
#[test]
fn an_error_that_waits_in_a_socket_is_told_and_passed() {
    let mut scene = Scene::new(
        Duration::from_mins(1),
        |builder| builder.udp("127.0.0.1:0".parse().unwrap()),
        |observer, _| udp_inode(observer.udp_listeners().next().unwrap()),
    );
    let listener = scene.observer.udp_listeners().next().unwrap();
    scene.replace(with_waiting_error().as_fd());
    // Wakes the observer, and is not what it finds.
    let waker = UdpSocket::bind("127.0.0.1:0").unwrap();
    waker.send_to(&[], listener).unwrap();
    let found = scene.expect(|report| nonce(report) == Some(1));
    assert_eq!(count(&found, is_io), 1, "{found:#?}");
    assert_eq!(count(&found, is_lost), 0, "{found:#?}");
    assert_eq!(scene.observer.counters().receive_failures, 1);
}
