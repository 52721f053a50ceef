//! As many beats as there can be: agents that wait for room in the queue and
//! never sleep otherwise.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{At, Bench, syscalls};
use crate::load::{Crew, Pace, Spec};
use crate::outcome::{Figures, float};
use crate::receiver::Receiver;
use crate::subject::{NEVER_MS, Reports, Subject, Terms};
use crate::table::{Column, Layout};

const TOPIC: &str = "Saturated";

pub const LAYOUT: Layout = Layout {
    topic: TOPIC,
    columns: &[
        Column("beats/s", "beats_per_s", 0),
        Column("× floor", "beats_per_s_ratio", 2),
        Column("receiver ns/beat", "cpu_ns_per_beat", 0),
        Column("× floor", "cpu_ns_per_beat_ratio", 2),
        Column("sender ns/send", "send_cpu_ns", 0),
        Column("× floor", "send_cpu_ns_ratio", 2),
        Column("wake-ups/beat", "wakeups_per_beat", 4),
        Column("syscalls/beat", "syscalls_per_beat", 3),
        Column("RSS MiB", "rss_mib", 1),
        Column("missing", "max_missing", 0),
    ],
    absent: "–",
};

/// A short run suffices: it is a ratio of counts, not of times.
const COUNTED: Duration = Duration::from_millis(300);

pub fn round(bench: &mut Bench, round: u32) -> Result<()> {
    for &queue in bench.plan.queues {
        bench.arena.set_queue_length(queue)?;
        for &agents in bench.plan.agents {
            let case = format!("{agents} agent(s), max_dgram_qlen {queue}");
            let at = At {
                topic: TOPIC,
                case: &case,
                round,
            };
            bench.measure_each(at, Subject::ALL, |bench, subject| {
                let mut figures = measure(bench, subject, agents)?;
                // Once suffices, and not where time is short.
                if round == 0 && (agents == 1 || !bench.plan.is_quick) {
                    figures.extend(count_syscalls(bench, subject, agents)?);
                }
                Ok(figures)
            })?;
        }
    }
    Ok(())
}

fn measure(bench: &Bench, subject: Subject, agents: u32) -> Result<Figures> {
    let (mut receiver, mut crew) = begin(bench, subject, agents)?;
    let before = receiver.usage_after_drain()?;
    crew.start()?;
    thread::sleep(bench.plan.saturated);
    let sent = receiver.explain(crew.stop())?;
    let used = receiver.usage_after_drain()?.since(before);
    let rss_kib = receiver.rss_kib()?;
    let remains = receiver.stop()?;
    crew.leave()?;
    let beats = float(sent.sent());
    let mut figures = Figures::from([
        ("beats_per_s", beats * 1e9 / float(sent.took_ns())),
        ("cpu_ns_per_beat", float(used.cpu_ns) / beats),
        ("send_cpu_ns", float(sent.cpu_ns()) / beats),
        ("wakeups_per_beat", float(used.wakeups) / beats),
        ("rss_mib", float(rss_kib) / 1024.0),
    ]);
    figures.extend(remains.counted());
    if let Some(accepted) = remains.accepted {
        let expected = beats + f64::from(agents);
        figures.insert("max_missing", expected - float(accepted));
    }
    Ok(figures)
}

fn count_syscalls(bench: &Bench, subject: Subject, agents: u32) -> Result<Figures> {
    let (mut receiver, mut crew) = begin(bench, subject, agents)?;
    let Some(count) = syscalls::Count::start(receiver.pid(), bench.arena.scratch())? else {
        return Ok(Figures::new());
    };
    crew.start()?;
    thread::sleep(COUNTED);
    let sent = receiver.explain(crew.stop())?;
    receiver.usage_after_drain()?;
    let syscalls = float(count.stop()?) / float(sent.sent());
    receiver.stop()?;
    crew.leave()?;
    Ok(Figures::from([("syscalls_per_beat", syscalls)]))
}

fn begin(bench: &Bench, subject: Subject, agents: u32) -> Result<(Receiver, Crew)> {
    let terms = Terms {
        reports: Reports::Nobody,
        threshold_ms: NEVER_MS,
        unlimited: true,
    };
    let receiver = Receiver::start(&bench.arena, &bench.programs, subject, terms)?;
    let crew = Crew::muster(&Spec {
        socket: receiver.socket().to_owned(),
        agents,
        pace: Pace::Saturate,
        floods: Vec::new(),
    })?;
    Ok((receiver, crew))
}
