//! What the socket filters on the Unix socket do with a datagram.

use core::mem::MaybeUninit;

use aya_ebpf::programs::SkBuffContext;
use observer_common::{
    frame::{FRAME_LEN, claimed_pid, claims_critical},
    loss::Loss,
    record::{Fate, Record, TaskKind},
};

use crate::{
    budget::{self, Charge, Sent},
    constants::{gate, layout},
    loss, output,
    packet::load_bytes,
    rights, wakeup,
};

/// Drops the datagram; the sender sees success (`sk_filter_trim_cap`,
/// `net/core/filter.c`; `unix_dgram_sendmsg` then reports the full length).
pub(crate) const DROP: i64 = 0;

/// Lets the datagram go on to the socket, whole.
#[inline(always)]
pub(crate) fn pass(ctx: &SkBuffContext) -> i64 {
    i64::from(ctx.len())
}

/// Writes a record of the datagram and says what becomes of it.
///
/// In this order: a datagram of a process that has used up its budget, or with
/// others that of their user or cgroup, is dropped, and so is one with
/// descriptors attached, and one that is no frame by its length; a lie is taken
/// off the socket where that is asked for, and every datagram where the ring is
/// to deliver them; the rest goes on to the socket. Nothing of what is dropped
/// or taken ever has one of the few places of the receive queue.
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

/// By the ring or by the socket.
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

/// A lie takes no place in the queue even where the ring has no room for it:
/// whoever fills the ring with lies must not gain by it.
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

/// Whoever attaches descriptors closes them: what is dropped or refused here
/// the kernel frees in the sending task, and not in the observer's, which a
/// file may keep busy for as long as its owner likes (`SO_LINGER`).
///
/// A socket that refuses them itself is left to it: the sender is to know. It
/// never lets such a datagram in, so there is no record of it.
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

/// Whether the datagram is certain to be refused for its claim: the rules of
/// userspace's `judge`, as far as they need the sender only. Where both
/// agree nothing changes but that it takes no place in the queue; what this
/// lets pass is judged in full.
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
