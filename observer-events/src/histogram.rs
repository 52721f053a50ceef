//! How long things took, as counts between fixed bounds.

use serde::{Deserialize, Serialize};

/// Upper bounds, nanoseconds: from what a busy scheduler costs to what an
/// operator may set as a threshold. Times beyond the last are counted too.
pub const BOUNDS_NS: [u64; 14] = [
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
];

/// Times, counted between [`BOUNDS_NS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many times were at most each bound and above the one before; the
    /// last is for those above all bounds.
    pub counts: [u64; BOUNDS_NS.len() + 1],
    /// All times together, nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// Counts a time.
    pub fn note(&mut self, ns: u64) {
        let place = BOUNDS_NS.partition_point(|&bound| bound < ns);
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_what_is_below_it() {
        let mut histogram = Histogram::default();
        for ns in [0, 1_000_000, 1_000_001, 300_000_000_000, u64::MAX] {
            histogram.note(ns);
        }
        let mut expected = [0; BOUNDS_NS.len() + 1];
        (expected[0], expected[1], expected[13], expected[14]) = (2, 1, 1, 1);
        assert_eq!(histogram.counts, expected);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum_ns, u64::MAX);
    }
}
