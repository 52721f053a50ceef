//! What was lost, and for how long the observer was away.

use std::fmt;

use super::families::{Families, seconds};
use crate::daemon_status::DaemonStatus;

pub(super) fn encode(families: &mut Families<'_>, status: &DaemonStatus) -> fmt::Result {
    let counters = &status.observer.counters;
    families.counters(
        "lost",
        "What was lost, by where: datagrams on a UDP socket's full queue; records that the full \
         or unreadable ring did not take, that were malformed, forgotten early, or whose datagram \
         never came; frames without a record; refusals in the kernel that the full ring did not take; beats \
         of new agents for whom the table was full; output that found its queue full",
        status
            .losses()
            .map(|(stage, lost)| ([("stage", stage)], lost)),
    )?;
    families.counter(
        "absences",
        "Times in which the observer itself was away",
        counters.absences,
    )?;
    families.counter_of_seconds(
        "absence_seconds",
        "How long the observer itself was away; its agents were given the time back",
        seconds(counters.away_ns),
    )
}
