//! How an observer is set up.

mod error;
mod id_lists;
mod listen;
mod start;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use observer_events::event::Via;

pub use self::error::StartError;
pub(crate) use self::id_lists::IdLists;
pub(crate) use self::start::nonzero_ns;
use crate::ebpf::{AttestOptions, KERNEL_BTF, KernelTypes, PidNamespace};
use crate::engine::Engine;
use crate::judge::Policy;
use crate::observer::Observer;
use crate::policy::{AttestMode, Ingest, Namespaces, OriginPolicy, Refuse, Senders};
use crate::route::Routes;
use crate::tracker::Tracker;
use crate::waker::Waker;

/// Default bound on the number of agents that are known.
pub const DEFAULT_MAX_AGENTS: usize = 16_384;

/// Default mode of the socket: its owner only.
pub const DEFAULT_SOCKET_MODE: u32 = 0o600;

/// Default bound on the datagrams that one process may send a second.
pub const DEFAULT_MAX_BEAT_RATE: u32 = 1000;

/// Default time between two looks at the ring while it delivers many datagrams.
pub const DEFAULT_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The largest ring, in bytes: it is kernel memory that is never swapped.
///
/// A sender that loses the CPU while the kernel copies its record keeps the
/// room of all records behind it from being used again until it is back. So
/// this is also how much can be sent meanwhile: 116,000 records.
pub const MAX_RING_BYTES: u32 = 16 << 20;

/// Describes an [`Observer`]. Socket and threshold are needed, the rest has
/// defaults.
#[derive(Clone, Debug)]
#[must_use]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a decision of the operator's on one matter, whatever the others are"
)]
pub struct Builder {
    socket: Option<PathBuf>,
    socket_mode: u32,
    socket_group: Option<u32>,
    threshold: Option<Duration>,
    attest: AttestMode,
    tier: Option<Via>,
    min_tier: Option<Via>,
    max_agents: usize,
    /// `None`: as the way in needs it.
    ring_bytes: Option<u32>,
    btf: Option<PathBuf>,
    udp: Vec<SocketAddr>,
    trusted_udp: Vec<SocketAddr>,
    accept_network_beats: bool,
    attested_devices: Vec<String>,
    is_translated: bool,
    tokens: bool,
    cgroup: Option<PathBuf>,
    namespaces: Namespaces,
    senders: Senders,
    origin_policy: OriginPolicy,
    ingest: Ingest,
    refuse: Refuse,
    over_lsm: bool,
    max_beat_rate: u32,
    max_group_rate: Option<u32>,
    poll_interval: Duration,
    waker: Option<Waker>,
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
            min_tier: None,
            max_agents: DEFAULT_MAX_AGENTS,
            ring_bytes: None,
            btf: None,
            udp: Vec::new(),
            trusted_udp: Vec::new(),
            accept_network_beats: false,
            attested_devices: Vec::new(),
            is_translated: false,
            tokens: false,
            cgroup: None,
            namespaces: Namespaces::default(),
            senders: Senders::default(),
            origin_policy: OriginPolicy::default(),
            ingest: Ingest::default(),
            refuse: Refuse::default(),
            over_lsm: false,
            max_beat_rate: DEFAULT_MAX_BEAT_RATE,
            max_group_rate: None,
            poll_interval: DEFAULT_POLL_INTERVAL,
            waker: None,
        }
    }
}

impl Observer {
    /// Starts to describe an observer.
    pub fn builder() -> Builder {
        Builder::default()
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

    /// The one tier to use. Default: the strongest that this host allows. Where
    /// attestation is demanded, that is none weaker than the rights of this
    /// process and the kernel allow: if [`Via::Btf`] should work and does not,
    /// [`Builder::bind`] fails.
    pub fn tier(mut self, tier: Option<Via>) -> Self {
        self.tier = tier;
        self
    }

    /// The weakest tier to use on any route, whatever the mode of attestation.
    /// Default: none.
    pub fn min_tier(mut self, tier: Option<Via>) -> Self {
        self.min_tier = tier;
        self
    }

    /// How many agents are known at most. Default: [`DEFAULT_MAX_AGENTS`].
    pub fn max_agents(mut self, agents: usize) -> Self {
        self.max_agents = agents;
        self
    }

    /// Size of the kernel ring in bytes: a power of two, a page or more.
    /// Default: 1 MiB, or 4 MiB where it delivers beats ([`Ingest::Ring`]).
    /// At most [`MAX_RING_BYTES`].
    pub fn ring_bytes(mut self, bytes: u32) -> Self {
        self.ring_bytes = Some(bytes);
        self
    }

    /// File with the types of the running kernel, for a kernel that does not
    /// show its own. Default: [`KERNEL_BTF`]. Types of another kernel are
    /// found out, by the kernel's verifier or by the self-test, and make the
    /// tier fail.
    pub fn btf(mut self, path: Option<PathBuf>) -> Self {
        self.btf = path;
        self
    }

    /// Adds a UDP port that agents send to. Beats of processes of this network
    /// namespace are attested; what comes by the loopback device without a
    /// record is refused, and so is what comes by another one, unless
    /// [`Builder::accept_network_beats`] or the attestation mode says
    /// otherwise.
    pub fn udp(mut self, address: SocketAddr) -> Self {
        self.udp.push(address);
        self
    }

    /// Adds a UDP port, or names one that was added, whose network the
    /// operator vouches for: what no local process was seen to send has the
    /// origin [`OperatorAttestedTransport`] there. A local process that forges
    /// is caught all the same.
    ///
    /// [`OperatorAttestedTransport`]: observer_events::event::BeatOrigin
    pub fn trust_udp(mut self, address: SocketAddr) -> Self {
        self.trusted_udp.push(address);
        self
    }

    /// Agrees to take beats from the network, as [`NetworkUnverified`], and
    /// to UDP listeners that other hosts can reach. Default: no.
    ///
    /// [`NetworkUnverified`]: observer_events::event::BeatOrigin
    pub fn accept_network_beats(mut self, accept: bool) -> Self {
        self.accept_network_beats = accept;
        self
    }

    /// Attests senders in other network namespaces whose datagrams come by this
    /// device, as the host's end of a container's `veth` pair or the bridge
    /// that it is plugged into. There has to be one of this name when the
    /// observer starts. Default: none, and such datagrams are the network's.
    pub fn attest_device(mut self, name: impl Into<String>) -> Self {
        self.attested_devices.push(name.into());
        self
    }

    /// Says that addresses of what comes by attested devices are translated
    /// (NAT) on the way: a sender is then known by the bytes that it sent
    /// alone. Default: no.
    pub fn attest_translated(mut self, is_translated: bool) -> Self {
        self.is_translated = is_translated;
        self
    }

    /// Has each UDP datagram of this network namespace carry a token of its
    /// own to the listener, as its mark: not even one with the same bytes and
    /// the same source can be taken for it. A firewall that looks at marks sees
    /// it. Default: no.
    pub fn udp_tokens(mut self, tokens: bool) -> Self {
        self.tokens = tokens;
        self
    }

    /// The cgroup whose processes' UDP datagrams are attested. Default: the
    /// root of the hierarchy that is mounted, with every process.
    pub fn cgroup(mut self, directory: Option<PathBuf>) -> Self {
        self.cgroup = directory;
        self
    }

    /// What becomes of agents in pid namespaces below the observer's.
    /// Default: [`Namespaces::Refuse`].
    pub fn namespaces(mut self, namespaces: Namespaces) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Users and groups that may be agents. Default: whoever the socket's
    /// mode lets in.
    pub fn senders(mut self, senders: Senders) -> Self {
        self.senders = senders;
        self
    }

    /// Who keeps an agent's slot that beats of different origins claim.
    /// Default: [`OriginPolicy::First`].
    pub fn origin_policy(mut self, policy: OriginPolicy) -> Self {
        self.origin_policy = policy;
        self
    }

    /// By which way beats on the Unix socket come. Default:
    /// [`Ingest::Socket`], which is also what happens where no program can be
    /// loaded and the policy lets the observer start all the same.
    pub fn ingest(mut self, ingest: Ingest) -> Self {
        self.ingest = ingest;
        self
    }

    /// Who refuses a forgery on the Unix socket. Default: [`Refuse::User`].
    pub fn refuse(mut self, refuse: Refuse) -> Self {
        self.refuse = refuse;
        self
    }

    /// Agrees to [`Ingest::Ring`] and [`Refuse::Kernel`] where a security
    /// module decides who may send by Unix sockets: the kernel consults it only
    /// after the eBPF program has run, so what it forbids is delivered then.
    /// Default: no, and [`Builder::bind`] fails there.
    pub fn over_lsm(mut self, agreed: bool) -> Self {
        self.over_lsm = agreed;
        self
    }

    /// How many datagrams a second one process may send to the Unix socket,
    /// of whatever kind, and twice as many at once, and how many frames by UDP
    /// from the listeners' own network namespace; what is more is dropped in
    /// the kernel, counted, and reported as [`Notice`](observer_events::Notice)s. 0: no
    /// limit. Default: [`DEFAULT_MAX_BEAT_RATE`].
    ///
    /// A critical beat beyond it has a small budget of its own, a hundredth of
    /// this.
    pub fn max_beat_rate(mut self, rate: u32) -> Self {
        self.max_beat_rate = rate;
        self
    }

    /// The same for all processes of a user together that are no agents:
    /// processes of which no beat has been accepted yet; likewise for those of
    /// a cgroup. An agent is charged to its own budget only, so a flood in its
    /// user's name cannot mute it. 0: no limit. Default: ten times
    /// [`Builder::max_beat_rate`].
    pub fn max_group_rate(mut self, rate: u32) -> Self {
        self.max_group_rate = Some(rate);
        self
    }

    /// How often the ring is looked at while it delivers many datagrams: how
    /// late a beat may be known then, and how seldom the observer wakes up.
    /// Longer than zero; default: [`DEFAULT_POLL_INTERVAL`].
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// What ends the observer's waits from another thread. Default: nothing.
    pub fn waker(mut self, waker: &Waker) -> Self {
        self.waker = Some(waker.clone());
        self
    }

    /// Loads the eBPF programs, binds the sockets and starts to observe.
    ///
    /// The program is attached before the Unix socket has a name, and before
    /// a UDP listener takes anything, so there is no datagram without a
    /// record.
    ///
    /// # Errors
    /// If a setting is missing or out of range, this host cannot attest as
    /// the policy demands, or a socket cannot be had or received from.
    pub fn bind(self) -> Result<Observer, StartError> {
        let path = self
            .socket
            .clone()
            .ok_or(StartError::Incomplete("socket path"))?;
        let threshold_ns = self.threshold_ns()?;
        self.check()?;
        self.check_security_module()?;
        let options = AttestOptions {
            mode: self.attest,
            tier: self.tier,
            min_tier: self.min_tier,
            ring_bytes: self.ring_size(),
            types: KernelTypes::at(self.btf.clone().unwrap_or_else(|| KERNEL_BTF.into())),
        };
        let udp = self.udp_route(&options)?;
        let (unix, id_lists) = self.unix_route(&options, path)?;
        let policy = Policy {
            attest: self.attest,
            observer_ns_inode: PidNamespace::of_self().ok().map(|ns| u64::from(ns.inode)),
            namespaces: self.namespaces,
            senders: self.senders,
        };
        let tracker = Tracker::new(self.max_agents, threshold_ns, self.origin_policy);
        let mut routes = Routes { unix, udp };
        routes
            .try_receive()
            .map_err(|(socket, error)| StartError::Receive { socket, error })?;
        let engine = Engine::new(routes, policy, tracker);
        Observer::new(engine, id_lists, self.waker.as_ref()).map_err(StartError::Wait)
    }
}
