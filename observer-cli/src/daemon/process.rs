//! What does not change while the observer runs.

use std::net::SocketAddr;

use jiff::Timestamp;
use observer::{Observer, probe};

use crate::flags::Run;

/// The process and its host, as the status reports them.
pub(super) struct Process {
    pub(super) started: Timestamp,
    pub(super) kernel: String,
    pub(super) lockdown: String,
    pub(super) socket: String,
    pub(super) udp: Vec<SocketAddr>,
}

impl Process {
    pub(super) fn new(args: &Run, observer: &Observer) -> Self {
        Self {
            started: Timestamp::now(),
            kernel: probe::kernel_release(),
            lockdown: probe::lockdown().to_string(),
            socket: args.socket().display().to_string(),
            udp: observer.udp_listeners().collect(),
        }
    }
}
