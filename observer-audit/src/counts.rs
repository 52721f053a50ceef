//! What is counted of a trail.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What was counted of a trail since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Incidents that found the queue full.
    pub audit_lost: u64,
    /// Incidents recorded, on a line of their own or in the count of a
    /// `repeat` line.
    pub audit_incidents: u64,
    /// Lines written.
    pub audit_lines: u64,
    /// Writes and syncs that failed.
    pub audit_failures: u64,
    /// Senders of which /proc could not be read in time, or not all.
    pub audit_unread: u64,
}

/// The same as it is being counted, by the writer and by whoever leaves
/// incidents.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lost: AtomicU64,
    pub(crate) incidents: AtomicU64,
    pub(crate) lines: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) unread: AtomicU64,
    /// Number of the last line that is on the disk for certain.
    pub(crate) on_disk: AtomicU64,
}

impl Counters {
    pub(crate) fn counts(&self) -> Counts {
        let Self {
            lost,
            incidents,
            lines,
            failures,
            unread,
            on_disk: _,
        } = self;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            audit_lost: get(lost),
            audit_incidents: get(incidents),
            audit_lines: get(lines),
            audit_failures: get(failures),
            audit_unread: get(unread),
        }
    }
}

/// Adds to a counter that orders nothing else.
pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}
