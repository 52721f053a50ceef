//! Chooses the program, and prepares the object and its constants.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use observer_common::gate::Gate;
use observer_common::layout::Layout;
use observer_common::listener::{Listener, Listeners, MAX_DEVICES, MAX_LISTENERS, Network};
use observer_common::record::Program;

use super::error::KernelError;
use super::plan::{Plan, Traffic, UdpTraffic};
use crate::ebpf::kfunc::{self, Kfuncs};
use crate::ebpf::layout::SocketTypes;
use crate::ebpf::namespace::PidNamespace;
use crate::ebpf::object;

/// The program for UDP where the kernel has no functions to cast pointers.
pub(super) const UDP_BTF_V6: &str = "udp_btf_v6";

/// What is given to the kernel.
pub(super) struct Link {
    /// Name of the program on the send path.
    pub(super) name: &'static str,
    /// The object, with the kernel's functions where it calls some.
    pub(super) object: Vec<u64>,
    pub(super) constants: Constants,
}

/// The constants that are written into the object.
pub(super) struct Constants {
    pub(super) layout: Layout,
    pub(super) listeners: Listeners,
    pub(super) network: Network,
    pub(super) gate: Gate,
}

/// Chooses the program and prepares it for an observer in this pid namespace,
/// which is so many levels below the initial one.
pub(super) fn link(
    plan: &Plan<'_>,
    namespace: &PidNamespace,
    level: u32,
) -> Result<Link, KernelError> {
    let layout = match plan.program {
        Program::UnixBtf | Program::UdpBtf => plan.types.layout(namespace, level)?,
        Program::UnixHelper => Layout {
            observer_ns_inode: namespace.inode,
            observer_ns_dev: namespace.device,
            ..Layout::UNRESOLVED
        },
    };
    match plan.traffic {
        Traffic::Unix { gate } => link_unix(plan, gate, layout),
        Traffic::Udp(traffic) => {
            let listeners = listeners(traffic.listeners)?;
            link_udp(plan, &traffic, layout, listeners)
        }
    }
}

fn link_unix(plan: &Plan<'_>, gate: Gate, layout: Layout) -> Result<Link, KernelError> {
    let object = object::bytes().ok_or(KernelError::NoObject)?;
    let (name, kfuncs) = match plan.program {
        Program::UnixHelper => ("unix_helper", Kfuncs::default()),
        Program::UnixBtf | Program::UdpBtf => ("unix_btf", plan.types.kfuncs()?),
    };
    Ok(Link {
        name,
        object: kfunc::link(object, &kfuncs),
        constants: Constants {
            layout,
            listeners: [Listener::NONE; MAX_LISTENERS],
            network: Network::UNRESOLVED,
            gate,
        },
    })
}

fn link_udp(
    plan: &Plan<'_>,
    traffic: &UdpTraffic<'_>,
    layout: Layout,
    listeners: Listeners,
) -> Result<Link, KernelError> {
    let object = object::bytes().ok_or(KernelError::NoObject)?;
    let types = plan.types.socket()?;
    let network = network(plan, traffic, &types)?;
    let name = if types.kfuncs.can_cast() {
        "udp_btf"
    } else if traffic.listeners.iter().any(SocketAddr::is_ipv6) {
        UDP_BTF_V6
    } else {
        return Err(KernelError::UdpNeedsIpv6);
    };
    Ok(Link {
        name,
        object: kfunc::link(object, &types.kfuncs),
        constants: Constants {
            layout,
            listeners,
            network,
            gate: traffic.gate,
        },
    })
}

fn listeners(addresses: &[SocketAddr]) -> Result<Listeners, KernelError> {
    let mut constants = [Listener::NONE; MAX_LISTENERS];
    if addresses.len() > constants.len() {
        return Err(KernelError::TooManyListeners);
    }
    for (constant, &address) in constants.iter_mut().zip(addresses) {
        *constant = address.into();
    }
    Ok(constants)
}

/// A namespace's inode is that of the file that names it, as the pid
/// namespace's is (`ns_get_path`, `fs/nsfs.c`).
fn network(
    plan: &Plan<'_>,
    traffic: &UdpTraffic<'_>,
    types: &SocketTypes,
) -> Result<Network, KernelError> {
    let inode = fs::metadata("/proc/thread-self/ns/net")
        .map_err(KernelError::NetNamespace)?
        .ino();
    let mut devices = [0; MAX_DEVICES];
    for (constant, &device) in devices.iter_mut().zip(traffic.devices) {
        *constant = device;
    }
    Ok(Network {
        wake_above: u64::from(plan.ring_bytes / 2),
        inode: u32::try_from(inode)
            .map_err(|error| KernelError::NetNamespace(io::Error::other(error)))?,
        records_others: traffic.records_others.into(),
        tokens: traffic.tokens.into(),
        devices,
        ..types.network
    })
}
