//! Why an observer cannot start.

use std::io;
use std::net::SocketAddr;

use observer_common::listener::{MAX_DEVICES, MAX_LISTENERS};
use observer_events::event::Via;
use thiserror::Error;

use super::MAX_RING_BYTES;
use crate::ebpf::{CannotAttest, KernelError, tier_name};
use crate::lsm::SecurityModule;
use crate::transport::{BindError, UdpError};

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
    /// The ring would be looked at without end.
    #[error("the time between two looks at the ring must be longer than zero")]
    ZeroInterval,
    /// No agent could ever be known.
    #[error("the number of agents must be 1 to {}", u32::MAX - 1)]
    AgentBound,
    /// The kernel takes rings of a power of two and a page or more; the upper
    /// bound is [`MAX_RING_BYTES`].
    #[error("the ring's size must be a power of two of {0} to {MAX_RING_BYTES} bytes")]
    RingSize(usize),
    /// More UDP listeners than the eBPF program can compare.
    #[error("there can be at most {MAX_LISTENERS} UDP listeners, not {0}")]
    TooManyListeners(usize),
    /// More devices than the eBPF program can compare.
    #[error("there can be at most {MAX_DEVICES} attested devices, not {0}")]
    TooManyDevices(usize),
    /// There is no network device of the name, or it is the loopback one.
    #[error("cannot attest senders behind device {name}: {reason}")]
    Device {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The trusted network could not be told apart from a local forger.
    #[error(
        "udp {0}: on this kernel no sender to an IPv4 address is attested, so any process of this \
         host could pass for the network that is trusted; listen on IPv6"
    )]
    TrustUnattested(SocketAddr),
    /// A listener's senders cannot be attested, and accepting less was
    /// not agreed to.
    #[error("udp {0}: {reason}", reason = KernelError::UdpNeedsIpv6)]
    CannotAttestListener(SocketAddr),
    /// Other hosts could reach the listener, and accepting that was not agreed to.
    #[error(
        "udp {0} can be reached from other hosts, of which the kernel here attests nothing: \
         anyone there could claim to be any agent"
    )]
    NoConsent(SocketAddr),
    /// Beats would be taken past a security module that decides who may send.
    #[error(
        "{0} decides on this host who may send by Unix sockets, and the kernel consults it only \
         after the eBPF program has run: where that takes or refuses datagrams, what the module \
         forbids would be delivered"
    )]
    OverSecurityModule(SecurityModule),
    /// Lists of users need a kernel record that names one.
    #[error("lists of users and groups need tier btf, for tier helper does not show users: {0}")]
    UsersUnknown(String),
    /// Lists of users need a proof that records name the right ones, where the
    /// kernel's types come from a file.
    #[error(
        "with types from a file, lists of users and groups need a proof that records name the \
         right ones, and there is none for {ids} ids: {reason}"
    )]
    UsersUnproven {
        /// Ids of what.
        ids: &'static str,
        /// Why there is none.
        reason: String,
    },
    /// The tier that was asked for is weaker than the weakest that may be used.
    #[error("tier {} is weaker than tier {}, the weakest to use", tier_name(*asked), tier_name(*min))]
    BelowMinTier {
        /// The tier that was asked for.
        asked: Via,
        /// The weakest to use.
        min: Via,
    },
    /// No tier of attestation works here, and the policy demands one.
    #[error(transparent)]
    CannotAttest(#[from] CannotAttest),
    /// The program was loaded and cannot be attached.
    #[error("cannot attest the socket: {0}")]
    Attach(#[from] KernelError),
    /// No tier of attestation works for UDP, and the policy demands one.
    #[error("udp: {0}")]
    CannotAttestUdp(CannotAttest),
    /// A socket cannot be received from.
    #[error(
        "cannot receive from {socket}: recvmmsg and recvmsg are refused ({error}); does a seccomp \
         policy forbid them?"
    )]
    Receive {
        /// Which.
        socket: String,
        /// What the system said to `recvmsg`.
        error: io::Error,
    },
    /// There is no descriptor left to wait with.
    #[error("cannot wait for the sockets: {0}")]
    Wait(io::Error),
    /// The socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A UDP listener cannot be had.
    #[error(transparent)]
    Udp(#[from] UdpError),
}
