//! A loaded eBPF program with its maps.

mod error;
mod link;
mod load;
mod plan;
mod proof;
mod self_test;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray, ProgramArray};
use observer_common::budget::{Budget, BudgetKey};
use observer_common::loss::Loss;
use observer_events::snapshot::ProgramRuns;
use zerocopy::transmute;

pub use self::error::KernelError;
pub(super) use self::plan::Plan;
pub(crate) use self::plan::{DEFAULT_RING_BYTES, DELIVERING_RING_BYTES, Traffic, UdpTraffic};
pub(super) use self::proof::Proof;
pub use self::proof::{Field, FieldProof};

use self::error::system;
use self::link::UDP_BTF_V6;
use self::load::socket_filter;
#[cfg(feature = "ebpf-log")]
use super::debug_log::DebugLog;
use super::ring::Ring;
use super::wakeup::Wakeup;
use crate::sockopt::switch_on;
use crate::transport::Way;

/// A program on the send path, with its maps and the filters that belong to it.
/// It is detached when this is dropped.
pub(crate) struct LoadedProgram {
    ebpf: Ebpf,
    /// Name of the program on the send path.
    name: &'static str,
    /// Records of datagrams that the observer's own network namespace sends.
    pub(crate) ring: Ring,
    /// Records of datagrams that other network namespaces send.
    pub(crate) others: Ring,
    pub(crate) wakeup: Wakeup,
    /// What senders have left: [`BudgetKey`] to [`Budget`].
    budgets: HashMap<MapData, [u64; 2], [u64; 9]>,
    /// The processes that are vouched for: [`BudgetKey`]s.
    vouched: HashMap<MapData, [u64; 2], u32>,
    losses: PerCpuArray<MapData, u64>,
    /// Keeps `unix_helper`'s second half reachable: the kernel empties this map
    /// when its last descriptor is closed.
    _open: ProgramArray<MapData>,
    #[cfg(feature = "ebpf-log")]
    pub(crate) debug_log: DebugLog,
}

impl LoadedProgram {
    /// Attaches the program to the Unix socket, and locks it there: from now on
    /// every datagram to the socket has a record, and nobody who comes by the
    /// descriptor can detach the program.
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

    /// What a sender has left; `None` if the program does not know it, or no
    /// longer.
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

/// The filters for the sockets of UDP listeners.
const UDP_FILTERS: [&str; 4] = [UDP_BY_LO, UDP_BY_DEVICE, UDP_BY_OTHERS, UDP_BY_WIRE];
const UDP_BY_LO: &str = "udp_by_lo";
const UDP_BY_DEVICE: &str = "udp_by_device";
const UDP_BY_OTHERS: &str = "udp_by_others";
const UDP_BY_WIRE: &str = "udp_by_wire";

/// The filter that keeps the queue of one of a UDP listener's sockets free of
/// what is not its own.
fn udp_filter(way: Way, is_trusted: bool) -> &'static str {
    match way {
        Way::Loopback => UDP_BY_LO,
        Way::Declared => UDP_BY_DEVICE,
        Way::Other if is_trusted => UDP_BY_WIRE,
        Way::Other => UDP_BY_OTHERS,
    }
}
