//! What was found out about a host.

use std::fmt;
use std::path::PathBuf;

use observer_events::event::Via;
use serde::Serialize;

use super::FieldProof;
use crate::lsm::SecurityModule;

/// What was found out about this host.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HostReport {
    /// Release of the running kernel, as `uname -r` has it.
    pub kernel_release: String,
    /// What the kernel's lockdown forbids.
    pub lockdown: Lockdown,
    /// The kernel's type information, at
    /// [`KERNEL_BTF`](crate::ebpf::KERNEL_BTF) unless another file was named.
    pub btf: Btf,
    /// That file.
    pub btf_file: PathBuf,
    /// Effective capabilities of this process; `None`: unknown.
    pub capabilities: Option<Capabilities>,
    /// Whether this process is in the initial user namespace: capabilities
    /// of another one do not count for eBPF. `None`: unknown.
    pub initial_user_ns: Option<bool>,
    /// Sysctl `kernel.unprivileged_bpf_disabled`; `None`: unknown.
    pub unprivileged_bpf_disabled: Option<u64>,
    /// Whether this process may load a socket filter.
    pub socket_filter: Support,
    /// Whether a socket filter may call what the tiers need.
    pub helpers: Helpers,
    /// Whether this binary holds its eBPF programs.
    pub object_built_in: bool,
    /// Whether tier `btf` should work: this process has the capabilities for it,
    /// and the kernel does not lack types. Then `--attest require` uses no
    /// weaker one without being told.
    pub btf_expected: bool,
    /// The eBPF tiers, strongest first, each tried out.
    pub tiers: Vec<Tier>,
    /// What was proved of the fields that tier `btf` reads of senders: senders of
    /// which everything is known were compared with their records. Empty if
    /// that tier does not work.
    pub fields: Vec<FieldProof>,
    /// Where the program for UDP is attached; `None`: no cgroup2 file system
    /// is mounted.
    pub cgroup: Option<CgroupRoot>,
    /// The eBPF tiers for UDP, likewise: loaded, attached to the cgroup for a
    /// moment, and tested on a datagram on the loopback interface.
    pub udp_tiers: Vec<Tier>,
    /// Tier `btf` for listeners on IPv6, tried out likewise.
    pub udp6_tier: Tier,
    /// Inode of this process's pid namespace; `None`: unknown.
    pub pid_ns_inode: Option<u64>,
    /// Whether that is the initial one. `None`: unknown.
    pub initial_pid_ns: Option<bool>,
    /// Sysctl `net.unix.max_dgram_qlen` of this network namespace; `None`:
    /// unknown.
    pub max_dgram_qlen: Option<u64>,
    /// Sysctl `kernel.io_uring_disabled` (Linux 6.6 and later); `None`:
    /// unknown.
    pub io_uring_disabled: Option<u64>,
    /// What becomes of descriptors that senders attach.
    pub descriptors: Descriptors,
    /// The security module that decides who may send by Unix sockets, if one
    /// does.
    pub security_module: Option<SecurityModule>,
}

impl HostReport {
    /// The eBPF tier that `--attest require` uses: the strongest that works, if
    /// that is the strongest that should. `None`: it does not start here.
    #[must_use]
    pub fn attested_tier(&self) -> Option<Via> {
        strongest(&self.tiers).filter(|&via| via == Via::Btf || !self.btf_expected)
    }

    /// The strongest eBPF tier that works for UDP, which `--udp` with
    /// `--attest require` uses; `None`: this host cannot attest UDP senders.
    #[must_use]
    pub fn attested_udp_tier(&self) -> Option<Via> {
        strongest(&self.udp_tiers)
    }

    /// The tier that `--attest prefer` uses.
    #[must_use]
    pub fn tier(&self) -> Via {
        strongest(&self.tiers).unwrap_or(Via::Scm)
    }
}

/// The first that works: they are in the order of their strength.
fn strongest(tiers: &[Tier]) -> Option<Via> {
    let works = tiers.iter().find(|tier| tier.error.is_none())?;
    Some(works.via)
}

/// What becomes of descriptors that senders attach to datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Descriptors {
    /// The socket refuses them, with an error to the sender (`SO_PASSRIGHTS`,
    /// Linux 6.16 and later).
    Refused,
    /// Tier `btf` drops the datagrams with descriptors. Before Linux 6.2 not
    /// under `lockdown=confidentiality`.
    Dropped,
    /// The kernel closes them when the observer receives.
    Closed,
}

/// A cgroup directory as UDP attestation sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CgroupRoot {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Whether it holds every process of the host.
    pub is_root: bool,
}

/// State of the kernel's lockdown (`/sys/kernel/security/lockdown`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lockdown {
    /// Nothing is locked down.
    None,
    /// Userspace may not change the running kernel.
    Integrity,
    /// Nor may it read the kernel's secrets.
    Confidentiality,
    /// The file is not there, or not readable.
    Unknown,
}

impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
            Self::Unknown => "unknown",
        })
    }
}

/// State of the kernel's type information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Btf {
    /// It is there, and is BTF.
    Readable,
    /// The kernel does not show any.
    Absent,
    /// It is there and of no use.
    Unreadable {
        /// Why.
        error: String,
    },
}

/// Effective capabilities that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is held or not, whatever the others are"
)]
pub struct Capabilities {
    /// `CAP_BPF`: load programs and maps.
    pub bpf: bool,
    /// `CAP_PERFMON`: read kernel structures from a program.
    pub perfmon: bool,
    /// `CAP_NET_ADMIN`: attach to a cgroup, which UDP needs and Unix sockets
    /// do not.
    pub net_admin: bool,
    /// `CAP_SYS_ADMIN`: stands for the first two.
    pub sys_admin: bool,
}

/// Whether the kernel lets this process use a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Support {
    /// It does.
    Yes,
    /// It does not: the feature is not there, or not for this process.
    No,
    /// It refuses to say.
    Refused {
        /// What the kernel said.
        error: String,
    },
}

/// Helper functions, for programs of the socket filter type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Helpers {
    /// `bpf_get_current_task_btf`: needed by tier `btf`, with `CAP_PERFMON`.
    pub get_current_task_btf: Support,
    /// `bpf_get_current_pid_tgid`: needed by tier `helper`.
    pub get_current_pid_tgid: Support,
    /// `bpf_get_ns_current_pid_tgid`: needed by tier `helper`.
    pub get_ns_current_pid_tgid: Support,
}

/// What came of trying an eBPF tier out: loading its program, attaching it
/// to a socket, and comparing its record of this process with what is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// The tier.
    pub via: Via,
    /// Why it cannot be used; `None`: it works.
    pub error: Option<String>,
}
