//! What is written in full, what is counted, and that nothing is forgotten.

use super::*;
use crate::incident::What;
use observer_events::event::{Attestation, AuthFailureCause, TaskKind, Via};
use observer_events::exe::ExeId;

fn incident(pid: u32, claimed: u32) -> Incident {
    Incident {
        what: What::AuthFailure {
            cause: AuthFailureCause::PidMismatch,
        },
        count: 1,
        claimed_pid: Some(claimed),
        observer_ns: 1,
        frame: None,
        sender: Some(Attestation {
            pid: Some(pid),
            host_pid: Some(pid),
            uid: Some(1000),
            start_ns: Some(1),
            cgroup_id: Some(7),
            task_kind: TaskKind::Thread,
            ..Attestation::unknown(Via::Btf)
        }),
        source: None,
    }
}

fn seconds(start: Instant, seconds: u64) -> Instant {
    start.checked_add(Duration::from_secs(seconds)).unwrap()
}

#[test]
fn the_first_is_written_and_the_next_are_counted() {
    let start = Instant::now();
    let mut fold = Fold::new(start);
    let time = Timestamp::now();
    assert_eq!(fold.add(&incident(1, 2), time, 17, start), Folded::InFull);
    for _ in 0..9 {
        assert_eq!(fold.add(&incident(1, 2), time, 18, start), Folded::Counted);
    }
    // Another claim and another sender are something else.
    assert_eq!(fold.add(&incident(1, 3), time, 18, start), Folded::InFull);
    assert_eq!(fold.add(&incident(2, 2), time, 19, start), Folded::InFull);
    assert!(fold.take_due(start).is_empty());
    let repeats = fold.take_due(seconds(start, 1));
    let [repeat] = &repeats[..] else {
        panic!("{repeats:?}");
    };
    assert_eq!((repeat.count, repeat.line), (9, Some(17)));
    assert_eq!(repeat.alike, Alike::SenderAndClaim);
}

/// What a process did by one program is not counted as another's.
#[test]
fn a_process_that_executes_another_file_is_another_sender() {
    let start = Instant::now();
    let mut fold = Fold::new(start);
    let time = Timestamp::now();
    for inode in [77, 78] {
        let mut incident = incident(1, 2);
        let sender = incident.sender.as_mut().unwrap();
        sender.exe = ExeId::from_record(5, inode);
        assert_eq!(fold.add(&incident, time, inode, start), Folded::InFull);
        assert_eq!(fold.add(&incident, time, inode, start), Folded::Counted);
    }
}

#[test]
fn counts_of_one_sender_come_ever_more_rarely_and_a_pause_ends_that() {
    let start = Instant::now();
    let mut fold = Fold::new(start);
    let mut lines = 0;
    let mut counted = 0;
    for second in 0..1000 {
        let now = seconds(start, second);
        let folded = fold.add(&incident(1, 2), Timestamp::now(), 1, now);
        lines += u64::from(folded == Folded::InFull);
        for repeat in fold.take_due(now) {
            lines += 1;
            counted += repeat.count;
        }
    }
    assert!(lines < 30, "{lines}");
    // A first quiet minute shows what was left to count, a second ends it.
    let rest = fold.take_due(seconds(start, 1100));
    counted += rest.iter().map(|repeat| repeat.count).sum::<u64>();
    assert_eq!(counted, 999);
    assert!(fold.take_due(seconds(start, 1200)).is_empty());
    assert!(fold.groups.is_empty());
    assert_eq!(fold.used, [0; 3]);
    let folded = fold.add(&incident(1, 2), Timestamp::now(), 1, seconds(start, 1200));
    assert_eq!(folded, Folded::InFull);
}

#[test]
fn a_flood_of_ever_new_senders_and_claims_is_bounded_and_all_of_it_counted() {
    let start = Instant::now();
    let mut fold = Fold::new(start);
    let (mut full, mut first, mut counted, mut lines) = (0_u64, 0_usize, 0_u64, 0_u64);
    for number in 0..200_000_u32 {
        let now = start + Duration::from_micros(u64::from(number) * 50);
        let sender = incident(number / 2, number);
        match fold.add(&sender, Timestamp::now(), 1, now) {
            Folded::InFull => full += 1,
            Folded::First => first += 1,
            Folded::Counted => {}
        }
        for repeat in fold.take_due(now) {
            lines += 1;
            counted += repeat.count;
        }
    }
    let bound = MAX_CLAIMS + MAX_SENDERS + MAX_CGROUPS + 10;
    assert!(fold.groups.len() <= bound, "{}", fold.groups.len());
    // Ten seconds, in each of which every group could begin anew.
    assert!((2..=11 * bound).contains(&first), "{first}");
    assert!(full <= 256 + 11 * 16, "{full}");
    assert!(lines <= 10 * 1600, "{lines}");
    counted += fold
        .take_all()
        .iter()
        .map(|repeat| repeat.count)
        .sum::<u64>();
    assert_eq!(full + counted, 200_000);
}
