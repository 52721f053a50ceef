//! Each event as it must read, to machines and to people.

use std::io;

use samples::{auth_failure, beat, evil, human, object, render, report, scm_only, sender};
use serde_json::json;

use super::*;
use crate::agents::Division;
use crate::event::{Attestation, AuthFailureCause, BeatOrigin, DecodeError, Event, Status};
use crate::report::{Evidence, Limit, Notice};

mod hostile;
mod samples;

#[test]
fn a_beat_as_json_byte_for_byte() {
    let event = beat(
        Status::Ok,
        BeatOrigin::KernelAttested,
        Some(sender(4242, b"agent", 1000)),
    );
    assert_eq!(
        render(Format::Json, &event),
        concat!(
            r#"{"event":"beat","pid":4242,"status":"ok","payload":5,"#,
            r#""nonce":18446744073709551615,"origin":"kernel_attested","#,
            r#""pid_ns_inode":4026531836,"observer_ns":12345678901,"#,
            r#""sender":{"pid":4242,"own_pid":7,"host_pid":14711,"tid":14712,"#,
            r#""pid_ns_inode":4026531836,"uid":1000,"gid":100,"start_ns":123456789,"#,
            r#""comm":"agent","cgroup_id":99,"exe":{"device":"254:1","inode":77},"scm_pid":4242,"via":"btf","#,
            r#""task_kind":"thread"}}"#,
            "\n"
        )
    );
}

/// Numbers of 32 bits stay numbers; null stays null.
#[test]
fn numbers_of_64_bits_as_strings() {
    let event = beat(
        Status::Ok,
        BeatOrigin::KernelAttested,
        Some(sender(4242, b"agent", 1000)),
    );
    assert_eq!(
        render(Format::JsonTextNumbers, &event),
        concat!(
            r#"{"event":"beat","pid":4242,"status":"ok","payload":5,"#,
            r#""nonce":"18446744073709551615","origin":"kernel_attested","#,
            r#""pid_ns_inode":"4026531836","observer_ns":"12345678901","#,
            r#""sender":{"pid":4242,"own_pid":7,"host_pid":14711,"tid":14712,"#,
            r#""pid_ns_inode":"4026531836","uid":1000,"gid":100,"start_ns":"123456789","#,
            r#""comm":"agent","cgroup_id":"99","exe":{"device":"254:1","inode":"77"},"scm_pid":4242,"via":"btf","#,
            r#""task_kind":"thread"}}"#,
            "\n"
        )
    );
}

#[test]
fn beats() {
    let attested = beat(
        Status::Ok,
        BeatOrigin::KernelAttested,
        Some(sender(4242, b"agent", 1000)),
    );
    assert_eq!(
        human(&attested),
        "    12.345  beat           4242  ok        nonce final   payload 5       \
         (agent) uid 1000\n"
    );
    let by_scm = beat(
        Status::Degraded,
        BeatOrigin::KernelAttested,
        Some(scm_only()),
    );
    assert_eq!(
        human(&by_scm),
        "    12.345  beat           4242  degraded  nonce final   payload 5       \
         (?) uid 1000  by SCM_CREDENTIALS only\n"
    );
    let unnamed = beat(Status::Critical, BeatOrigin::SocketModeOnly, None);
    assert_eq!(
        human(&unnamed),
        "    12.345  beat           4242  critical  nonce final   payload 5       \
         unknown sender  by the socket's mode only\n"
    );
    assert_eq!(
        object(&unnamed),
        json!({
            "event": "beat", "pid": 4242, "status": "critical", "payload": 5,
            "nonce": u64::MAX, "origin": "socket_mode_only", "pid_ns_inode": 4_026_531_836_u64,
            "observer_ns": 12_345_678_901_u64, "sender": null,
        })
    );
}

#[test]
fn what_is_unknown_is_null() {
    assert_eq!(
        object(&beat(
            Status::Degraded,
            BeatOrigin::KernelAttested,
            Some(scm_only())
        ))["sender"],
        json!({
            "pid": 4242, "own_pid": null, "host_pid": null, "tid": null, "pid_ns_inode": null,
            "uid": 1000, "gid": 1000, "start_ns": null, "comm": null, "cgroup_id": null,
            "exe": null, "scm_pid": 4242, "via": "scm", "task_kind": "unknown",
        })
    );
}

#[test]
fn stall() {
    let event = Event::Stall {
        pid: 4242,
        last_nonce: 17,
        last_ns: 2_000_000_000,
        origin: BeatOrigin::KernelAttested,
        pid_ns_inode: None,
        observer_ns: 5_500_000_000,
    };
    let event = report(event, Some(sender(4242, b"agent", 1000)), None);
    assert_eq!(
        human(&event),
        "     5.500  stall          4242  silent for 3.500 s since nonce 17  (agent) uid 1000\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "stall", "pid": 4242, "last_nonce": 17, "last_ns": 2_000_000_000_u64,
            "origin": "kernel_attested", "pid_ns_inode": null, "observer_ns": 5_500_000_000_u64,
            "sender": sender(4242, b"agent", 1000),
        })
    );
}

#[test]
fn decode() {
    let error = DecodeError::BadCrc {
        expected: 1,
        actual: 0xdead_beef,
    };
    let event = report(Event::Decode(error, 0), Some(evil()), None);
    assert_eq!(
        human(&event),
        "     0.000  decode         4711  bad CRC-32C: expected 0x00000001, got 0xdeadbeef, \
         sent by 4711 (evil) uid 0\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "decode", "error": "BadCrc", "error_code": "bad_crc",
            "detail": "bad CRC-32C: expected 0x00000001, got 0xdeadbeef",
            "observer_ns": 0, "sender": evil(),
        })
    );
}

#[test]
fn auth_failures() {
    let cases = [
        (
            AuthFailureCause::PidMismatch,
            "pid_mismatch",
            "FORGED         4242  claims 4242, really 4711 (evil) uid 0",
        ),
        (
            AuthFailureCause::ForgedCredentials,
            "forged_credentials",
            "FORGED         4242  claims 4242, credentials claim 1, really 4711 (evil) uid 0",
        ),
        (
            AuthFailureCause::Sqpoll,
            "sqpoll",
            "SQPOLL         4242  claims 4242, sent by the io_uring poll thread of 4711 (evil) \
             uid 0",
        ),
        (
            AuthFailureCause::Unattested,
            "unattested",
            "UNATTESTED     4242  claims 4242, sent by 4711 (evil) uid 0 over a device that is not \
             attested",
        ),
        (
            AuthFailureCause::Corked,
            "corked",
            "CORKED         4242  claims 4242, in a send that others may have added to, sent off \
             by 4711 (evil) uid 0",
        ),
    ];
    for (cause, name, expected) in cases {
        let event = auth_failure(cause, Some(evil()));
        assert_eq!(human(&event), format!("     0.001  {expected}\n"));
        assert_eq!(
            object(&event),
            json!({
                "event": "auth_failure", "claimed_pid": 4242, "cause": name,
                "observer_ns": 1_000_000, "sender": evil(),
            })
        );
    }
}

#[test]
fn origin_conflict() {
    let event = Event::OriginConflict {
        claimed_pid: 4242,
        observed_origin: BeatOrigin::NetworkUnverified,
        slot_origin: BeatOrigin::KernelAttested,
        observer_ns: 1_000_000,
    };
    let event = report(event, None, Some("192.0.2.1:5000"));
    assert_eq!(
        human(&event),
        "     0.001  CONFLICT       4242  claims 4242 by the unverified network, but that agent \
         is known by kernel attestation; sent by unknown sender  from 192.0.2.1:5000\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "origin_conflict", "claimed_pid": 4242,
            "observed_origin": "network_unverified", "slot_origin": "kernel_attested",
            "observer_ns": 1_000_000, "sender": null, "source": "192.0.2.1:5000",
        })
    );
}

#[test]
fn namespace_conflict() {
    let invisible = Attestation {
        pid: None,
        ..evil()
    };
    let event = Event::NamespaceConflict {
        claimed_pid: 2,
        observed_ns_inode: Some(4_026_532_000),
        observer_ns_inode: None,
        observer_ns: 1_000_000,
    };
    let event = report(event, Some(invisible), Some("192.0.2.1:5000"));
    assert_eq!(
        human(&event),
        "     0.001  FOREIGN           2  claims 2 from pid namespace 4026532000, expected \
         unknown; really host pid 14711 (evil) uid 0  from 192.0.2.1:5000\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "namespace_conflict", "claimed_pid": 2,
            "observed_ns_inode": 4_026_532_000_u64, "observer_ns_inode": null,
            "observer_ns": 1_000_000, "sender": invisible, "source": "192.0.2.1:5000",
        })
    );
}

#[test]
fn receive_errors() {
    let event = report(
        Event::Io(io::Error::from_raw_os_error(107), 1_000_000),
        None,
        None,
    );
    assert_eq!(
        human(&event),
        "     0.001  io                -  receive failed: Transport endpoint is not connected \
         (os error 107)\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "io", "error": "Transport endpoint is not connected (os error 107)",
            "errno": 107, "observer_ns": 1_000_000,
        })
    );
    let event = Event::CtrlTruncated(io::Error::other("cut\x1b[2J"), 1_000_000);
    let event = report(event, Some(evil()), None);
    assert_eq!(
        human(&event),
        "     0.001  truncated      4711  cut\\u{1b}[2J, sent by 4711 (evil) uid 0\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "ctrl_truncated", "error": "cut\x1b[2J", "observer_ns": 1_000_000,
            "sender": evil(),
        })
    );
}

#[test]
fn notices() {
    let evidence = Evidence::new(Some(evil()), None, Some([7; 32]));
    let notice = |notice| Report::Notice(notice);
    let cases = [
        (
            notice(Notice::RefusedSender {
                count: 3,
                claimed_pid: 4711,
                observer_ns: 1_000_000,
                evidence,
            }),
            json!({
                "notice": "refused_sender", "count": 3, "claimed_pid": 4711,
                "observer_ns": 1_000_000, "sender": evil(),
            }),
            "refused        4711  3 beats of 4711 (evil) uid 0, who is not allowed",
        ),
        (
            notice(Notice::ThrottledSender {
                count: 9,
                limit: Limit::User,
                observer_ns: 1_000_000,
                evidence,
            }),
            json!({
                "notice": "throttled_sender", "count": 9, "limit": "user",
                "observer_ns": 1_000_000, "sender": evil(),
            }),
            "throttled      4711  9 datagrams of 4711 (evil) uid 0 dropped: its user's strangers are over theirs",
        ),
        (
            notice(Notice::DescriptorsRefused {
                count: 2,
                observer_ns: 1_000_000,
                evidence,
            }),
            json!({
                "notice": "descriptors_refused", "count": 2,
                "observer_ns": 1_000_000, "sender": evil(),
            }),
            "refused        4711  2 datagrams of 4711 (evil) uid 0 with descriptors attached",
        ),
        (
            notice(Notice::Absence {
                away_ns: 2_500_000_000,
                observer_ns: 1_000_000,
            }),
            json!({ "notice": "absence", "away_ns": 2_500_000_000_u64, "observer_ns": 1_000_000 }),
            "absence           -  the observer was away for 2.500 s",
        ),
        (
            notice(Notice::TableFull {
                agents: 8,
                division: Division {
                    owners: 2,
                    share: 4,
                    largest: None,
                },
                refused: 3,
                evicted: 1,
                observer_ns: 1_000_000,
            }),
            json!({
                "notice": "table_full", "agents": 8, "owners": 2, "share": 4, "largest": null,
                "refused": 3, "evicted": 1, "observer_ns": 1_000_000,
            }),
            "table full        -  8 agents are known: who holds more than a share may lose slots",
        ),
    ];
    for (notice, expected, line) in cases {
        check_notice(&notice, &expected, line);
    }
}

#[test]
fn unheard() {
    let report = Report::Notice(Notice::Unheard {
        pid: 4711,
        last_nonce: 7,
        last_ns: 0,
        observer_ns: 1_000_000,
        evidence: Evidence::default(),
    });
    let expected = json!({
        "notice": "unheard", "pid": 4711, "last_nonce": 7, "last_ns": 0,
        "observer_ns": 1_000_000, "sender": null,
    });
    let line = "unheard        4711  tries to beat, and nothing has arrived for 0.001 s";
    check_notice(&report, &expected, line);
}

fn check_notice(notice: &Report, expected: &serde_json::Value, line: &str) {
    assert_eq!(object(notice), *expected);
    assert_eq!(human(notice), format!("     0.001  {line}\n"));
}

#[test]
fn notices_of_what_was_lost_and_regained() {
    let observer_ns = 1_000_000;
    let reason = || "because".to_owned();
    let attestation = Notice::AttestationLost {
        reason: reason(),
        observer_ns,
    };
    let attestation_again = Notice::AttestationRegained {
        reason: reason(),
        observer_ns,
    };
    let reception = Notice::ReceiveLost {
        reason: reason(),
        observer_ns,
    };
    let reception_again = Notice::ReceiveRegained {
        reason: reason(),
        observer_ns,
    };
    for (own, name, line) in [
        (
            attestation,
            "attestation_lost",
            "LOST              -  attestation: because",
        ),
        (
            attestation_again,
            "attestation_regained",
            "regained          -  attestation: because",
        ),
        (
            reception,
            "receive_lost",
            "LOST              -  reception: because; no stall is judged meanwhile",
        ),
        (
            reception_again,
            "receive_regained",
            "regained          -  reception: because",
        ),
    ] {
        assert_eq!(own.name(), name);
        let report = Report::Notice(own);
        let expected = json!({ "notice": name, "reason": "because", "observer_ns": observer_ns });
        assert_eq!(object(&report), expected);
        assert_eq!(human(&report), format!("     0.001  {line}\n"));
    }
}

#[test]
fn a_formatter_collects_whole_lines() {
    let mut formatter = Formatter::new(Format::Json);
    for _ in 0..3 {
        formatter.report(&auth_failure(AuthFailureCause::Unattested, None));
    }
    let text = String::from_utf8(formatter.buffer().clone()).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.ends_with("}\n"));
}
