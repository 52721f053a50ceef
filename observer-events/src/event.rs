//! What the observer reports.

use std::fmt;
use std::io;

pub use observer_common::frame::{DecodeError, Status};
use observer_common::record::COMM_LEN;
pub use observer_common::record::TaskKind;
use serde::{Deserialize, Serialize};

use crate::exe::ExeId;

/// What the observer found out: the specification's eight events, and the cause
/// of an [`Event::AuthFailure`].
///
/// `observer_ns` is nanoseconds since the observer started
/// (`CLOCK_MONOTONIC`). What is known beside an event is its
/// [`Evidence`](crate::Evidence).
#[derive(Debug)]
pub enum Event {
    /// An agent is alive.
    Beat {
        /// Process that sent, as the observer's pid namespace sees it.
        pid: u32,
        /// Health that the agent reports.
        status: Status,
        /// The agent's own number, not interpreted.
        payload: u32,
        /// The frame's nonce.
        nonce: u64,
        /// How far the sender's name can be believed.
        origin: BeatOrigin,
        /// Pid namespace of the sender, where known.
        pid_ns_inode: Option<u64>,
        /// When the observer received the frame.
        observer_ns: u64,
    },
    /// An agent has been silent for longer than the threshold. Reported once
    /// per stall.
    Stall {
        /// The silent agent.
        pid: u32,
        /// Nonce of its last beat.
        last_nonce: u64,
        /// When its last beat was received.
        last_ns: u64,
        /// Origin that its beats had.
        origin: BeatOrigin,
        /// Its pid namespace, where known.
        pid_ns_inode: Option<u64>,
        /// When the stall was found.
        observer_ns: u64,
    },
    /// A 32-byte payload that is no valid VLP frame: why it is none, and when
    /// it was received (`observer_ns`).
    Decode(DecodeError, u64),
    /// The frame's pid is not the kernel-verified sender's.
    AuthFailure {
        /// Process that the frame claims as its sender.
        claimed_pid: u32,
        /// When the observer received the frame.
        observer_ns: u64,
        /// What did not hold.
        cause: AuthFailureCause,
    },
    /// An agent's beat came by another way than the one that it is known by.
    /// The slot is not changed, the beat is dropped.
    ///
    /// Under the origin policy `strongest` also the claim of an unverified
    /// origin that was displaced: the event comes before the beat that
    /// displaced it.
    OriginConflict {
        /// Process that the frame claims as its sender.
        claimed_pid: u32,
        /// Origin of the frame, or of the claim that was displaced.
        observed_origin: BeatOrigin,
        /// Origin that the agent is known by.
        slot_origin: BeatOrigin,
        /// When the observer received the frame.
        observer_ns: u64,
    },
    /// The sender is in another pid namespace. The beat is dropped, the
    /// tracker is not touched.
    NamespaceConflict {
        /// Process that the frame claims as its sender.
        claimed_pid: u32,
        /// Pid namespace of the sender, where known.
        observed_ns_inode: Option<u64>,
        /// Pid namespace that was expected, where known.
        observer_ns_inode: Option<u64>,
        /// When the observer received the frame.
        observer_ns: u64,
    },
    /// A receive failed with something other than "would block": the error,
    /// and when (`observer_ns`).
    Io(io::Error, u64),
    /// `MSG_CTRUNC`, the ancillary buffer was too small: the sender attached
    /// control data that was not taken. The condition as an error, and when it
    /// was received (`observer_ns`).
    CtrlTruncated(io::Error, u64),
}

impl Event {
    /// When it was, in nanoseconds since the observer started.
    #[must_use]
    pub fn observer_ns(&self) -> u64 {
        match *self {
            Self::Beat { observer_ns, .. }
            | Self::Stall { observer_ns, .. }
            | Self::Decode(_, observer_ns)
            | Self::AuthFailure { observer_ns, .. }
            | Self::OriginConflict { observer_ns, .. }
            | Self::NamespaceConflict { observer_ns, .. }
            | Self::Io(_, observer_ns)
            | Self::CtrlTruncated(_, observer_ns) => observer_ns,
        }
    }

    /// The process that it is about: the agent, or the one that was claimed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match *self {
            Self::Beat { pid, .. } | Self::Stall { pid, .. } => Some(pid),
            Self::AuthFailure { claimed_pid, .. }
            | Self::OriginConflict { claimed_pid, .. }
            | Self::NamespaceConflict { claimed_pid, .. } => Some(claimed_pid),
            Self::Decode(..) | Self::Io(..) | Self::CtrlTruncated(..) => None,
        }
    }

    /// The name as it is serialized.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Beat { .. } => "beat",
            Self::Stall { .. } => "stall",
            Self::Decode(..) => "decode",
            Self::AuthFailure { .. } => "auth_failure",
            Self::OriginConflict { .. } => "origin_conflict",
            Self::NamespaceConflict { .. } => "namespace_conflict",
            Self::Io(..) => "io",
            Self::CtrlTruncated(..) => "ctrl_truncated",
        }
    }
}

/// How far a sender's name can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeatOrigin {
    /// The kernel says who sent it.
    KernelAttested,
    /// A network listener that the operator declared trusted.
    OperatorAttestedTransport,
    /// A network datagram from who knows where.
    NetworkUnverified,
    /// A Unix socket, but no kernel credentials: the socket's mode is all
    /// that kept others out.
    SocketModeOnly,
}

/// Which claim of an [`Event::AuthFailure`] did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuthFailureCause {
    /// The frame names a process that did not send it.
    PidMismatch,
    /// `SCM_CREDENTIALS` and the kernel's record name different processes,
    /// even where the frame is honest.
    ForgedCredentials,
    /// An `io_uring` SQPOLL thread sent it: whoever maps the ring sends in
    /// the name of the ring's creator.
    Sqpoll,
    /// There is no kernel record, and the policy demands one: of a datagram
    /// by UDP, that no local process was seen to send it, and nobody agreed
    /// to take beats from the network; or that a local process must have sent
    /// it, and no record says which.
    Unattested,
    /// It left in one send with other datagrams (`UDP_SEGMENT`), or in one that
    /// was collected before it was sent (`MSG_MORE`, `UDP_CORK`): whoever
    /// shares the socket may have put it there. The sender that is named is
    /// who sent it off.
    Corked,
}

impl AuthFailureCause {
    /// The name as it is serialized.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PidMismatch => "pid_mismatch",
            Self::ForgedCredentials => "forged_credentials",
            Self::Sqpoll => "sqpoll",
            Self::Unattested => "unattested",
            Self::Corked => "corked",
        }
    }
}

/// By which means the kernel named a sender, strongest first. The default, of
/// what does not say, is the weakest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// An eBPF program that read the sending task's own structures.
    Btf,
    /// An eBPF program that had helper functions only.
    Helper,
    /// `SCM_CREDENTIALS`, which a privileged sender can forge.
    #[default]
    Scm,
}

/// Who sent a datagram, as the kernel attests it. Numbers name thread groups
/// (processes) unless they say otherwise; what is unknown is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Attestation {
    /// The sender in the observer's pid namespace; `None` if it is not
    /// visible there.
    pub pid: Option<u32>,
    /// The sender in its own pid namespace.
    pub own_pid: Option<u32>,
    /// The sender in the initial pid namespace.
    pub host_pid: Option<u32>,
    /// The sending thread in the initial pid namespace.
    pub tid: Option<u32>,
    /// Inode of the sender's pid namespace.
    pub pid_ns_inode: Option<u64>,
    /// Real user id in the initial user namespace (for [`Via::Scm`]: in the
    /// observer's).
    pub uid: Option<u32>,
    /// Real group id, likewise.
    pub gid: Option<u32>,
    /// When the process started, nanoseconds of `CLOCK_BOOTTIME`. With the
    /// pid it names a process for ever.
    pub start_ns: Option<u64>,
    /// Name of the sending thread; its owner can change it at will.
    pub comm: Option<Comm>,
    /// Id of the sender's cgroup in the unified hierarchy.
    pub cgroup_id: Option<u64>,
    /// The file that the process executes.
    pub exe: Option<ExeId>,
    /// What `SCM_CREDENTIALS` claimed; 0 for a process that the observer's
    /// pid namespace does not see.
    pub scm_pid: Option<u32>,
    /// By which means all this is known.
    pub via: Via,
    /// What kind of task sent.
    #[serde(serialize_with = "task_kind_name")]
    pub task_kind: TaskKind,
    /// The datagram left in a send that another process may have put it into:
    /// all this names who sent it off.
    #[serde(skip)]
    pub corked: bool,
}

impl Attestation {
    /// One of a sender of whom nothing is known but by which means.
    #[must_use]
    pub const fn unknown(via: Via) -> Self {
        Self {
            pid: None,
            own_pid: None,
            host_pid: None,
            tid: None,
            pid_ns_inode: None,
            uid: None,
            gid: None,
            start_ns: None,
            comm: None,
            cgroup_id: None,
            exe: None,
            scm_pid: None,
            via,
            task_kind: TaskKind::Unknown,
            corked: false,
        }
    }
}

/// A task's name as the kernel keeps it: up to 15 bytes of any kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Comm([u8; COMM_LEN]);

impl Comm {
    /// Takes the kernel's NUL-padded form; `None` if it is empty.
    #[must_use]
    pub fn new(bytes: [u8; COMM_LEN]) -> Option<Self> {
        (bytes.first() != Some(&0)).then_some(Self(bytes))
    }

    /// The name without its padding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let Self(bytes) = self;
        bytes.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// Text that is safe on a terminal: what is no printable ASCII is escaped.
impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_bytes().escape_ascii().to_string())
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The name itself where it is UTF-8, with U+FFFD for what is not.
impl Serialize for Comm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn task_kind_name<S: serde::Serializer>(kind: &TaskKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match kind {
        TaskKind::Unknown => "unknown",
        TaskKind::Thread => "thread",
        TaskKind::IoWorker => "io_worker",
        TaskKind::SqPoll => "sqpoll",
    })
}
