//! 100,000 agents of one observer: the memory that they take, and for how long a
//! beat waits while stalls of all the others are reported.
//!
//! So many processes would be a stress test of the scheduler. So one thread sends
//! for all of them, by UDP and unattested, and the observer does all that it does
//! for beats of that origin. The other benchmarks measure what attestation costs
//! besides.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use observer::{AttestMode, Event, Observer};
use observer_common::frame::Frame;
use observer_testing::{connect_udp, frame};

const AGENTS: u32 = 100_000;

/// Pid of the first of them.
const FIRST: u32 = 1000;

/// The one that goes on beating.
const SURVIVOR: u32 = 2;

/// All beat once within it, then stall together.
const THRESHOLD: Duration = Duration::from_secs(3);

/// How often the survivor beats.
const PULSE: Duration = Duration::from_micros(500);

/// Beats between two short pauses: as many as the socket's buffer is sure to
/// hold.
const VOLLEY: u32 = 64;

const ROUNDS: usize = 5;

fn main() {
    println!("fleet: {AGENTS} agents, a wave of as many stalls, {ROUNDS} rounds");
    let mut rounds: Vec<Round> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by_key(|round| round.longest);
    for Round {
        kib_before,
        kib_after,
        stalls,
        wave,
        longest,
    } in &rounds
    {
        println!(
            "  RSS {:.1} MiB, {:.1} before the first agent; {stalls} stalls reported in {wave:.1?}; \
             a beat waited {longest:.2?} at the longest",
            mib(*kib_after),
            mib(*kib_before),
        );
    }
}

/// What one round found.
struct Round {
    kib_before: u64,
    kib_after: u64,
    stalls: u32,
    /// From the first stall to the last.
    wave: Duration,
    /// From the send of a beat of the survivor's to its event, in the wave.
    longest: Duration,
}

fn round() -> Round {
    let folder = tempfile::tempdir().expect("a directory");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut observer = Observer::builder()
        .socket(folder.path().join("s"))
        .udp(address)
        .attest(AttestMode::Off)
        .accept_network_beats(true)
        .max_agents(AGENTS as usize + 1)
        .threshold(THRESHOLD)
        .bind()
        .expect("an observer");
    let kib_before = rss_kib();
    let listener = observer.udp_listeners().next().expect("a listener");
    let ended = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| send(listener, start, &ended));
        let round = watch(&mut observer, start, kib_before);
        ended.store(true, Ordering::Relaxed);
        round
    })
}

/// Takes events until all agents but one have been reported as stalled.
fn watch(observer: &mut Observer, start: Instant, kib_before: u64) -> Round {
    let (mut stalls, mut longest) = (0, Duration::ZERO);
    let (mut first, mut kib_after) = (None, 0);
    loop {
        while let Some(event) = observer.poll() {
            match event {
                Event::Stall { .. } => {
                    first.get_or_insert_with(|| {
                        kib_after = rss_kib();
                        Instant::now()
                    });
                    stalls += 1;
                }
                Event::Beat { pid, payload, .. } if pid == SURVIVOR && first.is_some() => {
                    let sent = Duration::from_micros(payload.into());
                    longest = longest.max(start.elapsed().saturating_sub(sent));
                }
                _ => {}
            }
        }
        if stalls >= AGENTS {
            break;
        }
        observer.wait(None).expect("it waits");
    }
    Round {
        kib_before,
        kib_after,
        stalls,
        wave: first.map_or(Duration::ZERO, |first| first.elapsed()),
        longest,
    }
}

/// One beat of each agent, then those of the survivor alone. Their payload is
/// the time of the send, in microseconds.
fn send(listener: SocketAddr, start: Instant, ended: &AtomicBool) {
    let socket = connect_udp(listener).expect("an address");
    let beat = |pid, nonce| {
        let frame = Frame {
            payload: u32::try_from(start.elapsed().as_micros()).expect("a short run"),
            ..frame(pid, nonce)
        };
        socket.send(&frame.encode()).expect("sends");
    };
    for index in 0..AGENTS {
        beat(FIRST + index, 1);
        if index % VOLLEY == 0 {
            thread::sleep(Duration::from_micros(100));
        }
    }
    for nonce in 1.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        beat(SURVIVOR, nonce);
        thread::sleep(PULSE);
    }
}

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.expect("a size").parse().expect("a number")
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
