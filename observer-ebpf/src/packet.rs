//! Packets: their bytes, and UDP datagrams to the observer's listeners in them.

mod ipv4;
mod ipv6;
mod ports;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;

const UDP: u8 = 17;
const UDP_HEADER_LEN: u32 = 8;

/// RFC 768
type UdpHeader = [u8; UDP_HEADER_LEN as usize];

/// A UDP datagram to one of the observer's listeners.
pub(crate) struct Datagram {
    /// Where the payload begins.
    pub(crate) payload: u32,
    /// Bytes of payload, by the UDP header: the receiver cuts off what comes
    /// after that.
    pub(crate) length: u32,
    pub(crate) source_address: [u8; 16],
    pub(crate) source_port: u16,
}

/// The first bytes of a packet: of IPv4, a header without options and UDP's
/// (RFC 791, RFC 768). Bytes only: a packet may have any alignment.
#[repr(C)]
pub(crate) struct Head {
    version_and_length: u8,
    service: u8,
    total_length: [u8; 2],
    /// Of IPv6, the payload length.
    id: [u8; 2],
    /// Of IPv6, the first byte is the next header (RFC 8200).
    fragment: [u8; 2],
    time_to_live: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
    udp: UdpHeader,
}

const _: () = assert!(size_of::<Head>() == 28);

/// Copies bytes of the packet; false if they are not there.
#[inline(always)]
pub(crate) fn load_bytes(ctx: &SkBuffContext, offset: u32, bytes: &mut [u8]) -> bool {
    // SAFETY: the destination has as many bytes as the length says, which the
    // verifier checks as well; the helper checks the offset.
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

/// The first bytes, in place. A packet that the kernel made has its headers in
/// one piece (`__ip_append_data`, `net/ipv4/ip_output.c`).
#[inline(always)]
pub(crate) fn head(ctx: &SkBuffContext) -> Option<&Head> {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the context is a packet, and the verifier knows the fields.
    let (start, end) = unsafe { ((*packet).data as usize, (*packet).data_end as usize) };
    if start.wrapping_add(size_of::<Head>()) > end {
        return None;
    }
    // SAFETY: the bytes are between start and end of the packet, as was just
    // compared; the verifier insists on it.
    Some(unsafe { &*(start as *const Head) })
}

/// The datagram, if the packet is a whole one to a listener.
#[inline(always)]
pub(crate) fn parse(ctx: &SkBuffContext, head: &Head) -> Option<Datagram> {
    let [next_header, _] = head.fragment;
    match head.version_and_length >> 4 {
        4 if head.protocol == UDP => ipv4::datagram(ctx, head),
        6 if next_header == UDP => ipv6::datagram(ctx, head),
        _ => None,
    }
}

/// Whether the packet is no datagram to a listener yet, and may become one
/// where it arrives: a first fragment, or one with IPv6 extension headers,
/// which may change its destination on the way. Of IPv6 only packets that leave
/// by `lo` are looked into.
#[inline(always)]
pub(crate) fn is_hidden(ctx: &SkBuffContext, head: &Head) -> bool {
    let [next_header, _] = head.fragment;
    match head.version_and_length >> 4 {
        4 if head.protocol == UDP => {
            ipv4::is_first_fragment(head) && ipv4::ports(ctx, head).is_some()
        }
        6 => ipv6::is_extension(next_header) && ipv6::is_behind(ctx, next_header),
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
