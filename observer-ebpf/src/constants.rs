//! Constants that userspace sets: what it knows of the running kernel and of
//! the observer.

use observer_common::gate::Gate;
use observer_common::layout::Layout;
use observer_common::listener::{Listener, Listeners, MAX_LISTENERS, Network};

/// Overwritten by userspace before the load, and frozen after it.
#[unsafe(no_mangle)]
pub(crate) static LAYOUT: Layout = Layout::UNRESOLVED;

/// Likewise: the destinations that are the observer's own.
#[unsafe(no_mangle)]
pub(crate) static LISTENERS: Listeners = [Listener::NONE; MAX_LISTENERS];

/// Likewise: where the observer stands in the network.
#[unsafe(no_mangle)]
pub(crate) static NETWORK: Network = Network::UNRESOLVED;

/// Likewise: what senders may send, and what is taken off the Unix socket.
#[unsafe(no_mangle)]
pub(crate) static GATE: Gate = Gate::OPEN;

/// One constant of [`LAYOUT`].
///
/// The read is volatile so that the compiler does not fold the zero that it
/// sees at build time. The verifier folds the value of load time instead
/// (`check_mem_access` on a frozen read-only map, `kernel/bpf/verifier.c`).
macro_rules! layout {
    ($field:ident) => {
        // SAFETY: reads a field of a static.
        unsafe { core::ptr::read_volatile(&raw const $crate::constants::LAYOUT.$field) }
    };
}
pub(crate) use layout;

/// One constant of [`GATE`], read likewise.
macro_rules! gate {
    ($field:ident) => {
        // SAFETY: reads a field of a static.
        unsafe { core::ptr::read_volatile(&raw const $crate::constants::GATE.$field) }
    };
}
pub(crate) use gate;

/// One constant of [`NETWORK`], read likewise.
macro_rules! network {
    ($($field:tt)+) => {
        // SAFETY: reads a field of a static.
        unsafe { core::ptr::read_volatile(&raw const $crate::constants::NETWORK.$($field)+) }
    };
}
pub(crate) use network;
