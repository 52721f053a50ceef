//! What verifying a trail shows.

use std::path::PathBuf;

use serde::Serialize;

use super::finding::Finding;

/// What verifying a trail showed. As JSON its names are a contract: fields may
/// be added, none changes its meaning.
#[derive(Debug, Default, Serialize)]
pub struct Verification {
    /// Public name of the trail.
    pub trail: String,
    /// Files read, oldest first.
    pub files: Vec<PathBuf>,
    /// Lines that verified.
    pub lines: u64,
    /// Number of the first of them, from 1.
    pub first_line: Option<u64>,
    /// Number of the last.
    pub last_line: Option<u64>,
    /// Number of the last seal: whoever took the host afterwards cannot forge
    /// lines up to here.
    pub sealed_through: Option<u64>,
    /// When that seal was made (RFC 3339).
    pub sealed_at: Option<String>,
    /// Whether the trail ends with an ordered stop and its seal.
    pub stopped: bool,
    /// Length of an unfinished last line in bytes, where that is no finding.
    pub unfinished_bytes: u64,
    /// Incidents that the observer lost, by its own account.
    pub lost: u64,
    /// Lines 1 to this were removed for their age, according to a line that
    /// verifies; 0: none.
    pub removed_through: u64,
    /// Unfinished lines that the observer cut off, by its own account.
    pub repairs: u64,
    /// How often the trail was continued where it was broken, because somebody
    /// demanded it.
    pub continuations: u64,
    /// How often somebody else changed a file while it was being written, by
    /// the observer's account. Lines that are missing for it are findings.
    pub alterations: u64,
    /// What is wrong, in the order of the files; the first 1000.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more_findings: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}
