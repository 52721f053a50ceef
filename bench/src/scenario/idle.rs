//! Nothing at all: one agent that has beaten once.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{At, Bench};
use crate::load::{Crew, Pace, Spec};
use crate::outcome::{Figures, float};
use crate::receiver::Receiver;
use crate::subject::{NEVER_MS, Reports, Subject, Terms};
use crate::table::{Column, Layout};

const TOPIC: &str = "Idle";

pub const LAYOUT: Layout = Layout {
    topic: TOPIC,
    columns: &[
        Column("wake-ups/s", "wakeups_per_s", 2),
        Column("CPU %", "cpu_percent", 4),
        Column("RSS MiB", "rss_mib", 1),
    ],
    absent: "–",
};

/// For a receiver that has just been busy to calm down.
const SETTLES: Duration = Duration::from_millis(500);

pub fn round(bench: &mut Bench, round: u32) -> Result<()> {
    let at = At {
        topic: TOPIC,
        case: "1 agent that has beaten once",
        round,
    };
    bench.measure_each(at, Subject::ALL, measure)
}

fn measure(bench: &Bench, subject: Subject) -> Result<Figures> {
    let terms = Terms {
        reports: Reports::Nobody,
        threshold_ms: NEVER_MS,
        unlimited: true,
    };
    let receiver = Receiver::start(&bench.arena, &bench.programs, subject, terms)?;
    let crew = Crew::muster(&Spec {
        socket: receiver.socket().to_owned(),
        agents: 1,
        pace: Pace::Never,
        floods: Vec::new(),
    })?;
    thread::sleep(SETTLES);
    let before = receiver.usage()?;
    thread::sleep(bench.plan.idle);
    let used = receiver.usage()?.since(before);
    let rss_kib = receiver.rss_kib()?;
    receiver.stop()?;
    drop(crew);
    let seconds = bench.plan.idle.as_secs_f64();
    Ok(Figures::from([
        ("wakeups_per_s", float(used.wakeups) / seconds),
        ("cpu_percent", float(used.cpu_ns) / 1e7 / seconds),
        ("rss_mib", float(rss_kib) / 1024.0),
    ]))
}
