//! How often one matter is logged.

use std::time::{Duration, Instant};

/// Lets a matter be logged at most once in some time: senders must not be able
/// to fill the log.
#[derive(Debug)]
pub(super) struct LogLimit {
    every: Duration,
    last: Option<Instant>,
}

impl LogLimit {
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether it may be logged now. If so, the time is counted from now.
    pub(super) fn take(&mut self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> bool {
        let may = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if may {
            self.last = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matter_is_logged_once_in_its_time() {
        let mut limit = LogLimit::new(Duration::from_secs(1));
        let start = Instant::now();
        let at = |ms| start.checked_add(Duration::from_millis(ms)).expect("soon");
        let taken = [0, 1, 999, 1000, 1001, 2000].map(|ms| limit.take_at(at(ms)));
        assert_eq!(taken, [true, false, false, true, false, true]);
    }
}
