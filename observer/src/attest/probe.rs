//! What this host allows: the facts behind `observer doctor`.
//!
//! Every fact is read or tried, none is concluded from a version number; what
//! cannot be read is said to be unknown. [`HostReport::findings`] says what
//! the facts mean and what to do.

use std::{
    fmt, fs,
    io::{self, Read as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::{
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_program_supported},
};
use observer_common::gate::Gate;
use observer_events::event::Via;
use rustix::thread::{CapabilitySet, capabilities};
use serde::Serialize;

use super::{
    Cgroup, DEFAULT_RING_BYTES, KernelError, KernelTypes, Traffic, UdpTraffic, btf,
    object_is_built_in,
    program::{LoadedProgram, Plan},
};
use crate::{
    lsm::SecurityModule,
    transport::{BoundSocket, ClosedUdpListener},
};

mod findings;

pub use findings::{Finding, State};

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`,
/// `include/linux/proc_ns.h`).
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;
/// Inode of the initial user namespace (`PROC_USER_INIT_INO`, likewise).
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;

/// What was found out about this host.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    /// Release of the running kernel, as `uname -r` has it.
    pub kernel_release: String,
    /// What the kernel's lockdown forbids.
    pub lockdown: Lockdown,
    /// The kernel's type information, at [`KERNEL_BTF`](super::KERNEL_BTF)
    /// unless another file was named.
    pub btf: Btf,
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
    /// The eBPF tiers, strongest first, each tried out.
    pub tiers: Vec<Tier>,
    /// Where the program for UDP is attached; `None`: no cgroup2 file system
    /// is mounted.
    pub cgroup: Option<CgroupRoot>,
    /// The eBPF tiers for UDP, likewise: loaded, attached to the cgroup for a
    /// moment, and asked about a datagram on the loopback interface.
    pub udp_tiers: Vec<Tier>,
    /// The same of the one that there is for listeners on IPv6.
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
    /// The strongest eBPF tier that works, which `--attest require` uses;
    /// `None`: this host cannot attest.
    #[must_use]
    pub fn attested_tier(&self) -> Option<Via> {
        self.tiers
            .iter()
            .find(|tier| tier.error.is_none())
            .map(|tier| tier.via)
    }

    /// The strongest eBPF tier that works for UDP, which `--udp` with
    /// `--attest require` uses; `None`: this host cannot attest UDP senders.
    #[must_use]
    pub fn attested_udp_tier(&self) -> Option<Via> {
        self.udp_tiers
            .iter()
            .find(|tier| tier.error.is_none())
            .map(|tier| tier.via)
    }

    /// The tier that `--attest prefer` uses.
    #[must_use]
    pub fn tier(&self) -> Via {
        self.attested_tier().unwrap_or(Via::Scm)
    }
}

/// What becomes of descriptors that senders attach to datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Descriptors {
    /// The socket refuses them, with an error to the sender (`SO_PASSRIGHTS`,
    /// Linux 6.16 and later).
    Refused,
    /// Tier `btf` drops what they are attached to (Linux 6.2 and later; before,
    /// unless lockdown is `confidentiality`).
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
    /// The question itself was refused.
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
/// to a socket, and comparing what it says of this process with the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// The tier.
    pub via: Via,
    /// Why it cannot be used; `None`: it works.
    pub error: Option<String>,
}

/// Finds out what this host allows. Loads programs where the kernel lets it,
/// and leaves nothing behind. `btf`: the file with the kernel's types.
#[must_use]
pub fn probe(btf: &Path) -> HostReport {
    let types = KernelTypes::at(btf.to_owned());
    let pid_ns_inode = inode("/proc/self/ns/pid");
    let btf_tier = try_out(Via::Btf, Traffic::Unix { gate: Gate::OPEN }, &types);
    HostReport {
        kernel_release: kernel_release(),
        lockdown: lockdown(),
        btf: read_btf(btf),
        capabilities: effective_capabilities(),
        initial_user_ns: inode("/proc/self/ns/user").map(|inode| inode == INITIAL_USER_NS),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        socket_filter: support(is_program_supported(ProgramType::SocketFilter)),
        helpers: Helpers {
            get_current_task_btf: helper(BpfHelper::BPF_FUNC_get_current_task_btf),
            get_current_pid_tgid: helper(BpfHelper::BPF_FUNC_get_current_pid_tgid),
            get_ns_current_pid_tgid: helper(BpfHelper::BPF_FUNC_get_ns_current_pid_tgid),
        },
        object_built_in: object_is_built_in(),
        tiers: vec![
            btf_tier.clone(),
            try_out(Via::Helper, Traffic::Unix { gate: Gate::OPEN }, &types),
        ],
        cgroup: Cgroup::open(None).ok().map(|cgroup| CgroupRoot {
            path: cgroup.path().to_owned(),
            is_root: cgroup.is_root(),
        }),
        udp_tiers: vec![
            try_out_udp((Ipv4Addr::LOCALHOST, 0).into(), &types),
            Tier {
                via: Via::Helper,
                error: Some(KernelError::UdpNeedsBtf.to_string()),
            },
        ],
        udp6_tier: try_out_udp((Ipv6Addr::LOCALHOST, 0).into(), &types),
        pid_ns_inode,
        initial_pid_ns: pid_ns_inode.map(|inode| inode == INITIAL_PID_NS),
        max_dgram_qlen: number("/proc/sys/net/unix/max_dgram_qlen"),
        io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
        descriptors: descriptors(&types, &btf_tier),
        security_module: SecurityModule::in_force(),
    }
}

/// Release of the running kernel.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// State of the kernel's lockdown.
#[must_use]
pub fn lockdown() -> Lockdown {
    fs::read_to_string("/sys/kernel/security/lockdown")
        .map_or(Lockdown::Unknown, |text| parse_lockdown(&text))
}

/// The kernel lists all states and puts the present one in brackets
/// (`lockdown_read`, `security/lockdown/lockdown.c`, Linux 6.1).
fn parse_lockdown(text: &str) -> Lockdown {
    match text.split_whitespace().find(|word| word.starts_with('[')) {
        Some("[none]") => Lockdown::None,
        Some("[integrity]") => Lockdown::Integrity,
        Some("[confidentiality]") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

fn read_btf(path: &Path) -> Btf {
    let mut magic = [0; 2];
    match fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if u16::from_ne_bytes(magic) == btf::MAGIC => Btf::Readable,
        Ok(()) => Btf::Unreadable {
            error: "it is no BTF of this machine's byte order".into(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Btf::Absent,
        Err(error) => Btf::Unreadable {
            error: error.to_string(),
        },
    }
}

fn effective_capabilities() -> Option<Capabilities> {
    let effective = capabilities(None).ok()?.effective;
    Some(Capabilities {
        bpf: effective.contains(CapabilitySet::BPF),
        perfmon: effective.contains(CapabilitySet::PERFMON),
        net_admin: effective.contains(CapabilitySet::NET_ADMIN),
        sys_admin: effective.contains(CapabilitySet::SYS_ADMIN),
    })
}

fn helper(helper: BpfHelper) -> Support {
    support(is_helper_supported(ProgramType::SocketFilter, helper))
}

fn support(answer: Result<bool, ProgramError>) -> Support {
    match answer {
        Ok(true) => Support::Yes,
        Ok(false) => Support::No,
        Err(ProgramError::SyscallError(error)) => Support::Refused {
            error: error.io_error.to_string(),
        },
        Err(error) => Support::Refused {
            error: error.to_string(),
        },
    }
}

fn try_out(via: Via, traffic: Traffic<'_>, types: &KernelTypes) -> Tier {
    let load = |program| {
        LoadedProgram::load(&Plan {
            program,
            traffic,
            types,
            ring_bytes: DEFAULT_RING_BYTES,
        })
    };
    let result = traffic.program(via).and_then(load);
    Tier {
        via,
        error: result.err().map(|error| error.to_string()),
    }
}

fn descriptors(types: &KernelTypes, btf_tier: &Tier) -> Descriptors {
    if BoundSocket::open().is_ok_and(|socket| socket.refuses_descriptors()) {
        Descriptors::Refused
    } else if btf_tier.error.is_none() && types.show_attached() {
        Descriptors::Dropped
    } else {
        Descriptors::Closed
    }
}

fn try_out_udp(loopback: SocketAddr, types: &KernelTypes) -> Tier {
    let via = Via::Btf;
    match ClosedUdpListener::bind(loopback) {
        Ok(listener) => try_out(
            via,
            Traffic::Udp(UdpTraffic {
                cgroup: None,
                listeners: &[listener.address()],
                gate: Gate::OPEN,
                devices: &[],
                records_others: false,
                tokens: false,
            }),
            types,
        ),
        Err(error) => Tier {
            via,
            error: Some(error.to_string()),
        },
    }
}

fn inode(path: &str) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
