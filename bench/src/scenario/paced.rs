//! Beats at the pace of a fleet: what a receiver costs then, and how soon it
//! reports.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{At, Bench};
use crate::load::{Crew, Pace, Spec};
use crate::outcome::{Figures, float, percentile};
use crate::plan::Pacing;
use crate::receiver::Receiver;
use crate::subject::{NEVER_MS, Reports, Subject, Terms};
use crate::table::{Column, Layout};

const TOPIC: &str = "Paced";

pub const LAYOUT: Layout = Layout {
    topic: TOPIC,
    columns: &[
        Column("receiver ns/beat", "cpu_ns_per_beat", 0),
        Column("× floor", "cpu_ns_per_beat_ratio", 2),
        Column("× varta-watch", "cpu_ns_per_beat_peer_ratio", 2),
        Column("wake-ups/beat", "wakeups_per_beat", 2),
        Column("p50 µs", "p50_us", 0),
        Column("× floor", "p50_us_ratio", 2),
        Column("p99 µs", "p99_us", 0),
        Column("max µs", "max_us", 0),
        Column("missing", "max_missing", 0),
    ],
    absent: "–",
};

fn name(subject: Subject, reports: Reports) -> String {
    let is_reported = reports == Reports::Pipe && !subject.is_floor();
    let suffix = if is_reported { ", a line a beat" } else { "" };
    format!("{}{suffix}", subject.name())
}

/// At one length of the queue: none is ever full.
pub fn round(bench: &mut Bench, round: u32) -> Result<()> {
    let Some(&queue) = bench.plan.queues.first() else {
        return Ok(());
    };
    bench.arena.set_queue_length(queue)?;
    for &(pacing, time) in bench.plan.paces {
        let (rate, agents) = (pacing.rate(), pacing.agents);
        let case = format!("{rate} beats/s of {agents} agents, max_dgram_qlen {queue}");
        let at = At {
            topic: TOPIC,
            case: &case,
            round,
        };
        bench.take_turns(at, &Subject::PACED, name, |bench, subject, reports| {
            measure(bench, subject, reports, pacing, time)
        })?;
    }
    Ok(())
}

fn measure(
    bench: &Bench,
    subject: Subject,
    reports: Reports,
    pacing: Pacing,
    time: Duration,
) -> Result<Figures> {
    let terms = Terms {
        reports,
        threshold_ms: NEVER_MS,
        unlimited: true,
    };
    let mut receiver = Receiver::start(&bench.arena, &bench.programs, subject, terms)?;
    let mut crew = Crew::muster(&Spec {
        socket: receiver.socket().to_owned(),
        agents: pacing.agents,
        pace: Pace::Every {
            period_ns: pacing.period_ns(),
            waits: true,
        },
        floods: Vec::new(),
    })?;
    let before = receiver.usage_after_drain()?;
    crew.start()?;
    thread::sleep(time);
    let used = receiver.usage()?.since(before);
    let sent = receiver.explain(crew.stop())?;
    receiver.usage_after_drain()?;
    let remains = receiver.stop()?;
    crew.leave()?;
    let beats = float(sent.sent());
    let mut figures = Figures::from([
        ("cpu_ns_per_beat", float(used.cpu_ns) / beats),
        ("wakeups_per_beat", float(used.wakeups) / beats),
    ]);
    figures.extend(remains.counted());
    if let Some(accepted) = remains.accepted {
        let expected = beats + f64::from(pacing.agents);
        figures.insert("max_missing", expected - float(accepted));
    }
    // Beats before the start all come at once: they are not paced.
    let paced = remains.latencies_ns.iter().skip(pacing.agents as usize);
    let mut latencies: Vec<f64> = paced.map(|&ns| float(ns) / 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    for (figure, part) in [("p50_us", 0.5), ("p99_us", 0.99), ("max_us", 1.0)] {
        figures.extend(percentile(&latencies, part).map(|value| (figure, value)));
    }
    Ok(figures)
}
