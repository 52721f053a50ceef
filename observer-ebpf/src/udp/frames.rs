//! The frames of one send, which may hold many datagrams.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::SkBuffContext;
use observer_common::frame::FRAME_LEN;

use crate::packet::Datagram;

/// Length of a frame.
const ONE_FRAME: u32 = FRAME_LEN as u32;

/// Most segments of one send (`UDP_MAX_SEGMENTS`, `include/linux/udp.h`: 64,
/// and 128 from Linux 6.11).
pub(super) const MAX_SEGMENTS: u32 = 128;

/// Where the frames of one send are.
pub(super) struct Frames {
    /// Offset of the first in the packet.
    pub(super) first: u32,
    pub(super) count: u32,
}

impl Frames {
    /// The frames among the datagrams of a send. It may hold many datagrams
    /// (`UDP_SEGMENT`) that the kernel separates later: all are of the same
    /// size but the last, which may be shorter.
    #[inline(always)]
    pub(super) fn of(ctx: &SkBuffContext, datagram: &Datagram, segment: u32) -> Option<Self> {
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
        // The segment's size is not zero, which the compiler does not see.
        let short = whole.checked_rem(segment)?;
        (short == ONE_FRAME).then(|| Self {
            first: ctx.len().wrapping_sub(ONE_FRAME),
            count: 1,
        })
    }

    /// Offset of a frame in the packet.
    #[inline(always)]
    pub(super) fn at(&self, index: u32) -> u32 {
        self.first.wrapping_add(index.wrapping_mul(ONE_FRAME))
    }
}

/// Payload bytes of each segment of a send that is separated later; else 0.
#[inline(always)]
pub(super) fn segment_size(ctx: &SkBuffContext) -> u32 {
    let packet = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the context is a packet, and the verifier knows the field.
    unsafe { (*packet).gso_size }
}
