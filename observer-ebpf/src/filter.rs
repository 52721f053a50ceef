//! What the socket filters on the Unix socket do with a datagram.

use core::mem::MaybeUninit;

use aya_ebpf::programs::SkBuffContext;
use observer_common::{frame::FRAME_LEN, loss::Loss, record::Record};

use crate::{loss, output};

/// Drops the datagram; the sender sees success (`sk_filter_trim_cap`,
/// `net/core/filter.c`; `unix_dgram_sendmsg` then reports the full length).
pub(crate) const DROP: i64 = 0;

/// Writes a record of the datagram and lets it pass.
///
/// A datagram that is no frame by its length is dropped here: it is counted,
/// and never takes one of the few places of the receive queue.
#[inline(always)]
pub(crate) fn run(ctx: &SkBuffContext, describe: impl FnOnce(&mut Record)) -> i64 {
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "{} bytes", ctx.len());
    if ctx.len() != FRAME_LEN as u32 {
        loss::count(Loss::WrongLength);
        return DROP;
    }
    let mut memory = MaybeUninit::uninit();
    let record = output::blank(&mut memory);
    describe(record);
    output::record(ctx, 0, record);
    i64::from(ctx.len())
}
