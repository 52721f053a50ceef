//! The observer's state at one moment, for those who request it: metrics, a
//! status line, a live view.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agents::{Census, Division};
use crate::counters::Counters;
use crate::event::Via;
use crate::histogram::Histogram;

/// All of it but the single agents. Its size
/// does not depend on how many agents there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// The moment, nanoseconds since the observer started.
    pub observer_ns: u64,
    /// How long an agent may be silent.
    pub threshold_ns: u64,
    /// How many agents are known at most.
    pub max_agents: u64,
    /// How many there are in each state.
    pub agents: Census,
    /// Who holds how many slots.
    pub division: Division,
    /// Age of the last sign of life, a beat or an attempt to send one, of the live
    /// agent whose last one is the longest ago, less the time that the observer itself was away; `None` if no
    /// agent is live.
    pub oldest_beat_age_ns: Option<u64>,
    /// How old the last sign of life of an agent was when its next beat came.
    pub beat_gaps: Histogram,
    /// How long after the threshold stalls were reported.
    pub stall_lateness: Histogram,
    /// Everything that was counted.
    pub counters: Counters,
    /// The ways in, and how well senders are known there.
    pub routes: Vec<RouteSnapshot>,
    /// Frames that wait for a record that is still to be read.
    pub frames_parked: u64,
}

/// A way in: the Unix socket, or all UDP listeners.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteSnapshot {
    /// Which it is.
    pub route: RouteName,
    /// By which means senders are known.
    pub tier: Via,
    /// Why the tier is degraded.
    pub weaker: Option<String>,
    /// Which socket cannot be received from, and why.
    pub deaf: Option<String>,
    /// Why datagrams are received one by one, where the cheaper call for many
    /// is refused.
    pub one_by_one: Option<String>,
    /// Records that wait for their datagrams.
    pub records_waiting: u64,
    /// What the eBPF program cost, where the kernel counts it.
    pub program: Option<ProgramRuns>,
}

/// The name of a [`RouteSnapshot`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteName {
    /// The Unix socket.
    #[default]
    Unix,
    /// The UDP listeners.
    Udp,
}

impl RouteName {
    /// As it is serialized.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Udp => "udp",
        }
    }
}

/// What the kernel counted of an eBPF program since it was loaded, in the
/// times in which `kernel.bpf_stats_enabled` was 1 or a tool had asked for it
/// (`BPF_ENABLE_STATS`). It does not count otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramRuns {
    /// The program's name.
    pub name: String,
    /// How often it ran.
    pub runs: u64,
    /// How long that took.
    pub run_time: Duration,
}
