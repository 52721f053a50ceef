//! Each rule by itself.

use super::{Now, Outcome, Sighting, Silence, Tracker};
use crate::event::{Attestation, BeatOrigin, TaskKind, Via};
use BeatOrigin::{KernelAttested, NetworkUnverified, SocketModeOnly};
use Outcome::{Accepted, StaleNonce, TableFull};

const THRESHOLD: u64 = 100;

fn tracker(max_agents: usize) -> Tracker {
    Tracker::new(max_agents, THRESHOLD)
}

fn at(ns: u64) -> Now {
    Now {
        observer_ns: ns,
        attended_ns: ns,
    }
}

/// A kernel-attested beat of the process that started at `start_ns`.
fn attested(pid: u32, start_ns: u64, nonce: u64) -> Sighting {
    let start_ns = Some(start_ns);
    Sighting {
        pid,
        start_ns,
        pid_ns_inode: Some(7),
        origin: KernelAttested,
        nonce,
        sender: Some(sender(pid, start_ns)),
    }
}

/// A beat of which the kernel says nothing.
fn claimed(pid: u32, origin: BeatOrigin, nonce: u64) -> Sighting {
    Sighting {
        pid,
        start_ns: None,
        pid_ns_inode: None,
        origin,
        nonce,
        sender: None,
    }
}

fn sender(pid: u32, start_ns: Option<u64>) -> Attestation {
    Attestation {
        pid: Some(pid),
        own_pid: None,
        host_pid: None,
        tid: None,
        pid_ns_inode: Some(7),
        uid: None,
        gid: None,
        start_ns,
        comm: None,
        cgroup_id: None,
        scm_pid: None,
        via: Via::Btf,
        task_kind: TaskKind::Thread,
    }
}

/// The outcomes of beats of one process with these nonces, in one instant.
fn outcomes(tracker: &mut Tracker, nonces: &[u64]) -> Vec<Outcome> {
    nonces
        .iter()
        .map(|&nonce| tracker.sight(&attested(9, 1, nonce), at(0)))
        .collect()
}

fn silences(tracker: &mut Tracker, now: u64) -> Vec<Silence> {
    std::iter::from_fn(|| tracker.next_silent(at(now))).collect()
}

fn silent_pids(tracker: &mut Tracker, now: u64) -> Vec<u32> {
    silences(tracker, now)
        .iter()
        .map(|silence| silence.pid)
        .collect()
}

#[test]
fn silent_at_the_threshold_and_not_before() {
    let mut tracker = tracker(4);
    assert_eq!(tracker.next_deadline(), None);
    tracker.sight(&attested(9, 1, 1), at(50));
    assert_eq!(tracker.next_deadline(), Some(150));
    assert_eq!(tracker.next_silent(at(149)), None);
    assert!(tracker.next_silent(at(150)).is_some());
}

#[test]
fn a_silence_is_told_once_and_ended_by_a_beat() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 1), at(0));
    assert_eq!(silent_pids(&mut tracker, 100), [9]);
    assert_eq!(silent_pids(&mut tracker, 1000), [0; 0]);
    assert_eq!(tracker.next_deadline(), None);
    assert_eq!(tracker.sight(&attested(9, 1, 2), at(1000)), Accepted);
    assert_eq!(tracker.len(), 1);
    assert_eq!(silent_pids(&mut tracker, 1100), [9]);
}

#[test]
fn a_silence_tells_what_the_last_beat_was() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 1), at(0));
    let last = Now {
        observer_ns: 70,
        attended_ns: 20,
    };
    tracker.sight(&attested(9, 1, 2), last);
    let silence = Silence {
        pid: 9,
        last_nonce: 2,
        last_ns: 70,
        origin: KernelAttested,
        pid_ns_inode: Some(7),
        sender: Some(sender(9, Some(1))),
    };
    assert_eq!(silences(&mut tracker, 120), [silence]);
}

#[test]
fn silences_come_longest_first() {
    let mut tracker = tracker(4);
    for (pid, nonce, ns) in [(2, 1, 0), (3, 1, 1), (4, 1, 2), (2, 2, 3)] {
        tracker.sight(&attested(pid, 1, nonce), at(ns));
    }
    assert_eq!(silent_pids(&mut tracker, 200), [3, 4, 2]);
}

#[test]
fn the_time_of_an_absence_is_not_held_against_agents() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 1), at(0));
    let after_absence = Now {
        observer_ns: 5000,
        attended_ns: 99,
    };
    assert_eq!(tracker.next_silent(after_absence), None);
    assert_eq!(tracker.next_deadline(), Some(100));
}

#[test]
fn time_may_step_back() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(2, 1, 1), at(1000));
    tracker.sight(&attested(3, 1, 1), at(900));
    assert_eq!(silent_pids(&mut tracker, 1000), [0; 0]);
    assert_eq!(silent_pids(&mut tracker, 1100), [2, 3]);
}

#[test]
fn times_at_the_end_of_the_clock_do_not_overflow() {
    let mut tracker = Tracker::new(4, u64::MAX);
    tracker.sight(&attested(2, 1, 1), at(u64::MAX - 1));
    assert_eq!(tracker.next_deadline(), Some(u64::MAX));
    assert_eq!(tracker.next_silent(at(u64::MAX - 1)), None);
}

#[test]
fn a_stale_nonce_keeps_no_agent_alive() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 5), at(0));
    for nonce in [5, 4, 2] {
        assert_eq!(tracker.sight(&attested(9, 1, nonce), at(99)), StaleNonce);
    }
    assert_eq!(tracker.counts().stale_nonces, 3);
    assert_eq!(silences(&mut tracker, 100)[0].last_nonce, 5);
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
    assert_eq!(silences(&mut tracker, 100)[0].last_nonce, 3);
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
        silences(&mut tracker, ns + THRESHOLD)[0]
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
    assert_eq!(outcomes(&mut tracker, &[7, u64::MAX]), [Accepted; 2]);
    assert_eq!(silences(&mut tracker, 100)[0].last_nonce, u64::MAX);
    assert_eq!(
        outcomes(&mut tracker, &[7, 8, u64::MAX, 9]),
        [StaleNonce, Accepted, Accepted, Accepted]
    );
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
    for origin in [
        NetworkUnverified,
        SocketModeOnly,
        BeatOrigin::OperatorAttestedTransport,
    ] {
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
    let silence = silences(&mut tracker, 100)[0];
    assert_eq!((silence.last_nonce, silence.origin), (5, KernelAttested));
}

#[test]
fn an_unverified_first_comer_is_not_overridden() {
    let mut tracker = tracker(4);
    tracker.sight(&claimed(9, NetworkUnverified, 5), at(0));
    let conflict = Outcome::OriginConflict {
        slot_origin: NetworkUnverified,
    };
    assert_eq!(tracker.sight(&attested(9, 1, 6), at(0)), conflict);
    assert_eq!(tracker.len(), 1);
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
    assert_eq!(silences(&mut tracker, 199)[0].pid_ns_inode, Some(7));
}

#[test]
fn a_recycled_pid_is_a_new_agent_and_the_old_silence_is_told() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 500), at(0));
    assert_eq!(tracker.sight(&attested(9, 2, 3), at(50)), Accepted);
    assert_eq!(tracker.len(), 2);
    let told = silences(&mut tracker, 100);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].last_nonce, told[0].sender),
        (500, Some(sender(9, Some(1))))
    );
    assert_eq!(
        (tracker.len(), tracker.counts().superseded),
        (1, 1),
        "the dead one is forgotten"
    );
    assert_eq!(silences(&mut tracker, 150)[0].last_nonce, 3);
    assert_eq!(tracker.len(), 1, "the youngest is kept");
}

#[test]
fn a_recycled_pid_takes_the_place_of_a_silence_that_was_told() {
    let mut tracker = tracker(1);
    tracker.sight(&attested(9, 1, 500), at(0));
    assert_eq!(silent_pids(&mut tracker, 100), [9]);
    assert_eq!(tracker.sight(&attested(9, 2, 3), at(100)), Accepted);
    let counts = tracker.counts();
    assert_eq!(
        (tracker.len(), counts.superseded, counts.evicted_silent),
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
    assert_eq!(tracker.len(), 2);
    assert_eq!(silences(&mut tracker, 149)[0].last_nonce, 500);
}

#[test]
fn a_slot_without_a_start_time_learns_it() {
    let mut tracker = tracker(4);
    tracker.sight(&claimed(9, KernelAttested, 5), at(0));
    assert_eq!(tracker.sight(&attested(9, 1, 6), at(0)), Accepted);
    assert_eq!(tracker.len(), 1);
    assert_eq!(tracker.sight(&attested(9, 2, 6), at(50)), Accepted);
    assert_eq!(tracker.len(), 2);
    assert_eq!(
        silences(&mut tracker, 100)[0].sender,
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
    assert_eq!(tracker.len(), 1);
}

#[test]
fn the_longest_silent_makes_room() {
    let mut tracker = tracker(2);
    tracker.sight(&attested(2, 1, 1), at(0));
    tracker.sight(&attested(3, 1, 1), at(1));
    assert_eq!(silent_pids(&mut tracker, 101), [2, 3]);
    assert_eq!(tracker.sight(&attested(4, 1, 1), at(101)), Accepted);
    assert_eq!(
        tracker.sight(&attested(3, 1, 2), at(101)),
        Accepted,
        "3 was kept"
    );
    assert_eq!((tracker.len(), tracker.counts().evicted_silent), (2, 1));
    assert_eq!(tracker.sight(&attested(2, 1, 2), at(101)), TableFull);
}

#[test]
fn a_live_agent_never_makes_room() {
    let mut tracker = tracker(1);
    tracker.sight(&attested(2, 1, 1), at(0));
    assert_eq!(
        tracker.sight(&attested(3, 1, 1), at(100)),
        TableFull,
        "due, but not told yet"
    );
    assert_eq!((tracker.len(), tracker.counts().refused_full), (1, 1));
    assert_eq!(silent_pids(&mut tracker, 100), [2]);
    assert_eq!(tracker.sight(&attested(3, 1, 1), at(100)), Accepted);
}

#[test]
fn no_agents_allowed() {
    let mut tracker = tracker(0);
    assert_eq!(tracker.sight(&attested(2, 1, 1), at(0)), TableFull);
    assert!(tracker.is_empty());
}
