//! Which agent a beat belongs to, and what is pinned of it.

use observer_events::event::BeatOrigin::{
    KernelAttested, NetworkUnverified, OperatorAttestedTransport, SocketModeOnly,
};

use super::{THRESHOLD, at, attested, claimed, outcomes, sender, silent_pids, stalls, tracker};
use crate::tracker::Outcome::{self, Accepted, StaleNonce};
use crate::tracker::{OriginPolicy, Sighting, Tracker};

#[test]
fn the_first_origin_is_pinned() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 5), at(0));
    let conflict = Outcome::OriginConflict {
        slot_origin: KernelAttested,
    };
    assert_eq!(
        tracker.sight(&claimed(9, NetworkUnverified, 6), at(99)),
        conflict
    );
    let other = Sighting {
        origin: SocketModeOnly,
        pid_ns_inode: Some(8),
        ..attested(9, 1, 1)
    };
    assert_eq!(
        tracker.sight(&other, at(99)),
        conflict,
        "origin before namespace before nonce"
    );
    let stall = stalls(&mut tracker, 100)[0];
    assert_eq!((stall.last_nonce, stall.origin), (5, KernelAttested));
}

#[test]
fn an_unverified_first_comer_is_not_overridden() {
    let mut tracker = tracker(4);
    tracker.sight(&claimed(9, NetworkUnverified, 5), at(0));
    let conflict = Outcome::OriginConflict {
        slot_origin: NetworkUnverified,
    };
    assert_eq!(tracker.sight(&attested(9, 1, 6), at(0)), conflict);
    assert_eq!(tracker.known(), 1);
}

/// One forged frame from the network must not keep the real agent out.
#[test]
fn under_the_other_policy_the_kernel_has_the_last_word() {
    for unverified in [NetworkUnverified, SocketModeOnly] {
        let mut tracker = Tracker::new(4, THRESHOLD, OriginPolicy::Strongest);
        tracker.sight(&claimed(9, unverified, 500), at(0));
        assert_eq!(silent_pids(&mut tracker, 100), [9]);
        let displaced = Outcome::Displaced {
            displaced_origin: unverified,
        };
        assert_eq!(tracker.sight(&attested(9, 1, 6), at(101)), displaced);
        assert_eq!(tracker.known(), 1);
        let conflict = Outcome::OriginConflict {
            slot_origin: KernelAttested,
        };
        assert_eq!(
            tracker.sight(&claimed(9, unverified, 501), at(102)),
            conflict
        );
        assert_eq!(tracker.sight(&attested(9, 1, 7), at(103)), Accepted);
        let stall = stalls(&mut tracker, 203)[0];
        assert_eq!((stall.last_nonce, stall.origin), (7, KernelAttested));
        assert_eq!(stall.sender, Some(sender(9, Some(1))));
    }
}

#[test]
fn what_the_operator_vouches_for_is_not_displaced() {
    let mut tracker = Tracker::new(4, THRESHOLD, OriginPolicy::Strongest);
    tracker.sight(&claimed(9, OperatorAttestedTransport, 5), at(0));
    let conflict = Outcome::OriginConflict {
        slot_origin: OperatorAttestedTransport,
    };
    assert_eq!(tracker.sight(&attested(9, 1, 6), at(0)), conflict);
}

#[test]
fn the_first_namespace_is_pinned() {
    let mut tracker = tracker(4);
    let within = |namespace, nonce| Sighting {
        pid_ns_inode: namespace,
        ..attested(9, 1, nonce)
    };
    let conflict = Outcome::NamespaceConflict {
        slot_ns_inode: Some(7),
    };
    assert_eq!(tracker.sight(&within(None, 5), at(0)), Accepted);
    assert_eq!(tracker.sight(&within(Some(7), 6), at(0)), Accepted);
    assert_eq!(tracker.sight(&within(Some(8), 7), at(99)), conflict);
    assert_eq!(
        tracker.sight(&within(Some(8), 6), at(99)),
        conflict,
        "namespace before nonce"
    );
    assert_eq!(tracker.next_deadline(), Some(100));
    assert_eq!(tracker.sight(&within(None, 7), at(99)), Accepted);
    assert_eq!(stalls(&mut tracker, 199)[0].pid_ns_inode, Some(7));
}

#[test]
fn a_recycled_pid_is_a_new_agent_and_the_old_stall_is_told() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 500), at(0));
    assert_eq!(tracker.sight(&attested(9, 2, 3), at(50)), Accepted);
    assert_eq!(tracker.known(), 2);
    let found = stalls(&mut tracker, 100);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].last_nonce, found[0].sender),
        (500, Some(sender(9, Some(1))))
    );
    assert_eq!(
        (tracker.known(), tracker.counts().superseded),
        (1, 1),
        "the dead one is forgotten"
    );
    assert_eq!(stalls(&mut tracker, 150)[0].last_nonce, 3);
    assert_eq!(tracker.known(), 1, "the youngest is kept");
}

#[test]
fn a_recycled_pid_takes_the_place_of_a_stall_that_was_told() {
    let mut tracker = tracker(1);
    tracker.sight(&attested(9, 1, 500), at(0));
    assert_eq!(silent_pids(&mut tracker, 100), [9]);
    assert_eq!(tracker.sight(&attested(9, 2, 3), at(100)), Accepted);
    let counts = tracker.counts();
    assert_eq!(
        (tracker.known(), counts.superseded, counts.evicted_silent),
        (1, 1, 0)
    );
}

#[test]
fn unattested_evidence_belongs_to_the_youngest_process() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 2, 5), at(0));
    tracker.sight(&attested(9, 1, 500), at(0));
    assert_eq!(
        tracker.sight(&claimed(9, KernelAttested, 6), at(50)),
        Accepted
    );
    assert_eq!(tracker.sight(&attested(9, 2, 6), at(50)), StaleNonce);
    assert_eq!(tracker.known(), 2);
    assert_eq!(stalls(&mut tracker, 149)[0].last_nonce, 500);
}

#[test]
fn a_slot_without_a_start_time_learns_it() {
    let mut tracker = tracker(4);
    tracker.sight(&claimed(9, KernelAttested, 5), at(0));
    assert_eq!(tracker.sight(&attested(9, 1, 6), at(0)), Accepted);
    assert_eq!(tracker.known(), 1);
    assert_eq!(tracker.sight(&attested(9, 2, 6), at(50)), Accepted);
    assert_eq!(tracker.known(), 2);
    assert_eq!(
        stalls(&mut tracker, 100)[0].sender,
        Some(sender(9, Some(1)))
    );
}

#[test]
fn a_nonce_that_was_not_attested_binds_no_attested_beat() {
    let mut tracker = tracker(4);
    tracker.sight(&claimed(9, KernelAttested, u64::MAX - 1), at(0));
    assert_eq!(outcomes(&mut tracker, &[5, 6]), [Accepted; 2]);
}

#[test]
fn a_zero_stands_for_unknown() {
    let mut tracker = tracker(4);
    let zero = Sighting {
        start_ns: Some(0),
        pid_ns_inode: Some(0),
        ..attested(9, 1, 5)
    };
    tracker.sight(&zero, at(0));
    assert_eq!(tracker.sight(&attested(9, 1, 6), at(0)), Accepted);
    assert_eq!(tracker.known(), 1);
}
