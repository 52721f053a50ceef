//! The library's own loop, on sockets for which nothing has to be attested.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test works with small numbers, and fails by panicking"
)]

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use observer::events::event::{BeatOrigin, Event};
use observer::{AttestMode, Observation, Observer, Report, Senders, Waker};
use observer_testing::{connect, frame, udp_socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;
use tokio::time::timeout;

/// One pass reads every socket, and each beat has its event. Where the
/// operator wants no eBPF, the credentials of a Unix socket have to do.
#[test]
fn each_way_in_has_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut observer = Observer::builder()
        .socket(&path)
        .threshold(Duration::from_mins(1))
        .attest(AttestMode::Off)
        .udp("127.0.0.1:0".parse().unwrap())
        .udp("[::1]:0".parse().unwrap())
        .bind()
        .unwrap();
    let agent = connect(&path).unwrap();
    agent.send(&frame(process::id(), 1).encode()).unwrap();
    for (to, pid) in observer.udp_listeners().zip([1001, 1002]) {
        let agent = udp_socket(to).unwrap();
        agent.send_to(&frame(pid, 1).encode(), to).unwrap();
    }
    let mut beats = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    while beats.len() < 3 && Instant::now() < end {
        while let Some(event) = observer.poll() {
            let Event::Beat { pid, origin, .. } = event else {
                panic!("{event:?}");
            };
            beats.push((pid, origin));
        }
        observer.wait(Some(Duration::from_millis(100))).unwrap();
    }
    beats.sort_unstable_by_key(|(pid, _)| *pid);
    let mut expected = [
        (process::id(), BeatOrigin::KernelAttested),
        (1001, BeatOrigin::NetworkUnverified),
        (1002, BeatOrigin::NetworkUnverified),
    ];
    expected.sort_unstable_by_key(|(pid, _)| *pid);
    assert_eq!(beats, expected);
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An observer of one Unix socket, with an agent of this process.
struct Scene {
    observer: Observer,
    agent: UnixDatagram,
    waker: Waker,
    sent: u64,
    _directory: TempDir,
}

impl Scene {
    fn new(threshold: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let waker = Waker::new().unwrap();
        let observer = Observer::builder()
            .socket(&path)
            .threshold(threshold)
            .attest(AttestMode::Off)
            .waker(&waker)
            .bind()
            .unwrap();
        Self {
            observer,
            agent: connect(&path).unwrap(),
            waker,
            sent: 0,
            _directory: directory,
        }
    }

    fn beat(&mut self) {
        self.sent += 1;
        let frame = frame(process::id(), self.sent).encode();
        self.agent.send(&frame).unwrap();
    }

    /// The nonce of the beat that is reported now, if one is.
    fn observed(&mut self) -> Option<u64> {
        nonce(&self.observer.observe()?)
    }
}

fn nonce(report: &Report) -> Option<u64> {
    match report {
        Report::Observation(Observation {
            event: Event::Beat { nonce, .. },
            ..
        }) => Some(*nonce),
        _ => None,
    }
}

fn is_stall(report: &Report) -> bool {
    matches!(report, Report::Observation(observation)
        if matches!(observation.event, Event::Stall { .. }))
}

/// Each look finds what has come, whether it was waited for or not.
#[test]
fn a_beat_is_found_with_and_without_a_wait() {
    let mut scene = Scene::new(PATIENCE);
    assert_eq!(scene.observed(), None);
    scene.beat();
    assert_eq!(scene.observed(), Some(1));
    assert_eq!(scene.observed(), None);
    for nonce in 2..50 {
        scene.beat();
        let start = Instant::now();
        scene.observer.wait(Some(PATIENCE)).unwrap();
        assert!(start.elapsed() < PATIENCE / 2, "it was not woken");
        assert_eq!(scene.observed(), Some(nonce));
        assert_eq!(scene.observed(), None);
    }
    // More than a small batch and than a large one.
    for count in [5, 9] {
        let first = scene.sent + 1;
        (0..count).for_each(|_| scene.beat());
        scene.observer.wait(Some(PATIENCE)).unwrap();
        for nonce in first..first + count {
            assert_eq!(scene.observed(), Some(nonce));
        }
        assert_eq!(scene.observed(), None);
    }
}

#[test]
fn a_wait_ends_by_its_time_or_by_a_waker() {
    let mut scene = Scene::new(PATIENCE);
    let start = Instant::now();
    scene
        .observer
        .wait(Some(Duration::from_millis(10)))
        .unwrap();
    assert!(start.elapsed() < PATIENCE / 2, "it went on");
    assert!(!scene.waker.was_used());
    let waker = scene.waker.clone();
    let other = thread::spawn(move || waker.wake());
    let start = Instant::now();
    scene.observer.wait(Some(PATIENCE)).unwrap();
    assert!(start.elapsed() < PATIENCE / 2, "it was not woken");
    other.join().unwrap();
    assert!(scene.waker.was_used());
    assert!(!scene.waker.was_used());
}

/// The descriptor is all that an event loop of another kind needs: it shows
/// beats, and that somebody is to be judged.
#[test]
fn its_descriptor_shows_beats_and_deadlines() {
    let mut scene = Scene::new(Duration::from_millis(200));
    let poll_once = |observer: &Observer| {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let mut source = [PollFd::from_borrowed_fd(observer.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut source, Some(&patience)).unwrap(), 1, "nothing");
    };
    assert_eq!(scene.observed(), None);
    scene.beat();
    poll_once(&scene.observer);
    assert_eq!(scene.observed(), Some(1));
    let end = Instant::now() + PATIENCE;
    loop {
        match scene.observer.observe() {
            Some(report) => {
                assert!(is_stall(&report), "{report:?}");
                break;
            }
            None => poll_once(&scene.observer),
        }
        assert!(Instant::now() < end, "no stall");
    }
}

#[tokio::test]
async fn a_stream_gives_beats_and_stalls() {
    let mut scene = Scene::new(Duration::from_millis(200));
    for nonce_sent in 1..20 {
        scene.beat();
        let report = timeout(PATIENCE, scene.observer.next()).await.unwrap();
        assert_eq!(nonce(&report.unwrap()), Some(nonce_sent));
    }
    let report = timeout(PATIENCE, scene.observer.next()).await.unwrap();
    assert!(is_stall(&report.unwrap()));
}

/// A socket with a long queue hides no other: each has its turn.
#[test]
fn a_long_queue_delays_no_other_socket() {
    const QUEUED: u64 = 1000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut observer = Observer::builder()
        .socket(&path)
        .threshold(PATIENCE)
        .attest(AttestMode::Off)
        .udp("127.0.0.1:0".parse().unwrap())
        .bind()
        .unwrap();
    let to = observer.udp_listeners().next().unwrap();
    let (busy, agent) = (udp_socket(to).unwrap(), connect(&path).unwrap());
    for nonce in 1..=QUEUED {
        let frame = frame(process::id() + 1, nonce).encode();
        busy.send_to(&frame, to).unwrap();
    }
    observer.wait(Some(PATIENCE)).unwrap();
    assert_eq!(nonce(&observer.observe().unwrap()), Some(1));
    // After it was found out which sockets have something.
    agent
        .send(&frame(process::id(), QUEUED * 2).encode())
        .unwrap();
    let before = (1..QUEUED).take_while(|_| {
        let report = observer.observe().expect("there is more");
        nonce(&report) != Some(QUEUED * 2)
    });
    assert!(before.count() < 200);
}

/// Nobody stalls by a change itself, and who waits learns of a deadline that is
/// nearer now.
#[test]
fn a_threshold_that_shrinks_counts_from_the_change() {
    let mut scene = Scene::new(PATIENCE * 10);
    scene.beat();
    scene.observer.wait(Some(PATIENCE)).unwrap();
    assert_eq!(scene.observed(), Some(1));
    assert_eq!(scene.observed(), None);
    let threshold = Duration::from_millis(200);
    thread::sleep(threshold * 2);
    let error = scene.observer.set_threshold(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("zero"), "{error}");
    let changed = Instant::now();
    scene.observer.set_threshold(threshold).unwrap();
    let stall = loop {
        match scene.observer.observe() {
            Some(report) => break report,
            None => scene.observer.wait(Some(PATIENCE)).unwrap(),
        }
        assert!(changed.elapsed() < PATIENCE, "no stall");
    };
    assert!(is_stall(&stall), "{stall:?}");
    assert!(changed.elapsed() >= threshold, "it stalled by the change");
    assert_eq!(scene.observer.snapshot().threshold_ns, 200_000_000);
}

/// An agent that no longer may be one is forgotten, and has no stall.
#[test]
fn lists_of_senders_change_while_it_observes() {
    let mut scene = Scene::new(Duration::from_millis(200));
    let nobody_here = Senders {
        uids: vec![u32::MAX - 1],
        gids: Vec::new(),
    };
    scene.beat();
    scene.observer.wait(Some(PATIENCE)).unwrap();
    assert_eq!(scene.observed(), Some(1));
    assert_eq!(scene.observer.set_senders(nobody_here).unwrap(), 1);
    scene.beat();
    scene.observer.wait(Some(PATIENCE)).unwrap();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        match scene.observer.observe() {
            Some(Report::Observation(observation)) => panic!("{observation:?}"),
            Some(Report::Notice(_)) => {}
            None => scene.observer.wait(Some(left)).unwrap(),
        }
    }
    assert_eq!(scene.observer.counters().refused_senders, 1);
    assert_eq!(scene.observer.set_senders(Senders::default()).unwrap(), 0);
    scene.beat();
    let sent = Instant::now();
    while scene.observed() != Some(3) {
        assert!(sent.elapsed() < PATIENCE, "it may be an agent again");
        scene.observer.wait(Some(PATIENCE)).unwrap();
    }
}
