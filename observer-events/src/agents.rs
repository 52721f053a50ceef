//! The agents that an observer knows, as it reports them.

use serde::{Deserialize, Serialize};

use crate::event::{Attestation, BeatOrigin, Status};

/// How an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It beats, and reports itself healthy.
    Ok,
    /// It beats, and reports trouble.
    Degraded,
    /// It beats, and reports that it is about to die or needs help.
    Critical,
    /// Its stall was reported, and no beat came since.
    Silent,
}

/// That of an agent that beats.
impl From<Status> for AgentState {
    fn from(status: Status) -> Self {
        match status {
            Status::Ok => Self::Ok,
            Status::Degraded => Self::Degraded,
            Status::Critical => Self::Critical,
        }
    }
}

/// How many agents there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Census {
    /// [`AgentState::Ok`]
    pub ok: u64,
    /// [`AgentState::Degraded`]
    pub degraded: u64,
    /// [`AgentState::Critical`]
    pub critical: u64,
    /// [`AgentState::Silent`]
    pub silent: u64,
}

/// What is known of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The process, as the observer's pid namespace sees it.
    pub pid: u32,
    /// How it is.
    pub state: AgentState,
    /// Origin of its beats.
    pub origin: BeatOrigin,
    /// Its pid namespace, where known.
    pub pid_ns_inode: Option<u64>,
    /// Nonce of its last beat.
    pub last_nonce: u64,
    /// When its last beat was received, nanoseconds of observer time.
    pub last_ns: u64,
    /// Who sent when its present session began.
    pub sender: Option<Attestation>,
}

/// For whom slots are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Origin of the beats.
    pub origin: BeatOrigin,
    /// Real user id of the process, where known. A process that changes it
    /// keeps the slot that it has.
    pub uid: Option<u32>,
}

/// How the table's slots are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Division {
    /// Owners that hold a slot.
    pub owners: u64,
    /// Slots that each of them is sure of when the table is full.
    pub share: u64,
    /// Who holds the most.
    pub largest: Option<LargestOwner>,
}

/// An owner, and how many slots it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargestOwner {
    /// The owner.
    #[serde(flatten)]
    pub owner: Owner,
    /// Its agents.
    pub agents: u64,
}
