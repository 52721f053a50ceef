//! What an observer reports: events with their evidence, and notices.

use std::net::SocketAddr;

use observer_common::frame::FRAME_LEN;
pub use observer_common::record::Limit;
use serde::{Serialize, Serializer};

use crate::agents::Division;
use crate::event::{Attestation, Event};

/// What is known beside an event or a notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Evidence {
    /// The kernel's record of who sent the datagram or, of a stall, who sent
    /// when the agent's present session began.
    pub sender: Option<Attestation>,
    /// Address that the datagram came from by UDP; anyone can write any there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SocketAddr>,
    /// The datagram, where it was a frame's length.
    #[serde(skip)]
    pub frame: Option<[u8; FRAME_LEN]>,
}

impl Evidence {
    /// What is known of a datagram.
    #[must_use]
    pub fn new(
        sender: Option<Attestation>,
        source: Option<SocketAddr>,
        frame: Option<[u8; FRAME_LEN]>,
    ) -> Self {
        Self {
            sender,
            source,
            frame,
        }
    }
}

/// An event with all that is known of it. As JSON it is one object: the event's
/// fields, then the evidence but for the frame.
#[derive(Debug)]
pub struct Observation {
    /// What happened.
    pub event: Event,
    /// What is known beside it.
    pub evidence: Evidence,
}

impl Observation {
    /// When it was, in nanoseconds since the observer started.
    #[must_use]
    pub fn observer_ns(&self) -> u64 {
        self.event.observer_ns()
    }

    /// The process that it is about: the agent, or the one that was claimed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.event.pid()
    }

    /// The event's name as it is serialized.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.event.name()
    }
}

/// What is no event and still worth knowing.
///
/// `observer_ns` is as in [`Event`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// Beats of a sender that the operator's policy does not let beat: the
    /// first, and then at most once a second how many more.
    RefusedSender {
        /// How many.
        count: u64,
        /// Process that the last of them claims, honestly, as its sender.
        claimed_pid: u32,
        /// When the last was received.
        observer_ns: u64,
        /// What is known of the last.
        #[serde(flatten)]
        evidence: Evidence,
    },
    /// Datagrams of a sender that were dropped because it sends more than it
    /// may. Reported at most once a second for each sender.
    ThrottledSender {
        /// How many since the last notice of the sender.
        count: u64,
        /// What it was too much for.
        #[serde(serialize_with = "limit_name")]
        limit: Limit,
        /// When this was found.
        observer_ns: u64,
        /// What is known of one of them.
        #[serde(flatten)]
        evidence: Evidence,
    },
    /// Datagrams that were refused for the descriptors attached to them.
    /// Reported as often.
    DescriptorsRefused {
        /// How many since the last notice of the sender.
        count: u64,
        /// When this was found.
        observer_ns: u64,
        /// What is known of one of them.
        #[serde(flatten)]
        evidence: Evidence,
    },
    /// The observer itself was away: stopped, or without a CPU. Its agents get
    /// the time back.
    Absence {
        /// For how long, nanoseconds.
        away_ns: u64,
        /// When it was back.
        observer_ns: u64,
    },
    /// The table of agents is full, and a new agent found no slot or a live one
    /// was evicted. Reported at most once a second, and once until a part of
    /// the table has been given back.
    TableFull {
        /// How many agents are known.
        agents: u64,
        /// How the slots are divided among owners.
        #[serde(flatten)]
        division: Division,
        /// Beats of new agents that have been refused so far.
        refused: u64,
        /// Live agents that have been evicted so far.
        evicted: u64,
        /// When this was found.
        observer_ns: u64,
    },
    /// An agent has been alive for a threshold by its attempts to send alone:
    /// nothing of it arrives, as where others keep the queue full, or without a
    /// record. Reported once, until it is heard.
    Unheard {
        /// The agent.
        pid: u32,
        /// Nonce of its last beat.
        last_nonce: u64,
        /// When its last beat was received.
        last_ns: u64,
        /// When this was found.
        observer_ns: u64,
        /// What is known of its last attempt.
        #[serde(flatten)]
        evidence: Evidence,
    },
    /// Records of sends were lost, as where a ring was full. A datagram without
    /// a record is an authentication failure or, where the policy lets it pass,
    /// a beat that nobody vouches for. Reported once until there is an
    /// [`Notice::AttestationRegained`].
    AttestationLost {
        /// What was lost.
        reason: String,
        /// When this was found.
        observer_ns: u64,
    },
    /// No record was lost for a while.
    AttestationRegained {
        /// By what that is known.
        reason: String,
        /// When this was found.
        observer_ns: u64,
    },
    /// A socket cannot be received from: receives fail one after the other.
    /// No stall is judged while that goes on, for silence means nothing then.
    /// Reported once until there is a [`Notice::ReceiveRegained`].
    ReceiveLost {
        /// Which socket, and what its receives fail with.
        reason: String,
        /// When this was found.
        observer_ns: u64,
    },
    /// Every socket can be received from again. Agents got the time back.
    ReceiveRegained {
        /// By what that is known.
        reason: String,
        /// When this was found.
        observer_ns: u64,
    },
}

impl Notice {
    /// When it was, in nanoseconds since the observer started.
    #[must_use]
    pub fn observer_ns(&self) -> u64 {
        match *self {
            Self::RefusedSender { observer_ns, .. }
            | Self::ThrottledSender { observer_ns, .. }
            | Self::DescriptorsRefused { observer_ns, .. }
            | Self::Absence { observer_ns, .. }
            | Self::TableFull { observer_ns, .. }
            | Self::Unheard { observer_ns, .. }
            | Self::AttestationLost { observer_ns, .. }
            | Self::AttestationRegained { observer_ns, .. }
            | Self::ReceiveLost { observer_ns, .. }
            | Self::ReceiveRegained { observer_ns, .. } => observer_ns,
        }
    }

    /// The name as it is serialized.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RefusedSender { .. } => "refused_sender",
            Self::ThrottledSender { .. } => "throttled_sender",
            Self::DescriptorsRefused { .. } => "descriptors_refused",
            Self::Absence { .. } => "absence",
            Self::TableFull { .. } => "table_full",
            Self::Unheard { .. } => "unheard",
            Self::AttestationLost { .. } => "attestation_lost",
            Self::AttestationRegained { .. } => "attestation_regained",
            Self::ReceiveLost { .. } => "receive_lost",
            Self::ReceiveRegained { .. } => "receive_regained",
        }
    }

    /// What is known of the datagrams that it is about.
    #[must_use]
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::RefusedSender { evidence, .. }
            | Self::ThrottledSender { evidence, .. }
            | Self::DescriptorsRefused { evidence, .. }
            | Self::Unheard { evidence, .. } => Some(evidence),
            Self::Absence { .. }
            | Self::TableFull { .. }
            | Self::AttestationLost { .. }
            | Self::AttestationRegained { .. }
            | Self::ReceiveLost { .. }
            | Self::ReceiveRegained { .. } => None,
        }
    }

    /// The sender that it is about, in the observer's pid namespace.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match *self {
            Self::Unheard { pid, .. } => Some(pid),
            _ => self.evidence()?.sender?.pid,
        }
    }
}

/// The name of a limit as it is serialized.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn limit_name<S: Serializer>(limit: &Limit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match limit {
        Limit::Process => "process",
        Limit::User => "user",
        Limit::Cgroup => "cgroup",
        Limit::Ring => "ring",
    })
}

/// All that an observer reports, in order.
#[derive(Debug)]
pub enum Report {
    /// An event.
    Observation(Observation),
    /// Something else.
    Notice(Notice),
}
