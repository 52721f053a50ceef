//! How many agents are alive, and who holds the slots of their table.

use std::fmt;

use observer_events::snapshot::Snapshot;

use super::families::{Families, by, float, seconds};

pub(super) fn encode(families: &mut Families<'_>, observer: &Snapshot) -> fmt::Result {
    let census = &observer.agents;
    let counters = &observer.counters;
    families.gauges(
        "agents",
        "Agents that are known, by their last status, or silent if they are stalled",
        by(
            "state",
            [
                ("ok", census.ok),
                ("degraded", census.degraded),
                ("critical", census.critical),
                ("silent", census.silent),
            ],
        )
        .map(|(label, count)| (label, float(count))),
    )?;
    families.gauge(
        "agents_limit",
        "Agents that can be known at the same time",
        float(observer.max_agents),
    )?;
    if let Some(age) = observer.oldest_beat_age_ns {
        families.gauge(
            "oldest_beat_age_seconds",
            "Age of the oldest last sign of life of a live agent",
            seconds(age),
        )?;
    }
    families.histogram(
        "beat_age_seconds",
        "Time between two beats of an agent",
        &observer.beat_gaps,
    )?;
    families.histogram(
        "stall_lateness_seconds",
        "How long after the threshold stalls were reported",
        &observer.stall_lateness,
    )?;
    families.counter(
        "agents_seen",
        "Agents seen for the first time, or again after they were forgotten",
        counters.new_agents,
    )?;
    families.counters(
        "agents_evicted",
        "Agents that were evicted for others: stalled ones, and live ones of an owner above its share",
        by(
            "state",
            [
                ("silent", counters.evicted_silent),
                ("live", counters.evicted_live),
            ],
        ),
    )?;
    table(families, observer)?;
    families.counter(
        "sessions",
        "Sessions that known agents began anew: restarts, second handles",
        counters.new_sessions,
    )
}

/// How the table is divided. No label names an owner: that is for `observer
/// status`.
fn table(families: &mut Families<'_>, observer: &Snapshot) -> fmt::Result {
    let division = &observer.division;
    families.gauge(
        "owners",
        "Owners (users, apart by origin) that hold slots of the table of agents",
        float(division.owners),
    )?;
    families.gauge(
        "owner_share",
        "Agents that each owner may have when the table is full",
        float(division.share),
    )?;
    families.gauge(
        "largest_owner_agents",
        "Agents of the owner that has the most",
        float(division.largest.map_or(0, |holder| holder.agents)),
    )
}
