use jiff::Timestamp;
use observer_audit::{Incident, What};
use observer_events::event::{Attestation, AuthFailureCause, TaskKind, Via};

use super::{MAX_INCIDENTS, RecentIncidents};

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
    let mut incidents = RecentIncidents::default();
    let forgery = |sender, victim| incident(AuthFailureCause::PidMismatch, sender, victim);
    incidents.count(&forgery(10, 1), at(1));
    for second in 2..1000 {
        incidents.count(&forgery(11, 1), at(second));
    }
    incidents.count(&forgery(11, 2), at(1001));
    incidents.count(&incident(AuthFailureCause::Sqpoll, 11, 1), at(1002));
    let listed: Vec<_> = incidents.list().collect();
    let seen = listed.iter().map(|incident| {
        let (first, last) = (incident.first.as_second(), incident.last.as_second());
        (
            incident.host_pid,
            incident.claimed_pid,
            incident.count,
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
    assert!(seen.eq(expected), "{listed:?}");
}

#[test]
fn the_incident_longest_ago_is_removed() {
    let mut incidents = RecentIncidents::default();
    for sender in 0..100 {
        incidents.count(&incident(AuthFailureCause::PidMismatch, sender, 1), at(0));
    }
    let senders: Vec<_> = incidents
        .list()
        .filter_map(|incident| incident.host_pid)
        .collect();
    assert_eq!(senders.len(), MAX_INCIDENTS);
    assert!(senders.iter().copied().eq((68..100).rev()), "{senders:?}");
}
