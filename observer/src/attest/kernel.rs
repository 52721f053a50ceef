//! Loads the eBPF programs and attaches them.

mod self_test;

use std::{io, net::SocketAddr, os::fd::BorrowedFd, path::Path, sync::Arc};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray},
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, SocketFilter},
};
use observer_common::{
    gate::{Budget, Gate, Payer},
    layout::Layout,
    listener::{Listener, Listeners, MAX_LISTENERS},
    loss::Loss,
    record::{Program, Record},
};
use thiserror::Error;
use zerocopy::{IntoBytes as _, transmute};

use super::{
    bell::Bell,
    cgroup::{Cgroup, CgroupError},
    layout::{KernelTypes, LayoutError},
    namespace::PidNamespace,
    object,
    ring::Ring,
};
use crate::{snapshot::ProgramRuns, sockopt::switch_on};

/// Why a tier cannot be used on this host.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The binary was built where no BPF toolchain was at hand.
    #[error("this binary was built without its eBPF object; build it with `cargo xtask run`")]
    NoObject,
    /// The observer's own pid namespace cannot be read.
    #[error("cannot read /proc/self/ns/pid: {0}; mount /proc")]
    Namespace(io::Error),
    /// The field offsets cannot be had.
    #[error(transparent)]
    Layout(#[from] Arc<LayoutError>),
    /// There is no cgroup to attach the program for UDP to.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The eBPF object has room for so many listeners only.
    #[error("there can be at most {MAX_LISTENERS} UDP listeners")]
    TooManyListeners,
    /// The kernel refused a map or the object itself.
    #[error("the kernel refused the eBPF maps: {}", chain(.0))]
    Object(#[from] EbpfError),
    /// The kernel refused the program.
    #[error("the kernel refused the eBPF program: {}", summary(.0))]
    Program(#[from] ProgramError),
    /// A map is not what it should be.
    #[error("the eBPF object is damaged: {0}")]
    Map(#[from] MapError),
    /// A map or program of that name is not in the object.
    #[error("the eBPF object has no {0}")]
    Absent(&'static str),
    /// A system call on the way failed.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The program does not tell the truth about the observer itself.
    #[error("the eBPF program fails its self-test: {0}")]
    SelfTest(String),
}

/// A loaded program with its maps.
pub(super) struct Kernel {
    ebpf: Ebpf,
    program: Program,
    pub(super) ring: Ring,
    pub(super) bell: Bell,
    /// What senders have left: [`Payer`] to [`Budget`].
    budgets: HashMap<MapData, [u64; 2], [u64; 4]>,
    losses: PerCpuArray<MapData, u64>,
    #[cfg(feature = "ebpf-log")]
    pub(super) debug_log: super::debug_log::DebugLog,
}

/// The size of the ring where nobody asks for another: about 9,000 records,
/// a tenth of a second of the fastest flood that one sender can make.
pub(crate) const DEFAULT_RING_BYTES: u32 = 1 << 20;

/// The same of a ring that delivers beats by itself: 14,000 of them, and as
/// many records of datagrams that go by the socket when that is not enough.
pub(crate) const DELIVERING_RING_BYTES: u32 = 4 << 20;

/// Which datagrams a program is to see.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route<'a> {
    /// Those to the Unix socket that it is attached to.
    Unix {
        /// What the filter lets through, and what it takes itself.
        gate: Gate,
    },
    /// Those to UDP listeners.
    Udp {
        /// The cgroup whose processes are seen; `None`: the root.
        cgroup: Option<&'a Path>,
        /// What the listeners are bound to.
        listeners: &'a [SocketAddr],
    },
}

/// What a tier is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) program: Program,
    pub(super) route: Route<'a>,
    pub(super) types: &'a KernelTypes,
    /// Size of the ring in bytes.
    pub(super) ring_bytes: u32,
}

impl Kernel {
    /// Loads a program and has it prove itself on a datagram of the
    /// observer's own.
    ///
    /// The depth of the observer's pid namespace is learnt on the way: in a
    /// container `/proc` does not tell it, the program does.
    pub(super) fn load(plan: &Plan<'_>) -> Result<Self, KernelError> {
        let namespace = PidNamespace::of_self().map_err(KernelError::Namespace)?;
        let (kernel, own) = Self::load_at(plan, &namespace, 0)?;
        let level = u32::from(own.level);
        if level == 0 {
            self_test::check(plan.program, &own, &namespace)?;
            return Ok(kernel);
        }
        // Detached before the next is attached.
        drop(kernel);
        let (kernel, own) = Self::load_at(plan, &namespace, level)?;
        self_test::check(plan.program, &own, &namespace)?;
        Ok(kernel)
    }

    fn load_at(
        plan: &Plan<'_>,
        namespace: &PidNamespace,
        level: u32,
    ) -> Result<(Self, Record), KernelError> {
        let Plan {
            program,
            route,
            types,
            ring_bytes,
        } = *plan;
        let gate = match route {
            Route::Unix { gate } => gate,
            Route::Udp { .. } => Gate::OPEN,
        };
        let layout = match program {
            Program::UnixBtf | Program::UdpBtf => types.layout(namespace, level)?,
            Program::UnixHelper | Program::UdpHelper => Layout {
                observer_ns_inode: namespace.inode,
                observer_ns_dev: namespace.device,
                ..Layout::UNRESOLVED
            },
        };
        let listeners = listeners(route)?;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("LAYOUT", layout.as_bytes(), true)
            .override_global("LISTENERS", listeners.as_bytes(), true)
            .override_global("GATE", gate.as_bytes(), true)
            .map_max_entries("RECORDS", ring_bytes)
            .load(object::bytes().ok_or(KernelError::NoObject)?)?;
        load_programs(&mut ebpf, program, route)?;
        let mut kernel = Self {
            ring: Ring::new(take_data(&mut ebpf, "RECORDS")?, ring_bytes)
                .map_err(system("cannot map the ring"))?,
            bell: Bell::new(take_data(&mut ebpf, "ASLEEP")?)
                .map_err(system("cannot map the ring's bell"))?,
            budgets: HashMap::try_from(take(&mut ebpf, "BUDGETS")?)?,
            losses: PerCpuArray::try_from(take(&mut ebpf, "LOSS")?)?,
            #[cfg(feature = "ebpf-log")]
            debug_log: super::debug_log::DebugLog::start(&mut ebpf),
            ebpf,
            program,
        };
        let own = match route {
            Route::Unix { .. } => kernel.record_by_unix()?,
            Route::Udp { listeners, .. } => kernel.record_by_udp(listeners)?,
        };
        Ok((kernel, own))
    }

    /// Attaches a filter to a socket and locks it there: who gets hold of the
    /// descriptor cannot take it off. On the Unix socket it is the program
    /// itself: from now on every datagram to it has a record. On a UDP socket
    /// it keeps out what is no frame by its length.
    ///
    /// The lock cannot be taken off (`SO_LOCK_FILTER`, `sk_setsockopt`,
    /// `net/core/sock.c`).
    pub(super) fn attach(&mut self, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        let name = match self.program {
            Program::UnixBtf | Program::UnixHelper => name(self.program),
            Program::UdpBtf | Program::UdpHelper => UDP_LENGTH,
        };
        socket_filter(&mut self.ebpf, name)?.attach(socket)?;
        switch_on(socket, libc::SO_LOCK_FILTER).map_err(system("SO_LOCK_FILTER"))
    }

    /// What the kernel counted of the program's runs.
    pub(super) fn runs(&self) -> Option<ProgramRuns> {
        let name = name(self.program);
        let info = self.ebpf.program(name)?.info().ok()?;
        Some(ProgramRuns {
            name: name.to_owned(),
            runs: info.run_count(),
            run_time: info.run_time(),
        })
    }

    /// What a sender has left; `None` if it is not known (any more).
    pub(super) fn budget(&self, payer: Payer) -> Option<Budget> {
        let budget = self.budgets.get(&transmute!(payer), 0).ok()?;
        Some(transmute!(budget))
    }

    /// Reads a counter, summed over the CPUs.
    pub(super) fn loss(&self, loss: Loss) -> u64 {
        self.losses
            .get(&(loss as u32), 0)
            .map(|per_cpu| per_cpu.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)))
            .unwrap_or_default()
    }
}

/// The filter that keeps UDP listeners' queues free of what is no frame.
const UDP_LENGTH: &str = "udp_length";

/// A program's name in the eBPF object.
fn name(program: Program) -> &'static str {
    match program {
        Program::UnixBtf => "unix_btf",
        Program::UnixHelper => "unix_helper",
        Program::UdpBtf => "udp_btf",
        Program::UdpHelper => "udp_helper",
    }
}

fn listeners(route: Route<'_>) -> Result<Listeners, KernelError> {
    let mut constants = [Listener::NONE; MAX_LISTENERS];
    let Route::Udp { listeners, .. } = route else {
        return Ok(constants);
    };
    if listeners.len() > constants.len() {
        return Err(KernelError::TooManyListeners);
    }
    for (constant, &address) in constants.iter_mut().zip(listeners) {
        *constant = address.into();
    }
    Ok(constants)
}

/// Loads what the route needs. The program for UDP is attached at once, by a
/// link that goes away with the observer, however it ends.
///
/// The kernel attaches each link beside those that others made
/// (`cgroup_bpf_link_attach`, `kernel/bpf/cgroup.c`: `BPF_F_ALLOW_MULTI`) and
/// takes no flags for it up to Linux 6.15, so none is given.
fn load_programs(ebpf: &mut Ebpf, program: Program, route: Route<'_>) -> Result<(), KernelError> {
    let Route::Udp { cgroup, .. } = route else {
        return Ok(socket_filter(ebpf, name(program))?.load()?);
    };
    let cgroup = Cgroup::open(cgroup)?;
    socket_filter(ebpf, UDP_LENGTH)?.load()?;
    let name = name(program);
    let program = ebpf.program_mut(name).ok_or(KernelError::Absent(name))?;
    let program: &mut CgroupSkb = program.try_into()?;
    program.load()?;
    program.attach(
        &cgroup,
        CgroupSkbAttachType::Egress,
        CgroupAttachMode::Single,
    )?;
    Ok(())
}

fn socket_filter<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SocketFilter, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Absent(name))?;
    Ok(program.try_into()?)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or(KernelError::Absent(name))
}

/// A map that is mapped, and not asked by system calls.
fn take_data(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, KernelError> {
    match take(ebpf, name)? {
        Map::RingBuf(data) | Map::Array(data) => Ok(data),
        _ => Err(KernelError::Absent(name)),
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |error| KernelError::System { what, error }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// How the verifier's lines of statistics begin.
const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// The refusal and the verifier's last word; its log has thousands of lines,
/// and statistics at its end.
fn summary(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return chain(error);
    };
    let log = verifier_log.to_string();
    let last = log
        .lines()
        .rev()
        .find(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
        .unwrap_or_default();
    format!("{io_error} ({last})")
}
