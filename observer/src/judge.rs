//! The rules by which a frame's claim is believed.
//!
//! One pure function: no input or output, no clock, no state. The order of
//! the checks is part of the contract, the first that applies decides.

use observer_common::frame::Frame;

use crate::event::{Attestation, AuthFailureCause, BeatOrigin, TaskKind, Via};

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

/// What the operator decided, and where the observer itself stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How much attestation is demanded.
    pub attest: AttestMode,
    /// Inode of the observer's pid namespace.
    pub observer_ns_inode: Option<u64>,
}

/// What a frame is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sender is who the frame says. What is left to check is whether it
    /// fits what is known of that agent.
    Authentic {
        /// How far the sender's name can be believed.
        origin: BeatOrigin,
    },
    /// The claim does not hold.
    AuthFailure(AuthFailureCause),
    /// The sender is in another pid namespace, so its pid and the claimed one
    /// cannot be compared.
    NamespaceConflict,
}

/// Judges the claim of a frame that came over a Unix socket, by what the
/// kernel says of its sender.
///
/// It fails closed: whatever is unknown counts against the frame, unless the
/// policy says that less will do.
#[must_use]
pub fn judge(frame: &Frame, sender: Option<&Attestation>, policy: &Policy) -> Verdict {
    let attested = sender.filter(|sender| sender.via != Via::Scm);
    if attested.is_none() && policy.attest == AttestMode::Require {
        return Verdict::AuthFailure(AuthFailureCause::Unattested);
    }
    let Some(sender) = sender else {
        return Verdict::Authentic {
            origin: BeatOrigin::SocketModeOnly,
        };
    };
    let Some(pid) = sender.pid.filter(|_| !is_foreign(sender, policy)) else {
        return Verdict::NamespaceConflict;
    };
    if sender.task_kind == TaskKind::SqPoll {
        return Verdict::AuthFailure(AuthFailureCause::Sqpoll);
    }
    if sender.scm_pid.is_some_and(|claimed| claimed != pid) {
        return Verdict::AuthFailure(AuthFailureCause::ForgedCredentials);
    }
    if frame.pid != pid {
        return Verdict::AuthFailure(AuthFailureCause::PidMismatch);
    }
    Verdict::Authentic {
        origin: BeatOrigin::KernelAttested,
    }
}

/// Whether the sender is known to be in another pid namespace than the
/// observer. `SCM_CREDENTIALS` does not tell namespaces: a sender without a
/// pid in the observer's is all that shows there.
fn is_foreign(sender: &Attestation, policy: &Policy) -> bool {
    match (sender.pid_ns_inode, policy.observer_ns_inode) {
        (Some(sender), Some(observer)) => sender != observer,
        (None, _) => sender.via == Via::Btf,
        (Some(_), None) => true,
    }
}

#[cfg(test)]
mod tests;
