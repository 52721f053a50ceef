//! Each event as it must read, to machines and to people.

use std::io;

use observer_common::record::TaskKind;
use serde_json::{Value, json};

use super::*;
use crate::event::{Attestation, AuthFailureCause, BeatOrigin, Comm, DecodeError, Status, Via};

fn render(format: Format, event: &Event) -> String {
    let mut sink = Sink::new(format);
    sink.event(event);
    String::from_utf8(sink.buffer().to_vec()).unwrap()
}

fn human(event: &Event) -> String {
    render(Format::Human { color: false }, event)
}

fn object(event: &Event) -> Value {
    let line = render(Format::Json, event);
    assert!(
        line.ends_with('\n') && line.matches('\n').count() == 1,
        "{line:?}"
    );
    serde_json::from_str(&line).unwrap()
}

fn comm(name: &[u8]) -> Option<Comm> {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    Comm::new(bytes)
}

fn sender(pid: u32, name: &[u8], uid: u32) -> Attestation {
    Attestation {
        pid: Some(pid),
        own_pid: Some(7),
        host_pid: Some(14_711),
        tid: Some(14_712),
        pid_ns_inode: Some(4_026_531_836),
        uid: Some(uid),
        gid: Some(100),
        start_ns: Some(123_456_789),
        comm: comm(name),
        cgroup_id: Some(99),
        scm_pid: Some(pid),
        via: Via::Btf,
        task_kind: TaskKind::Thread,
    }
}

fn scm_only() -> Attestation {
    Attestation {
        pid: Some(4242),
        own_pid: None,
        host_pid: None,
        tid: None,
        pid_ns_inode: None,
        uid: Some(1000),
        gid: Some(1000),
        start_ns: None,
        comm: None,
        cgroup_id: None,
        scm_pid: Some(4242),
        via: Via::Scm,
        task_kind: TaskKind::Unknown,
    }
}

fn beat(status: Status, origin: BeatOrigin, sender: Option<Attestation>) -> Event {
    Event::Beat {
        pid: 4242,
        status,
        payload: 5,
        nonce: u64::MAX,
        origin,
        pid_ns_inode: Some(4_026_531_836),
        observer_ns: 12_345_678_901,
        sender,
    }
}

fn auth_failure(cause: AuthFailureCause, sender: Option<Attestation>) -> Event {
    Event::AuthFailure {
        claimed_pid: 4242,
        observer_ns: 1_000_000,
        cause,
        sender,
    }
}

fn evil() -> Attestation {
    Attestation {
        scm_pid: Some(1),
        ..sender(4711, b"evil", 0)
    }
}

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
            r#""comm":"agent","cgroup_id":99,"scm_pid":4242,"via":"btf","#,
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
        "    12.345  beat           4242  ok        nonce 18446744073709551615  payload 5       \
         (agent) uid 1000\n"
    );
    let by_scm = beat(
        Status::Degraded,
        BeatOrigin::KernelAttested,
        Some(scm_only()),
    );
    assert_eq!(
        human(&by_scm),
        "    12.345  beat           4242  degraded  nonce 18446744073709551615  payload 5       \
         (?) uid 1000  by SCM_CREDENTIALS only\n"
    );
    let unnamed = beat(Status::Critical, BeatOrigin::SocketModeOnly, None);
    assert_eq!(
        human(&unnamed),
        "    12.345  beat           4242  critical  nonce 18446744073709551615  payload 5       \
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
            "scm_pid": 4242, "via": "scm", "task_kind": "unknown",
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
        sender: Some(sender(4242, b"agent", 1000)),
    };
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
    let event = Event::Decode(error, 0, Some(evil()));
    assert_eq!(
        human(&event),
        "     0.000  decode         4711  bad CRC-32C: expected 0x00000001, got 0xdeadbeef, \
         sent by 4711 (evil) uid 0\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "decode", "error": "BadCrc",
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
            "UNATTESTED     4242  claims 4242, credentials claim 1, the kernel recorded no sender",
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
        sender: None,
    };
    assert_eq!(
        human(&event),
        "     0.001  CONFLICT       4242  claims 4242 by the unverified network, but that agent \
         is known by kernel attestation; sent by unknown sender\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "origin_conflict", "claimed_pid": 4242,
            "observed_origin": "network_unverified", "slot_origin": "kernel_attested",
            "observer_ns": 1_000_000, "sender": null,
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
        sender: Some(invisible),
    };
    assert_eq!(
        human(&event),
        "     0.001  FOREIGN           2  claims 2 from pid namespace 4026532000, expected \
         unknown; really host pid 14711 (evil) uid 0\n"
    );
    assert_eq!(
        object(&event),
        json!({
            "event": "namespace_conflict", "claimed_pid": 2,
            "observed_ns_inode": 4_026_532_000_u64, "observer_ns_inode": null,
            "observer_ns": 1_000_000, "sender": invisible,
        })
    );
}

#[test]
fn receive_errors() {
    let event = Event::Io(io::Error::from_raw_os_error(107), 1_000_000);
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
    let event = Event::CtrlTruncated(io::Error::other("cut\x1b[2J"), 1_000_000, Some(evil()));
    assert_eq!(
        human(&event),
        "     0.001  truncated      4711  cut\u{fffd}[2J, sent by 4711 (evil) uid 0\n"
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
fn hostile_names_stay_text() {
    let cases: [(&[u8], &str, &str); 4] = [
        (b"\x1b[2J\x07", r"\x1b[2J\x07", "\x1b[2J\x07"),
        (b"a\"b'\n\\{", r#"a\"b\'\n\\{"#, "a\"b'\n\\{"),
        (
            b"\xff\xfe\x80ok",
            r"\xff\xfe\x80ok",
            "\u{fffd}\u{fffd}\u{fffd}ok",
        ),
        // U+009B is CSI in one character; the other reverses the text.
        (
            "\u{9b}2J\u{202e}\u{1f600}\x7f".as_bytes(),
            "",
            "\u{9b}2J\u{202e}\u{1f600}\x7f",
        ),
    ];
    for (name, escaped, value) in cases {
        let event = auth_failure(AuthFailureCause::PidMismatch, Some(sender(4711, name, 0)));
        let line = human(&event);
        assert!(line.contains(escaped), "{line:?}");
        assert!(
            line.trim_end_matches('\n').bytes().all(is_printable),
            "{line:?}"
        );
        let line = render(Format::Json, &event);
        assert!(
            line.trim_end_matches('\n').bytes().all(is_printable),
            "{line:?}"
        );
        assert_eq!(object(&event)["sender"]["comm"], json!(value));
    }
}

fn is_printable(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

#[test]
fn colour_wraps_the_line_and_changes_nothing_else() {
    let event = auth_failure(AuthFailureCause::PidMismatch, Some(evil()));
    let colored = render(Format::Human { color: true }, &event);
    let body = colored
        .strip_prefix("\x1b[1m\x1b[31m")
        .unwrap()
        .strip_suffix("\x1b[0m\n")
        .unwrap();
    assert_eq!(format!("{body}\n"), human(&event));
}

#[test]
fn a_sink_collects_whole_lines() {
    let mut sink = Sink::new(Format::Json);
    for _ in 0..3 {
        sink.event(&auth_failure(AuthFailureCause::Unattested, None));
    }
    let text = String::from_utf8(sink.buffer().to_vec()).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.ends_with("}\n"));
}
