//! UDP datagrams to listeners in IPv6 packets.

use aya_ebpf::programs::SkBuffContext;
use observer_common::listener::LOOPBACK;

use super::ports::{Ports, has_listener, is_ours, is_port_ours};
use super::{Datagram, Head, UDP, UdpHeader, device, load_bytes};

const HEADER_LEN: u32 = 40;

/// Most extension headers that are followed; no honest packet has as many.
const MOST_HEADERS: usize = 4;

/// Headers that may come before UDP's, and IP within IP, which a segment router
/// unpacks (RFC 8200, RFC 4302, RFC 8986).
mod header {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const IPV4: u8 = 4;
    pub(super) const IPV6: u8 = 41;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
}

/// The datagram, if it is to a listener.
#[inline(always)]
pub(super) fn datagram(ctx: &SkBuffContext, head: &Head) -> Option<Datagram> {
    const SOURCE: u32 = 8;
    const DESTINATION: u32 = 24;
    let mut ports = Ports::load(ctx, HEADER_LEN)?;
    if !is_port_ours(6, ports.destination) {
        return None;
    }
    let mut destination = [[0; 4]; 4];
    if !load_bytes(ctx, DESTINATION, destination.as_flattened_mut()) {
        return None;
    }
    if !is_ours(6, ports.destination, destination.map(u32::from_ne_bytes)) {
        return None;
    }
    if ports.length == 0 {
        // A jumbogram (RFC 2675). For these `__udp6_lib_rcv`
        // (`net/ipv6/udp.c`) uses the packet's length, however short it is,
        // after `ip6_rcv_core` has cut off what the IP header does not count.
        ports.length = match u16::from_be_bytes(head.id) {
            0 => ctx.len().wrapping_sub(HEADER_LEN),
            length => length.into(),
        };
    }
    let mut source = [0; 16];
    load_bytes(ctx, SOURCE, &mut source).then(|| ports.datagram(HEADER_LEN, source))
}

/// Whether a header is one that others may follow.
#[inline(always)]
pub(super) fn is_extension(header: u8) -> bool {
    matches!(
        header,
        header::HOP_BY_HOP
            | header::ROUTING
            | header::FRAGMENT
            | header::AUTHENTICATION
            | header::DESTINATION
            | header::MOBILITY
    )
}

/// Whether a datagram to one of the listeners' ports may be behind the
/// extension headers: it is, or the headers cannot be followed to their end.
///
/// They cannot where they go on in the next fragment, or where an IP packet is
/// within, whatever that holds.
#[inline(always)]
pub(super) fn is_behind(ctx: &SkBuffContext, first: u8) -> bool {
    if device(ctx) != LOOPBACK || !has_listener(6) {
        return false;
    }
    let mut next = first;
    let mut at = HEADER_LEN;
    for _ in 0..MOST_HEADERS {
        if next == UDP {
            let mut header = UdpHeader::default();
            return !load_bytes(ctx, at, &mut header)
                || is_port_ours(6, Ports::new(header).destination);
        }
        if next == header::IPV4 || next == header::IPV6 {
            return true;
        }
        let mut start = [0; 4];
        if !is_extension(next) {
            return false;
        }
        if !load_bytes(ctx, at, &mut start) {
            // The next fragment has the rest.
            return true;
        }
        let [following, length, a, b] = start;
        if next == header::FRAGMENT && u16::from_be_bytes([a, b]) & 0xfff8 != 0 {
            return false;
        }
        at = at.wrapping_add(match next {
            header::FRAGMENT => 8,
            header::AUTHENTICATION => u32::from(length).wrapping_add(2).wrapping_mul(4),
            _ => u32::from(length).wrapping_add(1).wrapping_mul(8),
        });
        next = following;
    }
    true
}
