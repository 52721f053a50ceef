//! What this host allows: the facts behind `observer doctor`.
//!
//! Every fact is read or tried out; none is inferred from a version number.
//! What cannot be read is unknown. [`HostReport::findings`] says what the facts
//! mean and what to do.

use std::fs;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported, is_program_supported};
use observer_common::gate::Gate;
use observer_events::event::Via;
use rustix::thread::{CapabilitySet, capabilities};

use super::namespace::{INITIAL_PID_NS, in_initial_user_namespace, inode};
use super::program::{LoadedProgram, Plan};
use super::{
    Cgroup, DEFAULT_RING_BYTES, KernelError, KernelTypes, Traffic, UdpTraffic, btf,
    object_is_built_in, tier,
};
use crate::lsm::SecurityModule;
use crate::transport::{BoundSocket, ClosedUdpListener};

mod findings;
mod report;

pub use super::program::{Field, FieldProof};
pub use findings::{Finding, State};
pub use report::{
    Btf, Capabilities, CgroupRoot, Descriptors, Helpers, HostReport, Lockdown, Support, Tier,
};

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
        btf_file: btf.to_owned(),
        capabilities: effective_capabilities(),
        initial_user_ns: in_initial_user_namespace(),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        socket_filter: support(is_program_supported(ProgramType::SocketFilter)),
        helpers: Helpers {
            get_current_task_btf: helper(BpfHelper::BPF_FUNC_get_current_task_btf),
            get_current_pid_tgid: helper(BpfHelper::BPF_FUNC_get_current_pid_tgid),
            get_ns_current_pid_tgid: helper(BpfHelper::BPF_FUNC_get_ns_current_pid_tgid),
        },
        btf_expected: tier::btf_is_expected(&types),
        object_built_in: object_is_built_in(),
        fields: types
            .proof()
            .map_or_else(|_| Vec::new(), |proof| proof.fields.clone()),
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

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
