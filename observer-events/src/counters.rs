//! What the observer counts.

use serde::{Deserialize, Serialize};

use crate::event::{AuthFailureCause, DecodeError};

/// Counts since the observer started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams received from the sockets.
    pub datagrams: u64,
    /// Datagrams that were not 32 bytes long; with eBPF they are dropped in
    /// the kernel, before they take a place in the queue.
    pub wrong_length: u64,
    /// Beats accepted.
    pub beats: u64,
    /// Stalls reported.
    pub stalls: u64,
    /// Payloads that were no frame.
    pub decode_errors: u64,
    /// ... of these, by [`DecodeError`]: not the first two bytes of one.
    pub bad_magic: u64,
    /// ... of another version.
    pub bad_version: u64,
    /// ... with a checksum that does not fit.
    pub bad_crc: u64,
    /// ... with a status that stands for nothing.
    pub bad_status: u64,
    /// ... with the status that only an observer may give.
    pub stall_on_wire: u64,
    /// ... of pid 0 or 1.
    pub bad_pid: u64,
    /// ... with the reserved timestamp.
    pub bad_timestamp: u64,
    /// ... with the terminal nonce and a status other than critical.
    pub bad_nonce: u64,
    /// Frames whose claim did not hold.
    pub auth_failures: u64,
    /// ... of these, by [`AuthFailureCause`]: another process's pid.
    pub pid_mismatch: u64,
    /// ... `SCM_CREDENTIALS` that the kernel's record contradicts.
    pub forged_credentials: u64,
    /// ... sent by an SQPOLL thread.
    pub sqpoll: u64,
    /// ... without a kernel record.
    pub unattested: u64,
    /// ... in a send that others may have put them into.
    pub corked: u64,
    /// Frames from another pid namespace.
    pub namespace_conflicts: u64,
    /// Frames that came by another way than their agent's first.
    pub origin_conflicts: u64,
    /// Beats of senders that no list of users or groups names.
    pub refused_senders: u64,
    /// Unverified claims that were displaced by a kernel-attested agent.
    pub displaced: u64,
    /// Agents seen for the first time, or again after they were forgotten.
    pub new_agents: u64,
    /// Sessions that known agents began anew: restarts, second handles.
    pub new_sessions: u64,
    /// Frames with a nonce that was not above the last: replays, reordering.
    pub stale_nonces: u64,
    /// Beats of new agents that found the table full, with no agent that could
    /// be evicted.
    pub refused_full: u64,
    /// Stalled agents that were evicted for others.
    pub evicted_silent: u64,
    /// Live agents of an owner above its share that were evicted for one within
    /// it.
    pub evicted_live: u64,
    /// Datagrams with control data that was not taken.
    pub ctrl_truncated: u64,
    /// `io` events: receives that failed with another error than the one
    /// before.
    pub io_errors: u64,
    /// Receives that failed, reported or not.
    pub receive_failures: u64,
    /// Records read from the ring.
    pub records: u64,
    /// Datagrams that the eBPF program took off the socket: their records are
    /// their delivery.
    pub taken: u64,
    /// Datagrams that were to be delivered by the ring and went by the socket
    /// instead, because the ring was filling up.
    pub passed_on: u64,
    /// Datagrams of senders that had used up their budgets, or their share of
    /// the ring, dropped in the kernel.
    pub throttled: u64,
    /// Datagrams that were refused for the descriptors attached to them, as far
    /// as the eBPF program could see them.
    pub descriptors_refused: u64,
    /// Forgeries that were refused in the kernel and found the ring full: there is
    /// no event of them.
    pub refused_unseen: u64,
    /// Datagrams that a UDP listener had no room for, as its socket counts
    /// them.
    pub udp_dropped: u64,
    /// Datagrams to a UDP listener that were dropped where they left by `lo`,
    /// because the ring had no room for their records.
    pub udp_unrecorded: u64,
    /// Datagrams that were dropped there because they were fragments, or hid
    /// behind extension headers.
    pub udp_hidden: u64,
    /// Datagrams of other network namespaces that passed without a record
    /// because their senders had used up their budgets.
    pub others_over_budget: u64,
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
    /// Frames that had to wait for a record still to be read.
    pub parked: u64,
    /// Absences of the observer itself.
    pub absences: u64,
    /// Nanoseconds that the observer was away, or a socket could not be
    /// received from, given back to its agents.
    pub away_ns: u64,
}

impl Counters {
    /// Counts a payload that is no frame.
    pub fn decode_error(&mut self, error: &DecodeError) {
        count(&mut self.decode_errors);
        count(match error {
            DecodeError::BadMagic => &mut self.bad_magic,
            DecodeError::BadVersion => &mut self.bad_version,
            DecodeError::BadCrc { .. } => &mut self.bad_crc,
            DecodeError::BadStatus(_) => &mut self.bad_status,
            DecodeError::StallOnWire => &mut self.stall_on_wire,
            DecodeError::BadPid(_) => &mut self.bad_pid,
            DecodeError::BadTimestamp(_) => &mut self.bad_timestamp,
            DecodeError::BadNonce { .. } => &mut self.bad_nonce,
        });
    }

    /// Counts a claim that did not hold.
    pub fn auth_failure(&mut self, cause: AuthFailureCause) {
        count(&mut self.auth_failures);
        count(match cause {
            AuthFailureCause::PidMismatch => &mut self.pid_mismatch,
            AuthFailureCause::ForgedCredentials => &mut self.forged_credentials,
            AuthFailureCause::Sqpoll => &mut self.sqpoll,
            AuthFailureCause::Unattested => &mut self.unattested,
            AuthFailureCause::Corked => &mut self.corked,
        });
    }
}

/// Adds one.
pub fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
