//! What goes into the tracker, and what comes out of it.

use observer_events::agents::{AgentState, Census, Owner};
use observer_events::event::{Attestation, BeatOrigin, Status};

/// A beat of which all is known that can be judged without the tracker.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The agent, as the observer's pid namespace sees it.
    pub pid: u32,
    /// When its process started, `CLOCK_BOOTTIME`; `None` (or 0) if that is
    /// not attested.
    pub start_ns: Option<u64>,
    /// Its pid namespace, where known (not 0).
    pub pid_ns_inode: Option<u64>,
    /// How far its name can be believed.
    pub origin: BeatOrigin,
    /// Health that the agent reports.
    pub status: Status,
    /// The frame's nonce.
    pub nonce: u64,
    /// The kernel's record of who sent it; kept where a session begins.
    pub sender: Option<Attestation>,
}

impl Sighting {
    /// For whom the agent's place is counted.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            origin: self.origin,
            uid: self.sender.as_ref().and_then(|sender| sender.uid),
        }
    }
}

/// What the tracker makes of a [`Sighting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent is alive.
    Accepted,
    /// The agent is alive, and took its slot from one that claimed its pid
    /// without proof. What was known of that one is forgotten.
    Displaced {
        /// The origin of the claim that was displaced.
        displaced_origin: BeatOrigin,
    },
    /// The nonce is not above the last of its session. Counted, the slot is
    /// not changed: a replay keeps no agent alive.
    StaleNonce,
    /// The agent's first beat had another origin. The slot is not changed.
    OriginConflict {
        /// The origin that the first beat had.
        slot_origin: BeatOrigin,
    },
    /// The agent was first seen in another pid namespace. The slot is not
    /// changed.
    NamespaceConflict {
        /// The namespace that it was first seen in.
        slot_ns_inode: Option<u64>,
    },
    /// A new agent, and no slot: no agent can be evicted for it. Counted.
    TableFull,
}

/// An agent that has been silent for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The stalled agent.
    pub pid: u32,
    /// Nonce of its last beat.
    pub last_nonce: u64,
    /// When its last beat was received, observer time.
    pub last_ns: u64,
    /// Origin of its beats.
    pub origin: BeatOrigin,
    /// Its pid namespace, where known.
    pub pid_ns_inode: Option<u64>,
    /// Who sent when its present session began.
    pub sender: Option<Attestation>,
}

/// What an attempt to send says of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing.
    None,
    /// It is alive.
    Alive,
    /// It is alive, and an operator is to hear that nothing of it arrives.
    Unheard(Unarrived),
}

/// An agent that has tried to send for a threshold, and of which nothing has
/// arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unarrived {
    /// The agent.
    pub pid: u32,
    /// Nonce of its last beat.
    pub last_nonce: u64,
    /// When its last beat was received, observer time.
    pub last_ns: u64,
}

/// What the tracker counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerCounts {
    /// Agents seen for the first time (again, if they were forgotten).
    pub new_agents: u64,
    /// Sessions that a known agent began anew: a restart, a second handle.
    pub new_sessions: u64,
    /// Beats with a nonce that was not above the last.
    pub stale_nonces: u64,
    /// Beats of new agents that found the table full, with no agent that could
    /// be evicted.
    pub refused_full: u64,
    /// Unverified claims that were displaced by a kernel-attested agent.
    pub displaced: u64,
    /// Stalled agents that were evicted for others.
    pub evicted_silent: u64,
    /// Live agents of an owner above its share that were evicted for one within
    /// it.
    pub evicted_live: u64,
    /// Stalled agents forgotten because their pid belongs to a younger process.
    pub superseded: u64,
}

/// An agent goes from one state to another; `None`: it was not known, or is
/// forgotten.
pub(super) fn change(census: &mut Census, before: Option<AgentState>, after: Option<AgentState>) {
    if before == after {
        return;
    }
    if let Some(count) = before.map(|state| of(census, state)) {
        *count = count.saturating_sub(1);
    }
    if let Some(count) = after.map(|state| of(census, state)) {
        *count = count.saturating_add(1);
    }
}

fn of(census: &mut Census, state: AgentState) -> &mut u64 {
    match state {
        AgentState::Ok => &mut census.ok,
        AgentState::Degraded => &mut census.degraded,
        AgentState::Critical => &mut census.critical,
        AgentState::Silent => &mut census.silent,
    }
}
