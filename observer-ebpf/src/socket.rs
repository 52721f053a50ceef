//! The socket that a packet leaves by.
//!
//! Its network namespace is what counts, and not the sending task's: a task
//! may enter another namespace with its sockets (`setns`), and send as before.

use crate::{
    constants::network,
    kernel::{KernelPtr, cast_to_kern_ctx, load, rdonly_cast},
};
use aya_ebpf::{
    EbpfContext as _, bindings::__sk_buff, helpers::bpf_skc_to_udp6_sock, programs::SkBuffContext,
};

/// What of the sending socket is of interest.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    /// Inode of its network namespace.
    pub(crate) net_inode: u32,
    /// What leaves may have been put there by another process than the one
    /// that sends now.
    pub(crate) is_corked: bool,
    /// It is a raw one that is given whole packets (`IPPROTO_RAW`). One of IPv6
    /// collects as well: whoever shares it takes `IPV6_HDRINCL` off and back.
    /// One of IPv4 without `IP_HDRINCL` sends no UDP, but protocol 255.
    pub(crate) is_raw: bool,
}

/// `SOCK_DGRAM` and `SOCK_RAW` (`include/linux/net.h`)
const DATAGRAM: u16 = 2;
const RAW: u16 = 3;

/// `IPPROTO_UDP` and `IPPROTO_RAW` (`include/uapi/linux/in.h`)
const UDP: u16 = 17;
const ANY_PROTOCOL: u16 = 255;

/// The sending socket, on a kernel with the functions to cast pointers (Linux
/// 6.2 and later).
#[inline(always)]
pub(crate) fn of(ctx: &SkBuffContext) -> Option<Socket> {
    let skb = cast_to_kern_ctx(ctx.as_ptr());
    if skb.is_null() {
        return None;
    }
    let sk: KernelPtr = load(skb, network!(skb_sk));
    if sk.is_null() {
        return None;
    }
    let kind: u16 = load(sk, network!(sock_type));
    let protocol: u16 = load(sk, network!(sock_protocol));
    let is_raw = kind == RAW && protocol == ANY_PROTOCOL;
    let is_udp = kind == DATAGRAM && protocol == UDP;
    Some(Socket {
        net_inode: net_inode(sk),
        // Any other raw socket collects (`ip_append_data`), and leaves no trace
        // of it. What is no UDP socket at all may too: fail closed.
        is_corked: if is_udp {
            is_pending(rdonly_cast(sk, network!(udp_sock)))
        } else {
            !is_raw
        },
        is_raw,
    })
}

/// The sending socket if it is one for UDP of family `AF_INET6`, of which a
/// helper gives a pointer to read by (Linux 5.9 and later). For a socket of
/// family `AF_INET` there is no such helper.
#[inline(always)]
pub(crate) fn of_udp6(ctx: &SkBuffContext) -> Option<Socket> {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the context is a packet, and the verifier knows the field.
    let sk = unsafe { (*packet).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: the socket was compared with NULL.
    let sk = unsafe { bpf_skc_to_udp6_sock(sk.cast()) } as KernelPtr;
    if sk.is_null() {
        return None;
    }
    // `udp6_sock` begins with `udp_sock`, which begins with `sock`.
    Some(Socket {
        net_inode: net_inode(sk),
        is_corked: is_pending(sk),
        is_raw: false,
    })
}

/// `sk->__sk_common.skc_net.net->ns.inum`
#[inline(always)]
fn net_inode(sk: KernelPtr) -> u32 {
    let net: KernelPtr = load(sk, network!(sock_net));
    load(net, network!(net_inum))
}

/// `udp_sock.pending` is the address family of what is collected, and is
/// cleared after that was sent only (`udp_push_pending_frames`,
/// `net/ipv4/udp.c`, and `udp_v6_push_pending_frames`, `net/ipv6/udp.c`, read
/// in 6.1, 6.12 and 6.18). A plain send never sets it.
#[inline(always)]
fn is_pending(udp: KernelPtr) -> bool {
    load::<u32>(udp, network!(udp_pending)) != 0
}
