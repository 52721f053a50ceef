//! What a beat costs once its bytes are in userspace, in nanoseconds a beat.
//!
//! `tracker` and `decode+tracker` run with the agents in turn and in random
//! order: in turn is how a fleet with one interval beats, random is the worst
//! case for the cache.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    reason = "a benchmark may panic"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use observer::internals::{
    Hint, Join, Now, Otherwise, Outcome, Policy, Sighting, Tracker, Trust, Verdict, judge,
};
use observer::{AttestMode, OriginPolicy};
use observer_common::frame::{FRAME_LEN, Frame, Status};
use observer_common::record::Record;
use observer_events::event::{Attestation, BeatOrigin, TaskKind, Via};
use observer_testing::frame;

const FLEETS: [usize; 3] = [1, 4096, 100_000];

/// How many beats are prepared at a time, outside of the measurement: few
/// enough to stay in the cache, as a batch just received does.
const BATCH: usize = 512;

/// The order in which agents beat.
#[derive(Clone, Copy, Debug)]
enum Order {
    InTurn,
    Random,
}

fn decode(c: &mut Criterion) {
    c.bench_function("decode", |b| {
        let mut fleet = Fleet::new(1, Order::InTurn);
        b.iter_custom(|beats| fleet.time(beats, |_, beat| Frame::decode(&beat.frame).is_ok()));
    });
}

fn tracker(c: &mut Criterion) {
    for_each_fleet(c, "tracker", |fleet, beats| {
        fleet.time(beats, |tracker, beat| track(tracker, beat.pid, beat.nonce))
    });
}

fn decode_and_tracker(c: &mut Criterion) {
    for_each_fleet(c, "decode+tracker", |fleet, beats| {
        fleet.time(beats, |tracker, beat| {
            Frame::decode(&beat.frame).is_ok_and(|frame| track(tracker, frame.pid, frame.nonce))
        })
    });
}

fn decode_and_judge(c: &mut Criterion) {
    c.bench_function("decode+judge", |b| {
        let mut fleet = Fleet::new(1, Order::InTurn);
        b.iter_custom(|beats| {
            fleet.time(beats, |_, beat| {
                let sender = sender(beat.pid);
                Frame::decode(&beat.frame).is_ok_and(|frame| believed(&frame, &sender))
            })
        });
    });
}

/// All that a beat costs after the join.
fn decode_judge_and_tracker(c: &mut Criterion) {
    for_each_fleet(c, "decode+judge+tracker", |fleet, beats| {
        fleet.time(beats, |tracker, beat| {
            let sender = sender(beat.pid);
            Frame::decode(&beat.frame).is_ok_and(|frame| {
                believed(&frame, &sender) && track(tracker, frame.pid, frame.nonce)
            })
        })
    });
}

/// The ring's side and the socket's side of the join, for datagrams and
/// records that come in batches of one and of many.
fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("join");
    for waiting in [1, 64, 4096] {
        group.throughput(Throughput::Elements(waiting));
        group.bench_function(BenchmarkId::from_parameter(waiting), |b| {
            let mut join = Join::new();
            let records: Vec<Record> = (0..waiting).map(record).collect();
            b.iter(|| {
                for record in &records {
                    join.record(record, 0);
                }
                for record in &records {
                    assert!(
                        join.claim(
                            black_box(&record.frame),
                            Some(Hint::Pid(record.pid)),
                            Otherwise::Oldest
                        )
                        .is_some()
                    );
                }
            });
        });
    }
    group.finish();
}

fn record(number: u64) -> Record {
    let pid = u32::try_from(number).expect("few records") + 2;
    let frame = Frame {
        timestamp: number,
        ..frame(pid, number)
    };
    Record {
        pid,
        host_tid: pid,
        start_ns: 1,
        frame: frame.encode(),
        ..Record::UNKNOWN
    }
}

fn believed(frame: &Frame, sender: &Attestation) -> bool {
    let policy = Policy {
        attest: AttestMode::Require,
        observer_ns_inode: sender.pid_ns_inode,
        ..Policy::default()
    };
    let verdict = judge(
        black_box(frame),
        Some(black_box(sender)),
        Trust::SocketMode,
        &policy,
    );
    matches!(verdict, Verdict::Authentic { .. })
}

fn for_each_fleet(c: &mut Criterion, name: &str, run: impl Fn(&mut Fleet, u64) -> Duration) {
    let mut group = c.benchmark_group(name);
    for size in FLEETS {
        for order in [Order::InTurn, Order::Random] {
            let mut fleet = Fleet::new(size, order);
            let id = BenchmarkId::new(format!("{order:?}"), size);
            group.bench_function(id, |b| b.iter_custom(|beats| run(&mut fleet, beats)));
            if size == 1 {
                break;
            }
        }
    }
    group.finish();
}

/// As the observer's loop does: the beat, then a look for stalls.
fn track(tracker: &mut Tracker, pid: u32, nonce: u64) -> bool {
    let now = Now {
        observer_ns: nonce,
        attended_ns: nonce,
    };
    let outcome = tracker.sight(&sighting(pid, nonce), now);
    outcome == Outcome::Accepted && tracker.next_stall(now).is_none()
}

/// A beat that was prepared.
struct Beat {
    frame: [u8; FRAME_LEN],
    pid: u32,
    nonce: u64,
}

/// Agents that beat.
struct Fleet {
    tracker: Tracker,
    agents: usize,
    order: Order,
    random: u64,
    nonce: u64,
    batch: Vec<Beat>,
}

impl Fleet {
    /// A fleet of which every agent has beaten once, in random order so that
    /// neighbours in the list of the live are none in memory.
    fn new(agents: usize, order: Order) -> Self {
        let mut fleet = Self {
            tracker: Tracker::new(agents, u64::MAX, OriginPolicy::First),
            agents,
            order: Order::InTurn,
            random: 1,
            nonce: 1,
            batch: Vec::with_capacity(BATCH),
        };
        fleet.time(agents as u64, |tracker, beat| {
            track(tracker, beat.pid, beat.nonce)
        });
        fleet.order = Order::Random;
        fleet.time(agents as u64, |tracker, beat| {
            track(tracker, beat.pid, beat.nonce)
        });
        assert_eq!(fleet.tracker.known(), agents);
        fleet.order = order;
        fleet
    }

    /// How long `beats` beats take. Each must succeed.
    fn time(&mut self, beats: u64, mut take: impl FnMut(&mut Tracker, &Beat) -> bool) -> Duration {
        let mut elapsed = Duration::ZERO;
        let mut left = beats;
        while left > 0 {
            let size = left.min(BATCH as u64);
            left -= size;
            self.prepare(size);
            let start = Instant::now();
            for beat in &self.batch {
                assert!(take(&mut self.tracker, black_box(beat)));
            }
            elapsed += start.elapsed();
        }
        elapsed
    }

    fn prepare(&mut self, size: u64) {
        self.batch.clear();
        for _ in 0..size {
            self.nonce += 1;
            let (pid, nonce) = (self.next_agent(), self.nonce);
            let frame = Frame {
                timestamp: nonce,
                ..frame(pid, nonce)
            };
            self.batch.push(Beat {
                frame: frame.encode(),
                pid,
                nonce,
            });
        }
    }

    fn next_agent(&mut self) -> u32 {
        let agents = self.agents as u64;
        let agent = match self.order {
            Order::InTurn => self.nonce % agents,
            Order::Random => self.next_random() % agents,
        };
        u32::try_from(agent).expect("few agents") + 2
    }

    /// xorshift64: the same order in every run.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn sighting(pid: u32, nonce: u64) -> Sighting {
    let sender = sender(pid);
    Sighting {
        pid,
        start_ns: sender.start_ns,
        pid_ns_inode: sender.pid_ns_inode,
        origin: BeatOrigin::KernelAttested,
        status: Status::Ok,
        nonce,
        sender: Some(sender),
    }
}

fn sender(pid: u32) -> Attestation {
    Attestation {
        pid: Some(pid),
        own_pid: Some(pid),
        host_pid: Some(pid),
        tid: Some(pid),
        pid_ns_inode: Some(4_026_531_836),
        uid: Some(1000),
        gid: Some(1000),
        start_ns: Some(u64::from(pid)),
        cgroup_id: Some(1),
        scm_pid: Some(pid),
        task_kind: TaskKind::Thread,
        ..Attestation::unknown(Via::Btf)
    }
}

criterion_group!(
    benches,
    decode,
    decode_and_judge,
    tracker,
    decode_and_tracker,
    decode_judge_and_tracker,
    join
);
criterion_main!(benches);
