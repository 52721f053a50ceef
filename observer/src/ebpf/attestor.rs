//! The program of one route, and what its records say of senders.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use observer_common::budget::{Budget, BudgetKey};
use observer_common::loss::Loss;
use observer_common::record::{Fate, Limit, Record, UNKNOWN_ID};
use observer_events::event::{Attestation, Comm, TaskKind, Via};
use observer_events::exe::ExeId;
use observer_events::snapshot::ProgramRuns;

use super::program::{KernelError, LoadedProgram, Plan, Traffic};
use super::ring::Ring;
use super::tier::{AttestOptions, CannotAttest};
use crate::policy::Network;
use crate::transport::{Credentials, Way};

/// Names the senders of one route's datagrams.
pub(crate) struct Attestor {
    /// `None`: `SCM_CREDENTIALS` only.
    program: Option<LoadedProgram>,
    via: Via,
    /// Why a stronger tier is not in use.
    degraded: Option<String>,
}

/// Why the program does not let datagrams in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// Their sender sends more than it may.
    Flood,
    /// Descriptors are attached to them.
    Descriptors,
}

/// How many datagrams of a sender the program has not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) count: u64,
    /// When the program last wrote a record of it, nanoseconds of
    /// `CLOCK_MONOTONIC`: records that it wrote until then count no more.
    pub(crate) reported_ns: u64,
}

/// A sender whose datagrams the program does not let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttled {
    /// Whose budget it is.
    pub(crate) key: BudgetKey,
    /// Why.
    pub(crate) reason: Reason,
    /// What it was too much for, if it was a flood.
    pub(crate) limit: Limit,
    /// How many datagrams that were so far.
    pub(crate) dropped: Dropped,
    /// The last of them, with its sender.
    pub(crate) record: Record,
}

impl Attestor {
    /// Loads the strongest tier that options and host allow.
    pub(crate) fn load(
        options: &AttestOptions,
        traffic: Traffic<'_>,
    ) -> Result<Self, CannotAttest> {
        let mut found = CannotAttest::untried();
        for via in options.tiers() {
            match Self::load_tier(options, traffic, via) {
                Ok(program) => {
                    return Ok(Self {
                        program: Some(program),
                        via,
                        degraded: found.reasons(),
                    });
                }
                Err(error) => found.refusals.push((via, error)),
            }
            found.is_held = options.holds_to(via);
            if found.is_held {
                break;
            }
        }
        if options.may_do_without() {
            Ok(Self::without(&found))
        } else {
            Err(found)
        }
    }

    fn load_tier(
        options: &AttestOptions,
        traffic: Traffic<'_>,
        via: Via,
    ) -> Result<LoadedProgram, KernelError> {
        LoadedProgram::load(&Plan {
            program: traffic.program(via)?,
            traffic,
            types: &options.types,
            ring_bytes: options.ring_bytes,
        })
    }

    /// Without a program, for this reason.
    pub(crate) fn without(refusals: &CannotAttest) -> Self {
        Self {
            program: None,
            via: Via::Scm,
            degraded: refusals.reasons(),
        }
    }

    /// Without a program, and so without knowledge of anyone.
    pub(crate) fn none() -> Self {
        Self::without(&CannotAttest::untried())
    }

    /// Sees to it that every datagram to the socket has a record. To be
    /// called before anyone can send to it. Says whether the socket has a
    /// filter now.
    pub(crate) fn attach(&mut self, socket: BorrowedFd<'_>) -> Result<bool, KernelError> {
        match &mut self.program {
            Some(program) => program.attach(socket).map(|()| true),
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
        match self.program.as_mut().zip(way) {
            Some((program, way)) => program.attach_udp(socket, way, is_trusted).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether senders to a UDP listener are attested.
    pub(crate) fn attests(&self, listener: SocketAddr) -> bool {
        let program = self.program.as_ref();
        program.is_some_and(|program| program.sees(listener))
    }

    /// The tier in use.
    pub(crate) fn via(&self) -> Via {
        self.via
    }

    /// Why a stronger tier is not in use.
    pub(crate) fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    /// The program, if there is one.
    pub(crate) fn program(&self) -> Option<&LoadedProgram> {
        self.program.as_ref()
    }

    /// The program, if there is one, to read its rings.
    pub(crate) fn program_mut(&mut self) -> Option<&mut LoadedProgram> {
        self.program.as_mut()
    }

    /// The program's rings.
    pub(crate) fn rings(&self) -> impl Iterator<Item = &Ring> {
        self.program.iter().flat_map(LoadedProgram::rings)
    }

    /// What the kernel side let go.
    pub(crate) fn loss(&self, loss: Loss) -> u64 {
        self.program().map_or(0, |program| program.loss(loss))
    }

    /// Ring entries that were no records.
    pub(crate) fn malformed(&self) -> u64 {
        self.rings()
            .map(Ring::malformed)
            .fold(0, u64::saturating_add)
    }

    /// What the kernel counted of the program's runs.
    pub(crate) fn program_runs(&self) -> Option<ProgramRuns> {
        self.program().and_then(LoadedProgram::runs)
    }

    /// Says to the program that a process is an agent: it pays from its own
    /// budget alone from now on.
    pub(crate) fn vouch(&mut self, sender: &Attestation) {
        let key = Self::budget_key(sender);
        if let Some((program, key)) = self.program.as_mut().zip(key) {
            program.vouch(key);
        }
    }

    /// From whose budget a sender pays.
    pub(crate) fn budget_key(sender: &Attestation) -> Option<BudgetKey> {
        Some(BudgetKey {
            start_ns: sender.start_ns.unwrap_or_default(),
            host_pid: sender.host_pid?,
            task_kind: sender.task_kind as u32,
        })
    }

    /// How many datagrams of a sender the program has not let in by now; `None`
    /// if nobody knows any more.
    pub(crate) fn dropped(&self, key: BudgetKey, reason: Reason) -> Option<Dropped> {
        let budget: Budget = self.program()?.budget(key)?;
        let (count, reported_ns) = match reason {
            Reason::Flood => (budget.dropped, budget.reported_ns),
            Reason::Descriptors => (budget.with_descriptors, budget.descriptors_reported_ns),
        };
        Some(Dropped { count, reported_ns })
    }

    /// Asks the program to wake the observer for the next datagram that it
    /// takes; false if there is something to be read, and it is not asked.
    /// Without a program there is nothing to wait for.
    pub(crate) fn arm_wakeup(&self) -> bool {
        let Some(program) = &self.program else {
            return true;
        };
        program.wakeup.arm();
        let is_quiet = program.ring.is_quiet();
        if !is_quiet {
            program.wakeup.disarm();
        }
        is_quiet
    }

    /// Asks the program not to wake the observer: the ring will be looked at
    /// anyway.
    pub(crate) fn disarm_wakeup(&self) {
        if let Some(program) = &self.program {
            program.wakeup.disarm();
        }
    }

    /// Who a record says has sent.
    pub(crate) fn attestation(&self, record: &Record, scm_pid: Option<u32>) -> Attestation {
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
            exe: ExeId::from_record(record.exe_device, record.exe_inode),
            scm_pid,
            via: self.via,
            task_kind: TaskKind::try_from(record.task_kind).unwrap_or(TaskKind::Unknown),
            corked: record.corked != 0,
        }
    }
}

impl From<&Record> for Throttled {
    fn from(record: &Record) -> Self {
        Self {
            key: BudgetKey {
                start_ns: record.start_ns,
                host_pid: record.host_pid,
                task_kind: record.task_kind.into(),
            },
            reason: if record.fate == Fate::Descriptors as u8 {
                Reason::Descriptors
            } else {
                Reason::Flood
            },
            limit: Limit::try_from(record.limit).unwrap_or(Limit::Process),
            dropped: Dropped {
                count: record.dropped,
                reported_ns: record.time_ns,
            },
            record: *record,
        }
    }
}

/// A sender of whom `SCM_CREDENTIALS` alone speaks.
pub(crate) fn from_credentials(credentials: &Credentials) -> Attestation {
    let Credentials { pid, uid, gid } = *credentials;
    Attestation {
        pid: known(pid),
        uid: Some(uid),
        gid: Some(gid),
        scm_pid: Some(pid),
        ..Attestation::unknown(Via::Scm)
    }
}

/// The kernel numbers tasks and namespaces from 1.
fn known(number: u32) -> Option<u32> {
    Some(number).filter(|&number| number != 0)
}
