//! Lines about the trail and the observer themselves.

use serde::Serialize;

/// What such a line holds beside its place in the chain.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum TrailLine {
    /// The observer began.
    Start {
        /// Public name of the trail.
        trail: String,
        version: &'static str,
        pid: u32,
        kernel: String,
        /// Names this boot: pids and start times are of it.
        boot_id: Option<String>,
        /// Whether the line before is the seal of an ordered stop, or there is
        /// none.
        clean: bool,
    },
    /// The observer ended in order.
    Stop { reason: String },
    /// The epoch ends.
    Seal {
        /// How many lines it had, this one included.
        lines: u64,
    },
    /// A new file begins.
    Rotation {
        /// Name of the file before.
        previous: String,
    },
    /// An old file was removed for its age.
    Retention {
        /// Its name.
        removed: String,
        /// All lines to this number were removed so.
        through_seq: u64,
    },
    /// An unfinished last line, left by a crash, was cut off.
    Repair {
        removed_bytes: u64,
        sha256: String,
        /// Its first bytes, hexadecimal.
        begin: String,
    },
    /// The trail did not continue as the key file says, and was continued all the
    /// same, because somebody demanded it.
    Continuation {
        /// What was wrong.
        found: String,
        /// Number of the last line that this one is chained to.
        after: u64,
        /// Name that the file was put aside with, its length and its content.
        kept: Option<String>,
        kept_bytes: u64,
        kept_sha256: Option<String>,
        /// What of it is neither a line nor verifies, after its last good line.
        unverified_bytes: u64,
        /// Names of the other files of the trail.
        files: Vec<String>,
    },
    /// Incidents that found the queue full.
    Lost { count: u64 },
    /// Somebody else changed the trail's file while it was being written.
    Altered {
        how: String,
        expected_bytes: u64,
        found_bytes: u64,
    },
    /// From here on senders may pass without a kernel record.
    AttestationLost { reason: String },
    /// From here on senders no longer pass without one.
    AttestationRegained { reason: String },
    /// From here on a socket cannot be received from, and no stall is judged.
    ReceiveLost { reason: String },
    /// From here on every socket can be.
    ReceiveRegained { reason: String },
    /// From here on the observer has other settings.
    Reloaded {
        /// Each with what it was and is.
        changes: String,
    },
}
