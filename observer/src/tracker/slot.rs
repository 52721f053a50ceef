//! What is kept of one agent.

use std::num::NonZeroU64;

use observer_common::frame::NONCE_TERMINAL;

use observer_events::agents::AgentState;
use observer_events::event::{BeatOrigin, Status};

use super::{Now, Outcome, Sighting};

/// One agent: all that a beat reads or writes, in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    pub(super) pid: u32,
    pub(super) origin: BeatOrigin,
    /// A stall was reported, and no beat came since.
    pub(super) silent: bool,
    /// Since its last beat it has tried to send, and nothing arrived.
    pub(super) is_unheard: bool,
    /// As the last accepted frame had it.
    status: Status,
    /// With the pid, the agent's name. `None`: no beat of it was attested.
    pub(super) start_ns: Option<NonZeroU64>,
    pub(super) pid_ns_inode: Option<NonZeroU64>,
    /// On the observer's clock its last beat, in attended time its last sign of
    /// life: the same moment, unless it is unheard.
    pub(super) last: Now,
    /// As the last accepted frame had it.
    pub(super) last_nonce: u64,
    sessions: Sessions,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// What an accepted nonce means for the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// The next of a session that is known.
    Continues(Sessions),
    /// The first of a new session.
    Begins(Sessions),
}

impl Slot {
    pub(super) fn new(sighting: &Sighting, now: Now) -> Self {
        Self {
            pid: sighting.pid,
            origin: sighting.origin,
            silent: false,
            is_unheard: false,
            status: sighting.status,
            start_ns: known(sighting.start_ns),
            pid_ns_inode: known(sighting.pid_ns_inode),
            last: now,
            last_nonce: sighting.nonce,
            sessions: Sessions::first(sighting.nonce),
        }
    }

    /// How the agent is.
    pub(super) fn state(&self) -> AgentState {
        if self.silent {
            AgentState::Silent
        } else {
            self.status.into()
        }
    }

    /// What the agent was first seen with and this sighting contradicts.
    pub(super) fn conflict(&self, sighting: &Sighting) -> Option<Outcome> {
        if sighting.origin != self.origin {
            return Some(Outcome::OriginConflict {
                slot_origin: self.origin,
            });
        }
        let (pinned, seen) = (self.pid_ns_inode?, known(sighting.pid_ns_inode)?);
        (pinned != seen).then_some(Outcome::NamespaceConflict {
            slot_ns_inode: Some(pinned.get()),
        })
    }

    /// Whether the slot is held by a claim that nobody vouches for.
    pub(super) fn is_unverified(&self) -> bool {
        match self.origin {
            BeatOrigin::NetworkUnverified | BeatOrigin::SocketModeOnly => true,
            BeatOrigin::KernelAttested | BeatOrigin::OperatorAttestedTransport => false,
        }
    }

    /// Where the nonce leads; `None` if it is stale.
    ///
    /// From a sender that the kernel names, a low nonce is a restart: nobody
    /// else can replay its beats. Once such a sender has been found silent any
    /// nonce but its last is, for the low ones may have been lost on a full
    /// queue. From anyone else a low nonce may be a replay, and is believed
    /// only after a stall. What was learnt before the agent was attested
    /// binds no attested beat.
    pub(super) fn advance(&self, sighting: &Sighting) -> Option<Advance> {
        let nonce = sighting.nonce;
        if let Some(sessions) = self.sessions.accept(nonce) {
            return Some(Advance::Continues(sessions));
        }
        let verified = sighting.origin == BeatOrigin::KernelAttested;
        let restart = match nonce {
            0 | 1 => verified || self.silent,
            _ => verified && self.silent && nonce != self.last_nonce,
        };
        (restart || self.is_adopted_by(sighting))
            .then(|| Advance::Begins(self.sessions.begin(nonce)))
    }

    /// Takes an accepted beat down.
    pub(super) fn beat(&mut self, sighting: &Sighting, sessions: Sessions, now: Now) {
        self.start_ns = self.start_ns.or(known(sighting.start_ns));
        self.pid_ns_inode = self.pid_ns_inode.or(known(sighting.pid_ns_inode));
        self.silent = false;
        self.status = sighting.status;
        self.last = now;
        self.last_nonce = sighting.nonce;
        self.sessions = sessions;
    }

    /// Whether the sighting is the first to name the agent's start.
    pub(super) fn is_adopted_by(&self, sighting: &Sighting) -> bool {
        self.start_ns.is_none() && known(sighting.start_ns).is_some()
    }
}

/// Zero stands for "unknown", as it does in the kernel's record.
pub(super) fn known(value: Option<u64>) -> Option<NonZeroU64> {
    value.and_then(NonZeroU64::new)
}

/// The two sessions of an agent that were used last: each as the lowest nonce
/// that it still takes.
///
/// Two, because two handles in one process beat in turn, and either may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sessions {
    /// The one used last.
    current: u64,
    other: u64,
}

/// The lowest nonce of a session that takes none: only the terminal one is as
/// high, and that belongs to no session.
const ENDED: u64 = NONCE_TERMINAL;

impl Sessions {
    /// The sessions of an agent seen for the first time.
    fn first(nonce: u64) -> Self {
        Self {
            current: after(nonce),
            other: ENDED,
        }
    }

    /// A new session, in place of the one that was not used for longer.
    fn begin(self, nonce: u64) -> Self {
        self.replace_other(nonce)
    }

    /// The nonce belongs to the session with the greatest last nonce below
    /// it. A terminal one leaves both as they are: a process that catches its
    /// panic goes on with its old numbers.
    fn accept(self, nonce: u64) -> Option<Self> {
        if nonce == NONCE_TERMINAL {
            return Some(self);
        }
        let Self { current, other } = self;
        let (fits_current, fits_other) = (nonce >= current, nonce >= other);
        if fits_other && (other > current || !fits_current) {
            return Some(self.replace_other(nonce));
        }
        fits_current.then_some(Self {
            current: after(nonce),
            other,
        })
    }

    /// The other session, or a new one in its place, was used last.
    fn replace_other(self, nonce: u64) -> Self {
        Self {
            current: after(nonce),
            other: self.current,
        }
    }
}

/// The lowest nonce that may follow. After a terminal one, with nothing else
/// known of the session, any may.
fn after(nonce: u64) -> u64 {
    nonce.checked_add(1).unwrap_or(0)
}
