//! The sender as helper functions describe it.

use aya_ebpf::bindings::bpf_pidns_info;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid};
use observer_common::record::{Program, Record};

use crate::constants::layout;

/// Fills in thread and process in the initial namespace and, if the sender's
/// active pid namespace is the observer's, the process there.
///
/// `bpf_get_ns_current_pid_tgid` (`kernel/bpf/helpers.c`, 6.10) compares the
/// active namespace of the current task with device and inode and fails with
/// `EINVAL` where they differ, so it is a membership test as well.
#[inline(always)]
pub(crate) fn describe(record: &mut Record, program: Program) {
    let ids = bpf_get_current_pid_tgid();
    let (device, inode) = (layout!(observer_ns_dev), layout!(observer_ns_inode));
    let mut seen = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: `seen` is a local of the size that is passed.
    let status = unsafe {
        bpf_get_ns_current_pid_tgid(
            device,
            u64::from(inode),
            &raw mut seen,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    record.program = program as u8;
    record.host_tid = ids as u32;
    record.host_pid = (ids >> 32) as u32;
    if status == 0 {
        record.pid = seen.tgid;
        record.own_pid = seen.tgid;
        record.pid_ns_inode = inode;
    }
}
