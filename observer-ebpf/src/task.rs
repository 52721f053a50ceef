//! The sender as its own `task_struct` describes it.
//!
//! Every load goes through a typed kernel pointer that starts at
//! `bpf_get_current_task_btf` (`kernel/trace/bpf_trace.c`): the verifier
//! follows the types in BTF (`btf_struct_access`, `kernel/bpf/btf.c`) and
//! turns each load into one that survives a fault. Unlike
//! `bpf_probe_read_kernel` this is allowed under
//! `lockdown=confidentiality`.

use aya_ebpf::helpers::bpf_get_current_task_btf;
use observer_common::record::{Program, Record, TaskKind};

use crate::constants::layout;
use crate::kernel::{KernelPtr, load};
use crate::{executable, worker};

/// `PF_IO_WORKER` of `include/linux/sched.h` (5.12 and later): a thread that
/// `create_io_thread` made.
pub(crate) const PF_IO_WORKER: u32 = 0x10;

/// `PF_KTHREAD` of `include/linux/sched.h`: a thread of the kernel's own.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Fills in every field that can be read from the sending task.
#[inline(always)]
pub(crate) fn describe(record: &mut Record, program: Program) {
    // SAFETY: the helper returns the current task, which cannot go away while
    // it runs this program.
    let task = unsafe { bpf_get_current_task_btf() } as KernelPtr;
    let leader: KernelPtr = load(task, layout!(task_group_leader));
    record.program = program as u8;
    record.host_tid = load(task, layout!(task_pid));
    record.host_pid = load(task, layout!(task_tgid));
    record.start_ns = load(leader, layout!(task_start_boottime));
    let flags: u32 = load(task, layout!(task_flags));
    record.task_kind = kind(task, flags) as u8;
    record.cgroup_id = cgroup_id(task);
    if flags & PF_KTHREAD == 0 {
        executable::describe(task, record);
    }
    describe_credentials(task, record);
    describe_namespace(leader, record);
    copy_comm(task, record);
}

/// Tells io_uring's two sorts of kernel-made threads apart.
///
/// `worker_private` of an io-wq worker points to its `struct io_worker`
/// (`io_init_new_worker`, `io_uring/io-wq.c`); an SQPOLL thread has none, and
/// `io_wq_current_is_worker` looks at the same field. The thread's name proves
/// nothing: its process can change it.
///
/// A worker that an SQPOLL thread submits to counts as one: every process that
/// maps the io_uring sends through it.
#[inline(always)]
fn kind(task: KernelPtr, flags: u32) -> TaskKind {
    if flags & PF_IO_WORKER == 0 {
        return TaskKind::Thread;
    }
    match load::<KernelPtr>(task, layout!(task_worker_private)) {
        worker if worker.is_null() => TaskKind::SqPoll,
        worker if worker::serves_thread(worker) => TaskKind::IoWorker,
        _ => TaskKind::SqPoll,
    }
}

/// `task->cgroups->dfl_cgrp->kn->id`, the id that `stat` shows as the inode
/// of the cgroup's directory.
#[inline(always)]
fn cgroup_id(task: KernelPtr) -> u64 {
    if layout!(has_cgroup) == 0 {
        return 0;
    }
    let set: KernelPtr = load(task, layout!(task_cgroups));
    let cgroup: KernelPtr = load(set, layout!(css_set_dfl_cgrp));
    let node: KernelPtr = load(cgroup, layout!(cgroup_kn));
    load(node, layout!(kernfs_node_id))
}

/// Real user and group id: what `current_uid_gid` gives `SCM_CREDENTIALS`.
#[inline(always)]
fn describe_credentials(task: KernelPtr, record: &mut Record) {
    let credentials: KernelPtr = load(task, layout!(task_cred));
    record.uid = load(credentials, layout!(cred_uid));
    record.gid = load(credentials, layout!(cred_gid));
}

/// The process in its active pid namespace and in the observer's.
///
/// The active namespace is that of the last entry of `pid->numbers`
/// (`task_active_pid_ns`, `kernel/pid.c`), not
/// `nsproxy->pid_ns_for_children`. The observer sees the process if the
/// namespace at the observer's own level is the observer's: two sibling
/// namespaces have equal numbers at the same level.
#[inline(always)]
fn describe_namespace(leader: KernelPtr, record: &mut Record) {
    let pid: KernelPtr = load(leader, layout!(task_thread_pid));
    let level: u32 = load(pid, layout!(pid_level));
    (record.own_pid, record.pid_ns_inode) = at_level(pid, level);
    record.level = level as u8;
    let observer_level = layout!(observer_level);
    if level < observer_level {
        return;
    }
    let (number, inode) = entry(pid, observer_level);
    if inode == layout!(observer_ns_inode) {
        record.pid = number;
    }
}

/// The entry of `pid->numbers` at a level known only now. The verifier
/// refuses a variable offset into a kernel structure, so each level is a
/// branch with an offset of its own. `MAX_PID_NS_LEVEL` is 32
/// (`include/linux/pid_namespace.h`).
#[inline(always)]
fn at_level(pid: KernelPtr, level: u32) -> (u32, u32) {
    macro_rules! branches {
        ($($known:literal)*) => {
            match level {
                $($known => entry(pid, $known),)*
                _ => (0, 0),
            }
        };
    }
    branches!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
}

/// Number and namespace inode of one entry of `pid->numbers`.
#[inline(always)]
fn entry(pid: KernelPtr, level: u32) -> (u32, u32) {
    let upid = layout!(pid_numbers).wrapping_add(level.wrapping_mul(layout!(upid_size)));
    let number = load(pid, upid.wrapping_add(layout!(upid_nr)));
    let namespace: KernelPtr = load(pid, upid.wrapping_add(layout!(upid_ns)));
    (number, load(namespace, layout!(pid_ns_inum)))
}

/// The thread's name, as two words: the verifier has no wider load.
#[inline(always)]
fn copy_comm(task: KernelPtr, record: &mut Record) {
    let offset = layout!(task_comm);
    let words: [u64; 2] = [load(task, offset), load(task, offset.wrapping_add(8))];
    let [first, second] = words.map(u64::to_ne_bytes);
    let (head, tail) = record.comm.split_at_mut(8);
    head.copy_from_slice(&first);
    tail.copy_from_slice(&second);
}
