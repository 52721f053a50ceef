//! Each rule of the judgement, and what must hold for any input.

use observer_common::frame::Frame;
use proptest::prelude::*;

use super::{AttestMode, Policy, Verdict, judge};
use crate::event::{Attestation, AuthFailureCause, BeatOrigin, Status, TaskKind, Via};

const OBSERVER_NS: u64 = 4_026_531_836;

const REQUIRE: Policy = policy(AttestMode::Require);

const fn policy(attest: AttestMode) -> Policy {
    Policy {
        attest,
        observer_ns_inode: Some(OBSERVER_NS),
    }
}

const fn frame(pid: u32) -> Frame {
    Frame {
        status: Status::Ok,
        pid,
        timestamp: 0,
        nonce: 1,
        payload: 0,
    }
}

/// An honest sender, by the strongest means.
const fn sender(pid: u32) -> Attestation {
    Attestation {
        pid: Some(pid),
        own_pid: Some(pid),
        host_pid: Some(pid),
        tid: Some(pid),
        pid_ns_inode: Some(OBSERVER_NS),
        uid: Some(0),
        gid: Some(0),
        start_ns: Some(1),
        comm: None,
        cgroup_id: None,
        scm_pid: Some(pid),
        via: Via::Btf,
        task_kind: TaskKind::Thread,
    }
}

const AUTHENTIC: Verdict = Verdict::Authentic {
    origin: BeatOrigin::KernelAttested,
};

fn failure(cause: AuthFailureCause) -> Verdict {
    Verdict::AuthFailure(cause)
}

#[test]
fn an_honest_frame_is_authentic() {
    assert_eq!(judge(&frame(42), Some(&sender(42)), &REQUIRE), AUTHENTIC);
}

#[test]
fn another_ones_pid_is_a_mismatch() {
    let verdict = judge(&frame(43), Some(&sender(42)), &REQUIRE);
    assert_eq!(verdict, failure(AuthFailureCause::PidMismatch));
}

#[test]
fn forged_credentials_are_found_whatever_the_frame_says() {
    let forger = Attestation {
        scm_pid: Some(43),
        ..sender(42)
    };
    for claimed in [42, 43] {
        let verdict = judge(&frame(claimed), Some(&forger), &REQUIRE);
        assert_eq!(verdict, failure(AuthFailureCause::ForgedCredentials));
    }
}

#[test]
fn an_sqpoll_thread_vouches_for_nobody() {
    let thread = Attestation {
        task_kind: TaskKind::SqPoll,
        ..sender(42)
    };
    let verdict = judge(&frame(42), Some(&thread), &REQUIRE);
    assert_eq!(verdict, failure(AuthFailureCause::Sqpoll));
}

#[test]
fn an_io_worker_sends_for_its_process() {
    let worker = Attestation {
        task_kind: TaskKind::IoWorker,
        ..sender(42)
    };
    assert_eq!(judge(&frame(42), Some(&worker), &REQUIRE), AUTHENTIC);
}

#[test]
fn a_foreign_namespace_comes_before_pids() {
    let visible = Attestation {
        pid_ns_inode: Some(1),
        ..sender(42)
    };
    let invisible = Attestation {
        pid: None,
        pid_ns_inode: Some(1),
        ..sender(42)
    };
    let unknown = Attestation {
        pid_ns_inode: None,
        ..sender(42)
    };
    for foreign in [visible, invisible, unknown] {
        for claimed in [42, 43] {
            let verdict = judge(&frame(claimed), Some(&foreign), &REQUIRE);
            assert_eq!(verdict, Verdict::NamespaceConflict, "{foreign:?}");
        }
    }
}

/// SCM_CREDENTIALS says 0 for a sender that the observer's namespace does not
/// see: never "no credentials".
#[test]
fn credentials_with_pid_0_are_a_foreign_namespace() {
    let invisible = Attestation {
        pid: None,
        pid_ns_inode: None,
        scm_pid: Some(0),
        via: Via::Scm,
        ..sender(42)
    };
    for mode in [AttestMode::Prefer, AttestMode::Off] {
        let verdict = judge(&frame(42), Some(&invisible), &policy(mode));
        assert_eq!(verdict, Verdict::NamespaceConflict);
    }
}

#[test]
fn without_a_record_the_policy_decides() {
    let scm = Attestation {
        pid_ns_inode: None,
        start_ns: None,
        via: Via::Scm,
        task_kind: TaskKind::Unknown,
        ..sender(42)
    };
    let unattested = failure(AuthFailureCause::Unattested);
    assert_eq!(judge(&frame(42), Some(&scm), &REQUIRE), unattested);
    assert_eq!(judge(&frame(42), None, &REQUIRE), unattested);
    for mode in [AttestMode::Prefer, AttestMode::Off] {
        let policy = policy(mode);
        assert_eq!(judge(&frame(42), Some(&scm), &policy), AUTHENTIC);
        let mismatch = failure(AuthFailureCause::PidMismatch);
        assert_eq!(judge(&frame(43), Some(&scm), &policy), mismatch);
        let origin = BeatOrigin::SocketModeOnly;
        assert_eq!(
            judge(&frame(42), None, &policy),
            Verdict::Authentic { origin }
        );
    }
}

fn any_sender() -> impl Strategy<Value = Attestation> {
    let pid = || prop::option::of(2..5u32);
    let namespace = prop::option::of(OBSERVER_NS..OBSERVER_NS + 2);
    let via = prop::sample::select(vec![Via::Btf, Via::Helper, Via::Scm]);
    let kind = prop::sample::select(vec![
        TaskKind::Unknown,
        TaskKind::Thread,
        TaskKind::IoWorker,
        TaskKind::SqPoll,
    ]);
    (pid(), pid(), namespace, via, kind).prop_map(|(pid, scm_pid, pid_ns_inode, via, task_kind)| {
        Attestation {
            pid,
            pid_ns_inode,
            scm_pid,
            via,
            task_kind,
            ..sender(2)
        }
    })
}

proptest! {
    /// No frame is attested unless everything that the kernel said agrees
    /// with it, whatever the policy.
    #[test]
    fn attested_means_that_all_evidence_agrees(
        claimed in 2..5u32,
        sender in prop::option::of(any_sender()),
        mode in prop::sample::select(vec![AttestMode::Require, AttestMode::Prefer, AttestMode::Off]),
    ) {
        let verdict = judge(&frame(claimed), sender.as_ref(), &policy(mode));
        if verdict == AUTHENTIC {
            let sender = sender.expect("someone was named");
            prop_assert_eq!(sender.pid, Some(claimed));
            prop_assert!(sender.scm_pid.is_none_or(|pid| pid == claimed));
            prop_assert!(sender.pid_ns_inode.is_none_or(|inode| inode == OBSERVER_NS));
            prop_assert!(sender.via != Via::Btf || sender.pid_ns_inode.is_some());
            prop_assert_ne!(sender.task_kind, TaskKind::SqPoll);
            prop_assert!(mode != AttestMode::Require || sender.via != Via::Scm);
        }
        if mode == AttestMode::Require {
            let bare = Verdict::Authentic { origin: BeatOrigin::SocketModeOnly };
            prop_assert_ne!(verdict, bare);
        }
    }
}
