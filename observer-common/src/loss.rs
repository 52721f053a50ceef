//! What the kernel side counts when it has to let something go.
//!
//! The counters live in a per-CPU array, so counting needs no atomic
//! operation; userspace adds the CPUs up.

/// Index of a counter in the `LOSS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// The ring had no room: the datagram went on to the socket without a
    /// record (`bpf_ringbuf_reserve` returned NULL).
    RingFull = 0,
    /// A datagram that was not 32 bytes long was dropped before it took a
    /// place in the receive queue.
    WrongLength = 1,
    /// The datagram's bytes could not be read (`bpf_skb_load_bytes` failed):
    /// it went on to the socket without a record.
    Unreadable = 2,
    /// A datagram of a process that had used up its budget was dropped.
    Throttled = 3,
    /// The ring was filling up: a datagram that was to be delivered by it went
    /// on to the socket, with a record.
    PassedOn = 4,
    /// A lie was refused, and the ring had no room to say so.
    RefusedUnseen = 5,
}

impl Loss {
    /// How many counters there are.
    pub const COUNT: u32 = 6;
}
