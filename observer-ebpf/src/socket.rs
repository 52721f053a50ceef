//! The socket that a packet leaves by.
//!
//! Its network namespace is what counts, not the sending task's: a task may
//! enter another namespace (`setns`), keep its sockets, and send as before.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skc_to_udp6_sock;
use aya_ebpf::programs::SkBuffContext;

use crate::constants::network;
use crate::kernel::{KernelPtr, cast_to_kern_ctx, load, rdonly_cast};

/// What is read of the sending socket.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    /// Inode of its network namespace.
    pub(crate) net_inode: u32,
    /// Bytes of the packet may come from another process than the one that
    /// sends now.
    pub(crate) is_corked: bool,
    /// It is a raw socket that is given whole packets (`IPPROTO_RAW`). One of
    /// IPv6 can be corked all the same: a process that shares it switches
    /// `IPV6_HDRINCL` off for a while. One of IPv4 cannot: without `IP_HDRINCL`
    /// it sends protocol 255, and no UDP.
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
        // Any other raw socket can be corked (`ip_append_data`), and it cannot
        // be seen whether it was. Likewise every socket that is not UDP's: fail
        // closed.
        is_corked: if is_udp {
            is_pending(rdonly_cast(sk, network!(udp_sock)))
        } else {
            !is_raw
        },
        is_raw,
    })
}

/// The sending socket if it is a UDP socket of family `AF_INET6`: a helper
/// returns a pointer to read it by (Linux 5.9 and later). There is no such
/// helper for a socket of family `AF_INET`.
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

/// `udp_sock.pending` is the address family of what a corked socket holds, and
/// is cleared only after that was sent (`udp_push_pending_frames`,
/// `net/ipv4/udp.c`, and `udp_v6_push_pending_frames`, `net/ipv6/udp.c`, read
/// in 6.1, 6.12 and 6.18). A plain send never sets it.
#[inline(always)]
fn is_pending(udp: KernelPtr) -> bool {
    load::<u32>(udp, network!(udp_pending)) != 0
}
