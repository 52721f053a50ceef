//! How an observer is set up.

use std::{os::fd::AsFd as _, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::{
    attest::{
        AttestOptions, Attestor, CannotAttest, DEFAULT_RING_BYTES, KERNEL_BTF, KernelError,
        PidNamespace,
    },
    event::Via,
    judge::{AttestMode, Policy},
    observer::Observer,
    tracker::Tracker,
    transport::{BindError, BoundSocket, SocketOptions},
};

/// How many agents are known at most where nobody asks for another bound.
pub const DEFAULT_MAX_AGENTS: usize = 16_384;

/// Mode of the socket where nobody asks for another: its owner only.
pub const DEFAULT_SOCKET_MODE: u32 = 0o600;

/// Describes an [`Observer`]. Socket and threshold are needed, the rest has
/// defaults.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    socket: Option<PathBuf>,
    socket_mode: u32,
    socket_group: Option<u32>,
    threshold: Option<Duration>,
    attest: AttestMode,
    tier: Option<Via>,
    max_agents: usize,
    ring_bytes: u32,
}

/// Why an observer cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The builder was not given all it needs.
    #[error("no {0} was given")]
    Incomplete(&'static str),
    /// The threshold is zero.
    #[error("the threshold must be longer than zero")]
    ZeroThreshold,
    /// No agent could ever be known.
    #[error("the number of agents must be 1 to {}", u32::MAX - 1)]
    AgentBound,
    /// The kernel takes rings of a power of two and a page or more.
    #[error("the ring's size must be a power of two of {0} bytes or more")]
    RingSize(usize),
    /// No tier of attestation works here, and the policy demands one.
    #[error(transparent)]
    CannotAttest(#[from] CannotAttest),
    /// The program was loaded and cannot be attached.
    #[error("cannot attest the socket: {0}")]
    Attach(#[from] KernelError),
    /// The socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            socket: None,
            socket_mode: DEFAULT_SOCKET_MODE,
            socket_group: None,
            threshold: None,
            attest: AttestMode::default(),
            tier: None,
            max_agents: DEFAULT_MAX_AGENTS,
            ring_bytes: DEFAULT_RING_BYTES,
        }
    }
}

impl Builder {
    /// Path of the Unix datagram socket that agents send to. Required.
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// Mode of the socket file; write permission lets a process send.
    /// Default: [`DEFAULT_SOCKET_MODE`].
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.socket_mode = mode;
        self
    }

    /// Group of the socket file, by number. Default: the process's own.
    pub fn socket_group(mut self, group: Option<u32>) -> Self {
        self.socket_group = group;
        self
    }

    /// How long an agent may be silent. Required, longer than zero.
    pub fn threshold(mut self, threshold: Duration) -> Self {
        self.threshold = Some(threshold);
        self
    }

    /// How much attestation is demanded. Default: [`AttestMode::Require`].
    pub fn attest(mut self, mode: AttestMode) -> Self {
        self.attest = mode;
        self
    }

    /// The one tier to use. Default: the strongest that this host allows.
    pub fn tier(mut self, tier: Option<Via>) -> Self {
        self.tier = tier;
        self
    }

    /// How many agents are known at most. Default: [`DEFAULT_MAX_AGENTS`].
    pub fn max_agents(mut self, agents: usize) -> Self {
        self.max_agents = agents;
        self
    }

    /// Size of the kernel ring in bytes: a power of two, a page or more.
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// Loads the eBPF program, binds the socket and starts to observe.
    ///
    /// The program is attached before the socket has a name, so there is no
    /// datagram without a record.
    ///
    /// # Errors
    /// If a setting is missing or out of range, this host cannot attest as
    /// the policy demands, or the socket cannot be had.
    pub fn bind(self) -> Result<Observer, StartError> {
        let path = self
            .socket
            .clone()
            .ok_or(StartError::Incomplete("socket path"))?;
        let threshold_ns = self.threshold_ns()?;
        self.check_bounds()?;
        let mut attestor = Attestor::load(&AttestOptions {
            mode: self.attest,
            tier: self.tier,
            ring_bytes: self.ring_bytes,
            btf: KERNEL_BTF.into(),
        })?;
        let unbound = BoundSocket::open()?;
        attestor.attach(unbound.as_fd())?;
        let socket = unbound.bind(&SocketOptions {
            path,
            mode: self.socket_mode,
            group: self.socket_group,
        })?;
        let policy = Policy {
            attest: self.attest,
            observer_ns_inode: PidNamespace::of_self().ok().map(|ns| u64::from(ns.inode)),
        };
        let tracker = Tracker::new(self.max_agents, threshold_ns);
        Ok(Observer::new(socket, attestor, policy, tracker))
    }

    fn threshold_ns(&self) -> Result<u64, StartError> {
        let threshold = self.threshold.ok_or(StartError::Incomplete("threshold"))?;
        match u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX) {
            0 => Err(StartError::ZeroThreshold),
            threshold => Ok(threshold),
        }
    }

    fn check_bounds(&self) -> Result<(), StartError> {
        if self.max_agents == 0 || self.max_agents >= u32::MAX as usize {
            return Err(StartError::AgentBound);
        }
        let page = rustix::param::page_size();
        if !self.ring_bytes.is_power_of_two() || (self.ring_bytes as usize) < page {
            return Err(StartError::RingSize(page));
        }
        Ok(())
    }
}
