//! What the operator decides.

use observer_events::event::{Attestation, BeatOrigin};
use serde::Serialize;

/// How much attestation the operator demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttestMode {
    /// A frame without a kernel record is an authentication failure, and the
    /// observer does not start where no record can be had.
    #[default]
    Require,
    /// `SCM_CREDENTIALS` has to do where there is no kernel record.
    Prefer,
    /// `SCM_CREDENTIALS` only.
    Off,
}

/// What becomes of agents in pid namespaces below the observer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespaces {
    /// Each of their beats is a namespace conflict.
    #[default]
    Refuse,
    /// One that claims the pid it has in its own namespace is honest, and is
    /// tracked under the pid that the observer sees.
    Translate,
}

/// Users and groups that may send. With neither given, all may whom the
/// socket's mode lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// Real user ids.
    pub uids: Vec<u32>,
    /// Real group ids.
    pub gids: Vec<u32>,
}

impl Senders {
    /// Whether no list was given.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// Whether the sender is on one of the lists. Whose ids are not known is
    /// on none.
    pub(crate) fn admit(&self, sender: &Attestation) -> bool {
        let listed = |list: &[u32], id: Option<u32>| id.is_some_and(|id| list.contains(&id));
        self.is_everyone() || listed(&self.uids, sender.uid) || listed(&self.gids, sender.gid)
    }

    /// Whether an agent of this origin, of whom the kernel named this sender when
    /// its session began, may still be one. An agent that has changed its ids
    /// since then is kept or forgotten by those that it had; each of its beats is
    /// judged by those that it has. So one may be kept of which every beat is
    /// refused, until it has stalled; and one that is forgotten though it may be
    /// an agent is a new one with its next beat.
    pub(crate) fn keeps(&self, origin: BeatOrigin, sender: Option<&Attestation>) -> bool {
        match (origin, sender) {
            (BeatOrigin::KernelAttested, Some(sender)) => self.admit(sender),
            (BeatOrigin::KernelAttested | BeatOrigin::SocketModeOnly, _) => self.is_everyone(),
            (BeatOrigin::NetworkUnverified | BeatOrigin::OperatorAttestedTransport, _) => true,
        }
    }
}

/// Who keeps a slot that beats of different origins claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginPolicy {
    /// The first.
    #[default]
    First,
    /// A kernel-attested one takes it from an unverified one; otherwise one
    /// forged datagram from the network would lock the real agent out.
    Strongest,
}

/// By which way beats on the Unix socket reach the observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ingest {
    /// By the socket. Each is joined with its kernel record.
    #[default]
    Socket,
    /// By the ring: the kernel record is the delivery, and the socket's queue
    /// is not used, unless the ring fills up.
    ///
    /// `SCM_CREDENTIALS` never reach the observer then: that somebody forges
    /// them has no effect, and is not reported.
    Ring,
}

/// Who refuses a datagram that claims to be from another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refuse {
    /// The observer, once it has received it.
    #[default]
    User,
    /// The eBPF program, before it takes a place in the socket's queue. The
    /// observer judges its record, with the same outcome, save that
    /// `SCM_CREDENTIALS` are not known: forged ones beside a false claim are
    /// a `pid_mismatch`.
    Kernel,
}

/// What the operator takes from a UDP listener whose senders no record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing, where attestation is demanded: nobody agreed to take beats
    /// from the network.
    Refused,
    /// Beats of unverified origin.
    Unverified,
    /// Beats whose origin the operator vouches for.
    Trusted,
}
