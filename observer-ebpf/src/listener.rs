//! What each socket of a UDP listener takes.
//!
//! A listener has a socket for each way that datagrams may come by, and a
//! filter on each. Only the filter sees the device that a datagram came by: for
//! an own datagram to an own address `IP_PKTINFO` has the address's device
//! (`ipv4_pktinfo_prepare`, `net/ipv4/ip_sockglue.c`). And only a filter keeps
//! copies of multicast and broadcast datagrams out: all sockets get one,
//! whatever program spreads datagrams over them (`__udp4_lib_mcast_deliver`,
//! `net/ipv4/udp.c`).

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::SkBuffContext;
use observer_common::frame::FRAME_LEN;
use observer_common::listener::{LOOPBACK, MAX_DEVICES};
use observer_common::loss::Loss;

use crate::constants::network;
use crate::filter::DROP;
use crate::loss;

/// By which way datagrams come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the loopback device: a process of this network namespace sent them.
    Loopback,
    /// By a device that the operator declared.
    Declared,
    /// By any other.
    Other,
}

/// A UDP header and a frame: a UDP socket's filter sees the header first
/// (`udp_queue_rcv_one_skb`, `net/ipv4/udp.c`).
const LEN: u32 = 8 + FRAME_LEN as u32;

/// `PACKET_LOOPBACK` (`include/uapi/linux/if_packet.h`): a copy of what this
/// host itself sent (`dev_loopback_xmit`, `net/core/dev.c`), shown as coming by
/// the device that it left by. It cannot be joined with a record: the copy may
/// be here before the program on the send path has run.
const LOOPED_BACK: u32 = 5;

/// Drops what came by another way than the socket's own, and what is no frame
/// by its length, before it takes up room in the queue. With `is_wired` it
/// drops also what this host itself sent.
#[inline(always)]
pub(crate) fn filter(ctx: &SkBuffContext, way: Way, is_wired: bool) -> i64 {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the context is a packet, and the verifier knows the fields.
    let (device, kind) = unsafe { ((*packet).ifindex, (*packet).pkt_type) };
    if way_of(device) != way || is_wired && kind == LOOPED_BACK {
        loss::count(Loss::OtherSocket);
        return DROP;
    }
    if ctx.len() != LEN {
        loss::count(Loss::WrongLength);
        return DROP;
    }
    i64::from(LEN)
}

#[inline(always)]
fn way_of(device: u32) -> Way {
    if device == LOOPBACK {
        return Way::Loopback;
    }
    for index in 0..MAX_DEVICES {
        if network!(devices[index]) == device {
            return Way::Declared;
        }
    }
    Way::Other
}
