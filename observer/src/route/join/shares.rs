//! Who gives way when too many records wait.
//!
//! Whose places are counted only then: in the usual course nobody pays for it.
//! One count frees a quarter of the places, so that it comes once in so many
//! records, however they are sent.

use std::collections::HashMap;

use observer_common::record::Record;

/// A process for ever: when it started, and its pid in the initial namespace.
type Process = (u64, u32);

/// A user's places.
#[derive(Default)]
struct User {
    processes: HashMap<Process, usize>,
    /// How many of all are to go.
    excess: usize,
}

impl User {
    fn total(&self) -> usize {
        self.processes
            .values()
            .fold(0, |sum: usize, count| sum.saturating_add(*count))
    }

    /// Has the user keep so many: from then on the counts are those of each
    /// process's records that are to go.
    fn keep(&mut self, places: usize) {
        self.excess = self.total().saturating_sub(places);
        let level = level(self.processes.values().copied(), places).max(1);
        for count in self.processes.values_mut() {
            *count = count.saturating_sub(level);
        }
    }
}

/// Which of the waiting records, which come oldest first, are to go, so that so
/// many stay.
///
/// Places are shared among users, and a user's among its processes: whoever has
/// the most yields its oldest. So a record goes for one of another user, or of
/// another process of its own, only if its own have more than these. Where a
/// user has more processes than places, the oldest of the user's go.
pub(super) fn displaced(waiting: &[(u32, &Record)], keep: usize) -> Vec<u32> {
    let mut users: HashMap<u32, User> = HashMap::new();
    for (_, record) in waiting {
        let user = users.entry(record.uid).or_default();
        let count = user.processes.entry(process(record)).or_default();
        *count = count.saturating_add(1);
    }
    let places = level(users.values().map(User::total), keep);
    for user in users.values_mut() {
        user.keep(places);
    }
    let mut displaced = Vec::new();
    let mut rest = Vec::new();
    for &(index, record) in waiting {
        let Some(user) = users.get_mut(&record.uid) else {
            continue;
        };
        let Some(over) = user.processes.get_mut(&process(record)) else {
            continue;
        };
        if user.excess > 0 && *over > 0 {
            *over = over.saturating_sub(1);
            user.excess = user.excess.saturating_sub(1);
            displaced.push(index);
        } else {
            rest.push((index, record.uid));
        }
    }
    for (index, uid) in rest {
        if let Some(user) = users.get_mut(&uid).filter(|user| user.excess > 0) {
            user.excess = user.excess.saturating_sub(1);
            displaced.push(index);
        }
    }
    displaced
}

fn process(record: &Record) -> Process {
    (record.start_ns, record.host_pid)
}

/// How many each may keep, so that all together keep no more than `places`:
/// who has less leaves the rest to the others.
fn level(counts: impl Iterator<Item = usize>, places: usize) -> usize {
    let mut counts: Vec<usize> = counts.collect();
    counts.sort_unstable();
    let (mut left, mut places) = (counts.len(), places);
    for count in counts {
        if count.saturating_mul(left) > places {
            return places.checked_div(left).unwrap_or_default();
        }
        places = places.saturating_sub(count);
        left = left.saturating_sub(1);
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of these users and processes, numbered from the oldest.
    fn go(of: &[(u32, u32)], keep: usize) -> Vec<u32> {
        let records: Vec<Record> = of
            .iter()
            .map(|&(uid, host_pid)| Record {
                uid,
                host_pid,
                ..Record::UNKNOWN
            })
            .collect();
        let waiting: Vec<_> = (0..).zip(&records).collect();
        let mut displaced = displaced(&waiting, keep);
        displaced.sort_unstable();
        displaced
    }

    #[test]
    fn who_has_the_most_yields_its_oldest() {
        let of = [(1, 7), (1, 8), (1, 8), (1, 9), (1, 8), (1, 8)];
        assert_eq!(go(&of, 6), [0; 0]);
        assert_eq!(go(&of, 5), [1]);
        assert_eq!(go(&of, 4), [1, 2]);
        assert_eq!(go(&of, 3), [1, 2, 4]);
    }

    #[test]
    fn many_processes_of_a_user_are_one_user() {
        let of = [(1, 7), (2, 10), (2, 11), (2, 12), (1, 8), (2, 13)];
        // As much for the one as for the other.
        assert_eq!(go(&of, 4), [1, 2]);
        assert_eq!(go(&of, 3), [0, 1, 2, 3]);
        // One user with more processes than places: its oldest.
        assert_eq!(go(&of[1..4], 2), [0]);
    }

    #[test]
    fn a_level_leaves_as_many_as_there_is_room_for() {
        assert_eq!(level([1, 2, 30, 40].into_iter(), 23), 10);
        assert_eq!(level([5, 5].into_iter(), 10), usize::MAX);
        assert_eq!(level([5, 5].into_iter(), 1), 0);
        assert_eq!(level([].into_iter(), 0), usize::MAX);
    }
}
