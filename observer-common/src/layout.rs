//! The constants that userspace injects when it loads the eBPF programs.
//!
//! rustc cannot emit CO-RE relocations. So userspace reads the field offsets of
//! the running kernel from its BTF, and writes them over [`Layout`] in
//! `.rodata` before the load. Then the map is frozen, and the verifier folds
//! the values into literals and checks each load against BTF. It refuses a
//! wrong offset, unless there is another field of the same type; no load ever
//! reads outside of a kernel object.

/// Field offsets in bytes in the running kernel, and who the observer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Layout {
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.worker_private`
    pub task_worker_private: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.thread_pid`
    pub task_thread_pid: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `task_struct.mm`, or [`Layout::NO_FIELD`] if any offset of those that
    /// lead to the executable is unknown: then none is recorded.
    pub task_mm: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `super_block.s_dev`
    pub super_block_dev: u32,
    /// `cred.uid`
    pub cred_uid: u32,
    /// `cred.gid`
    pub cred_gid: u32,
    /// `pid.level`
    pub pid_level: u32,
    /// `pid.numbers`
    pub pid_numbers: u32,
    /// `sizeof(struct upid)`
    pub upid_size: u32,
    /// `upid.nr`
    pub upid_nr: u32,
    /// `upid.ns`
    pub upid_ns: u32,
    /// `pid_namespace.ns.inum`
    pub pid_ns_inum: u32,
    /// `css_set.dfl_cgrp`
    pub css_set_dfl_cgrp: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kernfs_node_id: u32,
    /// `unix_sock.sk.sk_shutdown`
    pub unix_sock_shutdown: u32,
    /// How the program reads structures that no typed pointer leads to: an
    /// [`Access`] as a number.
    pub access: u32,
    /// BTF id of `struct io_worker`; 0: this kernel has none.
    pub io_worker: u32,
    /// `io_worker.wq`, or `io_worker.wqe` where a `struct io_wqe` is between
    /// worker and pool.
    pub io_worker_wq: u32,
    /// `io_wqe.wq` (Linux before 6.3), or [`Layout::NO_FIELD`].
    pub io_wqe_wq: u32,
    /// `io_wq.task`
    pub io_wq_task: u32,
    /// BTF id of `struct unix_skb_parms`; 0: this kernel has none.
    pub unix_skb_parms: u32,
    /// `unix_skb_parms.fp`
    pub unix_skb_parms_fp: u32,
    /// `sk_buff.cb`
    pub skb_cb: u32,
    /// Level of the observer's pid namespace, 0 for the initial one.
    pub observer_level: u32,
    /// Inode of the observer's pid namespace.
    pub observer_ns_inode: u32,
    /// 1 if the three cgroup offsets are known, else 0 and no cgroup id is
    /// recorded. A `u32` and not a `bool`: no padding, no invalid value.
    pub has_cgroup: u32,
    /// 1: a sender keeps its CPU while its record is copied; 0: this kernel has
    /// no functions for that.
    pub holds_cpu: u32,
    /// Device of the observer's pid namespace file, as
    /// `bpf_get_ns_current_pid_tgid` wants it (`new_encode_dev`).
    pub observer_ns_dev: u64,
}

impl Layout {
    /// Stands for the offset of a field that the kernel does not have.
    pub const NO_FIELD: u32 = u32::MAX;

    /// What stands in the object file: no offset is known, and no namespace
    /// has the inode 0.
    pub const UNRESOLVED: Self = Self {
        task_pid: 0,
        task_tgid: 0,
        task_flags: 0,
        task_worker_private: 0,
        task_group_leader: 0,
        task_thread_pid: 0,
        task_start_boottime: 0,
        task_cred: 0,
        task_comm: 0,
        task_cgroups: 0,
        task_mm: Self::NO_FIELD,
        mm_exe_file: 0,
        file_inode: 0,
        inode_ino: 0,
        inode_sb: 0,
        super_block_dev: 0,
        cred_uid: 0,
        cred_gid: 0,
        pid_level: 0,
        pid_numbers: 0,
        upid_size: 0,
        upid_nr: 0,
        upid_ns: 0,
        pid_ns_inum: 0,
        css_set_dfl_cgrp: 0,
        cgroup_kn: 0,
        kernfs_node_id: 0,
        unix_sock_shutdown: 0,
        access: Access::None as u32,
        io_worker: 0,
        io_worker_wq: 0,
        io_wqe_wq: Self::NO_FIELD,
        io_wq_task: 0,
        unix_skb_parms: 0,
        unix_skb_parms_fp: 0,
        skb_cb: 0,
        observer_level: 0,
        observer_ns_inode: 0,
        has_cgroup: 0,
        holds_cpu: 0,
        observer_ns_dev: 0,
    };
}

/// How a program reads structures that no typed pointer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Access {
    /// It does not.
    None = 0,
    /// By a pointer that a kernel function gives a type (Linux 6.2 and later).
    Cast = 1,
    /// By a copy of the kernel's memory (`bpf_probe_read_kernel`), which
    /// `lockdown=confidentiality` forbids.
    Copy = 2,
}

const _: () = assert!(size_of::<Layout>() == 40 * 4 + 8);
