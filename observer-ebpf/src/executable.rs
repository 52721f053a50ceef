//! The file that the sending process executes.

use observer_common::layout::Layout;
use observer_common::record::Record;

use crate::constants::layout;
use crate::kernel::{KernelPtr, load};

/// Inode and device of `task->mm->exe_file`, which `/proc/PID/exe` leads to.
///
/// By the thread's own memory, which all threads of a process share, those
/// included that io_uring made (`create_io_thread`, `kernel/fork.c`:
/// `CLONE_VM`): the group leader's is gone if it has exited before the others
/// (`exit_mm`, `kernel/exit.c`). The thread itself keeps it while it runs this
/// program.
///
/// `exe_file` is protected by RCU, and changes on `execve`, with the memory, or
/// by `PR_SET_MM` (`replace_mm_exe_file`, `kernel/fork.c`), which another thread
/// may call right now. The program runs within `rcu_read_lock`
/// (`sk_filter_trim_cap`, `net/core/filter.c`; `__cgroup_bpf_run_filter_skb`,
/// `kernel/bpf/cgroup.c`), so what the file points to is not freed meanwhile:
/// inodes and super blocks are freed by RCU (`destroy_inode`, `fs/inode.c`;
/// `destroy_super_rcu`, `fs/super.c`). The file itself is too in 6.1
/// (`file_free`, `fs/file_table.c`); from 6.7 on it may be another file at once
/// (`SLAB_TYPESAFE_BY_RCU`), so of a process that changes its own executable at
/// that moment a wrong one can be read, in a window of a few loads. Evidence is
/// to name honest processes, and no rule may rest on the file alone. No load can
/// fault.
///
/// A thread of the kernel's own has no memory, or has borrowed a process's
/// (`kthread_use_mm`); the caller leaves it out, as `get_task_exe_file` does.
#[inline(always)]
pub(crate) fn describe(task: KernelPtr, record: &mut Record) {
    if layout!(task_mm) == Layout::NO_FIELD {
        return;
    }
    let mm: KernelPtr = load(task, layout!(task_mm));
    if mm.is_null() {
        return;
    }
    let file: KernelPtr = load(mm, layout!(mm_exe_file));
    if file.is_null() {
        return;
    }
    let inode: KernelPtr = load(file, layout!(file_inode));
    let super_block: KernelPtr = load(inode, layout!(inode_sb));
    record.exe_inode = load(inode, layout!(inode_ino));
    record.exe_device = load(super_block, layout!(super_block_dev));
}
