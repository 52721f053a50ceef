//! Who really sent a datagram: everything eBPF.
//!
//! A program on the send path writes a record of each datagram and its sender
//! to a ring; `Attestor` reads the ring and joins records with datagrams, or
//! hands records on that are datagrams themselves: those that the program took
//! off the socket. There is one for the Unix socket and one for all UDP listeners, each with a
//! ring of its own: no flood on one can cost the other its records. Nothing
//! outside this module names aya.

mod btf;
mod busy;
mod cgroup;
#[cfg(feature = "ebpf-log")]
mod debug_log;
mod deliveries;
mod join;
mod kfunc;
mod layout;
mod mapping;
mod namespace;
mod object;
pub mod probe;
mod program;
mod ring;
mod udp;
mod wakeup;
mod window;

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
};

use observer_common::{
    frame::FRAME_LEN,
    loss::Loss,
    record::{Program, Record, UNKNOWN_ID},
};

pub use cgroup::{Cgroup, CgroupError};
pub(crate) use deliveries::{Dropped, Reason, Taken, Throttled};
pub use join::{Hint, Join, JoinCounts, MAX_RIVALS, MAX_WAITING, Otherwise, RECORD_LIFETIME_NS};
pub(crate) use layout::KernelTypes;
pub use layout::{KERNEL_BTF, LayoutError};
pub use namespace::PidNamespace;
pub use object::object_is_built_in;
pub use program::KernelError;
pub(crate) use program::{DEFAULT_RING_BYTES, DELIVERING_RING_BYTES, Traffic, UdpTraffic};

use observer_events::{
    event::{Attestation, Comm, TaskKind, Via},
    snapshot::ProgramRuns,
};

use crate::{
    judge::{AttestMode, Channel, Network},
    transport::{Credentials, Datagram, Way},
};
use program::{LoadedProgram, Plan};
use ring::Mark;
use udp::Others;
use window::Window;

/// How attestation is set up.
#[derive(Clone, Debug)]
pub(crate) struct AttestOptions {
    pub(crate) mode: AttestMode,
    /// The one tier to use; `None`: the strongest that this host allows.
    pub(crate) tier: Option<Via>,
    /// Size of the ring in bytes: a power of two, a page or more.
    pub(crate) ring_bytes: u32,
    pub(crate) types: KernelTypes,
}

/// Why this host cannot attest: each tier that was tried, and its reason.
#[derive(Debug)]
pub struct CannotAttest(Vec<(Via, KernelError)>);

impl fmt::Display for CannotAttest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this host cannot attest senders")?;
        for (via, error) in &self.0 {
            write!(f, "; tier {}: {error}", tier_name(*via))?;
        }
        f.write_str(
            "; run as root or with CAP_BPF and CAP_PERFMON, see `observer doctor`; \
             `--attest prefer` would go on with SCM_CREDENTIALS, which a privileged sender can forge",
        )
    }
}

impl std::error::Error for CannotAttest {}

impl CannotAttest {
    /// Whether listeners on IPv6 could be attested.
    pub(crate) fn is_for_ipv6_only(&self) -> bool {
        let Self(refusals) = self;
        let mut errors = refusals.iter().map(|(_, error)| error);
        errors.any(|error| matches!(error, KernelError::UdpNeedsIpv6))
    }
}

/// The name of a tier as flags and reports have it.
#[must_use]
pub fn tier_name(via: Via) -> &'static str {
    match via {
        Via::Btf => "btf",
        Via::Helper => "helper",
        Via::Scm => "scm",
    }
}

/// Tells who sent the datagrams of one route.
pub(crate) struct Attestor {
    /// `None`: `SCM_CREDENTIALS` only.
    kernel: Option<LoadedProgram>,
    join: Join,
    others: Others,
    via: Via,
    window: Option<Window>,
    read_as_of: u64,
    /// Datagrams that the program took off the socket.
    taken: VecDeque<Record>,
    /// What it says of senders that it dropped datagrams of.
    throttled: VecDeque<Record>,
    /// Whether datagrams of one honest sender may come by the ring and by the
    /// socket.
    is_ordered: bool,
    fallback: Option<String>,
}

/// Who sent what came by each way.
pub(crate) struct Attestors {
    pub(crate) unix: Attestor,
    pub(crate) udp: Attestor,
}

impl Attestors {
    /// Says to the programs that a process is an agent: it pays from its own
    /// budget alone from now on. To both, for an agent may send by another
    /// channel next, and is no new one there. Once for each new agent, a system
    /// call or two.
    pub(crate) fn vouch(&mut self, sender: &Attestation) {
        self.unix.vouch(sender);
        self.udp.vouch(sender);
    }

    /// Who sent a datagram that was received before the last
    /// [`Attestor::absorb`]. Of UDP's, `way` says by which it came.
    pub(crate) fn identify(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        channel: Channel,
        way: Option<Way>,
    ) -> Finding {
        match channel {
            Channel::Unix => self.unix.identify(frame, datagram),
            Channel::Udp(network) => {
                self.udp
                    .identify_udp(frame, datagram, (way, network), (None, false))
            }
        }
    }

    /// Asks again for a datagram whose record was pending. Once the ring has
    /// been read as far as the record must lie, or `give_up` says so, the
    /// answer is final.
    pub(crate) fn identify_again(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        (channel, way): (Channel, Option<Way>),
        pending: Pending,
        give_up: bool,
    ) -> Finding {
        match channel {
            Channel::Unix => self.unix.identify_again(frame, datagram, pending, give_up),
            Channel::Udp(network) => {
                let pending = (Some(pending), give_up);
                self.udp
                    .identify_udp(frame, datagram, (way, network), pending)
            }
        }
    }
}

/// What is known of a datagram's sender.
pub(crate) enum Finding {
    /// All that will ever be known.
    Known(Option<Attestation>),
    /// It counts for nothing, whatever the operator agreed to take: a local
    /// process must have sent it, and which one is not known, or is known not
    /// to be one that may.
    Denied(Option<Attestation>),
    /// Its record has not been read yet: the ring is read in parts.
    Pending(Pending),
}

/// Says when a pending datagram's record must have been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending(Mark);

impl Attestor {
    /// Loads the strongest tier that options and host allow.
    pub(crate) fn load(
        options: &AttestOptions,
        traffic: Traffic<'_>,
    ) -> Result<Self, CannotAttest> {
        let AttestOptions {
            mode,
            tier,
            ring_bytes,
            types,
        } = options;
        let tiers: &[Via] = match (mode, tier) {
            (AttestMode::Off, _) | (_, Some(Via::Scm)) => &[],
            (_, Some(Via::Btf)) => &[Via::Btf],
            (_, Some(Via::Helper)) => &[Via::Helper],
            (_, None) => &[Via::Btf, Via::Helper],
        };
        let mut refusals = Vec::new();
        for &via in tiers {
            if via == Via::Helper && matches!(traffic, Traffic::Udp(_)) {
                refusals.push((via, KernelError::UdpNeedsBtf));
                continue;
            }
            let plan = Plan {
                program: program(via, traffic),
                traffic,
                types,
                ring_bytes: *ring_bytes,
            };
            match LoadedProgram::load(&plan) {
                Ok(kernel) => {
                    let attestor = Self::new(Some(kernel), via, &refusals);
                    let is_ordered =
                        matches!(traffic, Traffic::Unix { gate } if gate.take_below > 0);
                    return Ok(Self {
                        is_ordered,
                        ..attestor
                    });
                }
                Err(error) => refusals.push((via, error)),
            }
        }
        match mode {
            AttestMode::Require => Err(CannotAttest(refusals)),
            AttestMode::Prefer | AttestMode::Off => Ok(Self::new(None, Via::Scm, &refusals)),
        }
    }

    fn new(kernel: Option<LoadedProgram>, via: Via, refusals: &[(Via, KernelError)]) -> Self {
        let reasons: Vec<String> = refusals
            .iter()
            .map(|(via, error)| format!("tier {}: {error}", tier_name(*via)))
            .collect();
        Self {
            kernel,
            join: Join::new(),
            others: Others::new(),
            via,
            window: None,
            read_as_of: 0,
            taken: VecDeque::new(),
            throttled: VecDeque::new(),
            is_ordered: false,
            fallback: (!reasons.is_empty()).then(|| reasons.join("; ")),
        }
    }

    /// Without a program, for this reason.
    pub(crate) fn without(CannotAttest(refusals): &CannotAttest) -> Self {
        Self::new(None, Via::Scm, refusals)
    }

    /// Without a program, and so without knowledge of anyone.
    pub(crate) fn none() -> Self {
        Self::new(None, Via::Scm, &[])
    }

    /// Sees to it that every datagram to the socket has a record. To be
    /// called before anyone can send to it. Says whether the socket has a
    /// filter now.
    pub(crate) fn attach(&mut self, socket: BorrowedFd<'_>) -> Result<bool, KernelError> {
        match &mut self.kernel {
            Some(kernel) => kernel.attach(socket).map(|()| true),
            None => Ok(false),
        }
    }

    /// Sees to it that a socket of a UDP listener gets what comes by its way,
    /// and nothing else. Says whether it has a filter now.
    pub(crate) fn attach_udp(
        &mut self,
        socket: BorrowedFd<'_>,
        way: Option<Way>,
        network: Network,
    ) -> Result<bool, KernelError> {
        let is_trusted = network == Network::Trusted;
        match self.kernel.as_mut().zip(way) {
            Some((kernel, way)) => kernel.attach_udp(socket, way, is_trusted).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether senders to a UDP listener are attested.
    pub(crate) fn attests(&self, listener: SocketAddr) -> bool {
        let kernel = self.kernel.as_ref();
        kernel.is_some_and(|kernel| kernel.sees(listener))
    }

    /// The rings of UDP that have been read: each is readable once something is
    /// in it. One in which a record is still being written is so all the time,
    /// and is to be waited for by time.
    pub(crate) fn read_rings(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let rings = self.kernel.iter().flat_map(LoadedProgram::rings);
        rings
            .filter(|ring| ring.is_quiet() && !ring.has_busy())
            .map(|ring| ring.as_fd())
    }

    /// The rings of UDP.
    pub(crate) fn rings(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let rings = self.kernel.iter().flat_map(LoadedProgram::rings);
        rings.map(|ring| ring.as_fd())
    }

    /// Whether a ring of UDP holds what was still being written, or was not
    /// there, when it was last read.
    pub(crate) fn has_unread(&self) -> bool {
        let mut rings = self.kernel.iter().flat_map(LoadedProgram::rings);
        rings.any(|ring| !ring.is_quiet() || ring.has_busy())
    }

    /// The tier in use.
    pub(crate) fn via(&self) -> Via {
        self.via
    }

    /// Why a stronger tier is not in use.
    pub(crate) fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Forgets records whose datagrams will not come. All that was sent
    /// before `read_as_of`, in attended nanoseconds, has been received.
    pub(crate) fn expire(&mut self, read_as_of: u64) {
        self.join.expire(read_as_of);
        self.others.expire(read_as_of);
    }

    /// Who sent a datagram that was received before the last
    /// [`Attestor::absorb`].
    fn identify(&mut self, frame: &[u8; FRAME_LEN], datagram: &Datagram) -> Finding {
        let mark = match &self.kernel {
            // The window may be older than the datagram.
            Some(kernel) if self.is_ordered => Some(kernel.ring.mark()),
            _ => self.window.map(|window| window.mark),
        };
        self.settle(frame, datagram, mark, false)
    }

    /// Asks again for a datagram whose record was pending. Once the ring has
    /// been read as far as the record must lie, or `give_up` says so, the
    /// answer is final.
    fn identify_again(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        Pending(mark): Pending,
        give_up: bool,
    ) -> Finding {
        self.settle(frame, datagram, Some(mark), give_up)
    }

    /// A record, or none for good, or none as long as the ring has not been
    /// read up to the mark.
    fn settle(
        &mut self,
        frame: &[u8; FRAME_LEN],
        datagram: &Datagram,
        mark: Option<Mark>,
        give_up: bool,
    ) -> Finding {
        let credentials = datagram.credentials.as_ref();
        let scm_pid = credentials.map(|credentials| credentials.pid);
        let hint = scm_pid.map(Hint::Pid);
        if let Some(record) = self.join.claim(frame, hint, Otherwise::Oldest) {
            return Finding::Known(Some(self.attestation(&record, scm_pid)));
        }
        match (&self.kernel, mark) {
            (Some(kernel), Some(mark)) if !give_up && !kernel.ring.is_read_up_to(mark) => {
                Finding::Pending(Pending(mark))
            }
            _ => Finding::Known(credentials.map(from_credentials)),
        }
    }

    /// What the kernel side let go.
    pub(crate) fn loss(&self, loss: Loss) -> u64 {
        self.kernel.as_ref().map_or(0, |kernel| kernel.loss(loss))
    }

    /// Ring entries that were no records.
    pub(crate) fn malformed(&self) -> u64 {
        self.kernel
            .as_ref()
            .map_or(0, |kernel| kernel.ring.malformed())
    }

    /// Records that no datagram took.
    pub(crate) fn join_counts(&self) -> JoinCounts {
        self.join.counts()
    }

    /// Records that wait for their datagrams.
    pub(crate) fn records_waiting(&self) -> usize {
        self.join.len()
    }

    /// What the kernel counted of the program's runs.
    pub(crate) fn program_runs(&self) -> Option<ProgramRuns> {
        self.kernel.as_ref().and_then(LoadedProgram::runs)
    }

    fn attestation(&mut self, record: &Record, scm_pid: Option<u32>) -> Attestation {
        Attestation {
            pid: known(record.pid),
            own_pid: known(record.own_pid),
            host_pid: known(record.host_pid),
            tid: known(record.host_tid),
            pid_ns_inode: known(record.pid_ns_inode).map(u64::from),
            uid: Some(record.uid).filter(|&uid| uid != UNKNOWN_ID),
            gid: Some(record.gid).filter(|&gid| gid != UNKNOWN_ID),
            start_ns: Some(record.start_ns).filter(|&start| start != 0),
            comm: Comm::new(record.comm),
            cgroup_id: Some(record.cgroup_id).filter(|&id| id != 0),
            scm_pid,
            via: self.via,
            task_kind: TaskKind::try_from(record.task_kind).unwrap_or(TaskKind::Unknown),
            corked: record.corked != 0,
        }
    }
}

/// The program that a tier uses for this traffic.
fn program(via: Via, traffic: Traffic<'_>) -> Program {
    match (via, traffic) {
        (Via::Btf, Traffic::Unix { .. }) => Program::UnixBtf,
        (Via::Helper | Via::Scm, Traffic::Unix { .. }) => Program::UnixHelper,
        (_, Traffic::Udp(_)) => Program::UdpBtf,
    }
}

/// The kernel numbers tasks and namespaces from 1.
fn known(number: u32) -> Option<u32> {
    Some(number).filter(|&number| number != 0)
}

/// A sender of whom `SCM_CREDENTIALS` alone speaks.
fn from_credentials(credentials: &Credentials) -> Attestation {
    let Credentials { pid, uid, gid } = *credentials;
    Attestation {
        pid: known(pid),
        uid: Some(uid),
        gid: Some(gid),
        scm_pid: Some(pid),
        ..Attestation::unknown(Via::Scm)
    }
}
