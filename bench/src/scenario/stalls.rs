//! How soon a stall is reported: many agents beat for a while, then stop.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{At, Bench};
use crate::load::{Crew, Pace, Spec};
use crate::outcome::{Figures, float, percentile};
use crate::receiver::Receiver;
use crate::subject::{Reports, Subject, Terms};
use crate::table::{Column, Layout};

const TOPIC: &str = "Stalls";

pub const LAYOUT: Layout = Layout {
    topic: TOPIC,
    columns: &[
        Column("p50 ms late", "p50_ms", 2),
        Column("p99 ms late", "p99_ms", 2),
        Column("max ms late", "max_ms", 2),
        Column("earliest ms", "earliest_ms", 2),
        Column("not reported", "max_unreported", 0),
    ],
    absent: "–",
};

const AGENTS: u32 = 256;
const PERIOD_NS: u64 = 100_000_000;
const THRESHOLD_MS: u64 = 500;
const BEATS_FOR: Duration = Duration::from_millis(400);

/// For stalls to be reported, beyond the threshold.
const SLACK: Duration = Duration::from_secs(1);

pub fn round(bench: &mut Bench, round: u32) -> Result<()> {
    let at = At {
        topic: TOPIC,
        case: "256 agents fall silent within 100 ms, threshold 500 ms",
        round,
    };
    let watchers = Subject::ALL
        .into_iter()
        .filter(|subject| !subject.is_floor());
    bench.measure_each(at, watchers, measure)
}

fn measure(bench: &Bench, subject: Subject) -> Result<Figures> {
    let terms = Terms {
        reports: Reports::Pipe,
        threshold_ms: THRESHOLD_MS,
        unlimited: true,
    };
    let mut receiver = Receiver::start(&bench.arena, &bench.programs, subject, terms)?;
    let mut crew = Crew::muster(&Spec {
        socket: receiver.socket().to_owned(),
        agents: AGENTS,
        pace: Pace::Every {
            period_ns: PERIOD_NS,
            waits: true,
        },
        floods: Vec::new(),
    })?;
    crew.start()?;
    thread::sleep(BEATS_FOR);
    let sent = receiver.explain(crew.stop())?;
    thread::sleep(Duration::from_millis(THRESHOLD_MS) + SLACK);
    let remains = receiver.stop()?;
    crew.leave()?;
    let reported: HashMap<u32, u64> = remains.reported.stalls.into_iter().collect();
    let late = sent.agents.iter().filter_map(|agent| {
        let reported_ns = float(*reported.get(&agent.pid)?);
        let due_ns = float(agent.last_ns + THRESHOLD_MS * 1_000_000);
        Some((reported_ns - due_ns) / 1e6)
    });
    let mut late: Vec<f64> = late.collect();
    late.sort_by(f64::total_cmp);
    let unreported = f64::from(AGENTS) - float(u64::try_from(late.len())?);
    let mut figures = Figures::from([("max_unreported", unreported)]);
    let parts = [
        ("earliest_ms", 0.0),
        ("p50_ms", 0.5),
        ("p99_ms", 0.99),
        ("max_ms", 1.0),
    ];
    for (figure, part) in parts {
        figures.extend(percentile(&late, part).map(|value| (figure, value)));
    }
    Ok(figures)
}
