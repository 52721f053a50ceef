//! Senders of which everything is known, and what their records prove.

use observer_common::frame::FRAME_LEN;
use observer_common::record::{COMM_LEN, Fate, Record, TaskKind};

use super::child::{Child, Ids, Role};
use super::uring::Uring;
use super::values::{has_slept, random_name, unused_ids};
use super::{Field, FieldProof};
use crate::ebpf::namespace::{PidNamespace, inode};
use crate::ebpf::program::LoadedProgram;
use crate::ebpf::program::error::KernelError;
use crate::ebpf::program::self_test::stat::{Stat, is_proc_ours};
use crate::ebpf::program::self_test::truth::{STEADY_FLAGS, Truth, exe_of};
use crate::ebpf::program::self_test::{Pair, compare, probe};

/// The cgroup id that other fields hold by chance: that of the root.
const ROOT_CGROUP: u64 = 1;

const WITHOUT_IDS: &str = "this process has not CAP_SETUID and CAP_SETGID, so nobody could send \
                           whose ids differ from one another";

/// Why a field is not proved; `Ok`: it is.
type Finding = Result<(), String>;

/// Who sends, and what has been found of the fields so far.
pub(super) struct Senders {
    program: LoadedProgram,
    pair: Pair,
    known: Known,
    fields: Vec<FieldProof>,
}

/// What is known of this process and of what the program can see.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) namespace: PidNamespace,
    /// Depth of that.
    pub(super) level: u32,
    /// The types are not those that the kernel shows.
    pub(super) types_from_file: bool,
    pub(super) program_sees: Sight,
}

/// What a program sees where types and kernel let it.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    /// The file that a sender executes.
    pub(super) exe: bool,
    /// Descriptors that are attached.
    pub(super) attached: bool,
    /// Whose work a worker of io_uring does.
    pub(super) workers: bool,
}

/// A child that has sent, and has ended.
struct Sent {
    pid: u32,
    /// Of its pid namespace, if it could be read.
    namespace: Option<u32>,
    stat: Option<Stat>,
    comm: [u8; COMM_LEN],
    frame: [u8; FRAME_LEN],
}

impl Senders {
    pub(super) fn new(program: LoadedProgram, pair: Pair, known: Known) -> Self {
        Self {
            program,
            pair,
            known,
            fields: Vec::new(),
        }
    }

    /// Has them send, and compares.
    pub(super) fn compare(mut self) -> Result<Vec<FieldProof>, KernelError> {
        let own = Truth {
            level: Some(self.known.level),
            // In its place are the flags.
            host_pid: None,
            ..Truth::of_this_thread(&self.known.namespace)
        };
        self.thread()?;
        self.stranger(&own)?;
        self.nested(&own)?;
        self.by_kernel_threads(&own)?;
        self.with_descriptor()?;
        self.after_shutdown()?;
        Ok(self.fields)
    }

    /// A thread of this process that is not its first: its id is not the
    /// process's.
    fn thread(&mut self) -> Result<(), KernelError> {
        let sent = self.pair.send_by_thread(&self.known.namespace)?;
        let truth = Truth {
            host_pid: None,
            level: Some(self.known.level),
            ..sent.truth
        };
        let record = self.record(&sent.frame)?;
        compare(&truth, &record)?;
        compare_flags(sent.flags, &record)?;
        // All bits, of which some come and go: nothing else is likely to be so.
        let flags = match sent.flags {
            Some(flags) if flags == record.host_pid && flags != 0 => Ok(()),
            Some(_) => Err("they changed meanwhile".into()),
            None => Err("/proc does not show them".into()),
        };
        self.found(Field::TaskFlags, flags);
        self.found(Field::Pid, Ok(()));
        self.found(Field::PidNamespace, Ok(()));
        self.found(
            Field::Tid,
            match (sent.is_thread, truth.host_tid) {
                (true, Some(_)) => Ok(()),
                (true, None) => Err("ids in the initial pid namespace are not known here".into()),
                (false, _) => Err("no thread could be started".into()),
            },
        );
        let exe = self.exe(&truth, &record)?;
        self.found(Field::Exe, exe);
        self.found(
            Field::CgroupId,
            match truth.cgroup_id {
                Some(ROOT_CGROUP) => Err(
                    "the id of the root cgroup, in which this process is, is 1, \
                                      as many numbers are"
                        .into(),
                ),
                Some(_) => Ok(()),
                None => Err("no cgroup2 file system shows this process's cgroup".into()),
            },
        );
        Ok(())
    }

    /// Every process executes a file, so a record that names none is wrong
    /// where the types lead to it.
    fn exe(&self, truth: &Truth, record: &Record) -> Result<Finding, KernelError> {
        if !self.known.program_sees.exe {
            return Ok(Err("these types do not lead to it".into()));
        }
        match (exe_of(record), truth.exe) {
            (None, _) => Err(wrong("it names no executable".into())),
            (Some(_), None) => Ok(Err("/proc does not show the mount that this process's \
                                       executable is on"
                .into())),
            (Some(_), Some(_)) => Ok(Ok(())),
        }
    }

    /// A process with ids, a name and a start of its own.
    fn stranger(&mut self, own: &Truth) -> Result<(), KernelError> {
        let ids = own.uid.and_then(|_| unused_ids());
        let mut is_proved = ids.map(|_| ()).ok_or_else(|| WITHOUT_IDS.to_owned());
        let mut sent = self.child(0, ids, None);
        if let (Some(_), Err(error)) = (ids, &sent) {
            is_proved = Err(error.clone());
            sent = self.child(0, None, None);
        }
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                for field in [Field::Uid, Field::Gid, Field::StartTime, Field::Comm] {
                    self.found(field, Err(error.clone()));
                }
                return Ok(());
            }
        };
        let ids = ids.filter(|_| is_proved.is_ok());
        let record = self.record(&sent.frame)?;
        let truth = Truth {
            uid: ids.map_or(own.uid, |ids| ids.users.first().copied()),
            gid: ids.map_or(own.gid, |ids| ids.groups.first().copied()),
            start: sent.stat.and_then(|stat| stat.start),
            ..self.truth_of(&sent, own)
        };
        compare(&truth, &record)?;
        compare_flags(sent.stat.and_then(|stat| stat.flags), &record)?;
        self.found(Field::Uid, is_proved.clone());
        self.found(Field::Gid, is_proved);
        let start = self.start_time(&truth);
        self.found(Field::StartTime, start);
        self.found(Field::Comm, Ok(()));
        Ok(())
    }

    /// As long as a host never slept, the start by the monotonic clock, which is
    /// beside it, is the same: with types from a file it could be that.
    fn start_time(&self, truth: &Truth) -> Finding {
        if truth.start.is_none() {
            return Err("/proc does not show it".into());
        }
        if self.known.types_from_file && !has_slept() {
            return Err("this host never slept, so its start by another clock is the same".into());
        }
        Ok(())
    }

    /// A process in a pid namespace of its own, as its first.
    fn nested(&mut self, own: &Truth) -> Result<(), KernelError> {
        // Who may not make one in its own user namespace may be allowed to make
        // one of these as well.
        let sent = self
            .child(libc::CLONE_NEWPID, None, None)
            .or_else(|_| self.child(libc::CLONE_NEWPID | libc::CLONE_NEWUSER, None, None));
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                self.found(
                    Field::Level,
                    Err(format!("no pid namespace could be had: {error}")),
                );
                return Ok(());
            }
        };
        let record = self.record(&sent.frame)?;
        let truth = Truth {
            own_pid: 1,
            namespace: sent.namespace,
            level: Some(self.known.level.saturating_add(1)),
            ..self.truth_of(&sent, own)
        };
        compare(&truth, &record)?;
        if record.pid_ns_inode == self.known.namespace.inode {
            return Err(wrong("two pid namespaces have one number".into()));
        }
        self.found(Field::Level, Ok(()));
        Ok(())
    }

    /// Processes whose sends a kernel thread carries out. A worker of the polling
    /// thread counts as that: every process that maps the io_uring sends by it.
    fn by_kernel_threads(&mut self, own: &Truth) -> Result<(), KernelError> {
        let mut finding = Ok(());
        for (is_polled, by_worker, expected) in [
            (true, false, TaskKind::SqPoll),
            (false, true, TaskKind::IoWorker),
            (true, true, TaskKind::SqPoll),
        ] {
            let uring = Uring {
                is_polled,
                by_worker,
            };
            let sent = match self.child(0, None, Some(uring)) {
                Ok(sent) => sent,
                Err(error) => {
                    finding = Err(format!("no io_uring could be used: {error}"));
                    break;
                }
            };
            let record = self.record(&sent.frame)?;
            let truth = Truth {
                // The kernel's own thread has another id and name.
                host_tid: None,
                comm: None,
                ..self.truth_of(&sent, own)
            };
            compare(&truth, &record)?;
            if record.task_kind == expected as u8 {
                continue;
            }
            if by_worker && !self.known.program_sees.workers {
                finding = Err("this kernel shows no program whose work a worker does".into());
                continue;
            }
            return Err(wrong(format!(
                "task kind is {}, should be {}",
                record.task_kind, expected as u8
            )));
        }
        self.found(Field::IoWorkers, finding);
        Ok(())
    }

    /// A datagram with a descriptor is told apart from the others, none of which has one
    /// ([`Senders::record`]).
    fn with_descriptor(&mut self) -> Result<(), KernelError> {
        if !self.known.program_sees.attached {
            return Ok(());
        }
        let frame = probe();
        let finding = match self.pair.send_with_descriptor(&frame) {
            Ok(()) => match self.program.find(&frame, 0) {
                Some(record) if record.fate == Fate::Descriptors as u8 => Ok(()),
                _ => return Err(wrong("it does not see an attached descriptor".into())),
            },
            Err(error) => Err(error.to_string()),
        };
        self.found(Field::Descriptors, finding);
        Ok(())
    }

    /// Once nobody receives any more, nothing may be recorded.
    fn after_shutdown(&mut self) -> Result<(), KernelError> {
        let frame = probe();
        let finding = match self.pair.send_after_shutdown(&frame) {
            Ok(()) if self.program.find(&frame, 0).is_some() => {
                return Err(wrong("it does not see that a socket was shut down".into()));
            }
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        self.found(Field::SocketShutdown, finding);
        Ok(())
    }

    /// What is known of a child that shares with this process what it did not
    /// change.
    fn truth_of(&self, sent: &Sent, own: &Truth) -> Truth {
        let is_initial = self.known.namespace.is_initial();
        Truth {
            pid: sent.pid,
            own_pid: sent.pid,
            host_tid: is_initial.then_some(sent.pid),
            comm: Some(sent.comm),
            start: sent.stat.and_then(|stat| stat.start),
            ..own.clone()
        }
    }

    /// Has a child send.
    fn child(
        &self,
        namespaces: libc::c_int,
        ids: Option<Ids>,
        uring: Option<Uring>,
    ) -> Result<Sent, String> {
        // A process may have its children made in another namespace than its
        // own (`unshare`).
        if inode("/proc/thread-self/ns/pid_for_children") != Some(self.known.namespace.inode.into())
        {
            return Err("children of this process are in another pid namespace".into());
        }
        let comm = random_name();
        let frame = probe();
        let role = Role {
            namespaces,
            ids,
            uring,
            comm: &comm,
            socket: self.pair.sender(),
            frame: &frame,
        };
        let started = Child::start(&role);
        let child = started.map_err(|error| format!("no child could be started: {error}"))?;
        let pid = child.pid();
        let shown = Some(pid).filter(|_| is_proc_ours());
        let namespace = shown.and_then(|pid| inode(format!("/proc/{pid}/ns/pid")));
        let stat = shown.and_then(|pid| Stat::of(&pid.to_string()));
        child.send()?;
        self.pair.drain();
        Ok(Sent {
            pid,
            namespace: namespace.and_then(|inode| inode.try_into().ok()),
            stat,
            comm,
            frame,
        })
    }

    fn record(&mut self, frame: &[u8; FRAME_LEN]) -> Result<Record, KernelError> {
        let record = self.program.find(frame, 0);
        let record = record.ok_or_else(|| wrong("it wrote no record".into()))?;
        if record.fate == Fate::Passed as u8 {
            Ok(record)
        } else {
            Err(wrong("it sees descriptors where none is attached".into()))
        }
    }

    fn found(&mut self, field: Field, finding: Finding) {
        self.fields.push(FieldProof {
            field,
            unproven: finding.err(),
        });
    }
}

fn wrong(finding: String) -> KernelError {
    KernelError::SelfTest(finding)
}

/// Compares the flags, which are in the record for the pid, as far as they do
/// not come and go.
fn compare_flags(expected: Option<u32>, record: &Record) -> Result<(), KernelError> {
    let found = record.host_pid & STEADY_FLAGS;
    match expected.map(|flags| flags & STEADY_FLAGS) {
        Some(expected) if expected != found => Err(wrong(format!(
            "task flags are {found:#x}, should be {expected:#x}"
        ))),
        _ => Ok(()),
    }
}
