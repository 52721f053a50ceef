//! Datagrams to the observer's UDP listeners, seen where they leave.
//!
//! `ip_finish_output` and `ip6_finish_output` (`net/ipv4/ip_output.c`,
//! `net/ipv6/ip6_output.c`, read in 6.1, 6.12 and 6.18) run the egress
//! programs of the sending socket's cgroup. For UDP that is within `sendmsg`
//! (or the call that flushes a corked socket): the current task is the
//! sender, byte 0 of the packet is byte 0 of the IP header, and the payload
//! is whole, before any fragmentation and before any device.
//!
//! The program runs for each IP packet of the host, so a packet to anybody else
//! leaves after a few comparisons.
//!
//! A datagram from the listener's own network namespace reaches the listener by
//! the loopback device only; one from another namespace by any other device. A
//! datagram that goes another way (an own one to another host, or one to
//! another namespace's own `127.0.0.1`) is not for the listener, whatever its
//! destination. There is one exception: copies of own multicast and broadcast
//! datagrams come back by another device. So where a listener's network is
//! trusted, own datagrams that leave by another device are recorded too: then
//! they can be told from that network's.
//!
//! Only what leaves by `lo` for the observer itself is ever dropped here: where
//! it arrives it would be refused for want of a record.
//!
//! Some datagrams have no record. Packets that are written to a device or a
//! tunnel directly (`AF_PACKET`, `/dev/net/tun`, both of which need privileges)
//! do not come by here. And where a sender changes pages after this program has
//! read them (`MSG_ZEROCOPY`, `splice`), no record has the bytes that arrive.

mod frames;

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::programs::SkBuffContext;
use observer_common::frame::claims_critical;
use observer_common::listener::LOOPBACK;
use observer_common::loss::Loss;
use observer_common::record::{Fate, Record};

use self::frames::{Frames, MAX_SEGMENTS, segment_size};
use crate::budget::{self, Charge, Sent};
use crate::constants::network;
use crate::kernel::{KFUNCS, on_one_cpu};
use crate::packet::{self, Datagram, load_bytes};
use crate::socket::Socket;
use crate::{loss, output};

/// Lets the packet pass (`__cgroup_bpf_run_filter_skb`, `kernel/bpf/cgroup.c`).
const PASS: i32 = 1;

/// Drops it as a full queue would: the sender sees success, unless it asked for
/// errors (`IP_RECVERR`).
const DROP: i32 = 2;

/// Writes records of the frames that leave in a packet, if it is to a listener.
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
        let direction = match (is_own, is_by_lo) {
            (true, true) => Direction::Here,
            (true, false) => Direction::Away,
            (false, false) => Direction::Elsewhere,
            // By that namespace's own `lo`, which no listener receives from.
            (false, true) => return PASS,
        };
        let is_corked = socket.is_corked || socket.is_raw && !packet::is_ipv4(head);
        return record_frames(ctx, &datagram, is_corked, direction, describe);
    }
    if is_by_lo && packet::is_hidden(ctx, head) && is_own(ctx, find_socket) {
        loss::count(Loss::DroppedHidden);
        return DROP;
    }
    PASS
}

/// From where to where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the listener's network namespace to the listener.
    Here,
    /// From that namespace by another device: to another host, or back by a
    /// device that is not `lo`, as copies of multicast and broadcast datagrams
    /// are, and those that leave by one interface to another's address. Such a
    /// datagram is no other host's, and has no record that attests it either.
    Away,
    /// From another namespace, and perhaps to the listener.
    Elsewhere,
}

#[inline(always)]
fn is_own(ctx: &SkBuffContext, find_socket: impl Fn(&SkBuffContext) -> Option<Socket>) -> bool {
    find_socket(ctx).is_some_and(|socket| socket.net_inode == network!(inode))
}

#[inline(always)]
fn record_frames(
    ctx: &SkBuffContext,
    datagram: &Datagram,
    is_corked: bool,
    direction: Direction,
    describe: impl FnOnce(&mut Record),
) -> i32 {
    let segment = segment_size(ctx);
    let Some(frames) = Frames::of(ctx, datagram, segment) else {
        return PASS;
    };
    // Described once for all frames: otherwise the verifier would follow each
    // path of the description again for each frame.
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
        is_own: direction == Direction::Here,
    };
    if direction == Direction::Away {
        record.fate = Fate::Away as u8;
    }
    match budget::charge(record, &sent) {
        // Around all frames of a send: around each frame, the verifier would
        // follow each on its own.
        Charge::Paid => on_one_cpu::<KFUNCS, _>(|| {
            if direction == Direction::Here {
                record_own(ctx, &frames, record)
            } else {
                record_others(ctx, &frames, record)
            }
        }),
        Charge::Unpaid {
            dropped,
            report,
            limit,
        } if direction == Direction::Here => {
            record.limit = limit as u8;
            throttle(record, dropped, report)
        }
        Charge::Unpaid { .. } => {
            loss::count(Loss::PassedOverBudget);
            PASS
        }
    }
}

/// Records a send of this network namespace to the listener. If one of its
/// frames cannot be recorded the whole send is dropped.
#[inline(always)]
fn record_own(ctx: &SkBuffContext, frames: &Frames, record: &mut Record) -> i32 {
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

/// Records a send that may reach a listener by some device, or go somewhere
/// else: it passes in any case.
#[inline(always)]
fn record_others(ctx: &SkBuffContext, frames: &Frames, record: &mut Record) -> i32 {
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

/// Marks a datagram with a random token, to tell it from others. What comes
/// from another network namespace has no mark (`skb_scrub_packet`,
/// `net/core/skbuff.c`).
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
