//! Who really sent a datagram: everything eBPF.
//!
//! A program on the receiving socket's send path writes a record of each
//! datagram and its sender to a ring; `Attestor` reads the ring and joins
//! records with datagrams. Nothing outside this module names aya.

#[cfg(feature = "ebpf-log")]
mod debug_log;
mod io_worker;
mod join;
mod kernel;
mod layout;
mod namespace;
mod object;
pub mod probe;
mod ring;

use std::{fmt, os::fd::BorrowedFd, path::PathBuf};

use observer_common::{
    frame::FRAME_LEN,
    loss::Loss,
    record::{Program, Record, UNKNOWN_ID},
};

pub use join::{Join, JoinCounts, MAX_RIVALS, MAX_WAITING, RECORD_LIFETIME_NS};
pub(crate) use kernel::DEFAULT_RING_BYTES;
pub use kernel::KernelError;
pub use layout::{KERNEL_BTF, LayoutError};
pub use namespace::PidNamespace;
pub use object::object_is_built_in;

use crate::{
    event::{Attestation, Comm, TaskKind, Via},
    judge::AttestMode,
    transport::Credentials,
};
use kernel::Kernel;
use ring::Mark;

/// How the attestation of a socket is set up.
#[derive(Clone, Debug)]
pub(crate) struct AttestOptions {
    pub(crate) mode: AttestMode,
    /// The one tier to use; `None`: the strongest that this host allows.
    pub(crate) tier: Option<Via>,
    /// Size of the ring in bytes: a power of two, a page or more.
    pub(crate) ring_bytes: u32,
    /// Where the kernel's type information is.
    pub(crate) btf: PathBuf,
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

/// The name of a tier as flags and reports have it.
#[must_use]
pub fn tier_name(via: Via) -> &'static str {
    match via {
        Via::Btf => "btf",
        Via::Helper => "helper",
        Via::Scm => "scm",
    }
}

/// Tells who sent the datagrams of one socket.
pub(crate) struct Attestor {
    /// `None`: `SCM_CREDENTIALS` only.
    kernel: Option<Kernel>,
    join: Join,
    via: Via,
    mark: Option<Mark>,
    fallback: Option<String>,
}

/// What is known of a datagram's sender.
pub(crate) enum Finding {
    /// All that will ever be known.
    Known(Option<Attestation>),
    /// Its record lies behind one that is still being written.
    Pending(Pending),
}

/// Says when a pending datagram's record must have been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending(Mark);

/// What a pass over the ring showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Absorbed {
    /// How many records were read.
    pub(crate) records: u64,
    /// When the oldest of them was written (`CLOCK_MONOTONIC`).
    pub(crate) oldest_ns: Option<u64>,
}

impl Attestor {
    /// Loads the strongest tier that options and host allow.
    pub(crate) fn load(options: &AttestOptions) -> Result<Self, CannotAttest> {
        let AttestOptions {
            mode,
            tier,
            ring_bytes,
            btf,
        } = options;
        let tiers: &[Via] = match (mode, tier) {
            (AttestMode::Off, _) | (_, Some(Via::Scm)) => &[],
            (_, Some(Via::Btf)) => &[Via::Btf],
            (_, Some(Via::Helper)) => &[Via::Helper],
            (_, None) => &[Via::Btf, Via::Helper],
        };
        let mut refusals = Vec::new();
        for &via in tiers {
            let program = match via {
                Via::Btf => Program::UnixBtf,
                Via::Helper | Via::Scm => Program::UnixHelper,
            };
            match Kernel::load(program, btf, *ring_bytes) {
                Ok(kernel) => return Ok(Self::new(Some(kernel), via, &refusals)),
                Err(error) => refusals.push((via, error)),
            }
        }
        match mode {
            AttestMode::Require => Err(CannotAttest(refusals)),
            AttestMode::Prefer | AttestMode::Off => Ok(Self::new(None, Via::Scm, &refusals)),
        }
    }

    fn new(kernel: Option<Kernel>, via: Via, refusals: &[(Via, KernelError)]) -> Self {
        let reasons: Vec<String> = refusals
            .iter()
            .map(|(via, error)| format!("tier {}: {error}", tier_name(*via)))
            .collect();
        Self {
            kernel,
            join: Join::new(),
            via,
            mark: None,
            fallback: (!reasons.is_empty()).then(|| reasons.join("; ")),
        }
    }

    /// Sees to it that every datagram to the socket has a record. To be
    /// called before anyone can send to it.
    pub(crate) fn attach(&mut self, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        match &mut self.kernel {
            Some(kernel) => kernel.attach(socket),
            None => Ok(()),
        }
    }

    /// The tier in use.
    pub(crate) fn via(&self) -> Via {
        self.via
    }

    /// Why a stronger tier is not in use.
    pub(crate) fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Reads the records of all datagrams received so far.
    pub(crate) fn absorb(&mut self, now: u64) -> Absorbed {
        let Self {
            kernel, join, mark, ..
        } = self;
        let mut absorbed = Absorbed::default();
        let Some(kernel) = kernel else {
            return absorbed;
        };
        #[cfg(feature = "ebpf-log")]
        kernel.debug_log.pass_on();
        let current = kernel.ring.mark();
        kernel.ring.read_up_to(current, |record| {
            absorbed.records = absorbed.records.saturating_add(1);
            let oldest = absorbed.oldest_ns.unwrap_or(record.time_ns);
            absorbed.oldest_ns = Some(oldest.min(record.time_ns));
            join.record(record, now);
        });
        *mark = Some(current);
        absorbed
    }

    /// Forgets records whose datagrams will not come.
    pub(crate) fn expire(&mut self, now: u64) {
        self.join.expire(now);
    }

    /// Who sent a datagram that was received before the last
    /// [`Attestor::absorb`].
    pub(crate) fn identify(
        &mut self,
        frame: &[u8; FRAME_LEN],
        credentials: Option<&Credentials>,
    ) -> Finding {
        self.settle(frame, credentials, self.mark, false)
    }

    /// Asks again for a datagram whose record was pending. Once the ring has
    /// been read as far as the record must lie, or `give_up` says so, the
    /// answer is final.
    pub(crate) fn identify_again(
        &mut self,
        frame: &[u8; FRAME_LEN],
        credentials: Option<&Credentials>,
        Pending(mark): Pending,
        give_up: bool,
    ) -> Finding {
        self.settle(frame, credentials, Some(mark), give_up)
    }

    /// A record, or none for good, or none as long as the ring has not been
    /// read up to the mark.
    fn settle(
        &mut self,
        frame: &[u8; FRAME_LEN],
        credentials: Option<&Credentials>,
        mark: Option<Mark>,
        give_up: bool,
    ) -> Finding {
        let scm_pid = credentials.map(|credentials| credentials.pid);
        if let Some(record) = self.join.claim(frame, scm_pid) {
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
            task_kind: io_worker::task_kind(record),
        }
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
        own_pid: None,
        host_pid: None,
        tid: None,
        pid_ns_inode: None,
        uid: Some(uid),
        gid: Some(gid),
        start_ns: None,
        comm: None,
        cgroup_id: None,
        scm_pid: Some(pid),
        via: Via::Scm,
        task_kind: TaskKind::Unknown,
    }
}
