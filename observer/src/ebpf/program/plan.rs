//! What a program is to be loaded for.

use std::net::SocketAddr;
use std::path::Path;

use observer_common::gate::Gate;
use observer_common::record::Program;
use observer_events::event::Via;

use super::error::KernelError;
use crate::ebpf::layout::KernelTypes;

/// Default size of the ring: about 6,500 records, a tenth of a second of the
/// fastest flood that one sender can make.
pub(crate) const DEFAULT_RING_BYTES: u32 = 1 << 20;

/// Default size of a ring that delivers beats: 13,000 of them, and as many
/// records of datagrams that go by the socket when the first half is full.
pub(crate) const DELIVERING_RING_BYTES: u32 = 4 << 20;

/// Which datagrams a program is to see.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Traffic<'a> {
    /// Those to the Unix socket that it is attached to.
    Unix {
        /// What the filter lets through, and what it takes itself.
        gate: Gate,
    },
    /// Those to UDP listeners.
    Udp(UdpTraffic<'a>),
}

impl Traffic<'_> {
    /// The program that a tier uses for it.
    ///
    /// # Errors
    /// If the tier cannot see it.
    pub(in crate::ebpf) fn program(self, via: Via) -> Result<Program, KernelError> {
        match (via, self) {
            (Via::Btf, Self::Unix { .. }) => Ok(Program::UnixBtf),
            (Via::Btf, Self::Udp(_)) => Ok(Program::UdpBtf),
            (Via::Helper | Via::Scm, Self::Unix { .. }) => Ok(Program::UnixHelper),
            (Via::Helper | Via::Scm, Self::Udp(_)) => Err(KernelError::UdpNeedsBtf),
        }
    }
}

/// The datagrams to UDP listeners, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UdpTraffic<'a> {
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

/// What is to be loaded, and for which datagrams.
#[derive(Clone, Copy, Debug)]
pub(in crate::ebpf) struct Plan<'a> {
    pub(in crate::ebpf) program: Program,
    pub(in crate::ebpf) traffic: Traffic<'a>,
    pub(in crate::ebpf) types: &'a KernelTypes,
    /// Size of the ring in bytes.
    pub(in crate::ebpf) ring_bytes: u32,
}
