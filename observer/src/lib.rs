//! A kernel-attested liveness observer.
//!
//! Agents send 32-byte heartbeats (VLP frames) to a Unix datagram socket. An
//! eBPF program on the socket's send path runs in the sending task and
//! records who really sends. [`Observer`] joins datagrams with records and
//! says which agents are alive, which have stalled, and which beats were forged:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use futures_util::StreamExt as _;
//! use observer::{Event, Observer, Report};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), observer::StartError> {
//! let mut observer = Observer::builder()
//!     .socket("/run/observer/observer.sock")
//!     .threshold(Duration::from_secs(2))
//!     .bind()?;
//! while let Some(report) = observer.next().await {
//!     let Report::Observation(observation) = report else {
//!         println!("{report:?}");
//!         continue;
//!     };
//!     let sender = observation.evidence.sender;
//!     match observation.event {
//!         Event::Beat { pid, nonce, .. } => println!("{pid} is alive: beat {nonce}"),
//!         Event::Stall { pid, .. } => println!("{pid} has stalled"),
//!         Event::AuthFailure { claimed_pid, cause, .. } => {
//!             println!("not {claimed_pid}: {cause:?}, sent by {sender:?}");
//!         }
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Without tokio, [`Observer::poll`] gives the next event and
//! [`Observer::wait`] sleeps until there may be one:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use observer::Observer;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut observer = Observer::builder().bind()?;
//! loop {
//!     while let Some(event) = observer.poll() {
//!         println!("{event:?}");
//!     }
//!     observer.wait(None)?;
//! }
//! # }
//! ```
//!
//! # The eBPF object
//!
//! The programs are built with this crate, and are part of the binary. That
//! takes a BPF toolchain: a Rust compiler with the sources of `core`, and
//! `bpf-linker`. Where they are missing, the build fails and says what to
//! install. A package made by `cargo xtask package` carries the object and
//! needs no such toolchain; the environment variable `OBSERVER_EBPF_OBJECT`
//! names one that was built elsewhere. With the feature `no-object` the crate
//! compiles without, and [`Builder::bind`] fails where it would have to attest.
//!
//! # Where to read on
//!
//! A beat flows one way: sockets and rings, a route (the sender is settled), the
//! judge (pure rules), the tracker (slots, stalls), and out as an event. What
//! events are, and how they read, is in [`observer_events`].

#![cfg_attr(
    not(feature = "internals"),
    expect(
        unreachable_pub,
        reason = "what the benchmarks time is public for them alone"
    )
)]

mod builder;
mod clock;
mod ebpf;
mod engine;
mod index_list;
mod judge;
mod lsm;
mod observer;
mod policy;
mod poller;
mod route;
mod sockopt;
mod stream;
mod tracker;
mod transport;
mod waker;

/// What this host can attest.
pub mod probe {
    pub use crate::ebpf::probe::*;
}

/// A Unix stream socket at a path, made as carefully as the one for beats; and
/// what keeps an address of this host from being used.
pub mod local {
    pub use crate::transport::{BindError, BoundListener, SocketOptions, address_hint};
}

pub use builder::{
    Builder, DEFAULT_MAX_AGENTS, DEFAULT_MAX_BEAT_RATE, DEFAULT_POLL_INTERVAL, DEFAULT_SOCKET_MODE,
    MAX_RING_BYTES, StartError,
};
pub use ebpf::{
    CannotAttest, Cgroup, CgroupError, KERNEL_BTF, KernelError, LayoutError, PidNamespace,
    object_is_built_in, tier_name,
};
pub use lsm::SecurityModule;
pub use observer::Observer;
pub use observer_events::{self as events, Counters, Event, Evidence, Notice, Observation, Report};
pub use policy::{AttestMode, Ingest, Namespaces, OriginPolicy, Refuse, Senders};
pub use transport::{BindError, FileKind, UdpError};
pub use waker::Waker;

/// What the benchmarks of this crate time one by one. Not for anybody else: it
/// may change at any time.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::clock::Now;
    pub use crate::judge::{Policy, Trust, Verdict, judge};
    pub use crate::route::{Hint, Join, JoinCounts, Otherwise};
    pub use crate::tracker::{Outcome, Sighting, Stall, Tracker, TrackerCounts};
    pub use crate::transport::{
        Batch, BoundSocket, ClosedUdpListener, ClosedUdpSocket, Datagram, Payload, Receiver,
        UdpSocket,
    };
}
