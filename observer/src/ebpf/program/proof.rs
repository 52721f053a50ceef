//! What is proved of the fields that a program of tier `btf` reads, before any
//! program is used: senders of which everything is known send a datagram each,
//! and the records have to say the same.
//!
//! The verifier checks each load against the kernel's own types, but an offset at
//! which another field of the same type lies is right for it. Against a value
//! that many fields hold, as 0, a comparison proves little. So there are
//! several senders, with values that nothing else has: a thread, a process with
//! ids and a name of its own, and a process in a pid namespace of its own. What
//! this process may not make of them is not proved, and is said
//! ([`FieldProof`]). A value that is wrong is an error.
//!
//! All of them execute the observer's own file, so of the executable it is proved
//! that the record has this file's device and inode. That it is the sender's, and
//! not whosever else, follows from the types: the only other memory that a task
//! points to is its `active_mm`, which for a process is the same, and each
//! pointer from there on is the only one of its type. The verifier refuses
//! another type.
//!
//! All of this has a program of its own, with no limits and with rings that
//! nobody else reads: the budgets and counters of the one that is used do not
//! know of it.

mod child;
mod senders;
mod uring;
mod values;

use observer_common::gate::Gate;
use observer_common::record::Program;
use serde::Serialize;

use self::senders::{Known, Senders, Sight};
use super::LoadedProgram;
use super::error::KernelError;
use super::plan::{Plan, Traffic};
use super::self_test::Pair;
use crate::ebpf::layout::KernelTypes;
use crate::ebpf::namespace::PidNamespace;

/// Size of the ring for a handful of records.
const RING_BYTES: u32 = 1 << 16;

/// A field that a program of tier `btf` reads of a sender, or of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Field {
    /// Id of the process.
    Pid,
    /// Id of the thread.
    Tid,
    /// Its pid namespace.
    PidNamespace,
    /// Depth of that.
    Level,
    /// When the process started.
    StartTime,
    /// Real user id.
    Uid,
    /// Real group id.
    Gid,
    /// Name of the thread.
    Comm,
    /// Its cgroup.
    CgroupId,
    /// The file that its process executes.
    Exe,
    /// What kind of task it is, by its flags.
    TaskFlags,
    /// Whose work a worker of io_uring does.
    IoWorkers,
    /// Whether descriptors are attached to a datagram.
    Descriptors,
    /// Whether the receiving socket was shut down.
    SocketShutdown,
}

/// Whether it is proved that a field is read where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldProof {
    /// The field.
    pub field: Field,
    /// Why that is not proved; `None`: it is.
    pub unproven: Option<String>,
}

/// What came of the proof.
#[derive(Clone, Debug)]
pub(in crate::ebpf) struct Proof {
    /// Depth of the observer's pid namespace, 0 for the initial one.
    pub(in crate::ebpf) level: u32,
    pub(in crate::ebpf) fields: Vec<FieldProof>,
}

impl Proof {
    /// Loads a program with these types, and has it prove itself.
    ///
    /// The program is needed to learn the depth of the observer's pid
    /// namespace, which `/proc` does not show in a container: below the initial
    /// namespace it is loaded once more, with the depth as a constant.
    ///
    /// # Errors
    /// If it cannot be loaded, or is wrong about a sender.
    pub(in crate::ebpf) fn of(types: &KernelTypes) -> Result<Self, KernelError> {
        let namespace = PidNamespace::of_self().map_err(KernelError::Namespace)?;
        // The id of the process goes without saying once the thread's is right:
        // each program is tested on that again when it is loaded. In its place
        // come the task's flags, which records do not have.
        let types = types.with_flags_for_pid()?;
        let plan = Plan {
            program: Program::UnixBtf,
            traffic: Traffic::Unix { gate: Gate::OPEN },
            types: &types,
            ring_bytes: RING_BYTES,
        };
        let mut level = 0;
        if !namespace.is_initial() {
            let mut program = LoadedProgram::load_at(&plan, &namespace, level)?;
            level = program.record_by_unix(&namespace)?.1.level.into();
        }
        let mut program = LoadedProgram::load_at(&plan, &namespace, level)?;
        let pair = Pair::attached_to(&mut program)?;
        let kernel = Known {
            namespace,
            level,
            types_from_file: !types.are_the_kernels_own(),
            program_sees: Sight {
                exe: types.lead_to_exe(),
                attached: types.show_attached(),
                workers: types.follow_workers(),
            },
        };
        let fields = Senders::new(program, pair, kernel).compare()?;
        for FieldProof { field, unproven } in &fields {
            if let Some(reason) = unproven {
                tracing::debug!("field {field:?} is not proved: {reason}");
            }
        }
        Ok(Self { level, fields })
    }

    /// Why a field is not proved; `None`: it is.
    pub(in crate::ebpf) fn unproven(&self, field: Field) -> Option<&str> {
        let proof = self.fields.iter().find(|proof| proof.field == field);
        proof.map_or(Some("it was not looked at"), |proof| {
            proof.unproven.as_deref()
        })
    }
}
