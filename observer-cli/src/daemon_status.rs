//! The status of a running observer: one document for the metrics, for scripts
//! and for the live view.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use observer_audit::{Counts, Trail};
use observer_events::agents::{Agent, AgentState};
use observer_events::event::{Attestation, AuthFailureCause, BeatOrigin, Via};
use observer_events::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

/// The state of an observer process. As JSON its names are a contract: fields
/// may be added, none changes its meaning.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DaemonStatus {
    /// The program's version.
    pub(crate) version: String,
    /// Its process, as its own pid namespace numbers it.
    pub(crate) pid: u32,
    /// When it started.
    pub(crate) started: Timestamp,
    /// Now, by its clock.
    pub(crate) time: Timestamp,
    /// Release of the running kernel.
    pub(crate) kernel: String,
    /// The kernel's lockdown state.
    pub(crate) lockdown: String,
    /// Path of the Unix socket.
    pub(crate) socket: String,
    /// Addresses of the UDP listeners.
    pub(crate) udp: Vec<SocketAddr>,
    /// What it observes.
    pub(crate) observer: Snapshot,
    /// Its outputs, and what each lost.
    #[serde(rename = "sinks")]
    pub(crate) outputs: Vec<OutputStatus>,
    /// The audit trail, if one is kept.
    pub(crate) audit: Option<AuditStatus>,
    /// Some of the agents: first those that an operator should look at.
    pub(crate) agents: Vec<AgentStatus>,
    /// The last incidents, the latest first.
    #[serde(rename = "attacks")]
    pub(crate) incidents: Vec<RecentIncident>,
}

impl DaemonStatus {
    /// For how long the observer has run. By its own clock: the time of day may
    /// be set meanwhile, as it is at the boot of a host without a battery.
    pub(crate) fn uptime(&self) -> Duration {
        Duration::from_nanos(self.observer.observer_ns)
    }

    /// How long ago the last of these incidents was, by the same clock.
    pub(crate) fn age(&self, incident: &RecentIncident) -> Duration {
        match incident.last_ns {
            Some(last) => Duration::from_nanos(self.observer.observer_ns.saturating_sub(last)),
            None => Duration::try_from(self.time.duration_since(incident.last)).unwrap_or_default(),
        }
    }

    /// Why the observer does not do its work, where it does not.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> {
        let deaf = self.observer.routes.iter();
        let deaf = deaf.filter_map(|route| route.deaf.as_ref());
        deaf.map(|why| format!("cannot receive from {why}"))
    }

    /// Each place where something can be lost, by the name that metrics and
    /// views have for it, and how much was.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&str, u64)> {
        let counters = &self.observer.counters;
        let stages = [
            // Datagrams that found a UDP socket's queue full, or no room for
            // their records, or came in pieces.
            ("udp_queue", counters.udp_dropped),
            ("udp_unrecorded", counters.udp_unrecorded),
            ("udp_hidden", counters.udp_hidden),
            // Records of other network namespaces' datagrams.
            ("others_over_budget", counters.others_over_budget),
            // Records that the full, or unreadable, ring did not take.
            ("ring_full", counters.ring_full),
            ("refusal_unseen", counters.refused_unseen),
            ("ring_unreadable", counters.unreadable),
            // Records that were none, were forgotten early, or whose datagram
            // never came, as that of a send that failed.
            ("record_malformed", counters.records_malformed),
            ("record_displaced", counters.records_displaced),
            ("record_expired", counters.records_expired),
            // Frames without a record.
            ("record_missing", counters.unattested),
            // Beats of new agents for whom there was no room.
            ("agent_table", counters.refused_full),
        ];
        let outputs = self.outputs.iter();
        let outputs = outputs.map(|output| (output.name.as_str(), output.lost));
        stages.into_iter().chain(outputs)
    }
}

/// The queue before an output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OutputStatus {
    /// `stdout` (events), `log` (lines on stderr) or `audit` (incidents).
    #[serde(rename = "sink")]
    pub(crate) name: String,
    /// What found the queue full.
    pub(crate) lost: u64,
}

impl OutputStatus {
    pub(crate) fn new(name: &str, lost: u64) -> Self {
        Self {
            name: name.to_owned(),
            lost,
        }
    }
}

/// The audit trail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuditStatus {
    /// Its public name.
    pub(crate) trail: String,
    /// What was counted.
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

impl AuditStatus {
    pub(crate) fn new(trail: &Trail) -> Self {
        Self {
            trail: trail.name().to_owned(),
            counts: trail.counts(),
        }
    }
}

/// One agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AgentStatus {
    /// The process, as the observer's pid namespace sees it.
    pub(crate) pid: u32,
    /// Its last status, or that it is stalled.
    pub(crate) state: AgentState,
    /// Age of its last beat, nanoseconds.
    pub(crate) age_ns: u64,
    /// Nonce of its last beat.
    pub(crate) last_nonce: u64,
    /// Origin of its beats.
    pub(crate) origin: BeatOrigin,
    /// Its pid namespace, where known.
    pub(crate) pid_ns_inode: Option<u64>,
    /// Its pid there, where known.
    pub(crate) own_pid: Option<u32>,
    /// User, where known.
    pub(crate) uid: Option<u32>,
    /// Name of the thread that began its session; its owner can change it.
    pub(crate) comm: Option<String>,
    /// When the process started, nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) start_ns: Option<u64>,
}

impl AgentStatus {
    /// What is known of an agent at a moment of observer time.
    #[must_use]
    pub(crate) fn new(agent: &Agent, observer_ns: u64) -> Self {
        let sender = agent.sender.as_ref();
        Self {
            pid: agent.pid,
            state: agent.state,
            age_ns: observer_ns.saturating_sub(agent.last_ns),
            last_nonce: agent.last_nonce,
            origin: agent.origin,
            pid_ns_inode: agent.pid_ns_inode,
            own_pid: sender.and_then(|sender| sender.own_pid),
            uid: sender.and_then(|sender| sender.uid),
            comm: sender.and_then(comm_text),
            start_ns: sender.and_then(|sender| sender.start_ns),
        }
    }
}

/// Incidents of one kind, by one sender, with one claim; and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecentIncident {
    /// The kind of incident, as the audit trail names it.
    pub(crate) kind: String,
    /// What did not hold, for an `auth_failure`.
    pub(crate) cause: Option<AuthFailureCause>,
    /// Process that the frames claim as their sender.
    pub(crate) claimed_pid: Option<u32>,
    /// The sender in the observer's pid namespace, where visible there.
    pub(crate) pid: Option<u32>,
    /// The sender in the initial pid namespace, where known.
    pub(crate) host_pid: Option<u32>,
    /// Its pid namespace, where known.
    pub(crate) pid_ns_inode: Option<u64>,
    /// When it started, nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) start_ns: Option<u64>,
    /// Its user, where known.
    pub(crate) uid: Option<u32>,
    /// Its name; it can change it at will.
    pub(crate) comm: Option<String>,
    /// The tier that attested the sender.
    pub(crate) via: Option<Via>,
    /// Source address of the last one, by UDP.
    pub(crate) source: Option<SocketAddr>,
    /// How often.
    pub(crate) count: u64,
    /// When the first was received.
    pub(crate) first: Timestamp,
    /// When the last was received.
    pub(crate) last: Timestamp,
    /// The same in nanoseconds since the observer started, by a clock that
    /// nobody sets. `None`: an observer of an earlier version.
    #[serde(default)]
    pub(crate) last_ns: Option<u64>,
}

/// A task's name as text that is safe on a terminal.
pub(crate) fn comm_text(sender: &Attestation) -> Option<String> {
    sender.comm.map(|comm| comm.to_string())
}

#[cfg(test)]
mod tests {
    use observer_events::Counters;

    use super::*;

    /// The status of earlier versions can be read: counters that they do not have
    /// yet are zero.
    #[test]
    fn the_status_of_an_older_observer_is_read() {
        let text = include_str!("../tests/responses/status-0.1.0.json");
        let status: DaemonStatus = serde_json::from_str(text).unwrap();
        assert_eq!(status.observer.counters.beats, 3);
        assert_eq!(status.agents.len(), 1);
        let mut text: serde_json::Value = serde_json::from_str(text).unwrap();
        for counters in ["/observer/counters", "/audit"] {
            let counters = text.pointer_mut(counters).unwrap();
            counters
                .as_object_mut()
                .unwrap()
                .retain(|name, _| name == "trail");
        }
        let status: DaemonStatus = serde_json::from_value(text).unwrap();
        assert_eq!(status.observer.counters, Counters::default());
    }

    /// So can one that lacks any field of today's.
    #[test]
    fn the_status_of_an_observer_without_a_field_is_read() {
        let text = include_str!("../tests/responses/status-0.1.0.json");
        let whole: serde_json::Value = serde_json::from_str(text).unwrap();
        for object in ["", "/observer", "/observer/agents", "/observer/routes/0"] {
            let fields = whole.pointer(object).unwrap().as_object().unwrap();
            for field in fields.keys() {
                let mut text = whole.clone();
                let object = text.pointer_mut(object).unwrap().as_object_mut();
                object.unwrap().remove(field);
                let status: Result<DaemonStatus, _> = serde_json::from_value(text);
                assert!(status.is_ok(), "without {field}: {status:?}");
            }
        }
    }
}
