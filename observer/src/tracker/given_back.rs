//! How much of the observer's absences one silence is given back.
//!
//! An agent is not blamed for time in which the observer was not there, for
//! both may have been frozen together. But an observer that is starved of its
//! CPU is away again and again, and would never find the dead: so what a
//! silence is given back is bounded. An absence counts for no more than the
//! threshold, however long it was. Together those in which somebody sent may
//! count for one threshold, for then not everybody was frozen, and all of them
//! for three. What is beyond that is taken from the time that is left to the
//! agent; but nobody was there to find it silent before the last absence had
//! ended.
//!
//! So one absence is given back whole, and of a starved observer's the dead are
//! found within twice their threshold, or four times where nobody sends.

use std::collections::VecDeque;

/// How many times the threshold absences in which nobody sent may count for.
const UNWITNESSED: u64 = 3;

/// How many absences are told apart at most. The oldest silence of all is the
/// longest that they are kept for.
const MOST: usize = 1024;

/// The absences in the longest silence of a live agent.
#[derive(Debug, Default)]
pub(super) struct GivenBack {
    /// The last is the latest.
    absences: VecDeque<Absence>,
    total: Sums,
}

#[derive(Clone, Copy, Debug)]
struct Absence {
    /// When it ended, attended nanoseconds: later than all that the observer
    /// saw before it, and not later than what it saw after.
    ended_ns: u64,
    /// Those before it.
    before: Sums,
}

/// What absences count for, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    all: u64,
    /// Those in which somebody sent.
    witnessed: u64,
}

impl GivenBack {
    /// Notes an absence that has ended now. `oldest_ns` is the last sign of life
    /// of the agent that is silent for longest.
    pub(super) fn note(
        &mut self,
        absence: &Absent,
        now_ns: u64,
        oldest_ns: Option<u64>,
        threshold_ns: u64,
    ) {
        let is_past = |absence: &Absence| oldest_ns.is_none_or(|oldest| absence.ended_ns <= oldest);
        while self.absences.front().is_some_and(is_past) {
            self.absences.pop_front();
        }
        if self.absences.len() >= MOST {
            self.thin_out();
        }
        let before = self.total;
        self.absences.push_back(Absence {
            ended_ns: now_ns,
            before,
        });
        let counted = absence.away_ns.min(threshold_ns);
        let witnessed = if absence.is_witnessed { counted } else { 0 };
        self.total = Sums {
            all: before.all.saturating_add(counted),
            witnessed: before.witnessed.saturating_add(witnessed),
        };
    }

    /// Takes each two absences for one that began with the first: whom it began
    /// before is given back more than is due, and nobody less.
    fn thin_out(&mut self) {
        let mut is_kept = false;
        self.absences.retain(|_| {
            is_kept = !is_kept;
            is_kept
        });
    }

    /// When an agent has been silent for too long whose last sign of life was
    /// then, attended nanoseconds: the later that was, the later this is.
    pub(super) fn deadline(&self, last_ns: u64, threshold_ns: u64) -> u64 {
        let due = last_ns.saturating_add(threshold_ns);
        let first = self
            .absences
            .partition_point(|absence| absence.ended_ns <= last_ns);
        let (Some(first), Some(last)) = (self.absences.get(first), self.absences.back()) else {
            return due;
        };
        let beyond = |total: u64, before: u64, bound: u64| {
            total.saturating_sub(before).saturating_sub(bound)
        };
        let excess =
            beyond(self.total.witnessed, first.before.witnessed, threshold_ns).max(beyond(
                self.total.all,
                first.before.all,
                threshold_ns.saturating_mul(UNWITNESSED),
            ));
        due.saturating_sub(excess).max(last.ended_ns.min(due))
    }
}

/// An absence of the observer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    /// How long it was, nanoseconds.
    pub(crate) away_ns: u64,
    /// Somebody sent meanwhile, so not everybody was frozen.
    pub(crate) is_witnessed: bool,
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test works with small numbers"
)]
mod tests {
    use super::*;

    const THRESHOLD: u64 = 1000;

    /// What a silence since `last` may last, in attended time, after absences
    /// each as (end, length, witnessed).
    fn allowed(absences: &[(u64, u64, bool)], last: u64) -> u64 {
        let mut given_back = GivenBack::default();
        for &(ended, away_ns, is_witnessed) in absences {
            let absent = Absent {
                away_ns,
                is_witnessed,
            };
            given_back.note(&absent, ended, Some(0), THRESHOLD);
        }
        given_back.deadline(last, THRESHOLD) - last
    }

    #[test]
    fn one_absence_is_given_back_whole() {
        assert_eq!(allowed(&[], 0), THRESHOLD);
        for witnessed in [false, true] {
            assert_eq!(allowed(&[(1, 1_000_000, witnessed)], 0), THRESHOLD);
        }
    }

    #[test]
    fn what_is_beyond_a_threshold_or_three_is_not() {
        let starved = |witnessed| {
            [
                (1, 480, witnessed),
                (20, 480, witnessed),
                (40, 480, witnessed),
            ]
        };
        assert_eq!(allowed(&starved(true), 0), THRESHOLD - 440);
        assert_eq!(allowed(&starved(false), 0), THRESHOLD);
        let frozen = [(1, 9000, false), (2, 9000, false), (3, 9000, false)];
        assert_eq!(allowed(&frozen, 0), THRESHOLD);
        let again: Vec<_> = frozen.into_iter().chain([(4, 500, false)]).collect();
        assert_eq!(allowed(&again, 0), THRESHOLD - 500);
    }

    #[test]
    fn absences_before_the_last_sign_of_life_do_not_count() {
        let absences = [(10, 900, true), (20, 900, true), (30, 900, true)];
        assert_eq!(allowed(&absences, 9), 21);
        assert_eq!(allowed(&absences, 10), THRESHOLD - 800);
        assert_eq!(allowed(&absences, 20), THRESHOLD);
        assert_eq!(allowed(&absences, 30), THRESHOLD);
    }

    /// Nobody was there before.
    #[test]
    fn nobody_is_found_silent_before_the_end_of_an_absence() {
        let absences = [(100, 5000, true), (400, 5000, true), (700, 5000, true)];
        assert_eq!(allowed(&absences, 50), 650);
    }

    #[test]
    fn many_absences_are_thinned_out_and_never_count_for_more() {
        let mut given_back = GivenBack::default();
        let absent = Absent {
            away_ns: 1,
            is_witnessed: true,
        };
        let count = 10 * MOST as u64;
        for ended in 1..=count {
            given_back.note(&absent, ended, Some(0), THRESHOLD);
            assert!(given_back.absences.len() <= MOST);
        }
        for last in (0..count).step_by(97) {
            let deadline = given_back.deadline(last, THRESHOLD);
            let due = last + THRESHOLD;
            let exact = due.saturating_sub((count - last).saturating_sub(THRESHOLD));
            assert!(deadline >= exact.max(count.min(due)), "{last}");
            assert!(deadline <= due);
        }
        // Those before the oldest silence are forgotten.
        given_back.note(&absent, count + 1, Some(count), THRESHOLD);
        assert_eq!(given_back.absences.len(), 1);
    }
}
