//! What the socket filters on the Unix socket do with a datagram.

use core::mem::MaybeUninit;

use aya_ebpf::programs::SkBuffContext;
use observer_common::frame::{FRAME_LEN, claimed_pid, claims_critical};
use observer_common::loss::Loss;
use observer_common::record::{Fate, Record, TaskKind};

use crate::budget::{self, Charge, Sent};
use crate::constants::{gate, layout};
use crate::packet::load_bytes;
use crate::{loss, output, rights, wakeup};

/// Drops the datagram; the sender sees success (`sk_filter_trim_cap`,
/// `net/core/filter.c`; `unix_dgram_sendmsg` then reports the full length).
pub(crate) const DROP: i64 = 0;

/// Lets the datagram go on to the socket, whole.
#[inline(always)]
pub(crate) fn pass(ctx: &SkBuffContext) -> i64 {
    i64::from(ctx.len())
}

/// Writes a record of the datagram and returns what the kernel is to do with
/// it.
///
/// In this order:
///
/// 1. Beyond a budget of its sender's it is dropped.
/// 2. With descriptors attached it is dropped, or left to the socket to refuse.
/// 3. If it is no frame by its length it is dropped.
/// 4. If it is a forgery, and the program is to refuse these, it is taken off
///    the socket.
/// 5. If the ring is to deliver datagrams, and has room, it is taken off the
///    socket.
/// 6. Otherwise it goes on to the socket.
///
/// What is dropped or taken off takes up none of the few places in the receive
/// queue.
#[inline(always)]
pub(crate) fn run<const HAS_KFUNCS: bool>(
    ctx: &SkBuffContext,
    describe: impl FnOnce(&mut Record),
) -> i64 {
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(ctx, "{} bytes", ctx.len());
    let mut memory = MaybeUninit::uninit();
    let record = output::blank(&mut memory);
    describe(record);
    let is_frame = ctx.len() == FRAME_LEN as u32;
    let is_read = is_frame && load_bytes(ctx, 0, &mut record.frame);
    let sent = Sent {
        datagrams: 1,
        is_critical: is_read && claims_critical(&record.frame),
        is_own: true,
    };
    if let Charge::Unpaid {
        dropped,
        report,
        limit,
    } = budget::charge(record, &sent)
    {
        record.limit = limit as u8;
        return throttle::<HAS_KFUNCS>(record, dropped, report);
    }
    if HAS_KFUNCS && rights::are_attached(ctx) {
        return refuse_descriptors::<HAS_KFUNCS>(ctx, record);
    }
    if !is_frame {
        loss::count(Loss::WrongLength);
        return DROP;
    }
    if !is_read {
        loss::count(Loss::Unreadable);
        return pass(ctx);
    }
    if gate!(refuse_forgeries) != 0 && is_forgery(record) {
        return refuse::<HAS_KFUNCS>(record);
    }
    deliver::<HAS_KFUNCS>(ctx, record)
}

/// Delivers the datagram by the ring, or lets it go on to the socket.
#[inline(always)]
fn deliver<const HAS_KFUNCS: bool>(ctx: &SkBuffContext, record: &mut Record) -> i64 {
    let room = gate!(take_below);
    if room != 0 && output::unread_bytes() <= room {
        record.fate = Fate::Taken as u8;
        if output::write::<HAS_KFUNCS>(record) {
            wakeup::wake_observer::<HAS_KFUNCS>();
            return DROP;
        }
        loss::count(Loss::RingFull);
        return pass(ctx);
    }
    if room != 0 {
        loss::count(Loss::PassedOn);
    }
    if !output::write::<HAS_KFUNCS>(record) {
        loss::count(Loss::RingFull);
    }
    pass(ctx)
}

/// Takes a forgery off the socket, even if the ring has no room for its record:
/// otherwise a sender that fills the ring would get its forgeries into the
/// queue.
#[inline(always)]
fn refuse<const HAS_KFUNCS: bool>(record: &mut Record) -> i64 {
    record.fate = Fate::Taken as u8;
    if output::write::<HAS_KFUNCS>(record) {
        wakeup::wake_observer::<HAS_KFUNCS>();
    } else {
        loss::count(Loss::RefusedUnseen);
    }
    DROP
}

/// Keeps a datagram with descriptors out. Of a datagram that is dropped or
/// refused the kernel closes the descriptors in the sending task. Of one that
/// is received it would do so in the observer's, and closing a file may take as
/// long as its owner likes (`SO_LINGER`).
///
/// A socket that refuses descriptors itself is given the datagram, so that the
/// sender gets an error. It lets none in, so the datagram needs no record.
#[inline(always)]
fn refuse_descriptors<const HAS_KFUNCS: bool>(ctx: &SkBuffContext, record: &mut Record) -> i64 {
    loss::count(Loss::Descriptors);
    if let Some(refused) = budget::count_descriptors(record) {
        record.fate = Fate::Descriptors as u8;
        record.dropped = refused;
        // Without room in the ring it is counted, and in the next report.
        if output::write::<HAS_KFUNCS>(record) {
            wakeup::wake_observer::<HAS_KFUNCS>();
        }
    }
    if gate!(socket_refuses_descriptors) != 0 {
        pass(ctx)
    } else {
        DROP
    }
}

#[inline(always)]
fn throttle<const HAS_KFUNCS: bool>(record: &mut Record, dropped: u64, report: bool) -> i64 {
    loss::count(Loss::Throttled);
    if report {
        record.fate = Fate::Throttled as u8;
        record.dropped = dropped;
        // Without room in the ring it is counted, and in the next report.
        if output::write::<HAS_KFUNCS>(record) {
            wakeup::wake_observer::<HAS_KFUNCS>();
        }
    }
    DROP
}

/// Whether userspace's `judge` is certain to refuse the datagram for its claim:
/// its rules, as far as they need only the sender. What passes here is judged
/// in full, so this decides only whether a forgery takes up a place in the
/// queue.
#[inline(always)]
fn is_forgery(record: &Record) -> bool {
    let claim = claimed_pid(&record.frame);
    let is_here = record.pid_ns_inode == layout!(observer_ns_inode);
    let is_honest = if is_here {
        claim == record.pid
    } else {
        gate!(translate) != 0 && record.pid != 0 && claim == record.own_pid
    };
    !is_honest || record.task_kind == TaskKind::SqPoll as u8
}
