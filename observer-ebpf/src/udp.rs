//! Datagrams to the observer's UDP listeners, seen where they leave.
//!
//! `ip_finish_output` and `ip6_finish_output` (`net/ipv4/ip_output.c`,
//! `net/ipv6/ip6_output.c`, read in 6.1, 6.12 and 6.18) run the egress
//! programs of the sending socket's cgroup. For UDP that is within `sendmsg`
//! (or the call that flushes a corked socket): the current task is the
//! sender, byte 0 of the packet is byte 0 of the IP header, and the payload
//! is whole, before any fragmentation and before any device.
//!
//! It runs for each IP packet of the host, so what is not ours leaves after a
//! few comparisons.
//!
//! A datagram reaches a listener from the listener's own network namespace by
//! the loopback device, and by no other; or from another namespace by any
//! other device. What goes the other ways, an own datagram to another host, or
//! one to another namespace's own `127.0.0.1`, is for somebody else, whatever
//! address and port it bears. An own datagram may come back by another device
//! all the same, as copies of multicast and broadcast ones do: so it is recorded
//! where a listener's network is trusted, to be told from that network's.
//!
//! Only what leaves by `lo` for the observer itself is ever dropped here:
//! without its record it would count for nothing where it arrives.
//!
//! What does not come by here has no record: packets that are written to a
//! device or a tunnel directly (`AF_PACKET`, `/dev/net/tun`, both of which need
//! privileges). Nor have pages that a sender changes after this program has
//! read them (`MSG_ZEROCOPY`, `splice`): no record has the bytes that arrive.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _, bindings::__sk_buff, helpers::bpf_get_prandom_u32, programs::SkBuffContext,
};
use observer_common::{
    frame::{FRAME_LEN, claims_critical},
    listener::LOOPBACK,
    loss::Loss,
    record::{Fate, Record},
};

use crate::{
    budget::{self, Charge, Sent},
    constants::network,
    kernel::{KFUNCS, on_one_cpu},
    loss, output,
    packet::{self, Datagram, load_bytes},
    socket::Socket,
};

/// Lets the packet go (`__cgroup_bpf_run_filter_skb`, `kernel/bpf/cgroup.c`).
const PASS: i32 = 1;

/// Drops it as a full queue would: the sender sees success, unless it asked to
/// be told (`IP_RECVERR`).
const DROP: i32 = 2;

/// Most segments of one send (`UDP_MAX_SEGMENTS`, `include/linux/udp.h`: 64,
/// and 128 from Linux 6.11).
const MAX_SEGMENTS: u32 = 128;

/// Length of a frame.
const ONE_FRAME: u32 = FRAME_LEN as u32;

/// Writes records of the frames that leave in a packet, if it is one of ours.
#[inline(always)]
pub(crate) fn run(
    ctx: &SkBuffContext,
    find_socket: impl Fn(&SkBuffContext) -> Option<Socket>,
    describe: impl FnOnce(&mut Record),
) -> i32 {
    let is_by_lo = packet::device(ctx) == LOOPBACK;
    if !is_by_lo && network!(records_others) == 0 {
        return PASS;
    }
    let Some(head) = packet::head(ctx) else {
        return PASS;
    };
    if let Some(datagram) = packet::parse(ctx, head) {
        let Some(socket) = find_socket(ctx) else {
            return PASS;
        };
        let is_own = socket.net_inode == network!(inode);
        let route = match (is_own, is_by_lo) {
            (true, true) => Route::Here,
            (true, false) => Route::Away,
            (false, false) => Route::Elsewhere,
            // Its own `lo`, and nobody else's.
            (false, true) => return PASS,
        };
        let is_corked = socket.is_corked || socket.is_raw && !packet::is_ipv4(head);
        return record(ctx, &datagram, is_corked, route, describe);
    }
    if is_by_lo && packet::is_hidden(ctx, head) && is_own(ctx, find_socket) {
        loss::count(Loss::DroppedHidden);
        return DROP;
    }
    PASS
}

/// Where a datagram comes from and goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    /// From the listener's network namespace to the listener.
    Here,
    /// From that namespace by another device: to another host, or back by some
    /// way that is no `lo`, as copies of multicast and broadcast ones are, or
    /// what leaves by one interface to another's address. Nobody vouches for it
    /// there, but it is no other host's word.
    Away,
    /// From another namespace, and perhaps to the listener.
    Elsewhere,
}

#[inline(always)]
fn is_own(ctx: &SkBuffContext, find_socket: impl Fn(&SkBuffContext) -> Option<Socket>) -> bool {
    find_socket(ctx).is_some_and(|socket| socket.net_inode == network!(inode))
}

#[inline(always)]
fn record(
    ctx: &SkBuffContext,
    datagram: &Datagram,
    is_corked: bool,
    route: Route,
    describe: impl FnOnce(&mut Record),
) -> i32 {
    let segment = segment_size(ctx);
    let Some(frames) = Frames::of(ctx, datagram, segment) else {
        return PASS;
    };
    // Described once for all frames: the sender is the same, and the verifier
    // would follow each of its paths for each frame anew.
    let mut memory = MaybeUninit::uninit();
    let record = output::blank(&mut memory);
    record.source_address = datagram.source_address;
    record.source_port = datagram.source_port;
    record.corked = u8::from(is_corked || segment != 0);
    describe(record);
    let sent = Sent {
        datagrams: frames.count,
        is_critical: frames.count == 1
            && load_bytes(ctx, frames.first, &mut record.frame)
            && claims_critical(&record.frame),
        is_own: route == Route::Here,
    };
    if route == Route::Away {
        record.fate = Fate::Away as u8;
    }
    match budget::charge(record, &sent) {
        // Around all frames of a send: around each, the verifier would follow
        // each on its own.
        Charge::Paid => on_one_cpu::<KFUNCS, _>(|| {
            if route == Route::Here {
                own(ctx, &frames, record)
            } else {
                others(ctx, &frames, record)
            }
        }),
        Charge::Unpaid {
            dropped,
            report,
            limit,
        } if route == Route::Here => {
            record.limit = limit as u8;
            throttle(record, dropped, report)
        }
        Charge::Unpaid { .. } => {
            loss::count(Loss::PassedOverBudget);
            PASS
        }
    }
}

/// A send of this network namespace to the listener.
#[inline(always)]
fn own(ctx: &SkBuffContext, frames: &Frames, record: &mut Record) -> i32 {
    if network!(tokens) != 0 {
        record.token = mark(ctx);
    }
    for index in 0..MAX_SEGMENTS {
        if index >= frames.count {
            break;
        }
        let is_written = load_bytes(ctx, frames.at(index), &mut record.frame);
        if !is_written || !output::write_udp(record) {
            loss::count(Loss::DroppedUnrecorded);
            return DROP;
        }
    }
    PASS
}

/// One that may reach a listener by some device, or go somewhere else.
#[inline(always)]
fn others(ctx: &SkBuffContext, frames: &Frames, record: &mut Record) -> i32 {
    for index in 0..MAX_SEGMENTS {
        if index >= frames.count {
            break;
        }
        if !load_bytes(ctx, frames.at(index), &mut record.frame) {
            loss::count(Loss::Unreadable);
        } else if !output::write_others(record) {
            loss::count(Loss::RingFull);
        }
    }
    PASS
}

#[inline(always)]
fn throttle(record: &mut Record, dropped: u64, report: bool) -> i32 {
    loss::count(Loss::Throttled);
    if report {
        record.fate = Fate::Throttled as u8;
        record.dropped = dropped;
        // Without room in the ring it is counted, and in the next report.
        on_one_cpu::<KFUNCS, _>(|| output::write_udp(record));
    }
    DROP
}

/// Marks a datagram; no other has the mark, and nothing that comes from another
/// network namespace has any (`skb_scrub_packet`, `net/core/skbuff.c`).
#[inline(always)]
fn mark(ctx: &SkBuffContext) -> u32 {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the helper takes nothing and cannot fail.
    let token = unsafe { bpf_get_prandom_u32() } | 1;
    // SAFETY: the context is a packet, and a program of this kind may write
    // the field (`cg_skb_is_valid_access`, `net/core/filter.c`).
    unsafe { (*packet).mark = token };
    token
}

/// Where the frames of one send lie.
struct Frames {
    first: u32,
    count: u32,
}

impl Frames {
    /// One send may hold many datagrams (`UDP_SEGMENT`), which the kernel cuts
    /// up later: all of a size but for the last, which may be shorter.
    #[inline(always)]
    fn of(ctx: &SkBuffContext, datagram: &Datagram, segment: u32) -> Option<Self> {
        let Datagram {
            payload, length, ..
        } = *datagram;
        if segment == 0 || length == ONE_FRAME {
            let is_frame = length == ONE_FRAME;
            return is_frame.then_some(Self {
                first: payload,
                count: 1,
            });
        }
        let whole = ctx.len().wrapping_sub(payload);
        if segment == ONE_FRAME {
            return Some(Self {
                first: payload,
                count: whole / ONE_FRAME,
            });
        }
        // It is not zero, and the compiler does not see that.
        let short = whole.checked_rem(segment)?;
        (short == ONE_FRAME).then(|| Self {
            first: ctx.len().wrapping_sub(ONE_FRAME),
            count: 1,
        })
    }

    #[inline(always)]
    fn at(&self, index: u32) -> u32 {
        self.first.wrapping_add(index.wrapping_mul(ONE_FRAME))
    }
}

/// Payload bytes of each segment of a send that is cut up later; else 0.
#[inline(always)]
fn segment_size(ctx: &SkBuffContext) -> u32 {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the context is a packet, and the verifier knows the field.
    unsafe { (*packet).gso_size }
}
