//! Repeats are counted, so that a flood cannot fill the disk.
//!
//! The first incident of a sender and claim is written in full. The next ones
//! are counted, and the count is written after one second, then after two,
//! four, up to a minute. Lines in full are limited, too: incidents of ever new
//! processes or with ever new claims are counted by sender, by user and cgroup,
//! or at last by kind. Everything here is bounded, and so is what is written
//! for it: 16 lines in full a second, each with a line of evidence, and in the
//! long run a line a minute for each group.

mod allowance;
mod key;

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::incident::Incident;
use crate::incident_line::Alike;

use self::allowance::Allowance;
use self::key::Key;

/// Groups by sender and claim at most.
const MAX_CLAIMS: usize = 1024;
/// Groups by sender at most.
const MAX_SENDERS: usize = 512;
/// Groups by user and cgroup at most.
const MAX_CGROUPS: usize = 128;
/// After how long the first count of repeats is written.
pub(crate) const SHORTEST: Duration = Duration::from_secs(1);
/// After how long, at most, the next.
const LONGEST: Duration = Duration::from_mins(1);

/// Incidents that are counted together.
#[derive(Debug)]
struct Group {
    /// The line that has the first of them in full.
    line: Option<u64>,
    /// How many no line has yet.
    count: u64,
    first: Timestamp,
    last: Timestamp,
    sample: Incident,
    /// How long until the next line.
    interval: Duration,
    /// When the next line is due.
    due: Instant,
}

/// Repeats that are to be written as one line.
#[derive(Debug)]
pub(crate) struct Repeat {
    pub(crate) alike: Alike,
    pub(crate) line: Option<u64>,
    pub(crate) count: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) sample: Incident,
}

/// What became of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folded {
    /// It is to be written in full.
    InFull,
    /// It is counted, as the first of a group of which no line has one in full.
    First,
    /// It is counted with others.
    Counted,
}

/// Counts what need not be written in full.
#[derive(Debug)]
pub(crate) struct Fold {
    groups: HashMap<Key, Group>,
    /// How many there are by sender and claim, by sender, by user and cgroup.
    used: [usize; 3],
    allowance: Allowance,
}

impl Fold {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            groups: HashMap::new(),
            used: [0; 3],
            allowance: Allowance::new(now),
        }
    }

    /// Adds an incident. If it is to be written in full, then as line `seq`.
    pub(crate) fn add(
        &mut self,
        incident: &Incident,
        time: Timestamp,
        seq: u64,
        now: Instant,
    ) -> Folded {
        let [claim, others @ ..] = Key::all(incident);
        if self.count(&claim, incident, time) {
            return Folded::Counted;
        }
        if self.has_room(&claim) && self.allowance.try_take(now) {
            self.begin(claim, incident, time, now, Some(seq));
            return Folded::InFull;
        }
        for key in others {
            if self.count(&key, incident, time) {
                return Folded::Counted;
            }
            if self.has_room(&key) {
                self.begin(key, incident, time, now, None);
                return Folded::First;
            }
        }
        Folded::Counted
    }

    /// Takes the counts of the groups whose lines are due. A group that did not
    /// grow since its last line is forgotten.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Repeat> {
        let mut repeats = Vec::new();
        let used = &mut self.used;
        self.groups.retain(|key, group| {
            if now < group.due {
                return true;
            }
            if group.count == 0 {
                if let Some(used) = key.level().and_then(|level| used.get_mut(level)) {
                    *used = used.saturating_sub(1);
                }
                return false;
            }
            group.interval = group.interval.saturating_mul(2).min(LONGEST);
            group.due = now.checked_add(group.interval).unwrap_or(now);
            repeats.extend(group.take(key));
            true
        });
        repeats
    }

    /// Takes all counts, for the end.
    pub(crate) fn take_all(&mut self) -> Vec<Repeat> {
        self.used = [0; 3];
        let groups = mem::take(&mut self.groups);
        groups
            .into_iter()
            .filter_map(|(key, mut group)| group.take(&key))
            .collect()
    }

    /// When the next line is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.groups.values().map(|group| group.due).min()
    }

    /// Counts an incident with the group of that key, if there is one.
    fn count(&mut self, key: &Key, incident: &Incident, time: Timestamp) -> bool {
        let Some(group) = self.groups.get_mut(key) else {
            return false;
        };
        if group.count == 0 {
            group.first = time;
        }
        group.count = group.count.saturating_add(incident.count);
        group.last = time;
        group.sample = Incident {
            count: 1,
            ..*incident
        };
        true
    }

    fn has_room(&self, key: &Key) -> bool {
        const LIMITS: [usize; 3] = [MAX_CLAIMS, MAX_SENDERS, MAX_CGROUPS];
        key.level()
            .is_none_or(|level| self.used.get(level) < LIMITS.get(level))
    }

    fn begin(
        &mut self,
        key: Key,
        incident: &Incident,
        time: Timestamp,
        now: Instant,
        line: Option<u64>,
    ) {
        if let Some(used) = key.level().and_then(|level| self.used.get_mut(level)) {
            *used = used.saturating_add(1);
        }
        let group = Group {
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
        self.groups.insert(key, group);
    }
}

impl Group {
    fn take(&mut self, key: &Key) -> Option<Repeat> {
        let count = mem::take(&mut self.count);
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

#[cfg(test)]
mod tests;
