//! The rings, and the records in them.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_PROD_POS,
};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::RingBuf;
use observer_common::record::{Record, UNKNOWN_ID};

use crate::constants::network;
use crate::kernel::on_one_cpu;

/// How many words a record has.
const WORDS: usize = size_of::<Record>() / size_of::<u64>();

const _: () = assert!(size_of::<Record>().is_multiple_of(size_of::<u64>()));

/// Userspace sets the size at load time.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Records of datagrams that other network namespaces send, so that a sender
/// there cannot fill the ring for senders in the observer's own. Sized
/// likewise.
#[map]
static OTHERS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Writes a record; false if the ring has no room for it.
///
/// The record is made on the stack and copied by the kernel, not written in
/// place: a sender that is preempted before the call has reserved nothing.
/// Within the call it is not preempted, where this kernel has functions for
/// that. Where it is, other senders' records are not held up, because the
/// observer reads past its entry; but the room after the entry is not reused
/// until the sender goes on.
///
/// It wakes nobody. A datagram that goes on to the socket wakes the observer,
/// which reads the ring with every receive; for others see
/// [`wakeup`](crate::wakeup).
#[inline(always)]
pub(crate) fn write<const HAS_KFUNCS: bool>(record: &Record) -> bool {
    let flags = u64::from(BPF_RB_NO_WAKEUP);
    on_one_cpu::<HAS_KFUNCS, _>(|| RECORDS.output::<Record>(record, flags).is_ok())
}

/// The same for a UDP datagram. It may never reach a listener, so it cannot be
/// relied on to wake the observer: the ring does once it fills up. To be called
/// [on one CPU](crate::kernel::on_one_cpu).
#[inline(always)]
pub(crate) fn write_udp(record: &Record) -> bool {
    let unread = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    RECORDS.output::<Record>(record, wake_flags(unread)).is_ok()
}

/// The same for a datagram that another network namespace sends.
#[inline(always)]
pub(crate) fn write_others(record: &Record) -> bool {
    let unread = OTHERS.query(u64::from(BPF_RB_AVAIL_DATA));
    OTHERS.output::<Record>(record, wake_flags(unread)).is_ok()
}

#[inline(always)]
fn wake_flags(unread: u64) -> u64 {
    u64::from(if unread > network!(wake_above) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    })
}

/// How many bytes of the ring are unread (`bpf_ringbuf_query`).
#[inline(always)]
pub(crate) fn unread_bytes() -> u64 {
    RECORDS.query(u64::from(BPF_RB_AVAIL_DATA))
}

/// How far the ring has been read, and how far it has been written: that of
/// the observer's own network namespace, or of the others.
#[inline(always)]
pub(crate) fn positions(is_own: bool) -> (u64, u64) {
    let (consumer, producer) = (u64::from(BPF_RB_CONS_POS), u64::from(BPF_RB_PROD_POS));
    // In this order, so that the second is not behind the first.
    if is_own {
        (RECORDS.query(consumer), RECORDS.query(producer))
    } else {
        (OTHERS.query(consumer), OTHERS.query(producer))
    }
}

/// Wakes the observer by an empty entry; false if there is no room even for
/// that.
#[inline(always)]
pub(crate) fn wake<const HAS_KFUNCS: bool>(flags: u64) -> bool {
    on_one_cpu::<HAS_KFUNCS, _>(|| match RECORDS.reserve::<u64>(0) {
        Some(entry) => {
            entry.discard(flags);
            true
        }
        None => false,
    })
}

/// Makes a record of which only the time is known.
///
/// Word by word: the compiler turns anything simpler into a call of `memset`,
/// whose pointer arithmetic the verifier refuses to a loader without
/// `CAP_PERFMON` (`sanitize_ptr_alu`, `kernel/bpf/verifier.c`: "prohibited for
/// !root").
#[inline(always)]
pub(crate) fn blank(memory: &mut MaybeUninit<Record>) -> &mut Record {
    let words = memory.as_mut_ptr().cast::<u64>();
    for index in 0..WORDS {
        // SAFETY: a record is so many words, and aligned for them.
        unsafe { words.add(index).write_volatile(0) };
    }
    // SAFETY: every byte was just written, and any bytes make a record.
    let record = unsafe { memory.assume_init_mut() };
    record.uid = UNKNOWN_ID;
    record.gid = UNKNOWN_ID;
    // SAFETY: the helper takes nothing and cannot fail.
    record.time_ns = unsafe { bpf_ktime_get_ns() };
    record
}
