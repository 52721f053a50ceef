//! The ports of a UDP datagram, and whether they are a listener's.

use aya_ebpf::programs::SkBuffContext;
use observer_common::listener::{Listener, MAX_LISTENERS};

use super::{Datagram, UDP_HEADER_LEN, UdpHeader, load_bytes};
use crate::constants::LISTENERS;

/// The fields of a UDP header that are needed.
pub(super) struct Ports {
    source: u16,
    /// In network byte order, as the listeners' are.
    pub(super) destination: u16,
    /// Header and payload, bytes.
    pub(super) length: u32,
}

impl Ports {
    #[inline(always)]
    pub(super) fn load(ctx: &SkBuffContext, offset: u32) -> Option<Self> {
        let mut header = UdpHeader::default();
        load_bytes(ctx, offset, &mut header).then(|| Self::new(header))
    }

    #[inline(always)]
    pub(super) fn new(header: UdpHeader) -> Self {
        let [s0, s1, d0, d1, l0, l1, _, _] = header;
        Self {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_ne_bytes([d0, d1]),
            length: u16::from_be_bytes([l0, l1]).into(),
        }
    }

    /// The datagram with these ports, whose UDP header is at `transport`.
    #[inline(always)]
    pub(super) fn datagram(&self, transport: u32, source_address: [u8; 16]) -> Datagram {
        Datagram {
            payload: transport.wrapping_add(UDP_HEADER_LEN),
            length: self.length.wrapping_sub(UDP_HEADER_LEN),
            source_address,
            source_port: self.source,
        }
    }
}

/// One constant of a listener; volatile for the reason that `layout!` has.
/// Each is read by itself: the verifier knows the value, and removes the
/// comparisons with listeners that are not there.
macro_rules! listener {
    ($index:expr, $field:ident) => {{
        let listeners = (&raw const LISTENERS).cast::<Listener>();
        // SAFETY: the index is below the array's length wherever this is used.
        unsafe { (&raw const (*listeners.add($index)).$field).read_volatile() }
    }};
}

/// Whether any listener is of this IP version.
#[inline(always)]
pub(super) fn has_listener(version: u8) -> bool {
    for index in 0..MAX_LISTENERS {
        if listener!(index, version) == version {
            return true;
        }
    }
    false
}

/// Whether any listener has the port: the first thing to compare.
#[inline(always)]
pub(super) fn is_port_ours(version: u8, port: u16) -> bool {
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

/// Whether any listener has the port and receives at the address.
#[inline(always)]
pub(super) fn is_ours(version: u8, port: u16, address: [u32; 4]) -> bool {
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
