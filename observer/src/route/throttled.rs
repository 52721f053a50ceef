//! Whose datagrams the program did not let in, and how many: those beyond a
//! sender's budget, and those with descriptors attached.
//!
//! The program writes a record of a sender once a second for as long as it
//! drops something of it. What it dropped after the last record is read from
//! its counters, once, a little later: the counts are exact, and nothing ticks
//! when nobody floods.

use std::collections::{HashMap, VecDeque};

use observer_common::budget::{BudgetKey, REPORT_EVERY_NS};

use crate::ebpf::{Dropped, Reason, Throttled};

/// How long after the last record of a sender the rest is read, nanoseconds:
/// the next record would have come by then.
const REST_AFTER_NS: u64 = REPORT_EVERY_NS + REPORT_EVERY_NS / 4;

/// Senders whose counts are remembered. Where there are more, those are
/// forgotten that have stopped; if they begin again while the program still
/// has their old counts, these are reported once more.
const MAX_KNOWN: usize = 4096;

/// Senders that something was dropped of.
#[derive(Debug, Default)]
pub(super) struct Account {
    known: HashMap<Key, Known>,
    /// Whose counter to read, and when their last record was read, the longest
    /// ago first. One that there was a record of since is here again.
    open: VecDeque<(u64, Key)>,
    /// When those that have stopped were last forgotten for want of room.
    cleared: Option<u64>,
}

/// Whose count it is, and of what.
type Key = (BudgetKey, Reason);

#[derive(Clone, Copy, Debug)]
struct Known {
    last: Throttled,
    /// When it was read, in nanoseconds since the start; `None`: that was all.
    at: Option<u64>,
}

/// How many more datagrams of a sender were dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct More {
    pub(super) sender: Throttled,
    pub(super) count: u64,
}

impl Account {
    /// Notes a record; returns how many more datagrams that are.
    pub(super) fn note(&mut self, last: Throttled, now: u64) -> Option<More> {
        let key = (last.key, last.reason);
        let before = self.known.get(&key).map(|known| known.last.dropped);
        if let Some(known) = self.known.get_mut(&key)
            && last.dropped.reported_ns <= known.last.dropped.reported_ns
        {
            // An old record, read late: the counter has been read since.
            known.at = Some(now);
            self.open.push_back((now, key));
            return None;
        }
        if before.is_none() && self.known.len() >= MAX_KNOWN {
            self.forget_stopped(now);
        }
        if before.is_some() || self.known.len() < MAX_KNOWN {
            let at = Some(now);
            self.known.insert(key, Known { last, at });
            self.open.push_back((now, key));
        }
        more(last, before.map_or(0, |before| before.count))
    }

    /// Not for each of many senders: that would be work for all of them each time.
    fn forget_stopped(&mut self, now: u64) {
        let is_due = |last| now.saturating_sub(last) >= REST_AFTER_NS;
        if self.cleared.is_none_or(is_due) {
            self.cleared = Some(now);
            self.known.retain(|_, known| known.at.is_some());
        }
    }

    /// When the next sender's counter is to be read, in nanoseconds since the
    /// start.
    pub(super) fn next_due(&self) -> Option<u64> {
        let (at, _) = self.open.front()?;
        Some(at.saturating_add(REST_AFTER_NS))
    }

    /// Reads the counters of the senders whose time has come, or of all of them,
    /// until one has grown.
    pub(super) fn settle(
        &mut self,
        now: u64,
        all: bool,
        read: impl Fn(BudgetKey, Reason) -> Option<Dropped>,
    ) -> Option<More> {
        while all || self.next_due().is_some_and(|due| due <= now) {
            let (at, key) = self.open.pop_front()?;
            let Some(known) = self.known.get_mut(&key) else {
                continue;
            };
            if known.at != Some(at) {
                continue;
            }
            known.at = None;
            let before = known.last.dropped;
            let (key, reason) = key;
            let Some(dropped) = read(key, reason) else {
                continue;
            };
            known.last.dropped = Dropped {
                count: dropped.count,
                // Of a budget that was begun anew there is no record yet.
                reported_ns: dropped.reported_ns.max(before.reported_ns),
            };
            let more = more(known.last, before.count);
            if more.is_some() {
                return more;
            }
        }
        None
    }
}

/// What was dropped beyond `before`. A count that fell is that of a budget
/// that was forgotten meanwhile, and begun anew.
fn more(sender: Throttled, before: u64) -> Option<More> {
    let dropped = sender.dropped.count;
    let count = dropped.checked_sub(before).unwrap_or(dropped);
    (count > 0).then_some(More { sender, count })
}

#[cfg(test)]
mod tests {
    use observer_common::record::{Limit, Record};

    use super::*;

    /// The program's first record of a sender, or a later one.
    fn record(pid: u32, count: u64) -> Throttled {
        record_at(pid, count, count)
    }

    fn record_at(pid: u32, count: u64, reported_ns: u64) -> Throttled {
        Throttled {
            key: BudgetKey {
                start_ns: 1,
                host_pid: pid,
                task_kind: 1,
            },
            reason: Reason::Flood,
            limit: Limit::Process,
            dropped: Dropped { count, reported_ns },
            record: Record::UNKNOWN,
        }
    }

    /// What its counter is.
    fn counter(count: u64) -> Dropped {
        Dropped {
            count,
            reported_ns: 0,
        }
    }

    fn count(more: Option<More>) -> u64 {
        more.map_or(0, |more| more.count)
    }

    #[test]
    fn counts_are_of_what_is_new() {
        let mut account = Account::default();
        assert_eq!(count(account.note(record(5, 1), 0)), 1);
        assert_eq!(count(account.note(record(6, 7), 1)), 7);
        assert_eq!(count(account.note(record(5, 101), 2)), 100);
        // Its budget was forgotten and begun anew.
        assert_eq!(count(account.note(record_at(5, 3, 102), 3)), 3);
    }

    #[test]
    fn an_old_record_that_is_read_late_counts_nothing() {
        let mut account = Account::default();
        assert_eq!(count(account.note(record_at(5, 10, 1000), 0)), 10);
        let more = account.settle(u64::MAX, false, |_, _| {
            Some(Dropped {
                count: 30,
                reported_ns: 2000,
            })
        });
        assert_eq!(count(more), 20);
        assert_eq!(count(account.note(record_at(5, 25, 2000), 1)), 0);
        // What came after is counted all the same.
        assert_eq!(count(account.settle(1, true, |_, _| Some(counter(31)))), 1);
        assert_eq!(count(account.note(record_at(5, 35, 3000), 2)), 4);
    }

    #[test]
    fn the_rest_is_read_once_the_flood_is_over() {
        let mut account = Account::default();
        account.note(record(5, 10), 0);
        account.note(record(6, 10), 1);
        account.note(record(5, 20), 2);
        assert_eq!(account.next_due(), Some(REST_AFTER_NS));
        // The first record of 5 is not its last.
        let nobody = |_, _| panic!("no counter is to be read yet");
        assert!(account.settle(REST_AFTER_NS, false, nobody).is_none());
        let more = account.settle(1 + REST_AFTER_NS, false, |key, _| {
            assert_eq!(key.host_pid, 6);
            Some(counter(15))
        });
        assert_eq!(count(more), 5);
        // Whose budget is forgotten has no counter.
        assert!(account.settle(u64::MAX, false, |_, _| None).is_none());
        assert_eq!(account.next_due(), None);
        // Nothing is counted twice when it begins again.
        assert_eq!(count(account.note(record(6, 16), 10)), 1);
        assert_eq!(count(account.settle(10, true, |_, _| Some(counter(18)))), 2);
        assert!(account.settle(10, true, |_, _| Some(counter(19))).is_none());
    }

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let mut account = Account::default();
        let with_descriptors = |dropped| Throttled {
            reason: Reason::Descriptors,
            ..record(5, dropped)
        };
        assert_eq!(count(account.note(record(5, 10), 0)), 10);
        assert_eq!(count(account.note(with_descriptors(3), 1)), 3);
        assert_eq!(count(account.note(with_descriptors(5), 2)), 2);
        let more = account.settle(u64::MAX, false, |_, reason| match reason {
            Reason::Flood => Some(counter(10)),
            Reason::Descriptors => Some(counter(9)),
        });
        assert_eq!(count(more), 4);
    }

    #[test]
    fn memory_is_bounded() {
        let mut account = Account::default();
        for pid in 0..10_000 {
            assert_eq!(count(account.note(record(pid, 1), 0)), 1);
        }
        assert_eq!(account.known.len(), MAX_KNOWN);
        while account.settle(0, true, |_, _| Some(counter(2))).is_some() {}
        // Not at once: they have just been looked through.
        assert_eq!(count(account.note(record(20_000, 1), 0)), 1);
        assert_eq!(account.known.len(), MAX_KNOWN);
        assert_eq!(count(account.note(record(20_001, 1), REST_AFTER_NS)), 1);
        assert_eq!(account.known.len(), 1);
    }
}
