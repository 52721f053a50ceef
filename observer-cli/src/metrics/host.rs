//! The process, the host, and the tiers of attestation.

use std::fmt;

use observer::tier_name;
use observer_events::event::Via;
use observer_events::snapshot::Snapshot;

use super::families::{Families, float, of_route, seconds, seconds_of};
use crate::daemon_status::DaemonStatus;

pub(super) fn encode(families: &mut Families<'_>, status: &DaemonStatus) -> fmt::Result {
    let Snapshot {
        observer_ns,
        threshold_ns,
        routes,
        ..
    } = &status.observer;
    families.infos(
        "build",
        "The observer's version",
        [[("version", status.version.as_str())]],
    )?;
    families.infos(
        "host",
        "The kernel that attests senders, and its lockdown state",
        [[
            ("kernel", status.kernel.as_str()),
            ("lockdown", status.lockdown.as_str()),
        ]],
    )?;
    families.gauge(
        "start_time_seconds",
        "When the observer started, since the Unix epoch",
        seconds_of(status.started.as_nanosecond()),
    )?;
    families.gauge(
        "uptime_seconds",
        "How long the observer has run, by a clock that nobody sets",
        seconds(*observer_ns),
    )?;
    families.infos(
        "attestation",
        "The tier by which senders are attested on each route",
        routes.iter().map(|route| {
            let tier = tier_name(route.tier);
            [("route", route.route.as_str()), ("tier", tier)]
        }),
    )?;
    families.gauges(
        "attestation_weaker",
        "Whether a weaker tier than btf is in use",
        routes
            .iter()
            .map(|route| (of_route(route), float(u64::from(route.tier != Via::Btf)))),
    )?;
    families.gauges(
        "receiving",
        "Whether each socket of the route can be received from; if not, no stall is judged",
        routes
            .iter()
            .map(|route| (of_route(route), float(u64::from(route.deaf.is_none())))),
    )?;
    families.gauge(
        "threshold_seconds",
        "Silence after which an agent counts as stalled",
        seconds(*threshold_ns),
    )
}
