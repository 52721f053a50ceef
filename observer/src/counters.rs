//! What the observer counts: everything that is no event of its own.

/// Counts since the observer started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Datagrams received from the sockets.
    pub datagrams: u64,
    /// Datagrams that were not 32 bytes long; with eBPF they are dropped in
    /// the kernel, before they take a place in the queue.
    pub wrong_length: u64,
    /// Beats accepted.
    pub beats: u64,
    /// Silences surfaced.
    pub stalls: u64,
    /// Payloads that were no frame.
    pub decode_errors: u64,
    /// Frames whose claim did not hold.
    pub auth_failures: u64,
    /// ... of these, frames without a kernel record.
    pub unattested: u64,
    /// Frames from another pid namespace.
    pub namespace_conflicts: u64,
    /// Frames that came by another way than their agent's first.
    pub origin_conflicts: u64,
    /// Beats of senders that no list of users or groups names.
    pub refused_senders: u64,
    /// Unverified claims of a pid that gave way to a kernel-attested agent.
    pub displaced: u64,
    /// Frames with a nonce that was not above the last: replays, reordering.
    pub stale_nonces: u64,
    /// Beats of new agents that found the table full of live ones.
    pub refused_full: u64,
    /// Silent agents that made room for a live one.
    pub evicted_silent: u64,
    /// Datagrams with control data that was not taken.
    pub ctrl_truncated: u64,
    /// Receives that failed.
    pub io_errors: u64,
    /// Records read from the ring.
    pub records: u64,
    /// Datagrams that a UDP listener had no room for, as its socket counts
    /// them.
    pub udp_dropped: u64,
    /// Datagrams that passed without a record because the ring was full.
    pub ring_full: u64,
    /// Datagrams that passed without a record because they could not be read.
    pub unreadable: u64,
    /// Ring entries that were no records.
    pub records_malformed: u64,
    /// Records whose datagram never came: attempts that failed.
    pub records_expired: u64,
    /// Records forgotten early because too many waited.
    pub records_displaced: u64,
    /// Frames that had to wait for a record still being written.
    pub parked: u64,
    /// Absences of the observer itself.
    pub absences: u64,
    /// Nanoseconds that the observer was away, given back to its agents.
    pub away_ns: u64,
}

/// Adds one.
pub(crate) fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
