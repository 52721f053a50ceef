//! What attestation by UDP costs: every IP packet of the host, and each beat.
//!
//! Needs root, and an observer built with its eBPF object. Rounds with and
//! without the program take turns, so that a busy machine slows both; what is
//! printed are medians, the spread of their middle half, and the ratio to the
//! floor of the same run.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark prints, and may panic"
)]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use observer::internals::{ClosedUdpListener, ClosedUdpSocket, Receiver};
use observer::{Event, Observer};
use observer_testing::{connect_udp, frame};

const ROUNDS: usize = 101;
const PACKETS: u32 = 5_000;
/// Datagrams that one receive takes.
const BATCH: usize = 64;
/// Fewer than a receive buffer holds.
const BEATS: u32 = 1_920;

fn main() {
    // `cargo test --benches` passes flags for a harness that is not there.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    if let Err(error) = observer(scratch.path()) {
        println!("udp: NOT RUN: {error}");
        return;
    }
    unrelated(scratch.path());
    sending(scratch.path());
    receiving(scratch.path());
}

/// Any other datagram of the host: to a port that is not the observer's.
fn unrelated(scratch: &Path) {
    let sink = plain();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(send_many(sink.1, PACKETS));
        let observer = observer(scratch).expect("it worked before");
        with.push(send_many(sink.1, PACKETS));
        drop(observer);
    }
    report("send of an unrelated UDP packet", &mut without, &mut with);
    match program_time(scratch, sink.1) {
        Ok(time) => println!("    program   {time:>8.1}   by the kernel's own count"),
        Err(error) => println!("    program   unknown: {error}"),
    }
}

/// What the kernel measured of the program alone (`bpf_stats_run_time`), its
/// two looks at the clock included.
fn program_time(scratch: &Path, to: SocketAddr) -> anyhow::Result<f64> {
    let observer = observer(scratch)?;
    let _stats = enable_stats(Stats::RunTime)?;
    send_many(to, PACKETS);
    let programs = loaded_programs().collect::<Result<Vec<_>, _>>()?;
    let program = programs
        .iter()
        .filter(|program| program.name_as_str() == Some("udp_btf"))
        .max_by_key(|program| program.run_count())
        .context("it is not loaded")?;
    drop(observer);
    Ok(program.run_time().as_secs_f64() * 1e9 / program.run_count() as f64)
}

/// A beat, at its sender: to a listener, and to a plain socket.
fn sending(scratch: &Path) {
    let (mut floor, mut attested) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (socket, address) = plain();
        let open = socket.open(false).expect("opens");
        floor.push(send_many(address, BEATS));
        drop(open);
        let observer = observer(scratch).expect("it worked before");
        attested.push(send_many(listener(&observer), BEATS));
    }
    report("send of a beat", &mut floor, &mut attested);
}

/// A beat, at its receiver: all of the observer's work, and `recvmmsg` alone.
fn receiving(scratch: &Path) {
    let (socket, address) = plain();
    let open = socket.open(false).expect("opens");
    let mut receiver = Receiver::for_udp();
    let mut observer = observer(scratch).expect("it worked before");
    let to = listener(&observer);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (mut floor, mut attested) = (Vec::new(), Vec::new());
    let mut nonce = 0;
    for _ in 0..ROUNDS {
        let mut time = Duration::ZERO;
        for _ in 0..BEATS as usize / BATCH {
            send_batch(&sender, address, &mut nonce);
            let start = Instant::now();
            let batch = receiver.receive(open.as_fd()).expect("receives");
            time += start.elapsed();
            assert_eq!(batch.received, BATCH);
        }
        floor.push(per(time, BEATS));

        let mut time = Duration::ZERO;
        for _ in 0..BEATS as usize / BATCH {
            send_batch(&sender, to, &mut nonce);
            let start = Instant::now();
            let mut beats = 0;
            while let Some(event) = observer.poll() {
                assert!(matches!(event, Event::Beat { .. }), "{event:?}");
                beats += 1;
            }
            time += start.elapsed();
            assert_eq!(beats, BATCH);
        }
        attested.push(per(time, BEATS));
    }
    report("receipt of a beat, to its event", &mut floor, &mut attested);
}

fn observer(scratch: &Path) -> Result<Observer, observer::StartError> {
    Observer::builder()
        .socket(scratch.join("s"))
        .udp(SocketAddr::from(([127, 0, 0, 1], 0)))
        .threshold(Duration::from_hours(1))
        .max_beat_rate(0)
        .bind()
}

fn listener(observer: &Observer) -> SocketAddr {
    observer.udp_listeners().next().expect("one listener")
}

/// A socket that takes nothing: what is sent to it is dropped at once, so
/// that no receiver has a share in the time.
fn plain() -> (ClosedUdpSocket, SocketAddr) {
    let listener = ClosedUdpListener::bind(([127, 0, 0, 1], 0).into()).expect("binds");
    let address = listener.address();
    let socket = listener.into_sockets().pop().expect("one for all ways");
    (socket, address)
}

/// Nanoseconds for each of so many sends.
fn send_many(to: SocketAddr, count: u32) -> f64 {
    let sender = connect_udp(to).expect("an address");
    let bytes = frame(process::id(), 1).encode();
    let start = Instant::now();
    for _ in 0..count {
        sender.send(&bytes).expect("sends");
    }
    per(start.elapsed(), count)
}

fn send_batch(sender: &UdpSocket, to: SocketAddr, nonce: &mut u64) {
    for _ in 0..BATCH {
        *nonce += 1;
        sender
            .send_to(&frame(process::id(), *nonce).encode(), to)
            .expect("sends");
    }
}

fn per(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e9 / f64::from(count)
}

/// Prints floor and measurement, and what the one adds to the other.
fn report(what: &str, floor: &mut [f64], measured: &mut [f64]) {
    let mut added: Vec<f64> = floor.iter().zip(&*measured).map(|(a, b)| b - a).collect();
    let [floor, measured, added] = [floor, measured, &mut added[..]].map(quartiles);
    println!("{what}, ns (middle half of {ROUNDS} rounds)");
    for (name, [low, median, high]) in [("floor", floor), ("observer", measured), ("added", added)]
    {
        println!("    {name:<9} {median:>8.1}   ({low:.1} to {high:.1})");
    }
    println!("    ratio     {:>8.2}", measured[1] / floor[1]);
}

fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [values.len() / 4, values.len() / 2, values.len() * 3 / 4].map(|at| values[at])
}
