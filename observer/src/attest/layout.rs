//! Field offsets of the running kernel, read from its BTF.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use observer_common::layout::Layout;
use thiserror::Error;

use super::{
    btf::{Btf, Structure},
    namespace::PidNamespace,
};

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

/// The kernel's types as a BTF file has them, read when they are first needed
/// and once only.
#[derive(Clone, Debug)]
pub(crate) struct KernelTypes {
    path: PathBuf,
    /// The offsets, of an observer that is not known.
    offsets: OnceLock<Result<Layout, Arc<LayoutError>>>,
}

impl KernelTypes {
    /// Those of a BTF file.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self {
            path,
            offsets: OnceLock::new(),
        }
    }

    /// The offsets, with who the observer is.
    ///
    /// # Errors
    /// If the file cannot be read or parsed, or lacks a field that the
    /// program cannot do without.
    pub(super) fn layout(
        &self,
        observer: &PidNamespace,
        level: u32,
    ) -> Result<Layout, Arc<LayoutError>> {
        let offsets = self
            .offsets
            .get_or_init(|| resolve(&self.path).map_err(Arc::new));
        Ok(Layout {
            observer_level: level,
            observer_ns_inode: observer.inode,
            observer_ns_dev: observer.device,
            ..offsets.clone()?
        })
    }
}

/// Reads the offsets from a BTF file.
///
/// Structures and fields were read in Linux 6.1, 6.12 and 6.18:
/// `task_struct` (`include/linux/sched.h`), `pid` and `upid`
/// (`include/linux/pid.h`), `pid_namespace` (`include/linux/pid_namespace.h`),
/// `cred` (`include/linux/cred.h`), `css_set` and `cgroup`
/// (`include/linux/cgroup-defs.h`), `kernfs_node` (`include/linux/kernfs.h`).
fn resolve(btf: &Path) -> Result<Layout, LayoutError> {
    let types = read(btf)?;
    let task = Fields::of("task_struct", &types);
    let cred = Fields::of("cred", &types);
    let pid = Fields::of("pid", &types);
    let upid = Fields::of("upid", &types);
    let cgroup = cgroup(&task, &types);
    Ok(Layout {
        task_pid: task.offset("pid")?,
        task_tgid: task.offset("tgid")?,
        task_flags: task.offset("flags")?,
        task_worker_private: task.offset("worker_private")?,
        task_group_leader: task.offset("group_leader")?,
        task_thread_pid: task.offset("thread_pid")?,
        task_start_boottime: task.offset("start_boottime")?,
        task_cred: task.offset("cred")?,
        task_comm: task.offset("comm")?,
        task_cgroups: cgroup.map_or(0, |offsets| offsets.task_cgroups),
        cred_uid: cred.offset("uid")?,
        cred_gid: cred.offset("gid")?,
        pid_level: pid.offset("level")?,
        pid_numbers: pid.offset("numbers")?,
        upid_size: upid.size()?,
        upid_nr: upid.offset("nr")?,
        upid_ns: upid.offset("ns")?,
        pid_ns_inum: Fields::of("pid_namespace", &types).offset("ns.inum")?,
        css_set_dfl_cgrp: cgroup.map_or(0, |offsets| offsets.css_set_dfl_cgrp),
        cgroup_kn: cgroup.map_or(0, |offsets| offsets.cgroup_kn),
        kernfs_node_id: cgroup.map_or(0, |offsets| offsets.kernfs_node_id),
        has_cgroup: u32::from(cgroup.is_some()),
        ..Layout::UNRESOLVED
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

fn cgroup(task: &Fields<'_>, types: &Btf) -> Option<CgroupOffsets> {
    let offset = |structure, field| Fields::of(structure, types).offset(field).ok();
    Some(CgroupOffsets {
        task_cgroups: task.offset("cgroups").ok()?,
        css_set_dfl_cgrp: offset("css_set", "dfl_cgrp")?,
        cgroup_kn: offset("cgroup", "kn")?,
        kernfs_node_id: offset("kernfs_node", "id")?,
    })
}

fn read(path: &Path) -> Result<Btf, LayoutError> {
    let bytes = fs::read(path).map_err(|error| LayoutError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    Btf::parse(bytes).map_err(|error| LayoutError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// The fields of a structure, if there is one of this name.
struct Fields<'a> {
    name: &'static str,
    structure: Option<Structure<'a>>,
}

impl<'a> Fields<'a> {
    fn of(name: &'static str, types: &'a Btf) -> Self {
        Self {
            name,
            structure: types.structure(name),
        }
    }

    /// Offset of a field in bytes; a bit field counts as missing.
    fn offset(&self, field: &'static str) -> Result<u32, LayoutError> {
        let offset = self.structure.and_then(|structure| structure.offset(field));
        offset.ok_or(LayoutError::Missing {
            structure: self.name,
            field,
        })
    }

    fn size(&self) -> Result<u32, LayoutError> {
        let size = self.structure.map(|structure| structure.size());
        size.ok_or(LayoutError::NoStructure(self.name))
    }
}
