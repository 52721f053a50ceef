//! Incidents: what the trail records.

use std::net::SocketAddr;

use observer_common::frame::FRAME_LEN;
use observer_events::event::{Attestation, AuthFailureCause, BeatOrigin, Event};
use observer_events::{Notice, Observation, Report};
use serde::Serialize;

/// A forgery, refusal or conflict: a claim that did not hold, or a sender that
/// was refused or throttled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What happened.
    pub what: What,
    /// How often: more than once only where incidents are counted on their way
    /// here, as datagrams are that the kernel drops.
    pub count: u64,
    /// Process that the frame claims as its sender; `None` where several
    /// datagrams are counted, or the datagram is no frame.
    pub claimed_pid: Option<u32>,
    /// When, in nanoseconds since the observer started.
    pub observer_ns: u64,
    /// The datagram's bytes, where it was a frame's length.
    pub frame: Option<[u8; FRAME_LEN]>,
    /// The kernel's record of who sent it.
    pub sender: Option<Attestation>,
    /// Address that it came from, if by UDP. Without a kernel record the sender
    /// may have forged it.
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
    /// A sender that sent more than its budget.
    ThrottledSender,
    /// A sender whose datagrams were refused for the descriptors attached to
    /// them.
    DescriptorsRefused,
    /// [`Event::CtrlTruncated`].
    CtrlTruncated,
}

impl What {
    /// The name, as the line's `kind` has it.
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
    /// The incident that a report is, if it is one.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        match report {
            Report::Observation(observation) => Self::of_observation(observation),
            Report::Notice(notice) => Self::of_notice(notice),
        }
    }

    /// How many incidents it counts as: several refusals may come as one;
    /// dropped datagrams are one incident, whatever their number.
    pub(crate) fn number(&self) -> u64 {
        match self.what {
            What::RefusedSender => self.count,
            _ => 1,
        }
    }

    fn of_observation(Observation { event, evidence }: &Observation) -> Option<Self> {
        let what = match *event {
            Event::AuthFailure { cause, .. } => What::AuthFailure { cause },
            Event::NamespaceConflict {
                observed_ns_inode,
                observer_ns_inode,
                ..
            } => What::NamespaceConflict {
                observed_ns_inode,
                observer_ns_inode,
            },
            Event::OriginConflict {
                observed_origin,
                slot_origin,
                ..
            } => What::OriginConflict {
                observed_origin,
                slot_origin,
            },
            Event::CtrlTruncated(..) => What::CtrlTruncated,
            Event::Beat { .. } | Event::Stall { .. } | Event::Decode(..) | Event::Io(..) => {
                return None;
            }
        };
        Some(Self {
            what,
            count: 1,
            claimed_pid: event.pid(),
            observer_ns: event.observer_ns(),
            frame: evidence.frame,
            sender: evidence.sender,
            source: evidence.source,
        })
    }

    fn of_notice(notice: &Notice) -> Option<Self> {
        let (what, count, claimed_pid) = match *notice {
            Notice::RefusedSender {
                count, claimed_pid, ..
            } => (What::RefusedSender, count, Some(claimed_pid)),
            // The dropped datagrams may have had different claims.
            Notice::ThrottledSender { count, .. } => (What::ThrottledSender, count, None),
            Notice::DescriptorsRefused { count, .. } => (What::DescriptorsRefused, count, None),
            _ => return None,
        };
        let evidence = notice.evidence()?;
        Some(Self {
            what,
            count,
            claimed_pid,
            observer_ns: notice.observer_ns(),
            frame: evidence.frame,
            sender: evidence.sender,
            source: evidence.source,
        })
    }
}
