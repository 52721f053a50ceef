//! A kernel-attested liveness observer.
//!
//! Agents send 32-byte heartbeats (VLP frames) to a Unix datagram socket. An
//! eBPF program on the socket's send path runs in the sending task and
//! records who really sends. [`Observer`] joins datagrams with records and
//! says which agents are alive, which went silent, and which beats were lies:
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
//!         Event::Stall { pid, .. } => println!("{pid} went silent"),
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
//! A beat flows one way: [`transport`] (bytes in), [`attest`] (join with the
//! ring), [`judge`] (pure rules), [`tracker`] (slots, stalls), and out as an
//! event. What events are, and how they read, is in [`observer_events`].

mod attention;
pub mod attest;

mod builder;
mod index_list;
pub mod judge;
pub mod lsm;
mod observer;
mod sockopt;
mod stream;
pub mod tracker;
pub mod transport;

pub use attention::Now;
pub use builder::{
    Builder, DEFAULT_MAX_AGENTS, DEFAULT_MAX_BEAT_RATE, DEFAULT_SOCKET_MODE, Ingest,
    MAX_RING_BYTES, Refuse, StartError,
};
pub use judge::AttestMode;
pub use observer::{DEFAULT_POLL_INTERVAL, Observer};
pub use observer_events::{self as events, Counters, Event, Evidence, Notice, Observation, Report};
