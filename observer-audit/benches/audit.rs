//! What the audit trail costs: to the thread that leaves incidents at it, and
//! until the last of a million is sealed.
//!
//! `one sender` is a flood that is folded into few lines; with `claims` each
//! incident has another claim, and they are kept apart as far as the bounds
//! allow. The queue is as long as an observer's, so a flood can be faster than
//! the writer: what was lost is printed with each figure.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    reason = "a benchmark"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use observer_audit::{Incident, Options, Trail, What, generate};
use observer_events::event::{Attestation, AuthFailureCause, TaskKind, Via};
use observer_events::{Event, Evidence, Observation, Report};

/// Incidents through the trail for one figure.
const MANY: u32 = 1_000_000;

struct Scene {
    trail: Trail,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(queue: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        generate(&file("key"), &file("verify-key")).unwrap();
        let options = Options {
            queue,
            ..Options::new(file("trail"), file("key"))
        };
        Self {
            trail: Trail::open(&options).unwrap(),
            _folder: folder,
        }
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
        start_ns: Some(1),
        cgroup_id: Some(1),
        scm_pid: Some(pid),
        task_kind: TaskKind::Thread,
        ..Attestation::unknown(Via::Btf)
    }
}

fn forgery(claimed_pid: u32) -> Report {
    Report::Observation(Observation {
        event: Event::AuthFailure {
            claimed_pid,
            observer_ns: 1,
            cause: AuthFailureCause::PidMismatch,
        },
        evidence: Evidence::new(Some(sender(1 << 30)), None, Some([7; 32])),
    })
}

/// As the daemon does with each report.
fn pass(trail: &Trail, report: &Report) {
    if let Some(incident) = Incident::of(black_box(report)) {
        trail.incident(incident);
    }
}

/// Leaves `many` incidents; the time that took the leaving thread.
fn leave(trail: &Trail, many: u64, claims: u32) -> Duration {
    let began = Instant::now();
    for number in 0..many {
        let claimed = u32::try_from(number % u64::from(claims)).unwrap();
        pass(trail, &forgery(claimed));
    }
    began.elapsed()
}

/// A million through a queue, and what each cost.
fn million(name: &str, queue: usize, claims: u32) {
    let scene = Scene::new(queue);
    let began = Instant::now();
    let left = leave(&scene.trail, u64::from(MANY), claims);
    let counts = scene.trail.close("bench", Duration::from_mins(1)).unwrap();
    let total = began.elapsed();
    eprintln!(
        "{name}: {} ns per incident to the leaving thread, {} ns in all until sealed; \
         {} recorded, {} lost, {} lines",
        left.as_nanos() / u128::from(MANY),
        total.as_nanos() / u128::from(MANY),
        counts.audit_incidents,
        counts.audit_lost,
        counts.audit_lines,
    );
}

fn millions(_: &mut Criterion) {
    for (name, claims) in [("one sender", 1), ("a million claims", MANY)] {
        million(&format!("1,000,000, {name}"), 8192, claims);
        million(
            &format!("1,000,000, {name}, none lost"),
            MANY as usize + 1,
            claims,
        );
    }
}

fn each(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("audit");
    group.bench_function("leave an incident", |bencher| {
        let scene = Scene::new(8192);
        bencher.iter_custom(|many| leave(&scene.trail, many, 1));
    });
    group.bench_function("pass over a beat", |bencher| {
        let scene = Scene::new(8192);
        let report = Report::Observation(Observation {
            event: Event::Io(std::io::ErrorKind::Other.into(), 1),
            evidence: Evidence::default(),
        });
        bencher.iter(|| pass(&scene.trail, &report));
    });
    group.bench_function("a refused sender", |bencher| {
        let scene = Scene::new(8192);
        let incident = Incident {
            what: What::RefusedSender,
            count: 1,
            claimed_pid: None,
            observer_ns: 1,
            frame: None,
            sender: Some(sender(1 << 30)),
            source: None,
        };
        bencher.iter(|| scene.trail.incident(black_box(incident)));
    });
    group.finish();
}

criterion_group!(benches, millions, each);
criterion_main!(benches);
