//! What the kernel side counts of records that are lost, and of datagrams that
//! are dropped or refused.
//!
//! The counters are in a per-CPU array, so counting needs no atomic operation;
//! userspace adds the CPUs up.

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
    /// A forgery was refused, and the ring had no room for its record.
    RefusedUnseen = 5,
    /// A datagram to a UDP listener was dropped where it left by `lo`: there
    /// was no room for its record, and without one it would be refused.
    DroppedUnrecorded = 6,
    /// A packet was dropped there that may hide a datagram to a listener: an
    /// IPv4 or IPv6 fragment, or one with IPv6 extension headers.
    DroppedHidden = 7,
    /// A datagram of another network namespace passed without a record: its
    /// sender had used up its budget.
    PassedOverBudget = 8,
    /// A UDP socket was given a datagram, a copy of a multicast or broadcast
    /// one, that another socket of the same listener receives, or that the
    /// trusted network did not send.
    OtherSocket = 9,
    /// A datagram with descriptors attached was refused: dropped, or left to
    /// the socket to refuse.
    Descriptors = 10,
}

impl Loss {
    /// How many counters there are.
    pub const COUNT: u32 = 11;
}
