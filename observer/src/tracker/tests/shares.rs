//! Who makes room for whom in a full table.

use observer_events::agents::{LargestOwner, Owner};
use observer_events::event::BeatOrigin::{KernelAttested, NetworkUnverified};

use super::{THRESHOLD, at, attested, claimed, sender_of, silent_pids, tracker};
use crate::tracker::Outcome::{self, Accepted, TableFull};
use crate::tracker::{Sighting, Tracker};

const FLEET: u32 = 1000;
const FLOOD: u32 = 65_534;

fn of_user(uid: u32, pid: u32, nonce: u64) -> Sighting {
    Sighting {
        sender: Some(sender_of(pid, Some(1), uid)),
        ..attested(pid, 1, nonce)
    }
}

/// First beats of processes of a user, a nanosecond apart from `ns` on.
fn enter(tracker: &mut Tracker, uid: u32, pids: std::ops::Range<u32>, ns: u64) -> Vec<Outcome> {
    pids.zip(ns..)
        .map(|(pid, ns)| tracker.sight(&of_user(uid, pid, 1), at(ns)))
        .collect()
}

fn pids(tracker: &Tracker) -> Vec<u32> {
    let mut pids: Vec<u32> = tracker.agents().map(|agent| agent.pid).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn a_fleet_of_one_user_may_fill_the_table() {
    let mut tracker = tracker(8);
    assert_eq!(enter(&mut tracker, FLEET, 10..18, 0), [Accepted; 8]);
    assert_eq!(enter(&mut tracker, FLEET, 18..20, 10), [TableFull; 2]);
    assert_eq!(pids(&tracker), (10..18).collect::<Vec<_>>());
}

/// Live agents too: processes that beat once and sleep are live until their
/// stall is found.
#[test]
fn who_is_above_its_share_yields_the_longest_unheard_of() {
    let mut tracker = tracker(8);
    enter(&mut tracker, FLOOD, 10..18, 0);
    tracker.sight(&of_user(FLOOD, 10, 2), at(20));
    assert_eq!(enter(&mut tracker, FLEET, 30..35, 30)[..4], [Accepted; 4]);
    assert_eq!(pids(&tracker), [10, 15, 16, 17, 30, 31, 32, 33]);
    assert_eq!(tracker.counts().evicted_live, 4);
    // With the fifth it would be above its own.
    assert_eq!(tracker.counts().refused_full, 1);
    // And those that had to go do not come back.
    assert_eq!(enter(&mut tracker, FLOOD, 11..15, 40), [TableFull; 4]);
    assert_eq!(pids(&tracker), [10, 15, 16, 17, 30, 31, 32, 33]);
}

#[test]
fn the_silent_of_who_is_above_its_share_go_first() {
    let mut tracker = tracker(8);
    enter(&mut tracker, FLOOD, 10..12, 0);
    enter(&mut tracker, FLOOD, 12..18, 50);
    assert_eq!(silent_pids(&mut tracker, THRESHOLD + 1), [10, 11]);
    tracker.sight(&of_user(FLOOD, 10, 2), at(THRESHOLD + 2));
    let now = THRESHOLD + 3;
    assert_eq!(enter(&mut tracker, FLEET, 30..32, now), [Accepted; 2]);
    assert_eq!(pids(&tracker), [10, 13, 14, 15, 16, 17, 30, 31]);
    let counts = tracker.counts();
    assert_eq!((counts.evicted_silent, counts.evicted_live), (1, 1));
}

/// A flood must not make an operator forget who is silent.
#[test]
fn nobody_within_its_share_is_evicted_for_another_user() {
    let mut tracker = tracker(8);
    enter(&mut tracker, FLEET, 10..13, 0);
    assert_eq!(silent_pids(&mut tracker, THRESHOLD + 2).len(), 3);
    let flooded = enter(&mut tracker, FLOOD, 20..60, 200);
    assert_eq!(flooded[..5], [Accepted; 5]);
    assert_eq!(flooded[5..], [TableFull; 35]);
    assert_eq!(pids(&tracker), [10, 11, 12, 20, 21, 22, 23, 24]);
    // Its own stalled agents are evicted for it.
    assert_eq!(silent_pids(&mut tracker, 400).len(), 5);
    assert_eq!(enter(&mut tracker, FLOOD, 60..62, 400), [Accepted; 2]);
    assert_eq!(pids(&tracker), [10, 11, 12, 22, 23, 24, 60, 61]);
    // One that comes back was there all the time.
    assert_eq!(tracker.sight(&of_user(FLEET, 11, 2), at(401)), Accepted);
    assert_eq!(tracker.counts().new_agents, 10);
}

/// Whoever reaches a port can claim any pids.
#[test]
fn origins_have_shares_of_their_own() {
    let mut tracker = tracker(8);
    for pid in 10..30 {
        tracker.sight(&claimed(pid, NetworkUnverified, 1), at(0));
    }
    assert_eq!(tracker.known(), 8);
    assert_eq!(enter(&mut tracker, FLEET, 30..34, 10), [Accepted; 4]);
    let largest = tracker.division().largest;
    let owner = Owner {
        origin: KernelAttested,
        uid: Some(FLEET),
    };
    let other = Owner {
        origin: NetworkUnverified,
        uid: None,
    };
    assert!(
        [owner, other]
            .map(|owner| Some(LargestOwner { owner, agents: 4 }))
            .contains(&largest),
        "{largest:?}"
    );
}

/// Subordinate ids let one user be many.
#[test]
fn many_ids_do_not_drive_others_out() {
    let mut tracker = tracker(64);
    enter(&mut tracker, FLEET, 10..14, 0);
    for uid in 0..200 {
        enter(&mut tracker, 100_000 + uid, 1000 + uid..1001 + uid, 10);
    }
    assert_eq!(pids(&tracker)[..4], [10, 11, 12, 13]);
    assert_eq!(tracker.division().share, 4);
    // Stalled agents are evicted, as if there were no shares.
    enter(&mut tracker, FLEET, 20..21, 20);
    assert_eq!(tracker.counts().evicted_live, 0);
    assert!(silent_pids(&mut tracker, 300).len() > 15);
    enter(&mut tracker, FLOOD, 5000..5001, 300);
    assert_eq!(tracker.counts().evicted_silent, 1);
}

#[test]
fn a_full_table_is_worth_a_word_once() {
    let mut tracker = tracker(16);
    enter(&mut tracker, FLEET, 10..25, 0);
    assert!(!tracker.take_overflow());
    enter(&mut tracker, FLEET, 25..26, 20);
    assert!(tracker.take_overflow(), "it filled up");
    assert!(!tracker.take_overflow());
    silent_pids(&mut tracker, 300);
    enter(&mut tracker, FLEET, 30..31, 300);
    assert!(!tracker.take_overflow(), "a stalled agent was evicted");
    enter(&mut tracker, FLOOD, 31..39, 300);
    assert!(!tracker.take_overflow(), "more of them did");
    enter(&mut tracker, FLEET, 40..41, 301);
    enter(&mut tracker, FLOOD, 41..42, 301);
    assert!(tracker.take_overflow(), "a newcomer was refused");
}
