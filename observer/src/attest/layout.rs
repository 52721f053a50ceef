//! Field offsets of the running kernel, read from its BTF.

use std::{
    fs,
    path::{Path, PathBuf},
};

use btfparse::{ErrorKind, Offset, Readable, TypeInformation, TypeVariant};
use observer_common::layout::Layout;
use thiserror::Error;

use super::namespace::PidNamespace;

/// Where the kernel shows its own BTF (`CONFIG_DEBUG_INFO_BTF`).
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the offsets cannot be had.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// The BTF file cannot be read.
    #[error("cannot read the kernel's type information {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is no BTF.
    #[error("the kernel's type information {path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A structure or field that the eBPF program needs is not there.
    #[error("this kernel has no {structure}.{field}")]
    Missing {
        /// C name of the structure.
        structure: &'static str,
        /// Path of the field in it.
        field: &'static str,
    },
}

/// Reads the offsets from a BTF file and adds who the observer is.
///
/// Structures and fields were read in Linux 6.1, 6.12 and 6.18:
/// `task_struct` (`include/linux/sched.h`), `pid` and `upid`
/// (`include/linux/pid.h`), `pid_namespace` (`include/linux/pid_namespace.h`),
/// `cred` (`include/linux/cred.h`), `css_set` and `cgroup`
/// (`include/linux/cgroup-defs.h`), `kernfs_node` (`include/linux/kernfs.h`).
///
/// # Errors
/// If the file cannot be read or parsed, or lacks a field that the program
/// cannot do without.
pub(super) fn resolve(
    btf: &Path,
    observer: &PidNamespace,
    level: u32,
) -> Result<Layout, LayoutError> {
    let types = Types::read(btf)?;
    let cgroup = types.cgroup();
    Ok(Layout {
        task_pid: types.offset("task_struct", "pid")?,
        task_tgid: types.offset("task_struct", "tgid")?,
        task_flags: types.offset("task_struct", "flags")?,
        task_worker_private: types.offset("task_struct", "worker_private")?,
        task_group_leader: types.offset("task_struct", "group_leader")?,
        task_thread_pid: types.offset("task_struct", "thread_pid")?,
        task_start_boottime: types.offset("task_struct", "start_boottime")?,
        task_cred: types.offset("task_struct", "cred")?,
        task_comm: types.offset("task_struct", "comm")?,
        task_cgroups: cgroup.map_or(0, |offsets| offsets.task_cgroups),
        cred_uid: types.offset("cred", "uid")?,
        cred_gid: types.offset("cred", "gid")?,
        pid_level: types.offset("pid", "level")?,
        pid_numbers: types.offset("pid", "numbers")?,
        upid_size: types.size("upid", "nr")?,
        upid_nr: types.offset("upid", "nr")?,
        upid_ns: types.offset("upid", "ns")?,
        pid_ns_inum: types.offset("pid_namespace", "ns.inum")?,
        css_set_dfl_cgrp: cgroup.map_or(0, |offsets| offsets.css_set_dfl_cgrp),
        cgroup_kn: cgroup.map_or(0, |offsets| offsets.cgroup_kn),
        kernfs_node_id: cgroup.map_or(0, |offsets| offsets.kernfs_node_id),
        observer_level: level,
        observer_ns_inode: observer.inode,
        has_cgroup: u32::from(cgroup.is_some()),
        observer_ns_dev: observer.device,
    })
}

/// The fields on the way to a cgroup's id; a kernel without cgroups has none.
#[derive(Clone, Copy)]
struct CgroupOffsets {
    task_cgroups: u32,
    css_set_dfl_cgrp: u32,
    cgroup_kn: u32,
    kernfs_node_id: u32,
}

/// The types of one BTF file.
struct Types(TypeInformation);

impl Types {
    fn read(path: &Path) -> Result<Self, LayoutError> {
        let bytes = fs::read(path).map_err(|error| LayoutError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        TypeInformation::new(&Bytes(&bytes))
            .map(Self)
            .map_err(|error| LayoutError::Damaged {
                path: path.to_owned(),
                reason: error.message().to_owned(),
            })
    }

    fn cgroup(&self) -> Option<CgroupOffsets> {
        Some(CgroupOffsets {
            task_cgroups: self.offset("task_struct", "cgroups").ok()?,
            css_set_dfl_cgrp: self.offset("css_set", "dfl_cgrp").ok()?,
            cgroup_kn: self.offset("cgroup", "kn").ok()?,
            kernfs_node_id: self.offset("kernfs_node", "id").ok()?,
        })
    }

    /// Offset of a field in bytes; a bit field counts as missing.
    fn offset(&self, structure: &'static str, field: &'static str) -> Result<u32, LayoutError> {
        let missing = LayoutError::Missing { structure, field };
        let Some(id) = self.structure(structure) else {
            return Err(missing);
        };
        match self.0.offset_of(id, field) {
            Ok((_, Offset::ByteOffset(offset))) => Ok(offset),
            _ => Err(missing),
        }
    }

    fn size(&self, structure: &'static str, field: &'static str) -> Result<u32, LayoutError> {
        self.structure(structure)
            .and_then(|id| self.0.size_of(id).ok())
            .and_then(|size| u32::try_from(size).ok())
            .ok_or(LayoutError::Missing { structure, field })
    }

    /// Id of the structure of this name. The library's own look-up by name
    /// takes the last type of any kind, and functions share the name space.
    fn structure(&self, name: &str) -> Option<u32> {
        self.0.get().iter().find_map(|(id, variant)| match variant {
            TypeVariant::Struct(found) if found.name().as_deref() == Some(name) => Some(*id),
            _ => None,
        })
    }
}

/// A file in memory, as the parser wants it.
struct Bytes<'a>(&'a [u8]);

impl Readable for Bytes<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let source = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..start.checked_add(buffer.len())?))
            .ok_or_else(|| btfparse::Error::new(ErrorKind::IOError, "unexpected end of file"))?;
        buffer.copy_from_slice(source);
        Ok(())
    }
}
