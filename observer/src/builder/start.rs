//! Checks the settings, and sets up the Unix socket.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use observer_common::gate::Gate;
use observer_common::listener::MAX_DEVICES;
use observer_events::event::Via;

use super::{Builder, IdLists, MAX_RING_BYTES, StartError};
use crate::ebpf::{
    AttestOptions, Attestor, DEFAULT_RING_BYTES, DELIVERING_RING_BYTES, Traffic, strength,
};
use crate::lsm::SecurityModule;
use crate::policy::{AttestMode, Ingest, Namespaces, Refuse};
use crate::route::UnixRoute;
use crate::transport::{BoundSocket, SocketOptions, check_path};

/// How many times the rate of one process the strangers of a user, or of a
/// cgroup, have by default: a fleet may start at once.
const GROUP_FACTOR: u32 = 10;

impl Builder {
    /// Checks the settings as far as that needs no look at the host.
    /// [`Builder::bind`] does so before all else.
    ///
    /// # Errors
    /// If one is missing, out of range, or lacks the operator's consent.
    pub fn check(&self) -> Result<(), StartError> {
        let path = self.socket.as_deref();
        check_path(path.ok_or(StartError::Incomplete("socket path"))?)?;
        self.threshold_ns()?;
        self.check_bounds()?;
        self.check_min_tier()?;
        self.wanted_listeners().map(drop)
    }

    /// Loads the program for the Unix socket, attaches it, and binds the socket.
    pub(super) fn unix_route(
        &self,
        options: &AttestOptions,
        path: PathBuf,
    ) -> Result<(UnixRoute, IdLists), StartError> {
        let unbound = BoundSocket::open()?;
        let gate = Gate {
            socket_refuses_descriptors: unbound.refuses_descriptors().into(),
            ..self.gate()
        };
        let mut attestor = Attestor::load(options, Traffic::Unix { gate })?;
        attestor.attach(unbound.as_fd())?;
        let id_lists = IdLists::new(&attestor, &options.types);
        id_lists.check(&self.senders)?;
        let socket = unbound.bind(&SocketOptions {
            path,
            mode: self.socket_mode,
            group: self.socket_group,
        })?;
        let delivers = gate.take_below > 0;
        let route = UnixRoute::new(socket, attestor, delivers, self.poll_interval);
        Ok((route, id_lists))
    }

    /// The rules of the filter on the Unix socket. Half of the ring is kept for
    /// datagrams that go by the socket when it fills up: each sender that waits
    /// for room there has a record.
    pub(super) fn gate(&self) -> Gate {
        let take_below = match self.ingest {
            Ingest::Socket => 0,
            Ingest::Ring => u64::from(self.ring_size() / 2),
        };
        Gate {
            take_below,
            refuse_forgeries: (self.refuse == Refuse::Kernel).into(),
            translate: (self.namespaces == Namespaces::Translate).into(),
            ..self.limits()
        }
    }

    /// What senders may send, by whichever route: each has its own budgets.
    pub(super) fn limits(&self) -> Gate {
        let group_rate = self.max_beat_rate.saturating_mul(GROUP_FACTOR);
        Gate {
            // Where one is not limited, nobody is.
            ring_bytes: match self.max_beat_rate {
                0 => 0,
                _ => self.ring_size().into(),
            },
            ..Gate::OPEN
        }
        .with_rate(self.max_beat_rate)
        .with_shared_rate(self.max_group_rate.unwrap_or(group_rate))
    }

    /// No security module is asked about what the program takes.
    pub(super) fn check_security_module(&self) -> Result<(), StartError> {
        let takes = self.ingest == Ingest::Ring || self.refuse == Refuse::Kernel;
        if !takes || self.over_lsm {
            return Ok(());
        }
        match SecurityModule::in_force() {
            Some(module) => Err(StartError::OverSecurityModule(module)),
            None => Ok(()),
        }
    }

    /// A weaker tier than the weakest was asked for.
    fn check_min_tier(&self) -> Result<(), StartError> {
        let Some(min) = self.min_tier else {
            return Ok(());
        };
        let asked = match self.attest {
            AttestMode::Off => Some(Via::Scm),
            AttestMode::Require | AttestMode::Prefer => self.tier,
        };
        match asked.filter(|&asked| strength(asked) < strength(min)) {
            Some(asked) => Err(StartError::BelowMinTier { asked, min }),
            None => Ok(()),
        }
    }

    pub(super) fn ring_size(&self) -> u32 {
        self.ring_bytes.unwrap_or(match self.ingest {
            Ingest::Socket => DEFAULT_RING_BYTES,
            Ingest::Ring => DELIVERING_RING_BYTES,
        })
    }

    pub(super) fn threshold_ns(&self) -> Result<u64, StartError> {
        nonzero_ns(self.threshold.ok_or(StartError::Incomplete("threshold"))?)
    }

    fn check_bounds(&self) -> Result<(), StartError> {
        if self.poll_interval.is_zero() {
            return Err(StartError::ZeroInterval);
        }
        if self.max_agents == 0 || self.max_agents >= u32::MAX as usize {
            return Err(StartError::AgentBound);
        }
        let page = rustix::param::page_size();
        let bytes = self.ring_size();
        if !bytes.is_power_of_two() || (bytes as usize) < page || bytes > MAX_RING_BYTES {
            return Err(StartError::RingSize(page));
        }
        if self.attested_devices.len() > MAX_DEVICES {
            return Err(StartError::TooManyDevices(self.attested_devices.len()));
        }
        Ok(())
    }
}

/// A threshold in nanoseconds.
pub(crate) fn nonzero_ns(threshold: Duration) -> Result<u64, StartError> {
    match u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX) {
        0 => Err(StartError::ZeroThreshold),
        threshold => Ok(threshold),
    }
}
