//! Who really sent a datagram: everything eBPF.
//!
//! A program on the send path writes a record of each datagram and its sender
//! to a ring. There is one program for the Unix socket and one for all UDP
//! listeners, each with rings of its own: no flood on one can cost the other
//! its records. An [`Attestor`] has loaded one of them, and [`Ring`] reads what it
//! writes. Nothing outside this module names aya.

mod attestor;
mod btf;
mod busy;
mod cgroup;
#[cfg(feature = "ebpf-log")]
mod debug_log;
mod kfunc;
mod layout;
mod mapping;
mod namespace;
mod object;
pub(crate) mod probe;
mod program;
mod ring;
mod tier;
mod wakeup;

pub(crate) use attestor::{Attestor, Dropped, Reason, Throttled, from_credentials};
pub use cgroup::{Cgroup, CgroupError};
pub(crate) use layout::KernelTypes;
pub use layout::{KERNEL_BTF, LayoutError};
pub use namespace::PidNamespace;
pub use object::object_is_built_in;
pub use program::KernelError;
pub(crate) use program::{
    DEFAULT_RING_BYTES, DELIVERING_RING_BYTES, Field, LoadedProgram, Traffic, UdpTraffic,
};
pub(crate) use ring::{Mark, Ring};
pub(crate) use tier::{AttestOptions, strength};
pub use tier::{CannotAttest, tier_name};
