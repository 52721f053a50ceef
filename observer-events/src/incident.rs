//! What an auditor wants to know of.

use std::net::SocketAddr;

use observer_common::frame::FRAME_LEN;
use serde::Serialize;

use crate::event::{Attestation, AuthFailureCause, BeatOrigin, Event};

/// Something that an auditor wants to know of: a claim that did not hold, or a
/// sender that was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What happened.
    pub what: What,
    /// How often: more than once only where the kernel counts, as it does what
    /// flood control drops.
    pub count: u64,
    /// Process that the frame claims as its sender.
    pub claimed_pid: Option<u32>,
    /// When, in nanoseconds since the observer started.
    pub observer_ns: u64,
    /// The datagram's bytes, where it was a frame's length.
    pub frame: Option<[u8; FRAME_LEN]>,
    /// The kernel's record of who sent it.
    pub sender: Option<Attestation>,
    /// Where it came from, if by UDP; the sender of a datagram without a
    /// record can make it up.
    pub source: Option<SocketAddr>,
}

/// The kinds of [`Incident`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// [`Event::AuthFailure`].
    AuthFailure {
        /// What did not hold.
        cause: AuthFailureCause,
    },
    /// [`Event::NamespaceConflict`].
    NamespaceConflict {
        /// Pid namespace of the sender, where known.
        observed_ns_inode: Option<u64>,
        /// Pid namespace that was expected, where known.
        observer_ns_inode: Option<u64>,
    },
    /// [`Event::OriginConflict`].
    OriginConflict {
        /// Origin of this frame.
        observed_origin: BeatOrigin,
        /// Origin that the agent is known by.
        slot_origin: BeatOrigin,
    },
    /// A sender that the operator's policy does not let beat.
    RefusedSender,
    /// A sender that sent more than it may.
    ThrottledSender,
    /// A sender that attached descriptors to datagrams, which were refused for
    /// it.
    DescriptorsRefused,
    /// [`Event::CtrlTruncated`].
    CtrlTruncated,
}

impl What {
    /// The name on the line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::AuthFailure { .. } => "auth_failure",
            Self::NamespaceConflict { .. } => "namespace_conflict",
            Self::OriginConflict { .. } => "origin_conflict",
            Self::RefusedSender => "refused_sender",
            Self::ThrottledSender => "throttled_sender",
            Self::DescriptorsRefused => "descriptors_refused",
            Self::CtrlTruncated => "ctrl_truncated",
        }
    }
}

impl Incident {
    /// The incident that an event is, if it is one, and the datagram that the
    /// event is about.
    #[must_use]
    pub fn of(event: &Event, frame: Option<&[u8; FRAME_LEN]>) -> Option<Self> {
        let (what, claimed_pid, observer_ns, sender, source) = match *event {
            Event::AuthFailure {
                claimed_pid,
                observer_ns,
                cause,
                sender,
                source,
            } => (
                What::AuthFailure { cause },
                Some(claimed_pid),
                observer_ns,
                sender,
                source,
            ),
            Event::NamespaceConflict {
                claimed_pid,
                observed_ns_inode,
                observer_ns_inode,
                observer_ns,
                sender,
                source,
            } => {
                let what = What::NamespaceConflict {
                    observed_ns_inode,
                    observer_ns_inode,
                };
                (what, Some(claimed_pid), observer_ns, sender, source)
            }
            Event::OriginConflict {
                claimed_pid,
                observed_origin,
                slot_origin,
                observer_ns,
                sender,
                source,
            } => {
                let what = What::OriginConflict {
                    observed_origin,
                    slot_origin,
                };
                (what, Some(claimed_pid), observer_ns, sender, source)
            }
            Event::CtrlTruncated(_, observer_ns, sender) => {
                (What::CtrlTruncated, None, observer_ns, sender, None)
            }
            Event::Beat { .. } | Event::Stall { .. } | Event::Decode(..) | Event::Io(..) => {
                return None;
            }
        };
        Some(Self {
            what,
            count: 1,
            claimed_pid,
            observer_ns,
            frame: frame.copied(),
            sender,
            source,
        })
    }
}
