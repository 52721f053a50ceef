//! Tells whose doing an io-wq worker's send is.
//!
//! io_uring carries out what it cannot do at once in an io-wq worker, a
//! kernel-made thread of the process whose thread submitted the work. If that
//! thread is itself an SQPOLL thread, the submitter is whoever maps the ring,
//! and the worker is to be trusted no more than the SQPOLL thread is.
//!
//! The kernel names each worker after the thread whose queue it serves
//! (`iou-wrk-<tid>`, `io_wq_worker`, `io_uring/io-wq.c`, read in 6.1, 6.12
//! and 6.18). The name can be changed, but only by a thread of the same
//! process (`comm_write`, `fs/proc/base.c`), so someone who can forge it
//! already acts as that process.

use std::fs;

use observer_common::record::{Record, TaskKind};

/// `PF_IO_WORKER` of `include/linux/sched.h`.
const PF_IO_WORKER: u32 = 0x10;

/// What kind of task sent, with a worker of an SQPOLL thread counted as the
/// thread itself.
///
/// What cannot be found out counts as SQPOLL: a submitter that is gone may
/// have been an SQPOLL thread whose ring was closed to hide it.
pub(super) fn task_kind(record: &Record) -> TaskKind {
    let kind = TaskKind::try_from(record.task_kind).unwrap_or(TaskKind::Unknown);
    if kind != TaskKind::IoWorker {
        return kind;
    }
    match submitter(record) {
        // A group leader is never an io_uring thread.
        Some(tid) if tid == record.host_pid => TaskKind::IoWorker,
        Some(tid) if is_plain_thread(record, tid) => TaskKind::IoWorker,
        _ => TaskKind::SqPoll,
    }
}

/// The thread, in the initial namespace, that the worker is named after.
fn submitter(record: &Record) -> Option<u32> {
    let name = record.comm.split(|&byte| byte == 0).next()?;
    let number = name.strip_prefix(b"iou-wrk-")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Whether a thread of the sender is one of its own making. Only asked for
/// work that another thread than the first submitted.
fn is_plain_thread(record: &Record, tid: u32) -> bool {
    // The number means something under /proc only if the observer is in the
    // initial pid namespace.
    if record.pid != record.host_pid {
        return false;
    }
    let path = format!("/proc/{}/task/{tid}/stat", record.pid);
    fs::read_to_string(path)
        .ok()
        .and_then(|stat| task_flags(&stat))
        .is_some_and(|flags| flags & PF_IO_WORKER == 0)
}

/// Field 9 of `/proc/<pid>/stat` (`do_task_stat`, `fs/proc/array.c`). The
/// name in field 2 may hold anything, so fields are counted from its end.
fn task_flags(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(6)?.parse().ok()
}
