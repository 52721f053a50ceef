//! Records, and frames that wait for theirs.

use std::fmt;

use observer_events::snapshot::Snapshot;

use super::families::{Families, float, of_route};

pub(super) fn encode(families: &mut Families<'_>, observer: &Snapshot) -> fmt::Result {
    families.counter(
        "records",
        "Records read from the rings",
        observer.counters.records,
    )?;
    families.gauges(
        "records_waiting",
        "Records that wait for their datagrams",
        observer
            .routes
            .iter()
            .map(|route| (of_route(route), float(route.records_waiting))),
    )?;
    families.counter(
        "frames_parked",
        "Frames that were parked until their record was read",
        observer.counters.parked,
    )?;
    families.gauge(
        "frames_waiting",
        "Frames that are parked now",
        float(observer.frames_parked),
    )
}
