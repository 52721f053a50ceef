//! Finds the fields that the eBPF programs read in a BTF file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use observer_common::layout::{Access, Layout};
use observer_common::listener::Network;

use super::{LayoutError, Offsets, SocketTypes};
use crate::ebpf::btf::{Btf, Structure};
use crate::ebpf::kfunc::Kfuncs;

/// Reads the offsets from a BTF file.
///
/// Structures and fields were read in Linux 6.1, 6.12 and 6.18:
/// `task_struct` (`include/linux/sched.h`), `pid` and `upid`
/// (`include/linux/pid.h`), `pid_namespace` (`include/linux/pid_namespace.h`),
/// `cred` (`include/linux/cred.h`), `css_set` and `cgroup`
/// (`include/linux/cgroup-defs.h`), `kernfs_node` (`include/linux/kernfs.h`),
/// `unix_sock` (`include/net/af_unix.h`), `sock` (`include/net/sock.h`). Seen in
/// the types of 6.18: `mm_struct` (`include/linux/mm_types.h`), `file`, `inode`
/// and `super_block` (`include/linux/fs.h`).
pub(super) fn resolve(btf: &Path) -> Result<Offsets, LayoutError> {
    let types = read(btf)?;
    let kfuncs = Kfuncs::of(&types);
    Ok(Offsets {
        task: task(&types, kfuncs)?,
        kfuncs,
        socket: socket(&types, kfuncs).map_err(Arc::new),
    })
}

fn task(types: &Btf, kfuncs: Kfuncs) -> Result<Layout, LayoutError> {
    let task = Fields::of("task_struct", types);
    let cred = Fields::of("cred", types);
    let pid = Fields::of("pid", types);
    let upid = Fields::of("upid", types);
    let cgroup = cgroup(&task, types);
    let exe = exe(&task, types);
    let attached = attached(types);
    let worker = worker(types);
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
        task_mm: exe.map_or(Layout::NO_FIELD, |offsets| offsets.task_mm),
        mm_exe_file: exe.map_or(0, |offsets| offsets.mm_exe_file),
        file_inode: exe.map_or(0, |offsets| offsets.file_inode),
        inode_ino: exe.map_or(0, |offsets| offsets.inode_ino),
        inode_sb: exe.map_or(0, |offsets| offsets.inode_sb),
        super_block_dev: exe.map_or(0, |offsets| offsets.super_block_dev),
        cred_uid: cred.offset("uid")?,
        cred_gid: cred.offset("gid")?,
        pid_level: pid.offset("level")?,
        pid_numbers: pid.offset("numbers")?,
        upid_size: upid.size()?,
        upid_nr: upid.offset("nr")?,
        upid_ns: upid.offset("ns")?,
        pid_ns_inum: Fields::of("pid_namespace", types).offset("ns.inum")?,
        css_set_dfl_cgrp: cgroup.map_or(0, |offsets| offsets.css_set_dfl_cgrp),
        cgroup_kn: cgroup.map_or(0, |offsets| offsets.cgroup_kn),
        kernfs_node_id: cgroup.map_or(0, |offsets| offsets.kernfs_node_id),
        unix_sock_shutdown: Fields::of("unix_sock", types).offset("sk.sk_shutdown")?,
        access: access(kfuncs) as u32,
        io_worker: worker.map_or(0, |offsets| offsets.type_id),
        io_worker_wq: worker.map_or(0, |offsets| offsets.up),
        io_wqe_wq: worker
            .and_then(|offsets| offsets.between)
            .unwrap_or(Layout::NO_FIELD),
        io_wq_task: worker.map_or(0, |offsets| offsets.submitter),
        unix_skb_parms: attached.map_or(0, |offsets| offsets.unix_skb_parms),
        unix_skb_parms_fp: attached.map_or(0, |offsets| offsets.unix_skb_parms_fp),
        skb_cb: attached.map_or(0, |offsets| offsets.skb_cb),
        has_cgroup: u32::from(cgroup.is_some()),
        holds_cpu: u32::from(kfuncs.can_hold_cpu()),
        ..Layout::UNRESOLVED
    })
}

/// Where a datagram of a Unix socket has its attached descriptors
/// (`UNIXCB`, `include/net/af_unix.h`, read in 6.1, 6.12 and 6.18).
#[derive(Clone, Copy)]
struct AttachedOffsets {
    unix_skb_parms: u32,
    unix_skb_parms_fp: u32,
    skb_cb: u32,
}

fn attached(types: &Btf) -> Option<AttachedOffsets> {
    Some(AttachedOffsets {
        unix_skb_parms: types.structure_id("unix_skb_parms")?,
        unix_skb_parms_fp: types.structure("unix_skb_parms")?.offset("fp")?,
        skb_cb: types.structure("sk_buff")?.offset("cb")?,
    })
}

/// From an io-wq worker to the thread whose work it does (`io_worker`,
/// `io_wqe`, `io_wq`, `io_uring/io-wq.c`, read in 6.1, 6.12 and 6.18).
#[derive(Clone, Copy)]
struct WorkerOffsets {
    type_id: u32,
    /// From the worker to the pool or, before Linux 6.3, to the `io_wqe`
    /// between them.
    up: u32,
    /// From the `io_wqe` to the pool.
    between: Option<u32>,
    /// From the pool to the thread.
    submitter: u32,
}

fn worker(types: &Btf) -> Option<WorkerOffsets> {
    let worker = types.structure("io_worker")?;
    let direct = worker.offset("wq");
    let between = if direct.is_none() {
        Some(types.structure("io_wqe")?.offset("wq")?)
    } else {
        None
    };
    Some(WorkerOffsets {
        type_id: types.structure_id("io_worker")?,
        up: direct.or_else(|| worker.offset("wqe"))?,
        between,
        submitter: types.structure("io_wq")?.offset("task")?,
    })
}

/// Copies are for Linux before 6.2, if the kernel permits them: not without
/// `CAP_PERFMON`, nor under `lockdown=confidentiality` (`bpf_base_func_proto`,
/// `kernel/bpf/helpers.c`, read in 6.1).
fn access(kfuncs: Kfuncs) -> Access {
    let may_copy = || {
        let helper = BpfHelper::BPF_FUNC_probe_read_kernel;
        is_helper_supported(ProgramType::SocketFilter, helper).is_ok_and(|supported| supported)
    };
    if kfuncs.can_cast() {
        Access::Cast
    } else if may_copy() {
        Access::Copy
    } else {
        Access::None
    }
}

/// Read in Linux 6.1, 6.12 and 6.18: `sk_buff` (`include/linux/skbuff.h`),
/// `sock` and `sock_common` (`include/net/sock.h`), `net`
/// (`include/net/net_namespace.h`), `udp_sock` (`include/linux/udp.h`).
fn socket(types: &Btf, kfuncs: Kfuncs) -> Result<SocketTypes, LayoutError> {
    let sock = Fields::of("sock", types);
    Ok(SocketTypes {
        network: Network {
            udp_sock: types
                .structure_id("udp_sock")
                .ok_or(LayoutError::NoStructure("udp_sock"))?,
            skb_sk: Fields::of("sk_buff", types).offset("sk")?,
            sock_net: sock.offset("__sk_common.skc_net.net")?,
            sock_type: sock.offset("sk_type")?,
            sock_protocol: sock.offset("sk_protocol")?,
            udp_pending: Fields::of("udp_sock", types).offset("pending")?,
            net_inum: Fields::of("net", types).offset("ns.inum")?,
            ..Network::UNRESOLVED
        },
        kfuncs,
    })
}

/// The fields that lead to a cgroup's id. A kernel without cgroups has none.
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

/// The fields that lead to the executable. Without one of them no executable is
/// recorded.
#[derive(Clone, Copy)]
struct ExeOffsets {
    task_mm: u32,
    mm_exe_file: u32,
    file_inode: u32,
    inode_ino: u32,
    inode_sb: u32,
    super_block_dev: u32,
}

fn exe(task: &Fields<'_>, types: &Btf) -> Option<ExeOffsets> {
    let offset = |structure, field| Fields::of(structure, types).offset(field).ok();
    Some(ExeOffsets {
        task_mm: task.offset("mm").ok()?,
        mm_exe_file: offset("mm_struct", "exe_file")?,
        file_inode: offset("file", "f_inode")?,
        inode_ino: offset("inode", "i_ino")?,
        inode_sb: offset("inode", "i_sb")?,
        super_block_dev: offset("super_block", "s_dev")?,
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

/// The fields of the structure with this name, if there is one.
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
