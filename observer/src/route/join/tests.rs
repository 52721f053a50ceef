//! The join against a naive model: any order, duplicates, losses.

use std::collections::VecDeque;

use observer_common::frame::FRAME_LEN;
use observer_common::record::{Program, Record};
use proptest::prelude::*;

use super::{Hint, Join, MAX_RIVALS, MAX_WAITING, Otherwise, RECORD_LIFETIME_NS};

/// A record of a task's attempt to send some bytes.
fn attempt(task: u32, bytes: u8) -> Record {
    Record {
        start_ns: u64::from(task) + 1,
        host_tid: task,
        host_pid: task,
        pid: task,
        program: Program::UnixBtf as u8,
        frame: [bytes; FRAME_LEN],
        ..Record::UNKNOWN
    }
}

fn claim(join: &mut Join, bytes: u8, scm_pid: u32) -> Option<u32> {
    let hint = Some(Hint::Pid(scm_pid));
    join.claim(&[bytes; FRAME_LEN], hint, Otherwise::Oldest)
        .map(|record| record.pid)
}

/// An attempt to send by UDP from a port of `127.0.0.1`.
fn from(task: u32, port: u16) -> Record {
    Record {
        source_address: std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        source_port: port,
        ..attempt(task, 1)
    }
}

fn claim_from(join: &mut Join, source: &str, token: u32, otherwise: Otherwise) -> Option<u32> {
    let address = source.parse().unwrap();
    let hint = Some(Hint::Source { address, token });
    join.claim(&[1; FRAME_LEN], hint, otherwise)
        .map(|record| record.pid)
}

/// Two senders of the same bytes by UDP: the source tells them apart, unless
/// it was translated on the way.
#[test]
fn the_source_chooses_among_rivals() {
    let mut join = Join::new();
    for (task, port) in [(7, 70), (8, 80), (9, 90)] {
        join.record(&from(task, port), 0);
    }
    let mut claim = |source: &str, otherwise| claim_from(&mut join, source, 0, otherwise);
    assert_eq!(claim("127.0.0.1:80", Otherwise::None), Some(8));
    assert_eq!(claim("192.0.2.1:90", Otherwise::None), None);
    assert_eq!(claim("127.0.0.1:91", Otherwise::None), None);
    assert_eq!(claim("192.0.2.1:90", Otherwise::Oldest), Some(7));
    assert_eq!(claim("127.0.0.1:90", Otherwise::None), Some(9));
    assert_eq!(claim("127.0.0.1:90", Otherwise::Oldest), None);
}

/// Who takes over a port does not take over what was sent from it before and
/// never arrived.
#[test]
fn the_latest_that_fits_serves() {
    let mut join = Join::new();
    join.record(&from(7, 70), 0);
    join.record(&from(8, 70), 0);
    let mut claim = || claim_from(&mut join, "127.0.0.1:70", 0, Otherwise::None);
    assert_eq!([claim(), claim(), claim()], [Some(8), Some(7), None]);
}

/// One process with two sockets is two senders.
#[test]
fn a_task_has_a_record_for_each_source() {
    let mut join = Join::new();
    join.record(&from(7, 70), 0);
    join.record(&from(7, 71), 0);
    for source in ["127.0.0.1:71", "127.0.0.1:70"] {
        assert_eq!(claim_from(&mut join, source, 0, Otherwise::None), Some(7));
    }
    assert!(join.is_empty());
}

#[test]
fn a_token_names_the_datagram() {
    let mut join = Join::new();
    for token in [11, 12] {
        let record = Record {
            token,
            ..from(7, 70)
        };
        join.record(&record, 0);
    }
    let mut claim = |token| claim_from(&mut join, "127.0.0.1:70", token, Otherwise::None);
    assert_eq!(claim(0), None);
    assert_eq!(claim(13), None);
    assert_eq!(claim(12), Some(7));
    assert_eq!(claim(12), None);
    assert_eq!(claim(11), Some(7));
}

/// A send that others may have added to stays one, whatever else its socket
/// sends.
#[test]
fn a_corked_attempt_is_not_taken_for_another() {
    let mut join = Join::new();
    let corked = Record {
        corked: 1,
        ..from(7, 70)
    };
    join.record(&from(7, 70), 0);
    join.record(&corked, 0);
    assert_eq!(join.len(), 2);
}

#[test]
fn a_record_serves_one_datagram() {
    let mut join = Join::new();
    join.record(&attempt(7, 1), 0);
    assert_eq!(claim(&mut join, 1, 7), Some(7));
    assert_eq!(claim(&mut join, 1, 7), None);
    assert!(join.is_empty());
}

#[test]
fn credentials_choose_between_equal_bytes() {
    let mut join = Join::new();
    join.record(&attempt(7, 1), 0);
    join.record(&attempt(8, 1), 0);
    assert_eq!(claim(&mut join, 1, 8), Some(8));
    assert_eq!(claim(&mut join, 1, 7), Some(7));
}

#[test]
fn forged_credentials_leave_the_forger_its_own_record() {
    // 8 sends what 7 sends, and says in SCM_CREDENTIALS that it is 7.
    let mut join = Join::new();
    join.record(&attempt(8, 1), 0);
    join.record(&attempt(7, 1), 0);
    let first = claim(&mut join, 1, 7);
    let second = claim(&mut join, 1, 7);
    assert_eq!((first, second), (Some(7), Some(8)));
}

#[test]
fn attempts_of_one_task_collapse_and_each_serves_once() {
    let mut join = Join::new();
    for _ in 0..3 {
        join.record(&attempt(7, 1), 0);
    }
    assert_eq!(join.len(), 1);
    for _ in 0..3 {
        assert_eq!(claim(&mut join, 1, 7), Some(7));
    }
    assert_eq!(claim(&mut join, 1, 7), None);
}

#[test]
fn an_attempt_expires_and_is_counted() {
    let mut join = Join::new();
    join.record(&attempt(7, 1), 10);
    join.expire(10 + RECORD_LIFETIME_NS);
    assert_eq!(join.len(), 1);
    join.expire(11 + RECORD_LIFETIME_NS);
    assert_eq!(claim(&mut join, 1, 7), None);
    assert_eq!(join.counts().expired, 1);
}

/// An agent that repeats its frame, as one does that retries: the attempts that
/// failed do not take the one that succeeds with them.
#[test]
fn an_attempt_that_is_repeated_is_as_young_as_the_last() {
    let mut join = Join::new();
    join.record(&attempt(7, 1), 0);
    join.record(&attempt(8, 2), 1);
    join.record(&attempt(7, 1), RECORD_LIFETIME_NS);
    join.expire(RECORD_LIFETIME_NS + 2);
    assert_eq!(join.len(), 1);
    assert_eq!(claim(&mut join, 1, 7), Some(7));
    assert_eq!(claim(&mut join, 2, 8), None, "not repeated");
}

#[test]
fn what_waits_is_bounded() {
    let mut join = Join::new();
    for number in 0..MAX_WAITING as u32 + 5 {
        let mut record = attempt(number, 0);
        record.frame[..4].copy_from_slice(&number.to_ne_bytes());
        join.record(&record, 0);
    }
    assert_eq!(
        join.len() as u64 + join.counts().displaced,
        MAX_WAITING as u64 + 5
    );
    assert!(join.len() <= MAX_WAITING && join.counts().displaced > 0);
}

/// However much others fail to send, and however many they are: the record of
/// one who has sent little stays until its datagram comes.
#[test]
fn a_crowd_displaces_its_own_records_only() {
    let numbered = |task: u32, uid: u32, number: u32| {
        let mut record = attempt(task, 0);
        record.uid = uid;
        record.frame[..4].copy_from_slice(&number.to_ne_bytes());
        record.frame[4..8].copy_from_slice(&task.to_ne_bytes());
        record
    };
    let waits = [numbered(1, 1000, 0), numbered(2, 65534, 0)];
    let mut join = Join::new();
    for record in &waits {
        join.record(record, 0);
    }
    for number in 0..1000 {
        for task in 100..200 {
            join.record(&numbered(task, 65534, number), 0);
        }
    }
    let claim = |join: &mut Join, record: &Record| {
        join.claim(&record.frame, None, Otherwise::Oldest)
            .map(|found| found.pid)
    };
    assert_eq!(claim(&mut join, &waits[1]), Some(2), "of the same user");
    // More processes than places, each of which sends once.
    for task in 1000..60_000 {
        join.record(&numbered(task, 65534, 0), 0);
    }
    assert!(join.len() <= MAX_WAITING);
    assert_eq!(claim(&mut join, &waits[0]), Some(1), "of another user");
}

#[test]
fn equal_bytes_of_many_tasks_are_bounded() {
    let mut join = Join::new();
    for task in 0..MAX_RIVALS as u32 + 5 {
        join.record(&attempt(task, 1), 0);
    }
    assert_eq!(join.len(), MAX_RIVALS);
    assert_eq!(join.counts().displaced, 5);
}

/// What the join is asked to do.
#[derive(Clone, Debug)]
enum Op {
    Record { task: u32, bytes: u8 },
    Claim { bytes: u8, scm_pid: u32 },
    Pass { time: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..5u32, 0..4u8).prop_map(|(task, bytes)| Op::Record { task, bytes }),
        4 => (0..4u8, 0..6u32).prop_map(|(bytes, scm_pid)| Op::Claim { bytes, scm_pid }),
        1 => (0..RECORD_LIFETIME_NS).prop_map(|time| Op::Pass { time }),
    ]
}

/// The same by linear search: entries in order of arrival, each with its
/// attempts left.
#[derive(Default)]
struct Model(VecDeque<(Record, u32, u64)>);

impl Model {
    fn record(&mut self, record: &Record, now: u64) {
        let same = self
            .0
            .iter_mut()
            .find(|(known, ..)| known.frame == record.frame && known.host_tid == record.host_tid);
        match same {
            Some((_, attempts, since)) => {
                *attempts += 1;
                *since = now;
            }
            None => self.0.push_back((*record, 1, now)),
        }
    }

    fn claim(&mut self, bytes: u8, scm_pid: u32) -> Option<u32> {
        let fits = |record: &Record| record.frame[0] == bytes;
        let index = self
            .0
            .iter()
            .position(|(record, ..)| fits(record) && record.pid == scm_pid)
            .or_else(|| self.0.iter().position(|(record, ..)| fits(record)))?;
        let (record, attempts, _) = &mut self.0[index];
        let pid = record.pid;
        *attempts -= 1;
        if *attempts == 0 {
            self.0.remove(index);
        }
        Some(pid)
    }

    fn expire(&mut self, now: u64) {
        self.0
            .retain(|(_, _, since)| now - since <= RECORD_LIFETIME_NS);
    }
}

proptest! {
    #[test]
    fn agrees_with_linear_search(ops in prop::collection::vec(op(), 0..200)) {
        let (mut join, mut model, mut now) = (Join::new(), Model::default(), 0);
        for op in ops {
            match op {
                Op::Record { task, bytes } => {
                    join.record(&attempt(task, bytes), now);
                    model.record(&attempt(task, bytes), now);
                }
                Op::Claim { bytes, scm_pid } => {
                    prop_assert_eq!(claim(&mut join, bytes, scm_pid), model.claim(bytes, scm_pid));
                }
                Op::Pass { time } => {
                    now += time;
                    join.expire(now);
                    model.expire(now);
                }
            }
            prop_assert_eq!(join.len(), model.0.len());
        }
    }

    /// Whatever order records and datagrams come in, whichever are lost or
    /// doubled: a datagram is never given to a task that did not send it.
    #[test]
    fn nobody_is_named_for_what_another_sent(
        sent in prop::collection::vec((0..6u32, any::<u8>()), 1..60),
        lost in prop::collection::vec(any::<bool>(), 60),
        order in any::<prop::sample::Index>(),
    ) {
        let mut join = Join::new();
        let mut recorded: Vec<_> = sent.iter().zip(&lost).filter(|(_, lost)| !**lost).collect();
        let turn = if recorded.is_empty() { 0 } else { order.index(recorded.len()) };
        recorded.rotate_left(turn);
        for ((task, bytes), _) in recorded {
            join.record(&attempt(*task, *bytes), 0);
        }
        for (task, bytes) in &sent {
            if let Some(named) = claim(&mut join, *bytes, *task) {
                prop_assert!(sent.contains(&(named, *bytes)));
            }
        }
    }
}
