//! Whose work an io-wq worker does.

use observer_common::layout::{Access, Layout};

use crate::constants::layout;
use crate::kernel::{KernelPtr, copy, load, rdonly_cast};
use crate::task::PF_IO_WORKER;

/// Whether the worker's work was submitted by a thread of its process's own;
/// false if by an SQPOLL thread, or where this kernel gives no way to find out.
///
/// A worker belongs to a pool, the pool to the thread that it was made for
/// (`io_wq_create`, `io_uring/io-wq.c`: the submitter, which is the SQPOLL
/// thread itself where there is one, `io_uring_alloc_task_context`), and holds
/// a reference to it for as long as it has workers (`io_wq_exit_workers`). Read
/// in 6.1, where there is a `struct io_wqe` between worker and pool, in 6.12
/// and in 6.18.
#[inline(always)]
pub(crate) fn serves_thread(worker: KernelPtr) -> bool {
    if layout!(io_worker) == 0 {
        return false;
    }
    let access = layout!(access);
    if access == Access::Cast as u32 {
        let worker = rdonly_cast(worker, layout!(io_worker));
        let mut pool: KernelPtr = load(worker, layout!(io_worker_wq));
        if layout!(io_wqe_wq) != Layout::NO_FIELD {
            pool = load(pool, layout!(io_wqe_wq));
        }
        let submitter: KernelPtr = load(pool, layout!(io_wq_task));
        return is_own(load(submitter, layout!(task_flags)));
    }
    if access == Access::Copy as u32 {
        return copied_flags(worker).is_some_and(is_own);
    }
    false
}

#[inline(always)]
fn copied_flags(worker: KernelPtr) -> Option<u32> {
    let mut pool: KernelPtr = copy(worker, layout!(io_worker_wq))?;
    if layout!(io_wqe_wq) != Layout::NO_FIELD {
        pool = copy(pool, layout!(io_wqe_wq))?;
    }
    let submitter: KernelPtr = copy(pool, layout!(io_wq_task))?;
    copy(submitter, layout!(task_flags))
}

#[inline(always)]
fn is_own(flags: u32) -> bool {
    flags & PF_IO_WORKER == 0
}
