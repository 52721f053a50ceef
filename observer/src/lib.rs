//! A kernel-attested liveness observer.

pub mod attest;
mod attention;
mod builder;
mod counters;
pub mod event;
mod index_list;
pub mod judge;
mod observer;
pub mod sinks;
mod stream;
pub mod tracker;
pub mod transport;

pub use builder::{Builder, DEFAULT_MAX_AGENTS, DEFAULT_SOCKET_MODE, StartError};
pub use counters::Counters;
pub use event::Event;
pub use judge::AttestMode;
pub use observer::Observer;
