//! How many incidents may be written in full.

use std::time::Instant;

/// Lines in full that may come at once, and how many more a second.
const AT_ONCE: u32 = 256;
const PER_SECOND: u32 = 16;

/// How many lines may still be written in full.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: AT_ONCE,
            since: now,
        }
    }

    /// Takes one, unless none is left: then `false`.
    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        let earned = passed.as_millis().saturating_mul(u128::from(PER_SECOND)) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(AT_ONCE);
            self.since = now;
        }
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        true
    }
}
