//! When the present epoch has to be sealed.

use std::time::{Duration, Instant};

/// A deadline that is brought forward once in each epoch.
#[derive(Debug)]
pub(super) struct SealTimer {
    /// How long an epoch lasts in which nothing happens.
    heartbeat: Duration,
    /// How long it lasts from the first incident on.
    seal_after: Duration,
    due: Instant,
    /// Whether it was brought forward.
    is_soon: bool,
}

impl SealTimer {
    /// Begins an epoch.
    pub(super) fn new(heartbeat: Duration, seal_after: Duration, now: Instant) -> Self {
        Self {
            heartbeat,
            seal_after,
            due: after(now, heartbeat),
            is_soon: false,
        }
    }

    /// When the seal is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Brings the seal forward, unless that was done in this epoch.
    pub(super) fn seal_soon(&mut self, now: Instant) {
        if !self.is_soon {
            self.is_soon = true;
            self.due = self.due.min(after(now, self.seal_after));
        }
    }

    /// Begins the next epoch.
    pub(super) fn restart(&mut self, now: Instant) {
        self.due = after(now, self.heartbeat);
        self.is_soon = false;
    }
}

/// `time` itself where the clock does not reach that far.
pub(super) fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_lasts_a_heartbeat_or_a_moment_after_its_first_incident() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timer = SealTimer::new(Duration::from_mins(1), Duration::from_secs(2), start);
        assert_eq!(timer.due(), at(60));
        timer.seal_soon(at(10));
        assert_eq!(timer.due(), at(12));
        timer.seal_soon(at(11));
        assert_eq!(timer.due(), at(12));
        timer.restart(at(12));
        assert_eq!(timer.due(), at(72));
        timer.seal_soon(at(71));
        assert_eq!(timer.due(), at(72), "never later than a heartbeat");
    }
}
