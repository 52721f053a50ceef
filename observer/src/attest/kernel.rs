//! Loads the eBPF programs and attaches them.

mod self_test;

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    sync::Arc,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray},
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, SocketFilter},
};
use observer_common::{
    budget::{Budget, BudgetKey},
    gate::Gate,
    layout::Layout,
    listener::{Listener, Listeners, MAX_DEVICES, MAX_LISTENERS, Network},
    loss::Loss,
    record::{Program, Record},
};
use observer_events::snapshot::ProgramRuns;
use thiserror::Error;
use zerocopy::{IntoBytes as _, transmute};

use super::{
    cgroup::{Cgroup, CgroupError},
    kfunc::{self, Kfuncs},
    layout::{KernelTypes, LayoutError, SocketTypes},
    namespace::PidNamespace,
    object,
    ring::Ring,
    wakeup::Wakeup,
};
use crate::{sockopt::switch_on, transport::Way};

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
    /// The observer's own network namespace cannot be read.
    #[error("cannot read /proc/self/ns/net: {0}; mount /proc")]
    NetNamespace(io::Error),
    /// Whether a UDP send is corked takes the sender's own socket to tell.
    #[error("no helper function tells a corked UDP send from another: only tier btf attests UDP")]
    UdpNeedsBtf,
    /// On kernels before 6.2 only IPv6 sockets can be looked into.
    #[error(
        "this kernel lets nobody tell corked sends of an IPv4 socket (Linux 6.2 and later do): \
         listen on IPv6, as on [::1], or take beats for what they are with --accept-network-beats"
    )]
    UdpNeedsIpv6,
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
    /// Name of the program on the send path.
    name: &'static str,
    pub(super) ring: Ring,
    /// Records of datagrams that other network namespaces send.
    pub(super) others: Ring,
    pub(super) wakeup: Wakeup,
    /// What senders have left: [`BudgetKey`] to [`Budget`].
    budgets: HashMap<MapData, [u64; 2], [u64; 9]>,
    /// The processes that are vouched for: [`BudgetKey`]s.
    vouched: HashMap<MapData, [u64; 2], u32>,
    losses: PerCpuArray<MapData, u64>,
    /// Held for as long as the program is to go on to its second half: the
    /// kernel empties it with the last descriptor.
    _open: ProgramArray<MapData>,
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
    Udp(UdpRoute<'a>),
}

/// Which datagrams are to UDP listeners, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UdpRoute<'a> {
    /// The cgroup whose processes are seen; `None`: the root.
    pub(crate) cgroup: Option<&'a Path>,
    /// What the listeners are bound to.
    pub(crate) listeners: &'a [SocketAddr],
    /// What a sender may send.
    pub(crate) gate: Gate,
    /// Indices of the devices that the operator declared.
    pub(crate) devices: &'a [u32],
    /// Whether datagrams of other network namespaces are recorded.
    pub(crate) records_others: bool,
    /// Whether each datagram carries a token.
    pub(crate) tokens: bool,
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
            Route::Unix { gate } | Route::Udp(UdpRoute { gate, .. }) => gate,
        };
        let layout = match program {
            Program::UnixBtf | Program::UdpBtf => types.layout(namespace, level)?,
            Program::UnixHelper => Layout {
                observer_ns_inode: namespace.inode,
                observer_ns_dev: namespace.device,
                ..Layout::UNRESOLVED
            },
        };
        let listeners = listeners(route)?;
        let Link {
            name,
            object,
            network,
        } = link(plan)?;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("LAYOUT", layout.as_bytes(), true)
            .override_global("LISTENERS", listeners.as_bytes(), true)
            .override_global("NETWORK", network.as_bytes(), true)
            .override_global("GATE", gate.as_bytes(), true)
            .map_max_entries("RECORDS", ring_bytes)
            .map_max_entries("OTHERS", ring_bytes)
            .load(object.as_bytes())?;
        load_programs(&mut ebpf, name, route)?;
        let mut open = ProgramArray::try_from(take(&mut ebpf, "OPEN")?)?;
        if program == Program::UnixHelper {
            let second = socket_filter(&mut ebpf, UNIX_HELPER_RUN)?;
            second.load()?;
            open.set(0, second.fd()?, 0)?;
        }
        let ring = |ebpf: &mut Ebpf, name| {
            map_ring(&take_data(ebpf, name)?, ring_bytes).map_err(system("cannot map the ring"))
        };
        let mut kernel = Self {
            ring: ring(&mut ebpf, "RECORDS")?,
            others: ring(&mut ebpf, "OTHERS")?,
            wakeup: Wakeup::new(take_data(&mut ebpf, "WAKEUP")?)
                .map_err(system("cannot map the wake-up word"))?,
            budgets: HashMap::try_from(take(&mut ebpf, "BUDGETS")?)?,
            vouched: HashMap::try_from(take(&mut ebpf, "VOUCHED")?)?,
            losses: PerCpuArray::try_from(take(&mut ebpf, "LOSS")?)?,
            _open: open,
            #[cfg(feature = "ebpf-log")]
            debug_log: super::debug_log::DebugLog::start(&mut ebpf),
            ebpf,
            name,
        };
        let own = match route {
            Route::Unix { .. } => kernel.record_by_unix()?,
            Route::Udp(UdpRoute { listeners, .. }) => kernel.record_by_udp(listeners)?,
        };
        Ok((kernel, own))
    }

    /// Attaches the program to the Unix socket, and locks it there: from now on
    /// every datagram to it has a record, and who gets hold of the descriptor
    /// cannot take it off.
    pub(super) fn attach(&mut self, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.attach_filter(socket, self.name)
    }

    /// Attaches a filter to a socket of a UDP listener, and locks it there: it
    /// keeps out what comes by another way, and what is no frame by its length.
    pub(super) fn attach_udp(
        &mut self,
        socket: BorrowedFd<'_>,
        way: Way,
        is_trusted: bool,
    ) -> Result<(), KernelError> {
        self.attach_filter(socket, udp_filter(way, is_trusted))
    }

    /// The lock cannot be taken off (`SO_LOCK_FILTER`, `sk_setsockopt`,
    /// `net/core/sock.c`).
    fn attach_filter(
        &mut self,
        socket: BorrowedFd<'_>,
        name: &'static str,
    ) -> Result<(), KernelError> {
        socket_filter(&mut self.ebpf, name)?.attach(socket)?;
        switch_on(socket, libc::SO_LOCK_FILTER).map_err(system("SO_LOCK_FILTER"))
    }

    /// Its rings.
    pub(super) fn rings(&self) -> [&Ring; 2] {
        [&self.ring, &self.others]
    }

    /// Whether the program sees what is sent to a listener.
    pub(super) fn sees(&self, listener: SocketAddr) -> bool {
        self.name != UDP_BTF_V6 || listener.is_ipv6()
    }

    /// What the kernel counted of the program's runs.
    pub(super) fn runs(&self) -> Option<ProgramRuns> {
        let info = self.ebpf.program(self.name)?.info().ok()?;
        Some(ProgramRuns {
            name: self.name.to_owned(),
            runs: info.run_count(),
            run_time: info.run_time(),
        })
    }

    /// What a sender has left; `None` if it is not known (any more).
    pub(super) fn budget(&self, key: BudgetKey) -> Option<Budget> {
        let budget = self.budgets.get(&transmute!(key), 0).ok()?;
        Some(transmute!(budget))
    }

    /// Vouches for a process. Where the kernel has no memory left for it, the
    /// process goes on sharing the budgets of strangers.
    pub(super) fn vouch(&mut self, key: BudgetKey) {
        let entry: [u64; 2] = transmute!(key);
        if let Err(error) = self.vouched.insert(entry, 1, 0) {
            tracing::debug!(pid = key.host_pid, "cannot vouch for a process: {error}");
        }
    }

    /// Reads a counter, summed over the CPUs.
    pub(super) fn loss(&self, loss: Loss) -> u64 {
        self.losses
            .get(&(loss as u32), 0)
            .map(|per_cpu| per_cpu.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)))
            .unwrap_or_default()
    }
}

/// The program for UDP where the kernel has no functions to cast pointers.
const UDP_BTF_V6: &str = "udp_btf_v6";

/// What `unix_helper` goes on with while there is an observer.
const UNIX_HELPER_RUN: &str = "unix_helper_run";

/// What is to be loaded.
struct Link {
    /// Name of the program on the send path.
    name: &'static str,
    object: Vec<u64>,
    network: Network,
}

/// Chooses the program, and links the object with the kernel's functions where
/// it calls some.
fn link(plan: &Plan<'_>) -> Result<Link, KernelError> {
    let object = object::bytes().ok_or(KernelError::NoObject)?;
    let Route::Udp(route) = plan.route else {
        let (name, kfuncs) = match plan.program {
            Program::UnixHelper => ("unix_helper", Kfuncs::default()),
            Program::UnixBtf | Program::UdpBtf => ("unix_btf", plan.types.kfuncs()?),
        };
        return Ok(Link {
            name,
            object: kfunc::link(object, &kfuncs),
            network: Network::UNRESOLVED,
        });
    };
    let types = plan.types.socket()?;
    let network = network(plan, route, &types)?;
    let name = if types.kfuncs.can_cast() {
        "udp_btf"
    } else if route.listeners.iter().any(SocketAddr::is_ipv6) {
        UDP_BTF_V6
    } else {
        return Err(KernelError::UdpNeedsIpv6);
    };
    Ok(Link {
        name,
        object: kfunc::link(object, &types.kfuncs),
        network,
    })
}

/// A namespace's inode is that of the file that names it, as the pid
/// namespace's is (`ns_get_path`, `fs/nsfs.c`).
fn network(
    plan: &Plan<'_>,
    route: UdpRoute<'_>,
    types: &SocketTypes,
) -> Result<Network, KernelError> {
    let inode = fs::metadata("/proc/thread-self/ns/net")
        .map_err(KernelError::NetNamespace)?
        .ino();
    let mut devices = [0; MAX_DEVICES];
    for (constant, &device) in devices.iter_mut().zip(route.devices) {
        *constant = device;
    }
    Ok(Network {
        wake_above: u64::from(plan.ring_bytes / 2),
        inode: u32::try_from(inode)
            .map_err(|error| KernelError::NetNamespace(io::Error::other(error)))?,
        records_others: route.records_others.into(),
        tokens: route.tokens.into(),
        devices,
        ..types.network
    })
}

/// The filter that keeps the queue of one of a UDP listener's sockets free of
/// what is not its own.
fn udp_filter(way: Way, is_trusted: bool) -> &'static str {
    match way {
        Way::Loopback => "udp_by_lo",
        Way::Declared => "udp_by_device",
        Way::Other if is_trusted => "udp_by_wire",
        Way::Other => "udp_by_others",
    }
}

const UDP_FILTERS: [&str; 4] = ["udp_by_lo", "udp_by_device", "udp_by_others", "udp_by_wire"];

fn listeners(route: Route<'_>) -> Result<Listeners, KernelError> {
    let mut constants = [Listener::NONE; MAX_LISTENERS];
    let Route::Udp(UdpRoute { listeners, .. }) = route else {
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
fn load_programs(ebpf: &mut Ebpf, name: &'static str, route: Route<'_>) -> Result<(), KernelError> {
    let Route::Udp(UdpRoute { cgroup, .. }) = route else {
        return Ok(socket_filter(ebpf, name)?.load()?);
    };
    let cgroup = Cgroup::open(cgroup)?;
    for filter in UDP_FILTERS {
        socket_filter(ebpf, filter)?.load()?;
    }
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

fn map_ring(map: &MapData, bytes: u32) -> io::Result<Ring> {
    Ring::new(map.fd().as_fd().try_clone_to_owned()?, bytes)
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
