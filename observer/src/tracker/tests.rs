//! Each rule by itself: here time and room.

mod change;
mod identity;
mod sessions;
mod shares;

use observer_events::agents::Census;
use observer_events::event::{Attestation, BeatOrigin, Status, TaskKind, Via};

use super::{Now, OriginPolicy, Outcome, Sighting, Stall, Tracker};
use BeatOrigin::KernelAttested;
use Outcome::{Accepted, TableFull};

const THRESHOLD: u64 = 100;

const MORE_THAN_THERE_ARE: usize = 16;

fn tracker(max_agents: usize) -> Tracker {
    Tracker::new(max_agents, THRESHOLD, OriginPolicy::First)
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
        status: Status::Ok,
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
        status: Status::Ok,
        nonce,
        sender: None,
    }
}

fn sender(pid: u32, start_ns: Option<u64>) -> Attestation {
    Attestation {
        pid: Some(pid),
        pid_ns_inode: Some(7),
        start_ns,
        task_kind: TaskKind::Thread,
        ..Attestation::unknown(Via::Btf)
    }
}

/// The same for a process of a user.
pub(super) fn sender_of(pid: u32, start_ns: Option<u64>, uid: u32) -> Attestation {
    Attestation {
        uid: Some(uid),
        ..sender(pid, start_ns)
    }
}

/// The outcomes of beats of one process with these nonces, in one instant.
fn outcomes(tracker: &mut Tracker, nonces: &[u64]) -> Vec<Outcome> {
    nonces
        .iter()
        .map(|&nonce| tracker.sight(&attested(9, 1, nonce), at(0)))
        .collect()
}

fn stalls(tracker: &mut Tracker, now: u64) -> Vec<Stall> {
    let reported = std::iter::from_fn(|| tracker.next_stall(at(now)));
    reported.take(MORE_THAN_THERE_ARE).collect()
}

fn silent_pids(tracker: &mut Tracker, now: u64) -> Vec<u32> {
    stalls(tracker, now).iter().map(|stall| stall.pid).collect()
}

#[test]
fn silent_at_the_threshold_and_not_before() {
    let mut tracker = tracker(4);
    assert_eq!(tracker.next_deadline(), None);
    tracker.sight(&attested(9, 1, 1), at(50));
    assert_eq!(tracker.next_deadline(), Some(150));
    assert_eq!(tracker.next_stall(at(149)), None);
    assert!(tracker.next_stall(at(150)).is_some());
}

#[test]
fn a_stall_is_told_once_and_ended_by_a_beat() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 1), at(0));
    assert_eq!(silent_pids(&mut tracker, 100), [9]);
    assert_eq!(silent_pids(&mut tracker, 1000), [0; 0]);
    assert_eq!(tracker.next_deadline(), None);
    assert_eq!(tracker.sight(&attested(9, 1, 2), at(1000)), Accepted);
    assert_eq!(tracker.known(), 1);
    assert_eq!(silent_pids(&mut tracker, 1100), [9]);
}

#[test]
fn a_stall_tells_what_the_last_beat_was() {
    let mut tracker = tracker(4);
    tracker.sight(&attested(9, 1, 1), at(0));
    let last = Now {
        observer_ns: 70,
        attended_ns: 20,
    };
    tracker.sight(&attested(9, 1, 2), last);
    let stall = Stall {
        pid: 9,
        last_nonce: 2,
        last_ns: 70,
        origin: KernelAttested,
        pid_ns_inode: Some(7),
        sender: Some(sender(9, Some(1))),
    };
    assert_eq!(stalls(&mut tracker, 120), [stall]);
}

#[test]
fn stalls_come_longest_first() {
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
    assert_eq!(tracker.next_stall(after_absence), None);
    assert_eq!(tracker.next_deadline(), Some(100));
}

#[test]
fn time_may_step_back() {
    let mut tracker = tracker(4);
    for (pid, nonce, ns) in [(2, 1, 1000), (3, 1, 900), (2, 2, 950)] {
        tracker.sight(&attested(pid, 1, nonce), at(ns));
    }
    assert_eq!(tracker.next_deadline(), Some(1100));
    assert_eq!(silent_pids(&mut tracker, 1099), [0; 0]);
    assert_eq!(silent_pids(&mut tracker, 1100), [3, 2]);
}

#[test]
fn times_at_the_end_of_the_clock_do_not_overflow() {
    let mut tracker = Tracker::new(4, u64::MAX, OriginPolicy::First);
    tracker.sight(&attested(2, 1, 1), at(u64::MAX - 1));
    assert_eq!(tracker.next_deadline(), Some(u64::MAX));
    assert_eq!(tracker.next_stall(at(u64::MAX - 1)), None);
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
    assert_eq!((tracker.known(), tracker.counts().evicted_silent), (2, 1));
    assert_eq!(tracker.sight(&attested(2, 1, 2), at(101)), TableFull);
}

#[test]
fn a_live_agent_never_makes_room() {
    let mut tracker = tracker(1);
    tracker.sight(&attested(2, 1, 1), at(0));
    assert_eq!(
        tracker.sight(&attested(3, 1, 1), at(100)),
        TableFull,
        "due, but not reported yet"
    );
    assert_eq!((tracker.known(), tracker.counts().refused_full), (1, 1));
    assert_eq!(silent_pids(&mut tracker, 100), [2]);
    assert_eq!(tracker.sight(&attested(3, 1, 1), at(100)), Accepted);
}

#[test]
fn no_agents_allowed() {
    let mut tracker = tracker(0);
    assert_eq!(tracker.sight(&attested(2, 1, 1), at(0)), TableFull);
    assert_eq!(tracker.known(), 0);
}
