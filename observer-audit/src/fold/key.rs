//! By what incidents are counted together.

use observer_events::event::Via;
use observer_events::exe::ExeId;

use crate::incident::{Incident, What};
use crate::incident_line::Alike;

/// What makes a sender the same sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SenderKey {
    host_pid: Option<u32>,
    pid: Option<u32>,
    start_ns: Option<u64>,
    uid: Option<u32>,
    via: Option<Via>,
    /// A process that executes another file is not who it was.
    exe: Option<ExeId>,
}

/// What incidents that are counted together have in common, as [`Alike`] names
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    SenderAndClaim(What, Option<u32>, SenderKey),
    Sender(&'static str, SenderKey),
    UserAndCgroup(&'static str, Option<u32>, Option<u64>),
    Kind(&'static str),
}

impl Key {
    /// The keys of an incident, from the most particular to the most general.
    pub(super) fn all(incident: &Incident) -> [Self; 4] {
        let sender = incident.sender.as_ref();
        let sender_key = SenderKey {
            host_pid: sender.and_then(|sender| sender.host_pid),
            pid: sender.and_then(|sender| sender.pid),
            start_ns: sender.and_then(|sender| sender.start_ns),
            uid: sender.and_then(|sender| sender.uid),
            via: sender.map(|sender| sender.via),
            exe: sender.and_then(|sender| sender.exe),
        };
        let kind = incident.what.name();
        let cgroup = sender.and_then(|sender| sender.cgroup_id);
        [
            Self::SenderAndClaim(incident.what, incident.claimed_pid, sender_key),
            Self::Sender(kind, sender_key),
            Self::UserAndCgroup(kind, sender_key.uid, cgroup),
            Self::Kind(kind),
        ]
    }

    pub(super) fn alike(&self) -> Alike {
        match self {
            Self::SenderAndClaim(..) => Alike::SenderAndClaim,
            Self::Sender(..) => Alike::Sender,
            Self::UserAndCgroup(..) => Alike::UserAndCgroup,
            Self::Kind(..) => Alike::Kind,
        }
    }

    /// Which bound its group falls under; of kinds there are only a few.
    pub(super) fn level(&self) -> Option<usize> {
        match self {
            Self::SenderAndClaim(..) => Some(0),
            Self::Sender(..) => Some(1),
            Self::UserAndCgroup(..) => Some(2),
            Self::Kind(..) => None,
        }
    }
}
