//! Loads a program, and has it name the observer itself before it is used.

use std::io;
use std::os::fd::AsFd as _;

use aya::maps::{HashMap, Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, SocketFilter};
use aya::{Ebpf, EbpfError, EbpfLoader};
use observer_common::record::Program;
use rustix::thread::{CapabilitySet, capabilities};
use zerocopy::IntoBytes as _;

use super::error::{KernelError, system};
use super::link::{Constants, Link, link};
use super::plan::{Plan, Traffic, UdpTraffic};
use super::{LoadedProgram, UDP_FILTERS, self_test};
use crate::ebpf::cgroup::Cgroup;
#[cfg(feature = "ebpf-log")]
use crate::ebpf::debug_log::DebugLog;
use crate::ebpf::namespace::PidNamespace;
use crate::ebpf::ring::Ring;
use crate::ebpf::wakeup::Wakeup;

/// What `unix_helper` goes on with while there is an observer.
const UNIX_HELPER_RUN: &str = "unix_helper_run";

impl LoadedProgram {
    /// Loads a program and tests it on a datagram of the observer's own. What it
    /// reads of a sender has been proved by then ([`KernelTypes::proof`]).
    ///
    /// [`KernelTypes::proof`]: crate::ebpf::KernelTypes
    pub(in crate::ebpf) fn load(plan: &Plan<'_>) -> Result<Self, KernelError> {
        let namespace = PidNamespace::of_self().map_err(KernelError::Namespace)?;
        let level = match plan.program {
            Program::UnixBtf | Program::UdpBtf => plan.types.proof()?.level,
            // Its program does not ask for it.
            Program::UnixHelper => 0,
        };
        let mut program = Self::load_at(plan, &namespace, level)?;
        let (truth, own) = match plan.traffic {
            Traffic::Unix { .. } => program.record_by_unix(&namespace)?,
            Traffic::Udp(UdpTraffic { listeners, .. }) => {
                program.record_by_udp(listeners, &namespace)?
            }
        };
        self_test::check(plan.program, &truth, &own)?;
        Ok(program)
    }

    /// The program, for an observer so many levels below the initial pid
    /// namespace.
    pub(super) fn load_at(
        plan: &Plan<'_>,
        namespace: &PidNamespace,
        level: u32,
    ) -> Result<Self, KernelError> {
        let link = link(plan, namespace, level)?;
        let mut ebpf = load_object(&link, plan.ring_bytes)?;
        load_programs(&mut ebpf, link.name, plan.traffic)?;
        Self::take_maps(ebpf, link.name, plan)
    }

    fn take_maps(mut ebpf: Ebpf, name: &'static str, plan: &Plan<'_>) -> Result<Self, KernelError> {
        let mut open = ProgramArray::try_from(take(&mut ebpf, "OPEN")?)?;
        if plan.program == Program::UnixHelper {
            let second = socket_filter(&mut ebpf, UNIX_HELPER_RUN)?;
            second.load()?;
            open.set(0, second.fd()?, 0)?;
        }
        Ok(Self {
            ring: map_ring(&mut ebpf, "RECORDS", plan.ring_bytes)?,
            others: map_ring(&mut ebpf, "OTHERS", plan.ring_bytes)?,
            wakeup: Wakeup::new(take_data(&mut ebpf, "WAKEUP")?)
                .map_err(system("cannot map the wake-up word"))?,
            budgets: HashMap::try_from(take(&mut ebpf, "BUDGETS")?)?,
            vouched: HashMap::try_from(take(&mut ebpf, "VOUCHED")?)?,
            losses: PerCpuArray::try_from(take(&mut ebpf, "LOSS")?)?,
            _open: open,
            #[cfg(feature = "ebpf-log")]
            debug_log: DebugLog::start(&mut ebpf),
            ebpf,
            name,
        })
    }
}

/// Creates the maps. The programs are loaded one by one, later.
fn load_object(link: &Link, ring_bytes: u32) -> Result<Ebpf, EbpfError> {
    let Link {
        name: _,
        object,
        constants:
            Constants {
                layout,
                listeners,
                network,
                gate,
            },
    } = link;
    EbpfLoader::new()
        .btf(None)
        .override_global("LAYOUT", layout.as_bytes(), true)
        .override_global("LISTENERS", listeners.as_bytes(), true)
        .override_global("NETWORK", network.as_bytes(), true)
        .override_global("GATE", gate.as_bytes(), true)
        .map_max_entries("RECORDS", ring_bytes)
        .map_max_entries("OTHERS", ring_bytes)
        .load(object.as_bytes())
}

/// Loads what is needed for the traffic. The program for UDP is attached at
/// once, by a link that goes away with the observer, however it ends.
///
/// The kernel attaches each link beside those that others made
/// (`cgroup_bpf_link_attach`, `kernel/bpf/cgroup.c`: `BPF_F_ALLOW_MULTI`) and
/// takes no flags for it up to Linux 6.15, so none is given.
fn load_programs(
    ebpf: &mut Ebpf,
    name: &'static str,
    traffic: Traffic<'_>,
) -> Result<(), KernelError> {
    let Traffic::Udp(UdpTraffic { cgroup, .. }) = traffic else {
        return Ok(socket_filter(ebpf, name)?.load()?);
    };
    let cgroup = Cgroup::open(cgroup)?;
    for filter in UDP_FILTERS {
        socket_filter(ebpf, filter)?.load()?;
    }
    let program = ebpf.program_mut(name).ok_or(KernelError::Absent(name))?;
    let program: &mut CgroupSkb = program.try_into()?;
    program.load()?;
    let attached = program.attach(
        &cgroup,
        CgroupSkbAttachType::Egress,
        CgroupAttachMode::Single,
    );
    match attached {
        Err(error) if is_refusal(&error) => Err(refusal(&cgroup)),
        attached => Ok(attached.map(|_| ())?),
    }
}

fn is_refusal(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error)
        if error.io_error.kind() == io::ErrorKind::PermissionDenied)
}

/// The kernel says `EPERM` to those who may not attach, and to everybody where
/// somebody attached a program, there or above, that lets no other in
/// (`hierarchy_allows_attach` and `__cgroup_bpf_attach`, `kernel/bpf/cgroup.c`,
/// read in 6.1 to 6.18). `CAP_SYS_ADMIN` stands for `CAP_NET_ADMIN`
/// (`bpf_token_capable`, from 6.9 on).
fn refusal(cgroup: &Cgroup) -> KernelError {
    let path = cgroup.path().to_owned();
    let may = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
    match capabilities(None) {
        Ok(held) if !held.effective.intersects(may) => KernelError::NotAllowed(path),
        _ => KernelError::Exclusive(path),
    }
}

/// The socket filter of a name.
pub(super) fn socket_filter<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SocketFilter, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Absent(name))?;
    Ok(program.try_into()?)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or(KernelError::Absent(name))
}

/// A map that is read and written in memory, not by system calls.
fn take_data(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, KernelError> {
    match take(ebpf, name)? {
        Map::RingBuf(data) | Map::Array(data) => Ok(data),
        _ => Err(KernelError::Absent(name)),
    }
}

fn map_ring(ebpf: &mut Ebpf, name: &'static str, bytes: u32) -> Result<Ring, KernelError> {
    let map = take_data(ebpf, name)?;
    let fd = map.fd().as_fd().try_clone_to_owned();
    fd.and_then(|fd| Ring::new(fd, bytes))
        .map_err(system("cannot map the ring"))
}
