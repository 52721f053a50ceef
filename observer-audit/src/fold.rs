//! Repeats are counted, so that a flood cannot fill the disk.
//!
//! The first incident of a sender and claim is written in full; the next ones
//! are counted, and the count is written after a second, then after two, four,
//! up to [`LONGEST`]. Lines in full have a budget too: who comes with ever new
//! processes or ever new claims is counted by sender, by user and cgroup, or at
//! last by kind. Everything here is bounded, and so is what it makes the
//! trail write: [`FULL_PER_SECOND`] lines a second, each with a line of
//! evidence, and, in the long run, a count line a minute for each of the
//! entries.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use observer_events::event::Via;

use super::incident::{Incident, What};
use super::kinds::Alike;

/// Senders with their claims that are told apart at most.
const MAX_EXACT: usize = 1024;
/// Senders that are told apart beyond that.
const MAX_SENDERS: usize = 512;
/// Pairs of user and cgroup that are told apart beyond that.
const MAX_CROWDS: usize = 128;
/// After how long the first count of repeats is written.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// After how long, at most, the next.
const LONGEST: Duration = Duration::from_mins(1);
/// Lines in full that may come at once, and how many more a second.
const FULL_AT_ONCE: u32 = 256;
const FULL_PER_SECOND: u32 = 16;

/// What makes a sender the same sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Who {
    host_pid: Option<u32>,
    pid: Option<u32>,
    start_ns: Option<u64>,
    uid: Option<u32>,
    via: Option<Via>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Exact(What, Option<u32>, Who),
    Sender(&'static str, Who),
    Crowd(&'static str, Option<u32>, Option<u64>),
    Kind(&'static str),
}

impl Key {
    /// From the most particular to the most general.
    fn ladder(incident: &Incident) -> [Self; 4] {
        let sender = incident.sender.as_ref();
        let who = Who {
            host_pid: sender.and_then(|sender| sender.host_pid),
            pid: sender.and_then(|sender| sender.pid),
            start_ns: sender.and_then(|sender| sender.start_ns),
            uid: sender.and_then(|sender| sender.uid),
            via: sender.map(|sender| sender.via),
        };
        let kind = incident.what.name();
        let cgroup = sender.and_then(|sender| sender.cgroup_id);
        [
            Self::Exact(incident.what, incident.claimed_pid, who),
            Self::Sender(kind, who),
            Self::Crowd(kind, who.uid, cgroup),
            Self::Kind(kind),
        ]
    }

    fn alike(&self) -> Alike {
        match self {
            Self::Exact(..) => Alike::SenderAndClaim,
            Self::Sender(..) => Alike::Sender,
            Self::Crowd(..) => Alike::UserAndCgroup,
            Self::Kind(..) => Alike::Kind,
        }
    }
}

#[derive(Debug)]
struct Tally {
    /// The line that has the first of them in full.
    line: Option<u64>,
    count: u64,
    first: Timestamp,
    last: Timestamp,
    sample: Incident,
    interval: Duration,
    due: Instant,
}

/// Repeats that are to be written as one line.
#[derive(Debug)]
pub(super) struct Repeat {
    pub(super) alike: Alike,
    pub(super) line: Option<u64>,
    pub(super) count: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) sample: Incident,
}

/// What becomes of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is to be written in full.
    InFull,
    /// It is counted, the first of an entry that no line has in full.
    First,
    /// It is counted with others.
    Counted,
}

/// Counts what need not be written in full.
#[derive(Debug)]
pub(super) struct Fold {
    tallies: HashMap<Key, Tally>,
    /// Entries per kind of key: exact, sender, crowd.
    used: [usize; 3],
    budget: Budget,
}

impl Fold {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tallies: HashMap::new(),
            used: [0; 3],
            budget: Budget {
                left: FULL_AT_ONCE,
                since: now,
            },
        }
    }

    /// Records an incident. If it is to be written in full, then as line `seq`.
    pub(super) fn note(
        &mut self,
        incident: &Incident,
        time: Timestamp,
        seq: u64,
        now: Instant,
    ) -> Noted {
        let [exact, others @ ..] = Key::ladder(incident);
        if self.count(&exact, incident, time) {
            return Noted::Counted;
        }
        if self.has_room(&exact) && self.budget.take(now) {
            self.begin(exact, incident, time, now, Some(seq));
            return Noted::InFull;
        }
        for key in others {
            if self.count(&key, incident, time) {
                return Noted::Counted;
            }
            if self.has_room(&key) {
                self.begin(key, incident, time, now, None);
                return Noted::First;
            }
        }
        Noted::Counted
    }

    /// Counts whose time has come. An entry that had none since the last time
    /// is forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Repeat> {
        let mut repeats = Vec::new();
        let used = &mut self.used;
        self.tallies.retain(|key, tally| {
            if now < tally.due {
                return true;
            }
            if tally.count == 0 {
                if let Some(used) = level(key).and_then(|level| used.get_mut(level)) {
                    *used = used.saturating_sub(1);
                }
                return false;
            }
            tally.interval = tally.interval.saturating_mul(2).min(LONGEST);
            tally.due = now.checked_add(tally.interval).unwrap_or(now);
            repeats.extend(tally.take(key));
            true
        });
        repeats
    }

    /// All counts, because the end has come.
    pub(super) fn rest(&mut self) -> Vec<Repeat> {
        self.used = [0; 3];
        let tallies = std::mem::take(&mut self.tallies);
        tallies
            .into_iter()
            .filter_map(|(key, mut tally)| tally.take(&key))
            .collect()
    }

    /// When [`Fold::due`] has something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.tallies.values().map(|tally| tally.due).min()
    }

    fn count(&mut self, key: &Key, incident: &Incident, time: Timestamp) -> bool {
        let Some(tally) = self.tallies.get_mut(key) else {
            return false;
        };
        if tally.count == 0 {
            tally.first = time;
        }
        tally.count = tally.count.saturating_add(incident.count);
        tally.last = time;
        tally.sample = Incident {
            count: 1,
            ..*incident
        };
        true
    }

    fn has_room(&self, key: &Key) -> bool {
        const LIMITS: [usize; 3] = [MAX_EXACT, MAX_SENDERS, MAX_CROWDS];
        level(key).is_none_or(|level| self.used.get(level) < LIMITS.get(level))
    }

    fn begin(
        &mut self,
        key: Key,
        incident: &Incident,
        time: Timestamp,
        now: Instant,
        line: Option<u64>,
    ) {
        if let Some(used) = level(&key).and_then(|level| self.used.get_mut(level)) {
            *used = used.saturating_add(1);
        }
        let tally = Tally {
            line,
            count: if line.is_none() { incident.count } else { 0 },
            first: time,
            last: time,
            sample: Incident {
                count: 1,
                ..*incident
            },
            interval: SHORTEST,
            due: now.checked_add(SHORTEST).unwrap_or(now),
        };
        self.tallies.insert(key, tally);
    }
}

/// Which bound an entry falls under; there are only as many kinds as there
/// are.
fn level(key: &Key) -> Option<usize> {
    match key {
        Key::Exact(..) => Some(0),
        Key::Sender(..) => Some(1),
        Key::Crowd(..) => Some(2),
        Key::Kind(..) => None,
    }
}

impl Tally {
    fn take(&mut self, key: &Key) -> Option<Repeat> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then(|| Repeat {
            alike: key.alike(),
            line: self.line,
            count,
            first: self.first,
            last: self.last,
            sample: self.sample,
        })
    }
}

/// How many lines may still be written in full.
#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        let earned = passed
            .as_millis()
            .saturating_mul(u128::from(FULL_PER_SECOND))
            / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(FULL_AT_ONCE);
            self.since = now;
        }
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests;
