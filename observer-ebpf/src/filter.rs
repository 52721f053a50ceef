//! What both socket filters do with a datagram.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes},
    macros::map,
    maps::RingBuf,
    programs::SkBuffContext,
};
use observer_common::{
    frame::FRAME_LEN,
    loss::Loss,
    record::Record,
};

use crate::loss;

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
    let pass = i64::from(ctx.len());
    if ctx.len() != FRAME_LEN as u32 {
        loss::count(Loss::WrongLength);
        return DROP;
    }
    let Some(mut entry) = RECORDS.reserve::<Record>(0) else {
        loss::count(Loss::RingFull);
        return pass;
    };
    let record = entry.write(Record {
        // SAFETY: the helper takes nothing and cannot fail.
        time_ns: unsafe { bpf_ktime_get_ns() },
        ..Record::UNKNOWN
    });
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
