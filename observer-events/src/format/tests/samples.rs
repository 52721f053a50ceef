//! Events and senders to render.

use observer_common::record::TaskKind;
use serde_json::Value;

use super::*;
use crate::event::{Attestation, AuthFailureCause, BeatOrigin, Comm, Event, Status, Via};
use crate::exe::ExeId;
use crate::report::{Evidence, Observation};

pub(super) fn render(format: Format, report: &Report) -> String {
    let mut formatter = Formatter::new(format);
    formatter.report(report);
    String::from_utf8(formatter.buffer().clone()).unwrap()
}

pub(super) fn human(report: &Report) -> String {
    render(Format::Human { color: false }, report)
}

/// An event, with who sent and the address that it came from.
pub(super) fn report(event: Event, sender: Option<Attestation>, source: Option<&str>) -> Report {
    let source = source.map(|address| address.parse().unwrap());
    Report::Observation(Observation {
        event,
        evidence: Evidence::new(sender, source, None),
    })
}

pub(super) fn object(report: &Report) -> Value {
    let line = render(Format::Json, report);
    assert!(
        line.ends_with('\n') && line.matches('\n').count() == 1,
        "{line:?}"
    );
    serde_json::from_str(&line).unwrap()
}

pub(super) fn comm(name: &[u8]) -> Option<Comm> {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    Comm::new(bytes)
}

pub(super) fn sender(pid: u32, name: &[u8], uid: u32) -> Attestation {
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
        exe: ExeId::from_record(254 << 20 | 1, 77),
        scm_pid: Some(pid),
        task_kind: TaskKind::Thread,
        ..Attestation::unknown(Via::Btf)
    }
}

pub(super) fn scm_only() -> Attestation {
    Attestation {
        pid: Some(4242),
        uid: Some(1000),
        gid: Some(1000),
        scm_pid: Some(4242),
        ..Attestation::unknown(Via::Scm)
    }
}

pub(super) fn beat(status: Status, origin: BeatOrigin, sender: Option<Attestation>) -> Report {
    let event = Event::Beat {
        pid: 4242,
        status,
        payload: 5,
        nonce: u64::MAX,
        origin,
        pid_ns_inode: Some(4_026_531_836),
        observer_ns: 12_345_678_901,
    };
    report(event, sender, None)
}

pub(super) fn auth_failure(cause: AuthFailureCause, sender: Option<Attestation>) -> Report {
    let event = Event::AuthFailure {
        claimed_pid: 4242,
        observer_ns: 1_000_000,
        cause,
    };
    report(event, sender, None)
}

pub(super) fn evil() -> Attestation {
    Attestation {
        scm_pid: Some(1),
        ..sender(4711, b"evil", 0)
    }
}
