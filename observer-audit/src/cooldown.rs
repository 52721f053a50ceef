//! Doing something at most once per interval.

use std::time::{Duration, Instant};

/// An interval that begins whenever something was done, and has to be over
/// before it is done again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cooldown {
    interval: Duration,
    began: Option<Instant>,
}

impl Cooldown {
    /// One that has not begun.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            began: None,
        }
    }

    /// Begins the interval, unless it is not over yet: then `false`.
    pub(crate) fn try_begin(&mut self, now: Instant) -> bool {
        let is_over = self
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= self.interval);
        if is_over {
            self.began = Some(now);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_once_and_then_once_per_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cooldown = Cooldown::new(Duration::from_secs(10));
        let began: Vec<u64> = (0..35)
            .filter(|&second| cooldown.try_begin(at(second)))
            .collect();
        assert_eq!(began, [0, 10, 20, 30]);
    }

    #[test]
    fn what_did_not_begin_it_does_not_make_it_longer() {
        let start = Instant::now();
        let interval = Duration::from_secs(10);
        let mut cooldown = Cooldown::new(interval);
        assert!(cooldown.try_begin(start));
        assert!(!cooldown.try_begin(start + interval / 2));
        assert!(cooldown.try_begin(start + interval));
    }
}
