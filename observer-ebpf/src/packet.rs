//! Packets: their bytes, and UDP datagrams to the observer's listeners in them.

use aya_ebpf::{
    EbpfContext as _, bindings::__sk_buff, helpers::bpf_skb_load_bytes, programs::SkBuffContext,
};
use observer_common::listener::{LOOPBACK, Listener, MAX_LISTENERS};

use crate::constants::LISTENERS;

const UDP: u8 = 17;
pub(crate) const UDP_HEADER_LEN: u32 = 8;
const IPV4_HEADER_LEN: u32 = 20;
const IPV6_HEADER_LEN: u32 = 40;

/// Copies bytes of the packet; false if they are not there.
#[inline(always)]
pub(crate) fn load_bytes(ctx: &SkBuffContext, offset: u32, bytes: &mut [u8]) -> bool {
    // SAFETY: the destination has as many bytes as are said; the verifier
    // checks destination and length once more, the helper checks the offset.
    let status = unsafe {
        bpf_skb_load_bytes(
            ctx.as_ptr(),
            offset,
            bytes.as_mut_ptr().cast(),
            bytes.len() as u32,
        )
    };
    status == 0
}

/// A UDP datagram to one of the observer's listeners.
pub(crate) struct Datagram {
    /// Where the payload begins.
    pub(crate) payload: u32,
    /// Bytes of payload, as the UDP header has them: the receiver cuts off
    /// what comes after that.
    pub(crate) length: u32,
    pub(crate) source_address: [u8; 16],
    pub(crate) source_port: u16,
}

/// The first bytes of a packet, as IPv4 without options has them (RFC 791,
/// RFC 768). Bytes only: nothing says how a packet is aligned.
#[repr(C)]
pub(crate) struct Head {
    version_and_length: u8,
    service: u8,
    total_length: [u8; 2],
    /// IPv6's payload length.
    id: [u8; 2],
    /// The first byte is IPv6's next header (RFC 8200).
    fragment: [u8; 2],
    time_to_live: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
    udp: UdpHeader,
}

/// RFC 768
type UdpHeader = [u8; UDP_HEADER_LEN as usize];

const _: () = assert!(size_of::<Head>() == 28);

/// The datagram, if it is a whole one to a listener.
#[inline(always)]
pub(crate) fn parse(ctx: &SkBuffContext, head: &Head) -> Option<Datagram> {
    let [next_header, _] = head.fragment;
    match head.version_and_length >> 4 {
        4 if head.protocol == UDP => ipv4(ctx, head),
        6 if next_header == UDP => ipv6(ctx, head),
        _ => None,
    }
}

/// Whether the packet is none, and becomes a datagram to a listener where it
/// arrives: a first fragment, or one behind IPv6 extension headers, which may
/// change its destination on the way. It may be one that leaves by `lo` only.
#[inline(always)]
pub(crate) fn is_hidden(ctx: &SkBuffContext, head: &Head) -> bool {
    let [next_header, _] = head.fragment;
    match head.version_and_length >> 4 {
        4 if head.protocol == UDP => is_first_fragment(head) && ipv4_ports(ctx, head).is_some(),
        6 => is_extension(next_header) && is_behind(ctx, next_header),
        _ => false,
    }
}

/// The device that the packet leaves by.
#[inline(always)]
pub(crate) fn device(ctx: &SkBuffContext) -> u32 {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the context is a packet, and the verifier knows the field.
    unsafe { (*packet).ifindex }
}

/// Whether it is IPv4.
#[inline(always)]
pub(crate) fn is_ipv4(head: &Head) -> bool {
    head.version_and_length >> 4 == 4
}

/// The first bytes, where they lie. A packet that the kernel made has its
/// headers in one piece (`__ip_append_data`, `net/ipv4/ip_output.c`).
#[inline(always)]
pub(crate) fn head(ctx: &SkBuffContext) -> Option<&Head> {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the context is a packet, and the verifier knows the fields.
    let (start, end) = unsafe { ((*packet).data as usize, (*packet).data_end as usize) };
    if start.wrapping_add(size_of::<Head>()) > end {
        return None;
    }
    // SAFETY: the bytes lie between start and end of the packet, as was just
    // compared; the verifier insists on it.
    Some(unsafe { &*(start as *const Head) })
}

#[inline(always)]
fn ipv4(ctx: &SkBuffContext, head: &Head) -> Option<Datagram> {
    let ports = ipv4_ports(ctx, head)?;
    if u16::from_be_bytes(head.fragment) & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 {
        return None;
    }
    let [a, b, c, d] = head.source;
    let source = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    Some(ports.datagram(ipv4_header_len(head), source))
}

/// RFC 791
const FRAGMENT_OFFSET: u16 = 0x1fff;
const MORE_FRAGMENTS: u16 = 0x2000;

/// No packet is in fragments yet here (`ip_finish_output` runs the program
/// before it fragments), unless a raw socket was given one. Of these the first
/// has the ports, and without it there is no datagram
/// (`inet_frag_queue_insert`, `net/ipv4/inet_fragment.c`, gives up where
/// fragments overlap).
#[inline(always)]
fn is_first_fragment(head: &Head) -> bool {
    u16::from_be_bytes(head.fragment) & (FRAGMENT_OFFSET | MORE_FRAGMENTS) == MORE_FRAGMENTS
}

/// The UDP header, if it is for a listener. A source route has the destination
/// in an option.
#[inline(always)]
fn ipv4_ports(ctx: &SkBuffContext, head: &Head) -> Option<Ports> {
    let transport = ipv4_header_len(head);
    let has_options = transport != IPV4_HEADER_LEN;
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
fn ipv4_header_len(head: &Head) -> u32 {
    u32::from(head.version_and_length & 0xf).wrapping_mul(4)
}

#[inline(always)]
fn ipv6(ctx: &SkBuffContext, head: &Head) -> Option<Datagram> {
    const SOURCE: u32 = 8;
    const DESTINATION: u32 = 24;
    let mut ports = Ports::load(ctx, IPV6_HEADER_LEN)?;
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
        // A jumbogram (RFC 2675): `__udp6_lib_rcv` (`net/ipv6/udp.c`) takes
        // the packet's length then, of however few bytes it is, once
        // `ip6_rcv_core` has cut off what the IP header does not count.
        ports.length = match u16::from_be_bytes(head.id) {
            0 => ctx.len().wrapping_sub(IPV6_HEADER_LEN),
            length => length.into(),
        };
    }
    let mut source = [0; 16];
    load_bytes(ctx, SOURCE, &mut source).then(|| ports.datagram(IPV6_HEADER_LEN, source))
}

/// IPv6 headers that may come before UDP's, and IP within IP, which a segment
/// router takes out (RFC 8200, RFC 4302, RFC 8986).
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

#[inline(always)]
fn is_extension(header: u8) -> bool {
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

/// How many extension headers are followed; no honest packet has so many.
const MOST_HEADERS: usize = 4;

/// Whether a datagram to one of the listeners' ports, or something that nobody
/// can see through, is behind extension headers.
///
/// Headers that go on in the next fragment are among those. So is any IP packet
/// within, whatever it holds.
#[inline(always)]
fn is_behind(ctx: &SkBuffContext, first: u8) -> bool {
    if device(ctx) != LOOPBACK || !has_listener(6) {
        return false;
    }
    let mut next = first;
    let mut at = IPV6_HEADER_LEN;
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

/// What is of use in a UDP header.
struct Ports {
    source: u16,
    /// In network byte order, as the listeners' are.
    destination: u16,
    /// Header and payload, bytes.
    length: u32,
}

impl Ports {
    #[inline(always)]
    fn load(ctx: &SkBuffContext, offset: u32) -> Option<Self> {
        let mut header = UdpHeader::default();
        load_bytes(ctx, offset, &mut header).then(|| Self::new(header))
    }

    #[inline(always)]
    fn new(header: UdpHeader) -> Self {
        let [s0, s1, d0, d1, l0, l1, _, _] = header;
        Self {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_ne_bytes([d0, d1]),
            length: u16::from_be_bytes([l0, l1]).into(),
        }
    }

    #[inline(always)]
    fn datagram(&self, transport: u32, source_address: [u8; 16]) -> Datagram {
        Datagram {
            payload: transport.wrapping_add(UDP_HEADER_LEN),
            length: self.length.wrapping_sub(UDP_HEADER_LEN),
            source_address,
            source_port: self.source,
        }
    }
}

/// One constant of a listener; volatile for the reason that `layout!` has.
/// Each by itself: the verifier knows the value, and takes out the comparisons
/// with listeners that are not there.
macro_rules! listener {
    ($index:expr, $field:ident) => {{
        let listeners = (&raw const LISTENERS).cast::<Listener>();
        // SAFETY: the index is below the array's length wherever this is used.
        unsafe { (&raw const (*listeners.add($index)).$field).read_volatile() }
    }};
}

/// Whether any listener is of this IP version.
#[inline(always)]
fn has_listener(version: u8) -> bool {
    for index in 0..MAX_LISTENERS {
        if listener!(index, version) == version {
            return true;
        }
    }
    false
}

/// Whether any listener has the port: the first thing to be compared.
#[inline(always)]
fn is_port_ours(version: u8, port: u16) -> bool {
    for index in 0..MAX_LISTENERS {
        if listener!(index, version) == 0 {
            return false;
        }
        if listener!(index, port) == port && listener!(index, version) == version {
            return true;
        }
    }
    false
}

#[inline(always)]
fn is_ours(version: u8, port: u16, address: [u32; 4]) -> bool {
    for index in 0..MAX_LISTENERS {
        if listener!(index, version) == 0 {
            return false;
        }
        if listener!(index, port) == port
            && listener!(index, version) == version
            && (listener!(index, any_address) != 0 || listener!(index, address) == address)
        {
            return true;
        }
    }
    false
}
