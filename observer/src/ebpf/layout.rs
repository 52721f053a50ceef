//! Field offsets of the running kernel, read from its BTF.

mod resolve;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use observer_common::layout::{Access, Layout};
use observer_common::listener::Network;
use rustix::fs::{StatFs, statfs};
use thiserror::Error;

use self::resolve::resolve;
use super::kfunc::Kfuncs;
use super::namespace::PidNamespace;
use super::program::{Field, KernelError, Proof};

/// Where the kernel shows its own BTF (`CONFIG_DEBUG_INFO_BTF`).
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// `SYSFS_MAGIC` (`include/uapi/linux/magic.h`)
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Why the offsets cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The BTF file cannot be read.
    #[error("cannot read the kernel's type information {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is no BTF.
    #[error("the kernel's type information {path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A structure that the eBPF program needs is not there.
    #[error("this kernel has no struct {0}")]
    NoStructure(&'static str),
    /// A field that the eBPF program needs is not there.
    #[error("this kernel has no {structure}.{field}")]
    Missing {
        /// C name of the structure.
        structure: &'static str,
        /// Path of the field in it.
        field: &'static str,
    },
}

/// The kernel's types as a BTF file has them, read once, when they are first
/// needed.
#[derive(Clone, Debug)]
pub(crate) struct KernelTypes {
    path: PathBuf,
    /// The offsets, without what is the observer's own.
    offsets: OnceLock<Result<Offsets, Arc<LayoutError>>>,
    /// What is proved of them.
    proof: OnceLock<Result<Proof, Arc<KernelError>>>,
}

/// What was found in a BTF file.
#[derive(Clone, Debug)]
struct Offsets {
    task: Layout,
    kfuncs: Kfuncs,
    socket: Result<SocketTypes, Arc<LayoutError>>,
}

/// How to read a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketTypes {
    /// The offsets, without what is the observer's own.
    pub(super) network: Network,
    pub(super) kfuncs: Kfuncs,
}

impl KernelTypes {
    /// Those of a BTF file.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self {
            path,
            offsets: OnceLock::new(),
            proof: OnceLock::new(),
        }
    }

    /// Whether the kernel shows them itself, and they are no file's.
    pub(crate) fn are_the_kernels_own(&self) -> bool {
        self.path == Path::new(KERNEL_BTF)
    }

    /// Why it is not proved that programs read a field where it is; `None`: it
    /// is.
    pub(crate) fn unproven(&self, field: Field) -> Option<String> {
        match self.proof() {
            Ok(proof) => proof.unproven(field).map(ToOwned::to_owned),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether this kernel was built without types, and no other file was named.
    /// Where `/sys` cannot be seen nobody knows.
    pub(super) fn kernel_has_none(&self) -> bool {
        let is_sysfs = |found: StatFs| u64::try_from(found.f_type) == Ok(SYSFS_MAGIC);
        self.are_the_kernels_own()
            && statfs("/sys/kernel").is_ok_and(is_sysfs)
            && matches!(fs::exists(KERNEL_BTF), Ok(false))
    }

    /// These, with a task's flags where the id of its process is: so a record
    /// shows them.
    ///
    /// # Errors
    /// As [`KernelTypes::layout`].
    pub(super) fn with_flags_for_pid(&self) -> Result<Self, Arc<LayoutError>> {
        let mut offsets = self.offsets()?.clone();
        offsets.task.task_tgid = offsets.task.task_flags;
        Ok(Self {
            path: self.path.clone(),
            offsets: OnceLock::from(Ok(offsets)),
            proof: OnceLock::new(),
        })
    }

    /// What is proved of the fields that the programs read of senders: tried out
    /// on this kernel, once, when it is first asked for.
    ///
    /// # Errors
    /// If no program can be loaded, or one is wrong about a sender.
    pub(super) fn proof(&self) -> Result<&Proof, KernelError> {
        let proof = self.proof.get_or_init(|| Proof::of(self).map_err(Arc::new));
        proof
            .as_ref()
            .map_err(|error| KernelError::Proof(Arc::clone(error)))
    }

    /// The offsets, for an observer in this pid namespace, which is so many
    /// levels below the initial one.
    ///
    /// # Errors
    /// If the file cannot be read or parsed, or lacks a field that the
    /// program cannot do without.
    pub(super) fn layout(
        &self,
        observer: &PidNamespace,
        level: u32,
    ) -> Result<Layout, Arc<LayoutError>> {
        Ok(Layout {
            observer_level: level,
            observer_ns_inode: observer.inode,
            observer_ns_dev: observer.device,
            ..self.offsets()?.task
        })
    }

    /// How to read a socket.
    ///
    /// # Errors
    /// As [`KernelTypes::layout`].
    pub(super) fn socket(&self) -> Result<SocketTypes, Arc<LayoutError>> {
        self.offsets()?.socket.clone()
    }

    /// Whether a program can see what is attached to a datagram.
    pub(super) fn show_attached(&self) -> bool {
        let offsets = self.offsets();
        offsets.is_ok_and(|Offsets { task, .. }| {
            task.access != Access::None as u32 && task.unix_skb_parms != 0
        })
    }

    /// Whether a program can see what file a sender executes.
    pub(super) fn lead_to_exe(&self) -> bool {
        let offsets = self.offsets();
        offsets.is_ok_and(|Offsets { task, .. }| task.task_mm != Layout::NO_FIELD)
    }

    /// Whether a program can see whose work a worker of io_uring does.
    pub(super) fn follow_workers(&self) -> bool {
        let offsets = self.offsets();
        offsets.is_ok_and(|Offsets { task, .. }| {
            task.access != Access::None as u32 && task.io_worker != 0
        })
    }

    /// The kernel functions that the programs may call.
    ///
    /// # Errors
    /// As [`KernelTypes::layout`].
    pub(super) fn kfuncs(&self) -> Result<Kfuncs, Arc<LayoutError>> {
        Ok(self.offsets()?.kfuncs)
    }

    fn offsets(&self) -> Result<&Offsets, Arc<LayoutError>> {
        let offsets = self
            .offsets
            .get_or_init(|| resolve(&self.path).map_err(Arc::new));
        offsets.as_ref().map_err(Arc::clone)
    }
}
