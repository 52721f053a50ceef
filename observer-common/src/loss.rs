//! What the kernel side counts when it has to let something go.
//!
//! The counters live in a per-CPU array, so counting needs no atomic
//! operation; userspace adds the CPUs up.

/// Index of a counter in the `LOSS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// The ring had no room: the datagram went on without a record
    /// (`bpf_ringbuf_reserve` returned NULL).
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
    /// A datagram to a UDP listener was dropped where it left by `lo`: there
    /// was no room for its record, and without one it would count for nothing.
    DroppedUnrecorded = 6,
    /// One was dropped there that came in pieces, or behind headers that hide
    /// it: IPv4 and IPv6 fragments, IPv6 extension headers.
    DroppedHidden = 7,
    /// A datagram of another network namespace passed without a record: its
    /// sender had used up its budget.
    PassedOverBudget = 8,
    /// A UDP socket was given a datagram that another socket of the same
    /// listener takes, or that a trusted network did not send: a copy of a
    /// multicast or broadcast one.
    OtherSocket = 9,
    /// A datagram with descriptors attached was refused: dropped, or left to
    /// the socket to refuse.
    Descriptors = 10,
}

impl Loss {
    /// How many counters there are.
    pub const COUNT: u32 = 11;
}
