//! What both socket filters do with a datagram.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes},
    macros::map,
    maps::{RingBuf, ring_buf::RingBufEntry},
    programs::SkBuffContext,
};
use observer_common::{
    frame::FRAME_LEN,
    loss::Loss,
    record::{Record, UNKNOWN_ID},
};

use crate::loss;

const _: () = assert!(size_of::<Record>().is_multiple_of(size_of::<u64>()));

/// Userspace sets the size at load time.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Drops the datagram; the sender sees success (`sk_filter_trim_cap`,
/// `net/core/filter.c`; `unix_dgram_sendmsg` then reports the full length).
const DROP: i64 = 0;

/// Writes a record of the datagram and lets it pass.
///
/// A datagram that is no frame by its length is dropped here: it is counted,
/// and never takes one of the few places of the receive queue.
#[inline(always)]
pub(crate) fn run(ctx: &SkBuffContext, describe: impl FnOnce(&mut Record)) -> i64 {
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "{} bytes", ctx.len());
    let pass = i64::from(ctx.len());
    if ctx.len() != FRAME_LEN as u32 {
        loss::count(Loss::WrongLength);
        return DROP;
    }
    let Some(mut entry) = RECORDS.reserve::<Record>(0) else {
        loss::count(Loss::RingFull);
        return pass;
    };
    let record = blank(&mut entry);
    if !load_frame(ctx, record) {
        loss::count(Loss::Unreadable);
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        return pass;
    }
    describe(record);
    // The datagram itself wakes the observer, which drains the ring beside
    // every receive: a wake-up of the ring's own would cost more than all of
    // the above.
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    pass
}

/// Makes a record of which only the time is known. Ring memory holds what lay
/// there before.
///
/// Word by word, for the compiler turns anything shorter into a call of
/// `memset`, and its pointer arithmetic is "prohibited for !root": the
/// verifier (`sanitize_ptr_alu`, `kernel/bpf/verifier.c`) refuses it to a
/// loader without `CAP_PERFMON`.
#[inline(always)]
fn blank(entry: &mut RingBufEntry<Record>) -> &mut Record {
    const WORDS: usize = size_of::<Record>() / size_of::<u64>();
    let words = entry.as_mut_ptr().cast::<u64>();
    for index in 0..WORDS {
        // SAFETY: the entry is reserved ring memory of the record's size and
        // 8-byte aligned, and the record is whole words.
        unsafe { words.add(index).write_volatile(0) };
    }
    // SAFETY: every byte was just written, and any bytes make a record.
    let record = unsafe { entry.assume_init_mut() };
    record.uid = UNKNOWN_ID;
    record.gid = UNKNOWN_ID;
    // SAFETY: the helper takes nothing and cannot fail.
    record.time_ns = unsafe { bpf_ktime_get_ns() };
    record
}

/// Copies the datagram into the record; false if the kernel refuses.
#[inline(always)]
fn load_frame(ctx: &SkBuffContext, record: &mut Record) -> bool {
    // SAFETY: the destination is `FRAME_LEN` bytes of a live record; the
    // verifier checks destination and length once more.
    let status = unsafe {
        bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            0,
            record.frame.as_mut_ptr().cast(),
            FRAME_LEN as u32,
        )
    };
    status == 0
}
