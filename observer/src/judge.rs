//! The rules by which a frame's claim is believed.
//!
//! One pure function: no input or output, no clock, no state. The order of
//! the checks is part of the contract, the first that applies decides.

use observer_common::frame::Frame;

use observer_events::event::{Attestation, AuthFailureCause, BeatOrigin, TaskKind, Via};

/// How much attestation the operator demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespaces {
    /// Each is a [`Verdict::NamespaceConflict`].
    #[default]
    Refuse,
    /// One that claims the pid it has in its own namespace is honest, and is
    /// tracked under the pid that the observer sees.
    Translate,
}

/// By which way a frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The Unix socket.
    Unix,
    /// A UDP listener.
    Udp(Network),
}

/// What a UDP listener's datagrams are worth if no local process was seen to
/// send them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing, where attestation is demanded: the operator did not agree to
    /// take beats from the network.
    Refused,
    /// They are taken for what they are.
    Unverified,
    /// The operator declared the listener trusted.
    Trusted,
    /// A local process must have sent it, and which one is not known: nothing,
    /// whatever the operator agreed to take from the network.
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
    fn admit(&self, sender: &Attestation) -> bool {
        let listed = |list: &[u32], id: Option<u32>| id.is_some_and(|id| list.contains(&id));
        self.is_everyone() || listed(&self.uids, sender.uid) || listed(&self.gids, sender.gid)
    }
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
    channel: Channel,
    policy: &Policy,
) -> Verdict {
    if channel == Channel::Udp(Network::Denied) {
        return Verdict::AuthFailure(AuthFailureCause::Unattested);
    }
    let attested = sender.filter(|sender| sender.via != Via::Scm);
    let Some(sender) = sender.filter(|_| attested.is_some() || !demands_record(channel, policy))
    else {
        return judge_unattested(frame, channel, policy);
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
pub fn may_claim_pid_1(sender: Option<&Attestation>, policy: &Policy) -> bool {
    let claim = sender.and_then(|sender| names(sender, policy));
    policy.namespaces == Namespaces::Translate && claim.is_some_and(|(_, claim)| claim == 1)
}

/// Whether `SCM_CREDENTIALS` will not do on this channel.
fn demands_record(channel: Channel, policy: &Policy) -> bool {
    channel == Channel::Unix && policy.attest == AttestMode::Require
}

/// A frame whose sender the kernel does not name.
///
/// The lists of users and groups are for senders that have one. By UDP it is
/// the operator's consent that lets unnamed ones in; a Unix socket's sender
/// without credentials is nobody on any list.
fn judge_unattested(frame: &Frame, channel: Channel, policy: &Policy) -> Verdict {
    let origin = match (channel, policy.attest) {
        (Channel::Unix | Channel::Udp(Network::Refused), AttestMode::Require) => {
            return Verdict::AuthFailure(AuthFailureCause::Unattested);
        }
        (Channel::Unix, _) if !policy.senders.is_everyone() => return Verdict::Refused,
        (Channel::Unix, _) => BeatOrigin::SocketModeOnly,
        (Channel::Udp(Network::Trusted), _) => BeatOrigin::OperatorAttestedTransport,
        (Channel::Udp(_), _) => BeatOrigin::NetworkUnverified,
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
/// `SCM_CREDENTIALS` does not tell namespaces: a sender without a pid in the
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
