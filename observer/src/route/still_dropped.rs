//! Agents whose datagrams the program goes on dropping.
//!
//! There is a record of that once a second at most, and none if the ring has no
//! room for it. What the program counts is exact.

use std::collections::HashMap;

use observer_common::budget::BudgetKey;

use crate::ebpf::Dropped;

/// Agents that are remembered. Of those that are forgotten it is asked anew.
const MOST: usize = 4096;

/// What was counted of agents when their silence was to be judged.
#[derive(Debug, Default)]
pub(super) struct StillDropped {
    counts: HashMap<BudgetKey, u64>,
}

impl StillDropped {
    /// Whether something of an agent was dropped since this was last asked; the
    /// first time, whether the program has reported so, or tried to, since a
    /// moment of `CLOCK_MONOTONIC`.
    pub(super) fn ask(&mut self, key: BudgetKey, since_ns: u64, dropped: Dropped) -> bool {
        let Dropped { count, reported_ns } = dropped;
        if self.counts.len() >= MOST && !self.counts.contains_key(&key) {
            self.counts.clear();
        }
        match self.counts.insert(key, count) {
            // It falls where the program began to count anew.
            Some(before) => count != before && count > 0,
            None => count > 0 && reported_ns > since_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host_pid: u32) -> BudgetKey {
        BudgetKey {
            start_ns: 1,
            host_pid,
            task_kind: 1,
        }
    }

    fn dropped(count: u64, reported_ns: u64) -> Dropped {
        Dropped { count, reported_ns }
    }

    #[test]
    fn what_was_dropped_since_the_last_beat_counts_first() {
        let mut drops = StillDropped::default();
        assert!(!drops.ask(key(5), 100, dropped(0, 0)));
        assert!(!drops.ask(key(6), 100, dropped(7, 100)));
        assert!(drops.ask(key(7), 100, dropped(7, 101)));
    }

    #[test]
    fn then_what_was_dropped_since_it_was_asked() {
        let mut drops = StillDropped::default();
        assert!(drops.ask(key(5), 100, dropped(7, 101)));
        assert!(!drops.ask(key(5), 100, dropped(7, 101)));
        assert!(drops.ask(key(5), 100, dropped(8, 101)));
        assert!(drops.ask(key(5), 100, dropped(2, 101)));
        assert!(!drops.ask(key(5), 100, dropped(0, 0)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut drops = StillDropped::default();
        for pid in 0..3 * u32::try_from(MOST).unwrap() {
            drops.ask(key(pid), 0, dropped(1, 1));
            assert!(drops.counts.len() <= MOST);
        }
    }
}
