//! What an observer reports: events with their evidence, and notices.

use std::net::SocketAddr;

use observer_common::frame::FRAME_LEN;
use serde::Serialize;

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

/// What is no event and still worth knowing.
///
/// `observer_ns` is as in [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
}

impl Notice {
    /// When it was, in nanoseconds since the observer started.
    #[must_use]
    pub fn observer_ns(&self) -> u64 {
        match *self {
            Self::RefusedSender { observer_ns, .. }
            | Self::ThrottledSender { observer_ns, .. }
            | Self::DescriptorsRefused { observer_ns, .. }
            | Self::Absence { observer_ns, .. } => observer_ns,
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
        }
    }

    /// What is known of the datagrams that it is about.
    #[must_use]
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::RefusedSender { evidence, .. }
            | Self::ThrottledSender { evidence, .. }
            | Self::DescriptorsRefused { evidence, .. } => Some(evidence),
            Self::Absence { .. } => None,
        }
    }

    /// The sender that it is about, in the observer's pid namespace.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.evidence()?.sender?.pid
    }
}

/// All that an observer reports, in order.
#[derive(Debug)]
pub enum Report {
    /// An event.
    Observation(Observation),
    /// Something else.
    Notice(Notice),
}
