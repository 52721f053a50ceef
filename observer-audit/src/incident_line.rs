//! Lines about incidents: what each holds beside its place in the chain.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use observer_common::frame::{FRAME_LEN, Frame};
use observer_events::event::Attestation;
use serde::{Serialize, Serializer};

use crate::evidence::{Container, Evidence, Process};
use crate::incident::{Incident, What};

/// An incident in full, with all that is known of its sender at once.
#[derive(Serialize)]
pub(crate) struct IncidentLine<'a> {
    #[serde(flatten)]
    what: What,
    #[serde(skip_serializing_if = "is_one")]
    count: u64,
    claimed_pid: Option<u32>,
    claim: Option<Claim>,
    #[serde(serialize_with = "as_hex")]
    frame: Option<[u8; FRAME_LEN]>,
    observer_ns: u64,
    sender: Option<Attestation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SocketAddr>,
    /// Found by the cgroup id in the kernel's record. One that is not known
    /// yet comes with the evidence.
    container: Option<&'a Container>,
}

impl<'a> IncidentLine<'a> {
    pub(crate) fn new(incident: &Incident, container: Option<&'a Container>) -> Self {
        let Incident {
            what,
            count,
            claimed_pid,
            observer_ns,
            frame,
            sender,
            source,
        } = *incident;
        Self {
            what,
            count,
            claimed_pid,
            claim: frame.as_ref().and_then(Claim::of),
            frame,
            observer_ns,
            sender,
            source,
            container,
        }
    }
}

/// What was read about the sender of another line.
#[derive(Serialize)]
pub(crate) struct EvidenceLine<'a> {
    kind: &'static str,
    /// Number of that line.
    line: u64,
    /// How long after the incident this was read.
    late_ms: u64,
    sender: &'a Attestation,
    container: Option<&'a Container>,
    process: Option<&'a Process>,
}

impl<'a> EvidenceLine<'a> {
    pub(crate) fn new(evidence: &'a Evidence) -> Self {
        let Evidence {
            line,
            sender,
            container,
            process,
            late,
            is_overdue: _,
        } = evidence;
        Self {
            kind: "evidence",
            line: *line,
            late_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            sender,
            container: container.as_ref(),
            process: process.as_ref(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

/// The frame decoded.
#[derive(Serialize)]
struct Claim {
    pid: u32,
    status: &'static str,
    nonce: u64,
    payload: u32,
    timestamp: u64,
}

impl Claim {
    fn of(bytes: &[u8; FRAME_LEN]) -> Option<Self> {
        let Frame {
            status,
            pid,
            timestamp,
            nonce,
            payload,
        } = Frame::decode(bytes).ok()?;
        Some(Self {
            pid,
            status: status.name(),
            nonce,
            payload,
            timestamp,
        })
    }
}

/// What the incidents that a `repeat` line counts have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Alike {
    /// The same sender with the same claim.
    SenderAndClaim,
    /// The same sender.
    Sender,
    /// Senders of the same user and cgroup.
    UserAndCgroup,
    /// The kind only.
    Kind,
}

/// Incidents that were counted instead of written in full.
#[derive(Serialize)]
pub(crate) struct RepeatLine<'a> {
    pub(crate) kind: &'static str,
    /// The kind of incident, as its own lines have it.
    pub(crate) of: &'static str,
    /// The line that has one of them in full.
    pub(crate) first_line: Option<u64>,
    pub(crate) alike: Alike,
    pub(crate) count: u64,
    #[serde(serialize_with = "as_text")]
    pub(crate) first: Timestamp,
    #[serde(serialize_with = "as_text")]
    pub(crate) last: Timestamp,
    /// One of them, for all that they have in common.
    pub(crate) sample: IncidentLine<'a>,
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn as_hex<S: Serializer>(
    frame: &Option<[u8; FRAME_LEN]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match frame {
        Some(bytes) => serializer.collect_str(&format_args!("{}", Hex(bytes))),
        None => serializer.serialize_none(),
    }
}

struct Hex<'a>(&'a [u8; FRAME_LEN]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.9}"))
}
