use jiff::Timestamp;

use observer_audit::{Incident, What};
use observer_events::{
    Counters,
    event::{Attestation, AuthFailureCause, TaskKind, Via},
};

use super::{Attacks, DaemonStatus, MAX_ATTACKS};

fn incident(cause: AuthFailureCause, sender: u32, claimed_pid: u32) -> Incident {
    Incident {
        what: What::AuthFailure { cause },
        count: 1,
        claimed_pid: Some(claimed_pid),
        observer_ns: 0,
        frame: None,
        sender: Some(Attestation {
            own_pid: Some(7),
            host_pid: Some(sender),
            tid: Some(sender),
            pid_ns_inode: Some(4_026_531_836),
            uid: Some(1000),
            gid: Some(1000),
            start_ns: Some(1),
            scm_pid: Some(0),
            task_kind: TaskKind::Thread,
            ..Attestation::unknown(Via::Btf)
        }),
        source: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

#[test]
fn a_flood_of_one_hides_no_other() {
    let mut attacks = Attacks::default();
    let lie = |sender, victim| incident(AuthFailureCause::PidMismatch, sender, victim);
    attacks.note(&lie(10, 1), at(1));
    for second in 2..1000 {
        attacks.note(&lie(11, 1), at(second));
    }
    attacks.note(&lie(11, 2), at(1001));
    attacks.note(&incident(AuthFailureCause::Sqpoll, 11, 1), at(1002));
    let told: Vec<_> = attacks.list().collect();
    let seen = told.iter().map(|attack| {
        let (first, last) = (attack.first.as_second(), attack.last.as_second());
        (
            attack.host_pid,
            attack.claimed_pid,
            attack.count,
            first,
            last,
        )
    });
    let expected = [
        (Some(11), Some(1), 1, 1002, 1002),
        (Some(11), Some(2), 1, 1001, 1001),
        (Some(11), Some(1), 998, 2, 999),
        (Some(10), Some(1), 1, 1, 1),
    ];
    assert!(seen.eq(expected), "{told:?}");
}

#[test]
fn the_attack_longest_ago_makes_room() {
    let mut attacks = Attacks::default();
    for sender in 0..100 {
        attacks.note(&incident(AuthFailureCause::PidMismatch, sender, 1), at(0));
    }
    let senders: Vec<_> = attacks
        .list()
        .filter_map(|attack| attack.host_pid)
        .collect();
    assert_eq!(senders.len(), MAX_ATTACKS);
    assert!(senders.iter().copied().eq((68..100).rev()), "{senders:?}");
}

/// What observers of earlier versions answer is understood: counters that they
/// do not have yet are zero.
#[test]
fn an_older_answer_is_read() {
    let answer = include_str!("../../tests/responses/status-0.1.0.json");
    let status: DaemonStatus = serde_json::from_str(answer).unwrap();
    assert_eq!(status.observer.counters.beats, 3);
    assert_eq!(status.agents.len(), 1);
    let mut answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    for counters in ["/observer/counters", "/audit"] {
        let counters = answer.pointer_mut(counters).unwrap();
        counters
            .as_object_mut()
            .unwrap()
            .retain(|name, _| name == "trail");
    }
    let status: DaemonStatus = serde_json::from_value(answer).unwrap();
    assert_eq!(status.observer.counters, Counters::default());
}
