//! What is changed while agents are tracked.

use super::*;

const SHORTER: u64 = 10;

#[test]
fn nobody_is_silent_for_too_long_by_a_shorter_threshold() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(2, 1, 1), at(0));
    tracker.sight(&attested(3, 1, 1), at(50));
    tracker.set_threshold(SHORTER, at(90));
    assert_eq!(tracker.next_deadline(), Some(100));
    tracker.sight(&attested(2, 1, 2), at(95));
    assert_eq!(silent_pids(&mut tracker, 99), [0; 0]);
    assert_eq!(silent_pids(&mut tracker, 100), [3]);
    assert_eq!(tracker.next_deadline(), Some(105), "from its beat again");
    assert_eq!(silent_pids(&mut tracker, 105), [2]);
}

#[test]
fn a_longer_threshold_counts_from_the_last_beat() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(2, 1, 1), at(0));
    tracker.set_threshold(THRESHOLD * 2, at(90));
    assert_eq!(tracker.next_deadline(), Some(200));
    assert_eq!(tracker.threshold_ns(), 200);
}

#[test]
fn who_is_forgotten_leaves_no_stall_and_makes_room() {
    let mut tracker = tracker(2);
    tracker.sight(&attested(2, 1, 1), at(0));
    tracker.sight(&claimed(3, BeatOrigin::SocketModeOnly, 1), at(0));
    let is_claimed = |origin, sender: Option<&Attestation>| {
        assert_eq!(sender.is_some(), origin == KernelAttested);
        origin == BeatOrigin::SocketModeOnly
    };
    assert_eq!(tracker.forget_where(is_claimed), 1);
    assert_eq!((tracker.known(), tracker.census().ok), (1, 1));
    assert_eq!(tracker.sight(&attested(4, 1, 1), at(1)), Accepted);
    assert_eq!(silent_pids(&mut tracker, 101), [2, 4]);
    assert_eq!(tracker.forget_where(|_, _| true), 2, "the silent as well");
    assert_eq!((tracker.known(), tracker.census()), (0, Census::default()));
}
