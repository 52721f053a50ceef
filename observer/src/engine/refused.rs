//! Whom the operator's policy does not let beat, and how often they try.
//!
//! The first try of a sender is reported at once, and then at most once a
//! second how many more there were. Nothing ticks when nobody tries.

use std::collections::{HashMap, VecDeque};

use observer_events::{Evidence, Notice};

/// How often one sender is reported, nanoseconds.
const EVERY_NS: u64 = 1_000_000_000;

/// Senders whose tries are counted each for itself. Those of more are counted
/// together.
const MAX_KNOWN: usize = 4096;

/// A beat that was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) claimed_pid: u32,
    pub(super) observer_ns: u64,
    pub(super) evidence: Evidence,
}

/// Senders that were refused within the last second.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    known: HashMap<Key, Unreported>,
    /// Whom to report next, and when they were reported last, the longest ago
    /// first.
    open: VecDeque<(u64, Key)>,
}

/// A process, as far as it is known, and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Sender {
        host_pid: Option<u32>,
        start_ns: Option<u64>,
        pid: Option<u32>,
        uid: Option<u32>,
    },
    /// Who has no credentials, and all who are too many.
    Others,
}

/// What was refused since the last report.
#[derive(Clone, Copy, Debug)]
struct Unreported {
    count: u64,
    last: Refusal,
}

impl Refusals {
    /// Counts a refusal; returns what is to be reported now.
    pub(super) fn note(&mut self, refusal: Refusal) -> Option<Notice> {
        let key = Key::of(&refusal.evidence);
        let has_room = self.known.contains_key(&key) || self.known.len() < MAX_KNOWN;
        let key = if has_room { key } else { Key::Others };
        if let Some(known) = self.known.get_mut(&key) {
            known.count = known.count.saturating_add(1);
            known.last = refusal;
            return None;
        }
        let last = refusal;
        self.known.insert(key, Unreported { count: 0, last });
        self.open.push_back((refusal.observer_ns, key));
        Some(notice(1, &refusal))
    }

    /// When the next sender is to be reported, in nanoseconds since the start.
    pub(super) fn next_due(&self) -> Option<u64> {
        let (at, _) = self.open.front()?;
        Some(at.saturating_add(EVERY_NS))
    }

    /// What is to be reported of a sender whose time has come, or of any.
    pub(super) fn settle(&mut self, now: u64, all: bool) -> Option<Notice> {
        while all || self.next_due().is_some_and(|due| due <= now) {
            let (_, key) = self.open.pop_front()?;
            let Some(Unreported { count, last }) = self.known.remove(&key) else {
                continue;
            };
            if count == 0 {
                continue;
            }
            if !all {
                self.known.insert(key, Unreported { count: 0, last });
                self.open.push_back((now, key));
            }
            return Some(notice(count, &last));
        }
        None
    }
}

impl Key {
    fn of(evidence: &Evidence) -> Self {
        match &evidence.sender {
            Some(sender) => Self::Sender {
                host_pid: sender.host_pid,
                start_ns: sender.start_ns,
                pid: sender.pid,
                uid: sender.uid,
            },
            None => Self::Others,
        }
    }
}

fn notice(count: u64, last: &Refusal) -> Notice {
    let Refusal {
        claimed_pid,
        observer_ns,
        evidence,
    } = *last;
    Notice::RefusedSender {
        count,
        claimed_pid,
        observer_ns,
        evidence,
    }
}

#[cfg(test)]
mod tests {
    use observer_events::event::{Attestation, TaskKind, Via};

    use super::*;

    fn refusal(pid: u32, observer_ns: u64) -> Refusal {
        let sender = Attestation {
            pid: Some(pid),
            host_pid: Some(pid),
            uid: Some(7),
            start_ns: Some(1),
            task_kind: TaskKind::Thread,
            ..Attestation::unknown(Via::Btf)
        };
        Refusal {
            claimed_pid: pid,
            observer_ns,
            evidence: Evidence::new(Some(sender), None, None),
        }
    }

    fn count(notice: Option<Notice>) -> u64 {
        match notice {
            Some(Notice::RefusedSender { count, .. }) => count,
            None => 0,
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_is_reported_at_once_and_the_rest_once_a_second() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.next_due(), None);
        assert_eq!(count(refusals.note(refusal(5, 10))), 1);
        assert_eq!(count(refusals.note(refusal(6, 11))), 1);
        for at in 12..20 {
            assert_eq!(count(refusals.note(refusal(5, at))), 0);
        }
        assert_eq!(refusals.next_due(), Some(10 + EVERY_NS));
        assert_eq!(count(refusals.settle(9 + EVERY_NS, false)), 0);
        assert_eq!(count(refusals.settle(10 + EVERY_NS, false)), 8);
        // The other one has stopped, and is forgotten.
        assert_eq!(count(refusals.settle(11 + EVERY_NS, false)), 0);
        assert_eq!(refusals.known.len(), 1);
        assert_eq!(count(refusals.note(refusal(5, 12 + EVERY_NS))), 0);
        assert_eq!(count(refusals.settle(0, true)), 1);
        assert_eq!(count(refusals.settle(0, true)), 0);
        assert_eq!(refusals.next_due(), None);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut refusals = Refusals::default();
        let mut reported = 0;
        for pid in 0..10_000 {
            reported += count(refusals.note(refusal(pid, 0)));
        }
        assert_eq!(refusals.known.len(), MAX_KNOWN + 1);
        while let Some(notice) = refusals.settle(0, true) {
            reported += count(Some(notice));
        }
        assert_eq!(reported, 10_000);
    }
}
