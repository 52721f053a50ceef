//! What can be scraped: every metric, its help, its labels.
//!
//! No label has a value that senders choose, and none names an agent: the
//! number of series does not depend on who beats. Agents one by one are in
//! [`DaemonStatus`].

mod classic;
#[cfg(test)]
mod tests;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

use observer::tier_name;
use observer_audit::Counts;
use observer_events::{
    counters::Counters,
    event::Via,
    histogram::{BOUNDS_NS, Histogram},
    snapshot::{ProgramRuns, RouteSnapshot, Snapshot},
};

use crate::daemon_status::DaemonStatus;

/// The two text formats that scrapers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextFormat {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus's own, 0.0.4: for `promtool check metrics`, and for those
    /// who do not ask for the other.
    Classic,
}

impl TextFormat {
    /// What a scraper's `Accept` header asks for: `OpenMetrics` where it is
    /// named, unless plain text is liked better.
    #[must_use]
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let wish = |name| wish(accept.unwrap_or_default(), name);
        let open = wish("application/openmetrics-text");
        if open > 0.0 && open >= wish("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// The `Content-Type` of the text.
    #[must_use]
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// How much an `Accept` header wants a type: its `q` there (RFC 9110, section
/// 12.5.1), 0 where it is not named or the number is none.
fn wish(accept: &str, name: &str) -> f32 {
    let mut entries = accept.split(',').map(|entry| entry.split(';'));
    let named = entries.find_map(|mut words| {
        let is_it = words.next()?.trim().eq_ignore_ascii_case(name);
        is_it.then_some(words)
    });
    let Some(mut parameters) = named else {
        return 0.0;
    };
    let q = parameters.find_map(|word| word.trim().strip_prefix("q="));
    q.map_or(1.0, |q| q.parse().unwrap_or(0.0))
}

/// All metrics of an observer as text.
///
/// # Errors
/// Never: a string takes everything.
pub(crate) fn render(status: DaemonStatus, format: TextFormat) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("observer");
    registry.register_collector(Box::new(Exposition(status)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(match format {
        TextFormat::OpenMetrics => text,
        TextFormat::Classic => classic::from_open_metrics(&text),
    })
}

#[derive(Debug)]
struct Exposition(DaemonStatus);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(status) = self;
        let mut families = Families(encoder);
        about(&mut families, status)?;
        agents(&mut families, &status.observer)?;
        events(&mut families, &status.observer.counters)?;
        losses(&mut families, status)?;
        join(&mut families, &status.observer)?;
        programs(&mut families, &status.observer.routes)?;
        match &status.audit {
            Some(audit) => trail(&mut families, &audit.counts),
            None => Ok(()),
        }
    }
}

/// The process, the host, and how well senders are known.
fn about(families: &mut Families<'_>, status: &DaemonStatus) -> fmt::Result {
    let Snapshot {
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
    families.infos(
        "attestation",
        "How senders are known on each way in",
        routes.iter().map(|route| {
            let tier = tier_name(route.tier);
            [("route", route.route.as_str()), ("tier", tier)]
        }),
    )?;
    families.gauges(
        "attestation_weaker",
        "Whether senders are known by less than the best, tier btf",
        routes
            .iter()
            .map(|route| (of_route(route), float(u64::from(route.tier != Via::Btf)))),
    )?;
    families.gauge(
        "threshold_seconds",
        "Silence after which an agent counts as stalled",
        seconds(*threshold_ns),
    )
}

/// Who is alive, and how closely.
fn agents(families: &mut Families<'_>, observer: &Snapshot) -> fmt::Result {
    let census = &observer.agents;
    let counters = &observer.counters;
    families.gauges(
        "agents",
        "Agents that are known, by what they last reported or by their silence",
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
            "Age of the last beat of the live agent that has been quiet for longest",
            seconds(age),
        )?;
    }
    families.histogram(
        "beat_age_seconds",
        "How old an agent's last beat was when its next one came",
        &observer.beat_gaps,
    )?;
    families.histogram(
        "stall_lateness_seconds",
        "How long after the threshold silences were surfaced",
        &observer.stall_lateness,
    )?;
    families.counter(
        "agents_seen",
        "Agents seen for the first time, or again after they were forgotten",
        counters.new_agents,
    )?;
    families.counters(
        "agents_evicted",
        "Agents that made room for others: silent ones, and live ones of an owner above its share",
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

/// Who holds the places. No label says who: that is for `observer status`.
fn table(families: &mut Families<'_>, observer: &Snapshot) -> fmt::Result {
    let division = &observer.division;
    families.gauge(
        "owners",
        "Users, apart by origin, that hold places of the table of agents",
        float(division.owners),
    )?;
    families.gauge(
        "owner_share",
        "Agents that each of them can have when the table is full",
        float(division.share),
    )?;
    families.gauge(
        "largest_owner_agents",
        "Agents of the one that has the most",
        float(division.largest.map_or(0, |holder| holder.agents)),
    )
}

/// What was found.
fn events(families: &mut Families<'_>, counters: &Counters) -> fmt::Result {
    families.counters(
        "events",
        "What the observer found, by kind",
        by(
            "event",
            [
                ("beat", counters.beats),
                ("stall", counters.stalls),
                ("decode", counters.decode_errors),
                ("auth_failure", counters.auth_failures),
                ("origin_conflict", counters.origin_conflicts),
                ("namespace_conflict", counters.namespace_conflicts),
                ("io", counters.io_errors),
                ("ctrl_truncated", counters.ctrl_truncated),
            ],
        ),
    )?;
    families.counters(
        "auth_failures",
        "Claims that did not hold, by what was wrong",
        by(
            "cause",
            [
                ("pid_mismatch", counters.pid_mismatch),
                ("forged_credentials", counters.forged_credentials),
                ("sqpoll", counters.sqpoll),
                ("unattested", counters.unattested),
                ("corked", counters.corked),
            ],
        ),
    )?;
    families.counters(
        "decode_errors",
        "Payloads that are no frame, by what was wrong",
        by(
            "error",
            [
                ("BadMagic", counters.bad_magic),
                ("BadVersion", counters.bad_version),
                ("BadCrc", counters.bad_crc),
                ("BadStatus", counters.bad_status),
                ("StallOnWire", counters.stall_on_wire),
                ("BadPid", counters.bad_pid),
                ("BadTimestamp", counters.bad_timestamp),
                ("BadNonce", counters.bad_nonce),
            ],
        ),
    )?;
    families.counter(
        "refused_senders",
        "Beats of senders that no list of users or groups names",
        counters.refused_senders,
    )?;
    families.counter(
        "throttled",
        "Datagrams of senders that had used up their budgets, what their user's or cgroup's strangers share, or their share of a ring that fills up; dropped in the kernel",
        counters.throttled,
    )?;
    families.counter(
        "descriptors_refused",
        "Datagrams that were refused for the descriptors attached to them",
        counters.descriptors_refused,
    )?;
    families.counter(
        "displaced_claims",
        "Unverified claims of a pid that gave way to a kernel-attested agent",
        counters.displaced,
    )?;
    families.counter(
        "stale_beats",
        "Beats with a nonce that was not above the last: replays, reordering",
        counters.stale_nonces,
    )?;
    families.counter(
        "datagrams",
        "Datagrams received from the sockets",
        counters.datagrams,
    )?;
    families.counter(
        "taken",
        "Datagrams that the eBPF program took off the socket; their records are their delivery",
        counters.taken,
    )?;
    families.counter(
        "passed_on",
        "Datagrams that the ring was to deliver and, filling up, left to the socket",
        counters.passed_on,
    )?;
    families.counter(
        "wrong_length",
        "Datagrams that were not 32 bytes long",
        counters.wrong_length,
    )
}

/// Each place where something was lost.
fn losses(families: &mut Families<'_>, status: &DaemonStatus) -> fmt::Result {
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
        "How long the observer itself was away; its agents got the time back",
        seconds(counters.away_ns),
    )
}

/// How datagrams find their records.
fn join(families: &mut Families<'_>, observer: &Snapshot) -> fmt::Result {
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
        "Frames that had to wait for a record that was still to be read",
        observer.counters.parked,
    )?;
    families.gauge(
        "frames_waiting",
        "Frames that wait so now",
        float(observer.frames_parked),
    )
}

/// What the eBPF programs cost. The kernel counts it only while it is told
/// to; a program that it has not counted has no series.
fn programs(families: &mut Families<'_>, routes: &[RouteSnapshot]) -> fmt::Result {
    let counted = || {
        let programs = routes.iter().filter_map(|route| route.program.as_ref());
        programs.filter(|program| program.runs > 0)
    };
    if counted().next().is_none() {
        return Ok(());
    }
    let label = |program: &'_ ProgramRuns| [("program", program.name.clone())];
    families.counters(
        "ebpf_runs",
        "Runs of the eBPF programs while kernel.bpf_stats_enabled was set",
        counted().map(|program| (label(program), program.runs)),
    )?;
    families.counters(
        "ebpf_run_seconds",
        "Time that these runs took",
        counted().map(|program| (label(program), program.run_time.as_secs_f64())),
    )
}

/// The audit trail.
fn trail(families: &mut Families<'_>, counts: &Counts) -> fmt::Result {
    families.counter(
        "audit_incidents",
        "Incidents recorded in the audit trail, in full or counted",
        counts.audit_incidents,
    )?;
    families.counter(
        "audit_lines",
        "Lines written to the audit trail",
        counts.audit_lines,
    )?;
    families.counter(
        "audit_failures",
        "Writes and syncs of the audit trail that failed",
        counts.audit_failures,
    )?;
    families.counter(
        "audit_unread",
        "Senders of which /proc could not be read in time, or not all: some process holds up \
         whoever reads its command line",
        counts.audit_unread,
    )
}

/// Writes metric families, each with its rows.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let Self(encoder) = self;
        encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&count, None)
    }

    fn counter_of_seconds(&mut self, name: &str, help: &str, seconds: f64) -> fmt::Result {
        let Self(encoder) = self;
        encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&seconds, None)
    }

    fn counters<L, N>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, N)>,
    ) -> fmt::Result
    where
        L: EncodeLabelSet,
        N: prometheus_client::encoding::EncodeCounterValue,
    {
        let Self(encoder) = self;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in rows {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let Self(encoder) = self;
        encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, N)>,
    ) -> fmt::Result {
        let Self(encoder) = self;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn infos<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let Self(encoder) = self;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        for labels in rows {
            family.encode_info(&labels)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let Self(encoder) = self;
        let bounds = BOUNDS_NS.iter().map(|&bound| seconds(bound));
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::INFINITY])
            .zip(histogram.counts)
            .collect();
        encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(
                seconds(histogram.sum_ns),
                histogram.count(),
                &buckets,
                None,
            )
    }
}

/// Rows of one label.
fn by<'a, const N: usize>(
    label: &'a str,
    rows: [(&'a str, u64); N],
) -> impl Iterator<Item = ([(&'a str, &'a str); 1], u64)> {
    let row = move |(value, count)| ([(label, value)], count);
    rows.into_iter().map(row)
}

fn of_route(route: &RouteSnapshot) -> [(&'static str, &'static str); 1] {
    [("route", route.route.as_str())]
}

fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floating-point numbers only; 53 bits of a time are enough"
)]
fn seconds_of(nanoseconds: i128) -> f64 {
    nanoseconds as f64 / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floating-point numbers only"
)]
fn float(number: u64) -> f64 {
    number as f64
}
