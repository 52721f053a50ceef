//! Whose datagrams the program did not let in, and how many: those beyond a
//! sender's budget, and those with descriptors attached.
//!
//! The program tells of a sender once a second for as long as it drops
//! something of it. What it dropped after it last told is asked for, once, a
//! little later: the counts are exact, and nothing ticks when nobody floods.

use std::collections::{HashMap, VecDeque};

use observer_common::budget::{BudgetKey, REPORT_EVERY_NS};

use crate::attest::{Dropped, Reason, Throttled};

/// How long after the last word of a sender the rest is asked for,
/// nanoseconds: the next word would have come by then.
const REST_AFTER_NS: u64 = REPORT_EVERY_NS + REPORT_EVERY_NS / 4;

/// Senders whose counts are remembered. Where more are told of, those are
/// forgotten that have stopped; if they begin again while the program still
/// has their old counts, these are told once more.
const MAX_KNOWN: usize = 4096;

/// Senders that something was dropped of.
#[derive(Debug, Default)]
pub(super) struct Account {
    known: HashMap<Key, Known>,
    /// Whom to ask about, and when the program told of them, the longest ago
    /// first. One that it has told of since is here again.
    open: VecDeque<(u64, Key)>,
    /// When those that have stopped were last forgotten for want of room.
    cleared: Option<u64>,
}

/// Whose count it is, and of what.
type Key = (BudgetKey, Reason);

#[derive(Clone, Copy, Debug)]
struct Known {
    told: Throttled,
    /// When, in nanoseconds since the start; `None`: that was all.
    at: Option<u64>,
}

/// How many more datagrams of a sender were dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct More {
    pub(super) sender: Throttled,
    pub(super) count: u64,
}

impl Account {
    /// Takes down what the program tells of a sender; returns how many more
    /// that are.
    pub(super) fn tell(&mut self, told: Throttled, now: u64) -> Option<More> {
        let key = (told.payer, told.reason);
        let before = self.known.get(&key).map(|known| known.told.dropped);
        if let Some(known) = self.known.get_mut(&key)
            && told.dropped.told_ns <= known.told.dropped.told_ns
        {
            // An old word, read late: the program has been asked since.
            known.at = Some(now);
            self.open.push_back((now, key));
            return None;
        }
        if before.is_none() && self.known.len() >= MAX_KNOWN {
            self.forget_stopped(now);
        }
        if before.is_some() || self.known.len() < MAX_KNOWN {
            let at = Some(now);
            self.known.insert(key, Known { told, at });
            self.open.push_back((now, key));
        }
        more(told, before.map_or(0, |before| before.count))
    }

    /// Not for each of many senders: that would be work for all of them each time.
    fn forget_stopped(&mut self, now: u64) {
        let is_due = |last| now.saturating_sub(last) >= REST_AFTER_NS;
        if self.cleared.is_none_or(is_due) {
            self.cleared = Some(now);
            self.known.retain(|_, known| known.at.is_some());
        }
    }

    /// When the next sender is to be asked about, in nanoseconds since the
    /// start.
    pub(super) fn next_due(&self) -> Option<u64> {
        let (at, _) = self.open.front()?;
        Some(at.saturating_add(REST_AFTER_NS))
    }

    /// Asks about the senders whose time has come, or about all of them, until
    /// one has more to tell.
    pub(super) fn settle(
        &mut self,
        now: u64,
        all: bool,
        ask: impl Fn(BudgetKey, Reason) -> Option<Dropped>,
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
            let before = known.told.dropped;
            let (payer, reason) = key;
            let Some(dropped) = ask(payer, reason) else {
                continue;
            };
            known.told.dropped = Dropped {
                count: dropped.count,
                // A budget that was begun anew has told nothing yet.
                told_ns: dropped.told_ns.max(before.told_ns),
            };
            let more = more(known.told, before.count);
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
    use observer_common::record::Limit;

    use super::*;
    use observer_events::event::{Attestation, TaskKind, Via};

    /// The program's first word of a sender, or a later one.
    fn told(pid: u32, count: u64) -> Throttled {
        told_at(pid, count, count)
    }

    fn told_at(pid: u32, count: u64, told_ns: u64) -> Throttled {
        Throttled {
            payer: BudgetKey {
                start_ns: 1,
                host_pid: pid,
                task_kind: 1,
            },
            reason: Reason::Flood,
            limit: Limit::Process,
            dropped: Dropped { count, told_ns },
            frame: [0; 32],
            sender: Attestation {
                pid: Some(pid),
                host_pid: Some(pid),
                start_ns: Some(1),
                task_kind: TaskKind::Thread,
                ..Attestation::unknown(Via::Btf)
            },
        }
    }

    /// What the program says when it is asked.
    fn asked(count: u64) -> Dropped {
        Dropped { count, told_ns: 0 }
    }

    fn count(more: Option<More>) -> u64 {
        more.map_or(0, |more| more.count)
    }

    #[test]
    fn counts_are_of_what_is_new() {
        let mut account = Account::default();
        assert_eq!(count(account.tell(told(5, 1), 0)), 1);
        assert_eq!(count(account.tell(told(6, 7), 1)), 7);
        assert_eq!(count(account.tell(told(5, 101), 2)), 100);
        // Its budget was forgotten and begun anew.
        assert_eq!(count(account.tell(told_at(5, 3, 102), 3)), 3);
    }

    #[test]
    fn an_old_word_that_is_read_late_tells_nothing() {
        let mut account = Account::default();
        assert_eq!(count(account.tell(told_at(5, 10, 1000), 0)), 10);
        let more = account.settle(u64::MAX, false, |_, _| {
            Some(Dropped {
                count: 30,
                told_ns: 2000,
            })
        });
        assert_eq!(count(more), 20);
        assert_eq!(count(account.tell(told_at(5, 25, 2000), 1)), 0);
        // What came after is asked for all the same.
        assert_eq!(count(account.settle(1, true, |_, _| Some(asked(31)))), 1);
        assert_eq!(count(account.tell(told_at(5, 35, 3000), 2)), 4);
    }

    #[test]
    fn the_rest_is_asked_for_once_the_flood_is_over() {
        let mut account = Account::default();
        account.tell(told(5, 10), 0);
        account.tell(told(6, 10), 1);
        account.tell(told(5, 20), 2);
        assert_eq!(account.next_due(), Some(REST_AFTER_NS));
        // The first word of 5 is not its last.
        let nobody = |_, _| panic!("nobody is to be asked about yet");
        assert!(account.settle(REST_AFTER_NS, false, nobody).is_none());
        let more = account.settle(1 + REST_AFTER_NS, false, |payer, _| {
            assert_eq!(payer.host_pid, 6);
            Some(asked(15))
        });
        assert_eq!(count(more), 5);
        // Whose budget is forgotten has no more to tell.
        assert!(account.settle(u64::MAX, false, |_, _| None).is_none());
        assert_eq!(account.next_due(), None);
        // Nothing is told twice when it begins again.
        assert_eq!(count(account.tell(told(6, 16), 10)), 1);
        assert_eq!(count(account.settle(10, true, |_, _| Some(asked(18)))), 2);
        assert!(account.settle(10, true, |_, _| Some(asked(19))).is_none());
    }

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let mut account = Account::default();
        let with_descriptors = |dropped| Throttled {
            reason: Reason::Descriptors,
            ..told(5, dropped)
        };
        assert_eq!(count(account.tell(told(5, 10), 0)), 10);
        assert_eq!(count(account.tell(with_descriptors(3), 1)), 3);
        assert_eq!(count(account.tell(with_descriptors(5), 2)), 2);
        let more = account.settle(u64::MAX, false, |_, reason| match reason {
            Reason::Flood => Some(asked(10)),
            Reason::Descriptors => Some(asked(9)),
        });
        assert_eq!(count(more), 4);
    }

    #[test]
    fn memory_is_bounded() {
        let mut account = Account::default();
        for pid in 0..10_000 {
            assert_eq!(count(account.tell(told(pid, 1), 0)), 1);
        }
        assert_eq!(account.known.len(), MAX_KNOWN);
        while account.settle(0, true, |_, _| Some(asked(2))).is_some() {}
        // Not at once: they have just been looked through.
        assert_eq!(count(account.tell(told(20_000, 1), 0)), 1);
        assert_eq!(account.known.len(), MAX_KNOWN);
        assert_eq!(count(account.tell(told(20_001, 1), REST_AFTER_NS)), 1);
        assert_eq!(account.known.len(), 1);
    }
}
