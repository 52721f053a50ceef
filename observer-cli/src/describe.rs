//! The status of an observer as lines and tables.

use std::io::{self, Write};
use std::time::Duration;

use observer::tier_name;
use observer_events::agents::{AgentState, Division};
use observer_events::event::BeatOrigin;
use observer_events::format::{Count, Nonce, Plain};
use observer_events::snapshot::{RouteSnapshot, Snapshot};

use crate::daemon_status::{AgentStatus, DaemonStatus, RecentIncident};
use crate::table::Table;

/// Writes the status.
pub(crate) fn write(out: &mut impl Write, status: &DaemonStatus) -> io::Result<()> {
    for line in summary(status) {
        writeln!(out, "{line}")?;
    }
    if !status.agents.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(AGENT_COLUMNS);
        for agent in &status.agents {
            table.row(agent_row(agent));
        }
        table.write(out)?;
    }
    let known = known(&status.observer);
    let listed = status.agents.len() as u64;
    if known > listed {
        writeln!(out, "... and {} more", known.saturating_sub(listed))?;
    }
    if !status.incidents.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(INCIDENT_COLUMNS);
        for incident in &status.incidents {
            table.row(incident_row(incident, status.age(incident)));
        }
        table.write(out)?;
    }
    Ok(())
}

/// The lines above the tables. What responds at the control socket need not be
/// an observer: what does not print is escaped.
pub(crate) fn summary(status: &DaemonStatus) -> Vec<String> {
    let lines = lines(status).into_iter();
    lines.map(|line| Plain(line).to_string()).collect()
}

fn lines(status: &DaemonStatus) -> Vec<String> {
    let observer = &status.observer;
    let mut lines = vec![format!(
        "observer {}, pid {}, up {}, kernel {}, lockdown {}",
        status.version,
        status.pid,
        span(status.uptime()),
        status.kernel,
        status.lockdown,
    )];
    lines.extend(observer.routes.iter().map(|route| {
        let place = match route.route.as_str() {
            "unix" => status.socket.clone(),
            _ => list(status.udp.iter().map(ToString::to_string)),
        };
        let degraded = route.weaker.as_deref().map(|why| format!(": {why}"));
        let tier = tier_name(route.tier);
        let degraded = degraded.unwrap_or_default();
        let reception = reception(route);
        format!(
            "{} {place}, tier {tier}{degraded}{reception}",
            route.route.as_str()
        )
    }));
    lines.push(agents_line(observer));
    lines.push(findings_line(observer));
    lines.push(losses_line(status));
    if let Some(audit) = &status.audit {
        lines.push(format!(
            "audit trail {}: {} in {}, {} failed",
            audit.trail,
            Count(audit.counts.audit_incidents, "incident", "incidents"),
            Count(audit.counts.audit_lines, "line", "lines"),
            Count(audit.counts.audit_failures, "write", "writes"),
        ));
    }
    lines
}

/// What is wrong with how a route receives.
fn reception(route: &RouteSnapshot) -> String {
    let deaf = route
        .deaf
        .as_ref()
        .map(|why| format!("; CANNOT RECEIVE from {why}, and so judges no stall"));
    let slow = route
        .one_by_one
        .as_ref()
        .map(|why| format!("; receives one by one, for recvmmsg is refused: {why}"));
    [deaf, slow].into_iter().flatten().collect()
}

fn agents_line(observer: &Snapshot) -> String {
    let census = &observer.agents;
    format!(
        "agents: {} ok, {} degraded, {} critical, {} silent, of {} at most; threshold {}{}",
        census.ok,
        census.degraded,
        census.critical,
        census.silent,
        observer.max_agents,
        span(Duration::from_nanos(observer.threshold_ns)),
        full_table(observer),
    )
}

/// Who holds the most slots, once the table is full.
fn full_table(observer: &Snapshot) -> String {
    let Division { share, largest, .. } = &observer.division;
    let holder = largest.filter(|_| known(observer) >= observer.max_agents);
    holder.map_or_else(String::new, |holder| {
        format!(
            "; FULL, {} of uid {} by {}, whose share is {share}",
            holder.agents,
            shown(holder.owner.uid.as_ref()),
            origin(holder.owner.origin),
        )
    })
}

fn findings_line(observer: &Snapshot) -> String {
    let counters = &observer.counters;
    let others = [
        Count(counters.auth_failures, "auth failure", "auth failures"),
        Count(
            counters.namespace_conflicts,
            "namespace conflict",
            "namespace conflicts",
        ),
        Count(
            counters.origin_conflicts,
            "origin conflict",
            "origin conflicts",
        ),
        same(counters.refused_senders, "refused"),
        same(counters.throttled, "throttled"),
        same(counters.descriptors_refused, "with descriptors"),
        Count(counters.decode_errors, "invalid frame", "invalid frames"),
        same(counters.stale_nonces, "stale"),
    ];
    let beats_and_stalls = [
        Count(counters.beats, "beat", "beats"),
        Count(counters.stalls, "stall", "stalls"),
    ];
    let others = others.into_iter().filter(|&Count(count, ..)| count > 0);
    let found = beats_and_stalls.into_iter().chain(others);
    format!("found: {}", list(found.map(|found| found.to_string())))
}

/// What reads the same for one and for more.
fn same(count: u64, what: &str) -> Count<'_> {
    Count(count, what, what)
}

fn losses_line(status: &DaemonStatus) -> String {
    let lost = status.losses().filter(|&(_, count)| count > 0);
    let lost = list(lost.map(|(stage, count)| format!("{count} {stage}")));
    if lost.is_empty() {
        return "lost: nothing".into();
    }
    format!("lost: {lost}")
}

/// How many agents are known.
pub(crate) fn known(observer: &Snapshot) -> u64 {
    let census = &observer.agents;
    [census.ok, census.degraded, census.critical, census.silent]
        .into_iter()
        .fold(0, u64::saturating_add)
}

pub(crate) const AGENT_COLUMNS: [&str; 8] = [
    "agent",
    "state",
    "last beat",
    "nonce",
    "origin",
    "uid",
    "name",
    "pid namespace",
];

pub(crate) fn agent_row(agent: &AgentStatus) -> [String; 8] {
    [
        agent.pid.to_string(),
        state(agent.state).into(),
        span(Duration::from_nanos(agent.age_ns)),
        Nonce(agent.last_nonce).to_string(),
        origin(agent.origin).into(),
        shown(agent.uid.as_ref()),
        shown(agent.comm.as_ref()),
        shown(agent.pid_ns_inode.as_ref()),
    ]
    .map(|cell| Plain(cell).to_string())
}

pub(crate) const INCIDENT_COLUMNS: [&str; 8] = [
    "times", "last", "incident", "claims", "sent by", "uid", "name", "from",
];

/// The row of an incident whose last was so long ago.
pub(crate) fn incident_row(incident: &RecentIncident, age: Duration) -> [String; 8] {
    let what = match &incident.cause {
        Some(cause) => cause.name(),
        None => incident.kind.as_str(),
    };
    let sender = match (incident.pid, incident.host_pid) {
        (Some(pid), _) => pid.to_string(),
        (None, Some(pid)) => format!("host {pid}"),
        (None, None) => UNKNOWN.into(),
    };
    [
        incident.count.to_string(),
        format!("{} ago", span(age)),
        what.into(),
        shown(incident.claimed_pid.as_ref()),
        sender,
        shown(incident.uid.as_ref()),
        shown(incident.comm.as_ref()),
        match (&incident.source, incident.pid_ns_inode) {
            (Some(source), _) => source.to_string(),
            (None, Some(inode)) => format!("pid:[{inode}]"),
            (None, None) => UNKNOWN.into(),
        },
    ]
    .map(|cell| Plain(cell).to_string())
}

/// What is shown in place of what is not known.
const UNKNOWN: &str = "-";

fn shown(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| UNKNOWN.into(), ToString::to_string)
}

pub(crate) fn state(state: AgentState) -> &'static str {
    match state {
        AgentState::Ok => "ok",
        AgentState::Degraded => "degraded",
        AgentState::Critical => "critical",
        AgentState::Silent => "SILENT",
    }
}

fn origin(origin: BeatOrigin) -> &'static str {
    match origin {
        BeatOrigin::KernelAttested => "kernel",
        BeatOrigin::OperatorAttestedTransport => "operator",
        BeatOrigin::NetworkUnverified => "network",
        BeatOrigin::SocketModeOnly => "socket mode",
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A span of time in its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = |number: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{number}{unit}"),
        rest => format!("{number}{unit} {rest}{small}"),
    };
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        // Not rounded: 59.99 seconds are not 60.0 seconds.
        1..60 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        60..3600 => units(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => units(seconds / 3600, "h", seconds / 60 % 60, "m"),
        _ => units(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of day is set while the observer runs: nothing was long ago
    /// because of that.
    #[test]
    fn durations_do_not_go_by_the_time_of_day() {
        let text = include_str!("../tests/responses/status-0.1.0.json");
        let mut status: DaemonStatus = serde_json::from_str(text).unwrap();
        let incident = serde_json::json!({
            "kind": "auth_failure", "count": 1, "first": "2026-11-26T21:31:43Z",
            "last": "2026-11-26T21:31:43Z", "last_ns": 62_000_000_000_u64,
        });
        status.incidents = vec![serde_json::from_value(incident).unwrap()];
        status.observer.observer_ns = 65_000_000_000;
        for time in ["1970-01-01T00:00:07Z", "2037-01-01T00:00:00Z"] {
            status.time = time.parse().unwrap();
            let mut text = Vec::new();
            write(&mut text, &status).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains(", up 1m 5s, "), "{text}");
            assert!(text.contains("  3.0s ago  "), "{text}");
        }
    }

    #[test]
    fn spans() {
        for (milliseconds, text) in [
            (7, "7ms"),
            (1500, "1.5s"),
            (59_999, "59.9s"),
            (60_000, "1m"),
            (3_599_000, "59m 59s"),
            (7_260_000, "2h 1m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(span(Duration::from_millis(milliseconds)), text);
        }
    }
}
