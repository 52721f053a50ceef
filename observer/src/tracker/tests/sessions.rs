//! Nonces and the sessions that they belong to.

use observer_events::event::Attestation;
use observer_events::event::BeatOrigin::{
    NetworkUnverified, OperatorAttestedTransport, SocketModeOnly,
};

use super::{THRESHOLD, at, attested, claimed, outcomes, sender, silent_pids, stalls, tracker};
use crate::tracker::Outcome::{Accepted, StaleNonce};
use crate::tracker::Sighting;

#[test]
fn a_stale_nonce_keeps_no_agent_alive() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 5), at(0));
    for nonce in [5, 4, 2] {
        assert_eq!(tracker.sight(&attested(9, 1, nonce), at(99)), StaleNonce);
    }
    assert_eq!(tracker.counts().stale_nonces, 3);
    assert_eq!(stalls(&mut tracker, 100)[0].last_nonce, 5);
    assert_eq!(tracker.sight(&attested(9, 1, 5), at(101)), StaleNonce);
    assert_eq!(silent_pids(&mut tracker, 500), [0; 0]);
}

#[test]
fn an_attested_restart_begins_a_session() {
    let mut tracker = tracker(4);
    assert!(
        outcomes(&mut tracker, &[500, 501, 1, 2, 3])
            .iter()
            .all(|&got| got == Accepted)
    );
    assert_eq!(tracker.counts().new_sessions, 1);
    assert_eq!(stalls(&mut tracker, 100)[0].last_nonce, 3);
}

#[test]
fn a_session_keeps_the_record_of_who_began_it() {
    let mut tracker = tracker(4);
    let by = |tid, nonce| {
        let sender = Attestation {
            tid: Some(tid),
            ..sender(9, Some(1))
        };
        Sighting {
            sender: Some(sender),
            ..attested(9, 1, nonce)
        }
    };
    let mut began_by = |sighting: Sighting, ns| {
        tracker.sight(&sighting, at(ns));
        stalls(&mut tracker, ns + THRESHOLD)[0]
            .sender
            .and_then(|sender| sender.tid)
    };
    assert_eq!(began_by(by(10, 500), 0), Some(10));
    assert_eq!(began_by(by(11, 501), 200), Some(10));
    assert_eq!(began_by(by(12, 1), 400), Some(12));
}

#[test]
fn two_handles_beat_in_turn_and_either_may_end() {
    let mut both = tracker(4);
    let in_turn = [500, 501, 1, 502, 2, 503, 3];
    assert!(
        outcomes(&mut both, &in_turn)
            .iter()
            .all(|&got| got == Accepted)
    );
    assert_eq!(outcomes(&mut both, &[4, 5, 6]), [Accepted; 3]);
    assert_eq!(outcomes(&mut both, &[504, 505]), [Accepted; 2]);
    assert_eq!(outcomes(&mut both, &[6, 5]), [StaleNonce; 2]);
}

#[test]
fn two_handles_of_equal_numbers_beat_in_turn() {
    let mut tracker = tracker(4);
    let in_turn = [1, 1, 2, 2, 3, 4, 3, 4, 5, 5];
    assert_eq!(outcomes(&mut tracker, &in_turn), [Accepted; 10]);
    assert_eq!(outcomes(&mut tracker, &[5]), [StaleNonce]);
}

#[test]
fn a_third_session_replaces_the_one_not_used_longest() {
    let mut tracker = tracker(4);
    outcomes(&mut tracker, &[500, 1, 501, 1]);
    assert_eq!(outcomes(&mut tracker, &[502, 2, 1]), [Accepted; 3]);
    assert_eq!(tracker.counts().new_sessions, 3);
    assert_eq!(
        outcomes(&mut tracker, &[502, 3]),
        [Accepted; 2],
        "the last 1 displaced 502"
    );
}

#[test]
fn a_caught_panic_goes_on_with_its_old_numbers() {
    let mut tracker = tracker(4);
    assert_eq!(
        outcomes(&mut tracker, &[7, u64::MAX, 7, 8, u64::MAX, 9, u64::MAX]),
        [
            Accepted, Accepted, StaleNonce, Accepted, Accepted, Accepted, Accepted
        ]
    );
    assert_eq!(stalls(&mut tracker, 100)[0].last_nonce, u64::MAX);
}

#[test]
fn a_terminal_nonce_comes_first() {
    let mut tracker = tracker(4);
    assert_eq!(
        outcomes(&mut tracker, &[u64::MAX, 8, 8]),
        [Accepted, Accepted, StaleNonce]
    );
    assert_eq!(tracker.counts().new_sessions, 0);
}

#[test]
fn nonces_wrap_to_zero() {
    let mut tracker = tracker(4);
    let wrap = [u64::MAX - 2, u64::MAX - 1, 0, 1, 2];
    assert_eq!(outcomes(&mut tracker, &wrap), [Accepted; 5]);
    assert_eq!(tracker.counts().new_sessions, 1);
    assert_eq!(outcomes(&mut tracker, &[2]), [StaleNonce]);
}

#[test]
fn an_unverified_restart_is_believed_only_after_silence() {
    for origin in [NetworkUnverified, SocketModeOnly, OperatorAttestedTransport] {
        let mut tracker = tracker(4);
        let mut sight = |nonce, ns| tracker.sight(&claimed(9, origin, nonce), at(ns));
        assert_eq!(
            [sight(5, 0), sight(1, 0), sight(0, 0)],
            [Accepted, StaleNonce, StaleNonce]
        );
        assert_eq!(silent_pids(&mut tracker, 100), [9]);
        let mut sight = |nonce| tracker.sight(&claimed(9, origin, nonce), at(100));
        assert_eq!(
            [sight(4), sight(1), sight(1), sight(2)],
            [StaleNonce, Accepted, StaleNonce, Accepted]
        );
    }
}

#[test]
fn an_attested_restart_whose_first_beats_were_lost_is_believed_after_silence() {
    let mut tracker = tracker(4);
    assert_eq!(outcomes(&mut tracker, &[500, 3]), [Accepted, StaleNonce]);
    assert_eq!(silent_pids(&mut tracker, 100), [9]);
    assert_eq!(
        outcomes(&mut tracker, &[500, 4, 4, 5]),
        [StaleNonce, Accepted, StaleNonce, Accepted]
    );
}
