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
//! few comparisons. And it never drops anything: to the same port of another
//! host goes traffic that is none of the observer's business.
//!
//! What does not come by here has no record, and is never more than a
//! datagram from the network: packets that are written to a device or a
//! tunnel directly (`AF_PACKET`, `/dev/net/tun`, both of which need
//! privileges), IPv6 packets with extension headers, and pages that a sender
//! changes after this program has read them (`MSG_ZEROCOPY`, `splice`), for
//! then no record has the bytes that arrive.

use core::mem::MaybeUninit;

use aya_ebpf::{EbpfContext as _, bindings::__sk_buff, programs::SkBuffContext};
use observer_common::{
    frame::FRAME_LEN,
    listener::{Listener, MAX_LISTENERS},
    loss::Loss,
    record::Record,
};

use crate::{constants::LISTENERS, filter::DROP, loss, output};

/// Lets the packet go (`__cgroup_bpf_run_filter_skb`, `kernel/bpf/cgroup.c`).
const PASS: i32 = 1;

const UDP: u8 = 17;
const UDP_HEADER_LEN: u32 = 8;
const IPV4_HEADER_LEN: u32 = 20;
const IPV6_HEADER_LEN: u32 = 40;

/// Most segments of one send (`UDP_MAX_SEGMENTS`, `include/linux/udp.h`: 64,
/// and 128 from Linux 6.11).
const MAX_SEGMENTS: u32 = 128;

/// Length of a frame.
const ONE_FRAME: u32 = FRAME_LEN as u32;

/// The first bytes of a packet, as IPv4 without options has them (RFC 791,
/// RFC 768). Bytes only: nothing says how a packet is aligned.
#[repr(C)]
struct Head {
    version_and_length: u8,
    service: u8,
    total_length: [u8; 2],
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

/// A UDP datagram to one of the observer's listeners.
struct Datagram {
    /// Where the UDP header begins.
    transport: u32,
    source_address: [u8; 16],
    source_port: u16,
    /// UDP header and payload, in bytes.
    length: u16,
}

/// Writes a record of the datagram, if it is one of ours.
#[inline(always)]
pub(crate) fn run(ctx: &SkBuffContext, describe: impl FnOnce(&mut Record)) -> i32 {
    let Some(datagram) = datagram(ctx) else {
        return PASS;
    };
    let segments = match u32::from(datagram.length).wrapping_sub(UDP_HEADER_LEN) {
        ONE_FRAME => 1,
        _ if field(ctx, Field::SegmentSize) == ONE_FRAME => MAX_SEGMENTS,
        _ => return PASS,
    };
    // Described once for all segments: the sender is the same, and the
    // verifier would follow each of its paths for each segment anew.
    let mut memory = MaybeUninit::uninit();
    let record = output::blank(&mut memory);
    record.source_address = datagram.source_address;
    record.source_port = datagram.source_port;
    describe(record);
    record_segments(
        ctx,
        datagram.transport.wrapping_add(UDP_HEADER_LEN),
        segments,
        record,
    );
    PASS
}

/// One send may hold many frames (`UDP_SEGMENT`), which the kernel cuts up
/// later.
#[inline(always)]
fn record_segments(ctx: &SkBuffContext, payload: u32, segments: u32, record: &mut Record) {
    let end = ctx.len();
    for index in 0..MAX_SEGMENTS {
        let offset = payload.wrapping_add(index.wrapping_mul(ONE_FRAME));
        if index >= segments || offset.wrapping_add(ONE_FRAME) > end {
            return;
        }
        write(ctx, offset, record);
    }
}

/// Writes a record of the frame at an offset. Where that cannot be done the
/// loss is counted and the datagram leaves without a record; userspace decides
/// what it is worth then.
#[inline(always)]
fn write(ctx: &SkBuffContext, offset: u32, record: &mut Record) {
    if !output::load_bytes(ctx, offset, &mut record.frame) {
        loss::count(Loss::Unreadable);
    } else if !output::write(record) {
        loss::count(Loss::RingFull);
    }
}

/// The datagram, if it is UDP to a listener.
#[inline(always)]
fn datagram(ctx: &SkBuffContext) -> Option<Datagram> {
    let head = head(ctx)?;
    let [next_header, _] = head.fragment;
    match head.version_and_length >> 4 {
        4 if head.protocol == UDP => ipv4(ctx, head),
        6 if next_header == UDP => ipv6(ctx),
        _ => None,
    }
}

/// The first bytes, where they lie. A packet that the kernel made has its
/// headers in one piece (`__ip_append_data`, `net/ipv4/ip_output.c`).
#[inline(always)]
fn head(ctx: &SkBuffContext) -> Option<&Head> {
    let start = field(ctx, Field::Start) as usize;
    let end = field(ctx, Field::End) as usize;
    if start.wrapping_add(size_of::<Head>()) > end {
        return None;
    }
    // SAFETY: the bytes lie between start and end of the packet, as was just
    // compared; the verifier insists on it.
    Some(unsafe { &*(start as *const Head) })
}

#[inline(always)]
fn ipv4(ctx: &SkBuffContext, head: &Head) -> Option<Datagram> {
    const OFFSET_OF_FRAGMENT: u16 = 0x1fff;
    let transport = u32::from(head.version_and_length & 0xf).wrapping_mul(4);
    let ports = if transport == IPV4_HEADER_LEN {
        Ports::new(head.udp)
    } else {
        Ports::load(ctx, transport)?
    };
    let destination = u32::from_ne_bytes(head.destination);
    if !is_ours(4, ports.destination, [destination, 0, 0, 0]) {
        return None;
    }
    if u16::from_be_bytes(head.fragment) & OFFSET_OF_FRAGMENT != 0 {
        return None;
    }
    let [a, b, c, d] = head.source;
    let source = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    Some(ports.datagram(transport, source))
}

#[inline(always)]
fn ipv6(ctx: &SkBuffContext) -> Option<Datagram> {
    const SOURCE: u32 = 8;
    const DESTINATION: u32 = 24;
    let ports = Ports::load(ctx, IPV6_HEADER_LEN)?;
    if !is_port_ours(6, ports.destination) {
        return None;
    }
    let mut destination = [[0; 4]; 4];
    if !output::load_bytes(ctx, DESTINATION, destination.as_flattened_mut()) {
        return None;
    }
    if !is_ours(6, ports.destination, destination.map(u32::from_ne_bytes)) {
        return None;
    }
    let mut source = [0; 16];
    output::load_bytes(ctx, SOURCE, &mut source).then(|| ports.datagram(IPV6_HEADER_LEN, source))
}

/// What is of use in a UDP header.
struct Ports {
    source: u16,
    /// In network byte order, as the listeners' are.
    destination: u16,
    length: u16,
}

impl Ports {
    #[inline(always)]
    fn load(ctx: &SkBuffContext, offset: u32) -> Option<Self> {
        let mut header = UdpHeader::default();
        output::load_bytes(ctx, offset, &mut header).then(|| Self::new(header))
    }

    #[inline(always)]
    fn new(header: UdpHeader) -> Self {
        let [s0, s1, d0, d1, l0, l1, _, _] = header;
        Self {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_ne_bytes([d0, d1]),
            length: u16::from_be_bytes([l0, l1]),
        }
    }

    #[inline(always)]
    fn datagram(&self, transport: u32, source_address: [u8; 16]) -> Datagram {
        Datagram {
            transport,
            source_address,
            source_port: self.source,
            length: self.length,
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

/// Fields of the packet's context that aya has no accessor for.
enum Field {
    /// Address of the first byte; the verifier makes it one of 64 bits.
    Start,
    /// Address behind the last byte that lies in one piece with the first.
    End,
    /// Payload bytes of each segment of a send that is cut up later; else 0.
    SegmentSize,
}

#[inline(always)]
fn field(ctx: &SkBuffContext, field: Field) -> u32 {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    match field {
        // SAFETY: the context is a packet, and the verifier knows the field.
        Field::Start => unsafe { (*packet).data },
        // SAFETY: likewise.
        Field::End => unsafe { (*packet).data_end },
        // SAFETY: likewise.
        Field::SegmentSize => unsafe { (*packet).gso_size },
    }
}

/// Drops what is no frame by its length before it takes up room in a UDP
/// listener's queue. A UDP socket's filter sees the UDP header first
/// (`udp_queue_rcv_one_skb`, `net/ipv4/udp.c`).
#[inline(always)]
pub(crate) fn check_length(ctx: &SkBuffContext) -> i64 {
    if ctx.len() == UDP_HEADER_LEN.wrapping_add(ONE_FRAME) {
        return i64::from(ctx.len());
    }
    loss::count(Loss::WrongLength);
    DROP
}
