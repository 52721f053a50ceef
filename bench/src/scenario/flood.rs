//! Whose beats come through while somebody floods: a hundred agents that beat ten times a
//! second and never retry, beside flooders that never pause.

use std::thread;

use anyhow::Result;
use observer_testing::flood::Flood;
use serde_json::Value;

use super::{At, Bench};
use crate::load::{Crew, Outcome, Pace, Sender, Spec};
use crate::outcome::{Figures, float};
use crate::receiver::{Receiver, Remains};
use crate::subject::{Reports, Subject, Terms};
use crate::table::{Column, Layout};

const TOPIC: &str = "Flood";

pub const LAYOUT: Layout = Layout {
    topic: TOPIC,
    columns: &[
        Column("worst agent's loss %", "max_loss_percent", 2),
        Column("mean loss %", "loss_percent", 2),
        Column("false stalls", "max_false_stalls", 0),
        Column("attack/s", "attack_per_s", 0),
        Column("attack sent", "attack_sent", 0),
        Column("attack counted", "attack_counted", 0),
        Column("sent but not accepted", "max_swallowed", 0),
        Column("CPU %", "cpu_percent", 1),
    ],
    absent: "unknown",
};

const AGENTS: u32 = 100;
const PERIOD_NS: u64 = 100_000_000;
const THRESHOLD_MS: u64 = 1000;

/// Each kind, by the name that it has in the tables.
const KINDS: [(&str, Flood); 5] = [
    ("1 byte", Flood::Byte),
    ("garbage", Flood::Garbage),
    ("stale nonces", Flood::Stale),
    ("spoofed", Flood::Spoofed),
    ("honest", Flood::Honest),
];

/// One of each kind that is no agent's.
const MIXED: [Flood; 4] = [Flood::Byte, Flood::Garbage, Flood::Stale, Flood::Spoofed];

pub fn round(bench: &mut Bench, round: u32) -> Result<()> {
    let single = KINDS.map(|(name, flood)| (name, vec![flood]));
    let mixed = ("four at once", MIXED.to_vec());
    for &queue in bench.plan.queues {
        bench.arena.set_queue_length(queue)?;
        for (kind, floods) in single.iter().chain([&mixed]) {
            let case = format!("{kind}, max_dgram_qlen {queue}");
            let at = At {
                topic: TOPIC,
                case: &case,
                round,
            };
            bench.measure_each(at, Subject::FLOODED, |bench, subject| {
                measure(bench, subject, floods)
            })?;
        }
    }
    Ok(())
}

fn measure(bench: &Bench, subject: Subject, floods: &[Flood]) -> Result<Figures> {
    let terms = Terms {
        reports: Reports::Notable,
        threshold_ms: THRESHOLD_MS,
        unlimited: false,
    };
    let mut receiver = Receiver::start(&bench.arena, &bench.programs, subject, terms)?;
    let mut crew = Crew::muster(&Spec {
        socket: receiver.socket().to_owned(),
        agents: AGENTS,
        pace: Pace::Every {
            period_ns: PERIOD_NS,
            waits: false,
        },
        floods: floods.to_vec(),
    })?;
    let before = receiver.usage()?;
    crew.start()?;
    thread::sleep(bench.plan.flood);
    crew.calm()?;
    let used = receiver.usage_after_drain()?.since(before);
    let sent = receiver.explain(crew.stop())?;
    // The agents are silent only for as long as this takes, which is no stall.
    receiver.usage_after_drain()?;
    let remains = receiver.stop()?;
    crew.leave()?;
    let seconds = bench.plan.flood.as_secs_f64();
    let attack = float(sent.flooded());
    let mut figures = Figures::from([
        ("attack_sent", attack),
        ("attack_per_s", attack / seconds),
        ("cpu_percent", float(used.cpu_ns) / 1e7 / seconds),
        ("max_false_stalls", float(false_stalls(&sent, &remains))),
    ]);
    figures.extend(remains.counted());
    let findings = if subject.is_observer() {
        observers(&sent, &remains.counters, floods)
    } else {
        vartas(&sent, &remains, floods)
    };
    let Findings {
        counted,
        swallowed,
        accepted_of,
    } = findings;
    figures.extend(counted.map(|counted| ("attack_counted", counted)));
    figures.extend(swallowed.map(|swallowed| ("max_swallowed", swallowed)));
    figures.extend(losses(&sent, &accepted_of));
    Ok(figures)
}

/// What a receiver knows of all this.
struct Findings<'a> {
    /// Datagrams of the attack.
    counted: Option<f64>,
    /// Beats that agents sent, and that were not accepted.
    swallowed: Option<f64>,
    /// How many beats of an agent got through, the one before the start
    /// included. Where the receiver does not report that: as many as were sent.
    accepted_of: Box<dyn Fn(&Sender) -> f64 + 'a>,
}

/// Everything is counted somewhere. Beats above those that agents sent are
/// flooders'.
fn observers<'a>(sent: &Outcome, counters: &Value, floods: &[Flood]) -> Findings<'a> {
    let count = |name: &str| counters[name].as_u64().map_or(0.0, float);
    let refused: f64 = [
        "throttled",
        "wrong_length",
        "decode_errors",
        "auth_failures",
        "stale_nonces",
    ]
    .into_iter()
    .map(count)
    .sum();
    let agents_beats = float(sent.sent()) + f64::from(AGENTS);
    let of_flooders = count("beats") - agents_beats;
    // The first of the stale frames is none yet.
    let firsts = floods
        .iter()
        .filter(|flood| **flood == Flood::Stale)
        .count();
    let is_known = !floods.contains(&Flood::Honest);
    Findings {
        counted: Some(refused + of_flooders),
        swallowed: is_known.then(|| float(firsts as u64) - of_flooders),
        accepted_of: Box::new(|agent| float(agent.sent + 1)),
    }
}

/// It has no counters without its metrics; there are its lines. One byte and
/// stale nonces leave none, nor does what exceeds its limits.
fn vartas<'a>(sent: &Outcome, remains: &'a Remains, floods: &[Flood]) -> Findings<'a> {
    let reported = &remains.reported;
    let counted = match floods {
        [Flood::Garbage] => Some(float(reported.decode_errors)),
        [Flood::Spoofed] => Some(float(reported.forgeries)),
        _ => None,
    };
    let accepted_of = |agent: &Sender| {
        float(
            reported
                .beats_of
                .get(&agent.pid)
                .copied()
                .unwrap_or_default(),
        )
    };
    let accepted: f64 = sent.agents.iter().map(accepted_of).sum();
    let agents_beats = float(sent.sent()) + f64::from(AGENTS);
    Findings {
        counted,
        swallowed: Some(agents_beats - accepted),
        accepted_of: Box::new(accepted_of),
    }
}

/// Stalls of agents that were not silent. The observer's counter has those, too,
/// that a full pipe kept from us.
fn false_stalls(sent: &Outcome, remains: &Remains) -> u64 {
    let is_agent = |pid: u32| sent.agents.iter().any(|agent| agent.pid == pid);
    let reported = &remains.reported.stalls;
    let of_agents = reported.iter().filter(|(pid, _)| is_agent(*pid)).count() as u64;
    let counted = remains.counters["stalls"].as_u64().unwrap_or_default();
    of_agents + counted.saturating_sub(reported.len() as u64)
}

/// Of each agent's attempts, those that did not become an accepted beat.
fn losses(sent: &Outcome, accepted_of: &dyn Fn(&Sender) -> f64) -> Figures {
    let losses = sent.agents.iter().map(|agent| {
        let attempts = float(agent.sent + agent.lost + 1);
        100.0 * (attempts - accepted_of(agent)) / attempts
    });
    let losses: Vec<f64> = losses.collect();
    let worst = losses.iter().copied().fold(0.0, f64::max);
    let mean = losses.iter().sum::<f64>() / f64::from(AGENTS);
    Figures::from([("max_loss_percent", worst), ("loss_percent", mean)])
}
