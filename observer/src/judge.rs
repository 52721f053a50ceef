//! The rules by which a frame's claim is believed.
//!
//! One pure function: no input or output, no clock, no state. The order of
//! the checks is part of the contract, the first that applies decides.

use observer_common::frame::Frame;
use observer_events::event::{Attestation, AuthFailureCause, BeatOrigin, TaskKind, Via};

use crate::policy::{AttestMode, Namespaces, Network, Senders};

/// What a frame is worth whose sender no record names, by the way that it
/// came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It came by the Unix socket, whose mode is all that kept others out.
    SocketMode,
    /// It came by a UDP listener, of which the operator said this.
    Network(Network),
    /// A local process must have sent it by UDP, and which one is not known, or
    /// is known not to be one that may: it is worth nothing, whatever the
    /// operator agreed to take from the network.
    Denied,
}

/// What the operator decided, and where the observer itself stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How much attestation is demanded.
    pub attest: AttestMode,
    /// Inode of the observer's pid namespace.
    pub observer_ns_inode: Option<u64>,
    /// What becomes of agents in namespaces below it.
    pub namespaces: Namespaces,
    /// Who may be an agent.
    pub senders: Senders,
}

/// What a frame is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sender is who the frame says. What is left to check is whether it
    /// fits what is known of that agent.
    Authentic {
        /// How far the sender's name can be believed.
        origin: BeatOrigin,
        /// The agent, as the observer's pid namespace sees it.
        pid: u32,
    },
    /// The claim does not hold.
    AuthFailure(AuthFailureCause),
    /// The sender is in another pid namespace, so its pid and the claimed one
    /// cannot be compared.
    NamespaceConflict,
    /// The sender is who the frame says, and is not wanted as an agent.
    Refused,
}

/// Judges the claim of a frame, by what the kernel says of its sender.
///
/// It fails closed: whatever is unknown counts against the frame, unless the
/// policy says that less will do.
#[must_use]
pub fn judge(
    frame: &Frame,
    sender: Option<&Attestation>,
    trust: Trust,
    policy: &Policy,
) -> Verdict {
    if trust == Trust::Denied {
        return Verdict::AuthFailure(AuthFailureCause::Unattested);
    }
    let attested = sender.filter(|sender| sender.via != Via::Scm);
    let Some(sender) = sender.filter(|_| attested.is_some() || !demands_record(trust, policy))
    else {
        return judge_unattested(frame, trust, policy);
    };
    let Some((pid, claim)) = names(sender, policy) else {
        return Verdict::NamespaceConflict;
    };
    if sender.task_kind == TaskKind::SqPoll {
        return Verdict::AuthFailure(AuthFailureCause::Sqpoll);
    }
    if sender.corked {
        return Verdict::AuthFailure(AuthFailureCause::Corked);
    }
    if sender.scm_pid.is_some_and(|claimed| claimed != pid) {
        return Verdict::AuthFailure(AuthFailureCause::ForgedCredentials);
    }
    if frame.pid != claim {
        return Verdict::AuthFailure(AuthFailureCause::PidMismatch);
    }
    if !policy.senders.admit(sender) {
        return Verdict::Refused;
    }
    Verdict::Authentic {
        origin: BeatOrigin::KernelAttested,
        pid,
    }
}

/// Whether pid 1 is an honest claim of this sender: it is the first process
/// of a namespace whose agents are translated.
#[must_use]
pub(crate) fn may_claim_pid_1(sender: Option<&Attestation>, policy: &Policy) -> bool {
    let claim = sender.and_then(|sender| names(sender, policy));
    policy.namespaces == Namespaces::Translate && claim.is_some_and(|(_, claim)| claim == 1)
}

/// Whether `SCM_CREDENTIALS` will not do.
fn demands_record(trust: Trust, policy: &Policy) -> bool {
    trust == Trust::SocketMode && policy.attest == AttestMode::Require
}

/// A frame whose sender the kernel does not name.
///
/// The lists of users and groups are for senders that have one. By UDP it is
/// the operator's consent that lets unnamed ones in; a Unix socket's sender
/// without credentials is nobody on any list.
fn judge_unattested(frame: &Frame, trust: Trust, policy: &Policy) -> Verdict {
    let origin = match (trust, policy.attest) {
        (Trust::Denied, _)
        | (Trust::SocketMode | Trust::Network(Network::Refused), AttestMode::Require) => {
            return Verdict::AuthFailure(AuthFailureCause::Unattested);
        }
        (Trust::SocketMode, _) if !policy.senders.is_everyone() => return Verdict::Refused,
        (Trust::SocketMode, _) => BeatOrigin::SocketModeOnly,
        (Trust::Network(Network::Trusted), _) => BeatOrigin::OperatorAttestedTransport,
        (Trust::Network(_), _) => BeatOrigin::NetworkUnverified,
    };
    Verdict::Authentic {
        origin,
        pid: frame.pid,
    }
}

/// The sender's pid as the observer sees it, and the one that its frames are
/// to claim; `None` if the two cannot be compared.
///
/// A sender that the observer's namespace does not see is in an outer or a
/// sibling one: it is no agent of this observer's, whatever the policy.
/// `SCM_CREDENTIALS` does not show namespaces: a sender without a pid in the
/// observer's is all that shows there.
fn names(sender: &Attestation, policy: &Policy) -> Option<(u32, u32)> {
    let pid = sender.pid?;
    match (sender.pid_ns_inode, policy.observer_ns_inode) {
        (Some(sender), Some(observer)) if sender == observer => Some((pid, pid)),
        (None, _) if sender.via != Via::Btf => Some((pid, pid)),
        (Some(_), Some(_)) if policy.namespaces == Namespaces::Translate => {
            Some((pid, sender.own_pid?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
