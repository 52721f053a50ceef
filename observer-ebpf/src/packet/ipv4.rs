//! UDP datagrams to listeners in IPv4 packets.

use aya_ebpf::programs::SkBuffContext;

use super::ports::{Ports, is_ours, is_port_ours};
use super::{Datagram, Head};

const HEADER_LEN: u32 = 20;

/// Fields of [`Head::fragment`] (RFC 791).
const FRAGMENT_OFFSET: u16 = 0x1fff;
const MORE_FRAGMENTS: u16 = 0x2000;

/// The datagram, if it is whole and to a listener.
#[inline(always)]
pub(super) fn datagram(ctx: &SkBuffContext, head: &Head) -> Option<Datagram> {
    let ports = ports(ctx, head)?;
    if u16::from_be_bytes(head.fragment) & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 {
        return None;
    }
    let [a, b, c, d] = head.source;
    let source = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    Some(ports.datagram(header_len(head), source))
}

/// Whether the packet is the first of several fragments.
///
/// The kernel's own packets are whole here (`ip_finish_output` runs the program
/// before it fragments), so fragments come from raw sockets. The first has the
/// ports, and without it the others make no datagram:
/// `inet_frag_queue_insert` (`net/ipv4/inet_fragment.c`) gives up where
/// fragments overlap.
#[inline(always)]
pub(super) fn is_first_fragment(head: &Head) -> bool {
    u16::from_be_bytes(head.fragment) & (FRAGMENT_OFFSET | MORE_FRAGMENTS) == MORE_FRAGMENTS
}

/// The ports, if they and the address are a listener's. Where the header has
/// options the port suffices: with a source route the destination is in an
/// option.
#[inline(always)]
pub(super) fn ports(ctx: &SkBuffContext, head: &Head) -> Option<Ports> {
    let transport = header_len(head);
    let has_options = transport != HEADER_LEN;
    let ports = if has_options {
        Ports::load(ctx, transport)?
    } else {
        Ports::new(head.udp)
    };
    let destination = u32::from_ne_bytes(head.destination);
    let is_ours = is_ours(4, ports.destination, [destination, 0, 0, 0])
        || has_options && is_port_ours(4, ports.destination);
    is_ours.then_some(ports)
}

#[inline(always)]
fn header_len(head: &Head) -> u32 {
    u32::from(head.version_and_length & 0xf).wrapping_mul(4)
}
