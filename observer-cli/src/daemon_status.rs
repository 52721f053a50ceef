//! What a running observer tells of itself when it is asked: one document,
//! for the metrics, for scripts and for the live view.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use observer_audit::{Counts, Incident, What};
use observer_events::{
    agents::{Agent, AgentState},
    event::{Attestation, AuthFailureCause, BeatOrigin, Via},
    snapshot::Snapshot,
};

/// The state of an observer process. As JSON its names are a contract: fields
/// may be added, none changes its meaning.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Where its output goes, and what was lost there.
    pub(crate) sinks: Vec<SinkStatus>,
    /// The audit trail, if one is kept.
    pub(crate) audit: Option<AuditStatus>,
    /// Some of the agents: those first that need a look.
    pub(crate) agents: Vec<AgentStatus>,
    /// What attackers did last, the latest first.
    pub(crate) attacks: Vec<Attack>,
}

impl DaemonStatus {
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
        let sinks = self
            .sinks
            .iter()
            .map(|sink| (sink.sink.as_str(), sink.lost));
        stages.into_iter().chain(sinks)
    }
}

/// A queue that output passes through.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SinkStatus {
    /// `stdout` (events), `log` (lines on stderr) or `audit` (incidents).
    pub(crate) sink: String,
    /// What found the queue full.
    pub(crate) lost: u64,
}

/// The audit trail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AuditStatus {
    /// Its public name.
    pub(crate) trail: String,
    /// What was counted.
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

/// One agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AgentStatus {
    /// The process, as the observer's pid namespace sees it.
    pub(crate) pid: u32,
    /// How it is.
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
            comm: sender.and_then(comm),
            start_ns: sender.and_then(|sender| sender.start_ns),
        }
    }
}

/// What one sender did in one way to one victim, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attack {
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
    /// By which means all this is known.
    pub(crate) via: Option<Via>,
    /// Address that the last one came from by UDP.
    pub(crate) source: Option<SocketAddr>,
    /// How often.
    pub(crate) count: u64,
    /// When the first was received.
    pub(crate) first: Timestamp,
    /// When the last was received.
    pub(crate) last: Timestamp,
}

/// How many attacks are remembered; the one longest ago makes room.
const MAX_ATTACKS: usize = 32;

/// The last attacks, each counted by sender, victim and kind, so that a flood
/// of one does not hide the others.
#[derive(Debug, Default)]
pub(crate) struct Attacks {
    /// The latest last.
    tallies: Vec<Tally>,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    /// The last of them.
    incident: Incident,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Attacks {
    /// Counts an incident.
    pub(crate) fn note(&mut self, incident: &Incident, time: Timestamp) {
        let mut tallies = self.tallies.iter();
        let known = tallies.rposition(|tally| is_alike(&tally.incident, incident));
        let before = known.map(|at| self.tallies.remove(at));
        if self.tallies.len() >= MAX_ATTACKS {
            self.tallies.remove(0);
        }
        self.tallies.push(Tally {
            incident: *incident,
            count: before
                .map_or(0, |tally| tally.count)
                .saturating_add(incident.count),
            first: before.map_or(time, |tally| tally.first),
            last: time,
        });
    }

    /// The attacks, the latest first.
    pub(crate) fn list(&self) -> impl Iterator<Item = Attack> + '_ {
        self.tallies.iter().rev().map(Attack::from)
    }
}

impl From<&Tally> for Attack {
    fn from(tally: &Tally) -> Self {
        let Incident {
            what,
            claimed_pid,
            sender,
            source,
            ..
        } = tally.incident;
        let sender = sender.filter(|_| names_author(what));
        Self {
            kind: what.name().to_owned(),
            cause: match what {
                What::AuthFailure { cause } => Some(cause),
                _ => None,
            },
            claimed_pid,
            pid: sender.and_then(|sender| sender.pid),
            host_pid: sender.and_then(|sender| sender.host_pid),
            pid_ns_inode: sender.and_then(|sender| sender.pid_ns_inode),
            start_ns: sender.and_then(|sender| sender.start_ns),
            uid: sender.and_then(|sender| sender.uid),
            comm: sender.as_ref().and_then(comm),
            via: sender.map(|sender| sender.via),
            source,
            count: tally.count,
            first: tally.first,
            last: tally.last,
        }
    }
}

/// Whether two incidents are of one kind, one sender and one victim.
fn is_alike(one: &Incident, other: &Incident) -> bool {
    let key = |incident: &Incident| {
        // By reference: of a copy that is `None` the optimizer (LLVM 22) reads
        // the fields all the same, and beyond it.
        let sender = incident.sender.as_ref();
        let sender = sender.filter(|_| names_author(incident.what));
        (
            incident.what,
            incident.claimed_pid,
            sender.and_then(|sender| sender.host_pid.or(sender.pid)),
            sender.and_then(|sender| sender.start_ns),
            sender.map(|sender| sender.via),
        )
    };
    key(one) == key(other)
}

/// Whether the sender of an incident is its author. Who sends off what others
/// may have put into its send is not their accomplice.
fn names_author(what: What) -> bool {
    !matches!(
        what,
        What::AuthFailure {
            cause: AuthFailureCause::Corked
        }
    )
}

/// A task's name as text that is safe on a terminal.
fn comm(sender: &Attestation) -> Option<String> {
    sender.comm.map(|comm| comm.to_string())
}

#[cfg(test)]
mod tests;
